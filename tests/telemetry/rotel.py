"""rotel, a collector in a wheel: OTLP in over gRPC and HTTP, OTLP out to a receiver of the tests.

Decides how it is started. It ends with the test.
"""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from tests.support.otlp import Receiver
from tests.support.ports import free_port
from tests.telemetry.processes import running

_PROTOCOLS = {"grpc": "grpc", "http/protobuf": "http"}


def collector(folder: Path, receiver: Receiver, protocol: str) -> AbstractContextManager[dict[str, str]]:
    """Run rotel, sending to `receiver` by `protocol`, gzipped; yields its own endpoint for each protocol."""
    settings = {
        "ROTEL_BATCH_TIMEOUT": "50ms",
        "ROTEL_EXPORTER": "otlp",
        "ROTEL_OTLP_EXPORTER_ENDPOINT": receiver.endpoint,
        "ROTEL_OTLP_EXPORTER_PROTOCOL": _PROTOCOLS[protocol],
        "ROTEL_OTLP_EXPORTER_COMPRESSION": "gzip",
    }
    return rotel(folder, settings)


@contextmanager
def rotel(folder: Path, settings: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Run it with these settings; yields its own endpoint for each protocol."""
    libraries = [sysconfig.get_config_var("LIBDIR"), os.environ.get("LD_LIBRARY_PATH")]
    with as_file(files("rotel") / "rotel-agent") as agent, free_port() as grpc, free_port() as http:
        env = {
            **settings,
            "ROTEL_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{grpc}",
            "ROTEL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{http}",
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, libraries)),  # it is linked with libpython
        }
        with running([str(agent), "start"], grpc, folder, env):
            yield {"grpc": f"http://127.0.0.1:{grpc}", "http/protobuf": f"http://127.0.0.1:{http}"}
