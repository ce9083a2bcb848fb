"""`glasscache proxy` as a process of its own, and what it refuses before it serves."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import Message
from pathlib import Path

import pytest

from glasscache.cli import main
from tests.asgi.site import Origin
from tests.support.patience import PATIENCE
from tests.support.servers import live_server


@contextmanager
def proxy(*words: str, **environment: str) -> Iterator[str]:
    """The URL of a proxy that serves while the block runs; it must end well when it is told to."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("GLASSCACHE_", "CACHE_", "OTEL_"))}
    command = [sys.executable, "-m", "glasscache", "proxy", "--port", "0", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env | environment, text=True) as process:
        assert process.stdout is not None
        try:
            said = process.stdout.readline()
            found = re.search(r"glasscache: (http://\S+) -> ", said)
            assert found, said
            yield found[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def get(url: str) -> tuple[Message, bytes]:
    with urllib.request.urlopen(url, timeout=PATIENCE) as response:
        return response.headers, response.read()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_service_is_served_through_the_cache(host: str) -> None:
    origin = Origin(b"answer")
    with (
        live_server(origin) as upstream,
        proxy("--upstream", upstream.url, "--host", host, "--rule", "/a ttl=60") as url,
    ):
        assert url.startswith(f"http://[{host}]:" if ":" in host else f"http://{host}:")
        for expected in ("glasscache; fwd=uri-miss; stored", "glasscache; hit; ttl="):
            headers, body = get(f"{url}/a")
            assert body == b"answer"
            assert headers["Cache-Status"].startswith(expected)
            assert headers.get_all("Server") == ["uvicorn"]  # the upstream's
    assert [scope["type"] for scope in origin.scopes] == ["lifespan", "http"]


def test_without_rules_the_services_own_headers_decide_and_figures_are_shown_where_asked_for(tmp_path: Path) -> None:
    origin = Origin(b"answer", headers=[(b"cache-control", b"max-age=60")])
    file = tmp_path / "proxy.toml"
    with live_server(origin) as upstream:
        file.write_text(f'upstream = "{upstream.url}"\naccess_log = true\n', "utf-8")
        with proxy("--config", str(file), GLASSCACHE_STATS_PATH="/stats") as url:
            get(f"{url}/a")
            assert get(f"{url}/a")[0]["Cache-Status"].startswith("glasscache; hit")
            assert b'"total_hits":1' in get(f"{url}/stats")[1]


def test_telemetry_is_sent_as_the_standard_variables_say() -> None:
    with live_server(Origin()) as upstream:
        settings = {"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none"}
        with proxy("--upstream", upstream.url, "--telemetry", **settings) as url:
            assert get(f"{url}/a")[1] == b"an answer"


def test_what_cannot_work_is_refused_before_anything_is_served(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*words: str) -> str:
        assert main(["proxy", *words]) == 2
        return capsys.readouterr().err

    assert "--upstream: say which service" in refused()
    assert "give a URL such as" in refused("--upstream", "127.0.0.1")
    assert "Timeouts(read=0.0): give a finite number of seconds" in refused(
        "--upstream", "http://a", "--read-timeout", "0"
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"--port {port}: Address already in use" in refused("--upstream", "http://a", "--port", port)
    monkeypatch.setitem(sys.modules, "glasscache_exporters", None)
    assert "--telemetry cannot do without" in refused("--upstream", "http://a", "--telemetry")
    for part in ("glasscache.proxy.server", "glasscache.proxy"):  # uvicorn may be there without the rest of the extra
        monkeypatch.setitem(sys.modules, part, None)
        assert "pip install 'glasscache[proxy]'" in refused("--upstream", "http://a")
