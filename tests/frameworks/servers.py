"""Servers as people start them: by their command lines, on a free port of 127.0.0.1, stopped by SIGTERM.

Decides how a cell's server is started and stopped, and that its output is shown when something fails. Must never leave
a process behind, nor wait without a deadline.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.frameworks.origin import TOLD
from tests.live.rig import PATIENCE
from tests.support.servers import RawConnection

ROOT = Path(__file__).parents[2]
START = 60.0  # seconds until a start has failed: two cores may be busy with importing


@dataclass(frozen=True)
class Server:
    """A server's name in tests and docs, and the arguments after `python -m`; `{port}` and `{app}` are filled in."""

    id: str
    title: str
    arguments: str

    def command(self, app: str, port: int) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", *self.arguments.format(app=app, port=port).split()]


SERVERS = (
    Server(
        "uvicorn-uvloop",
        "uvicorn (uvloop, httptools)",
        "uvicorn --loop uvloop --http httptools --host 127.0.0.1 --port {port} {app}",
    ),
    Server(
        "uvicorn-asyncio",
        "uvicorn (asyncio, h11)",
        "uvicorn --loop asyncio --http h11 --host 127.0.0.1 --port {port} {app}",
    ),
    Server("hypercorn", "hypercorn", "hypercorn --workers 0 --bind 127.0.0.1:{port} {app}"),
    Server("granian", "granian", "granian --interface asgi --host 127.0.0.1 --port {port} {app}"),
    Server("daphne", "daphne", "daphne --bind 127.0.0.1 --port {port} {app}"),
)


@asynccontextmanager
async def serving(server: Server, app: str, folder: Path, told: Path) -> AsyncIterator[int]:
    """Serve `app` (`module:name`) and yield the port. When the block has ended, so has the server.

    `folder`: where its output goes. `told`: where the app tells what happened.
    """
    output = folder / "output.txt"
    told.touch()
    with _reserved() as reservation, output.open("wb") as sink:
        port: int = reservation.getsockname()[1]
        process = subprocess.Popen(
            server.command(app, port), cwd=ROOT, env=_environment(told), stdout=sink, stderr=subprocess.STDOUT
        )
        try:
            await _until_open(process, port)
            yield port
            await _stop(process)
        except BaseException as error:
            error.add_note(f"{server.title} said:\n{output.read_text(errors='replace')[-8_000:]}")
            raise
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def _environment(told: Path) -> Mapping[str, str]:
    """This process's, without what would configure the cache, and without its warnings as errors."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CACHE_", "GLASSCACHE_", "OTEL_", "PYTHONWARNINGS", "HYPERCORN_", "GRANIAN_"))
    }
    return {**kept, TOLD: str(told), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def _reserved() -> socket.socket:
    """A port that nobody else is given while this is open; a server that sets SO_REUSEADDR, as all do, may listen."""
    reservation = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    return reservation


async def _until_open(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(OSError):
            async with RawConnection(port):
                return
        await asyncio.sleep(0.02)
    raise AssertionError(f"the server did not start: {process.args!r}")


async def _stop(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None:
        assert time.monotonic() < deadline, "the server did not stop"
        await asyncio.sleep(0.02)
