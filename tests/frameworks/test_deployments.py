"""Servers as they are deployed: HTTP/2, several workers, a bare environment, and SIGTERM amid a load."""

from __future__ import annotations

import asyncio
import json
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.frameworks.cell import MISS, Cell, assert_hit
from tests.frameworks.http2 import ask
from tests.frameworks.servers import Running, Server, running
from tests.support.patience import PATIENCE

APP = "tests.frameworks.apps.held_app:app"
_GUNICORN = "gunicorn --worker-class uvicorn_worker.UvicornWorker --bind 127.0.0.1:{port} --workers 2 "
_UVICORN = "uvicorn --host 127.0.0.1 --port {port} "
_IS_UP = "Application startup complete."
_ONE = Server("uvicorn", "uvicorn", _UVICORN + "{app}")
_STOPPED = [  # hypercorn's workers are not: the first one that ends takes the others with it, cached or not
    (_ONE, _IS_UP, 1),
    (Server("uvicorn-workers", "uvicorn", _UVICORN + "--workers 2 {app}"), _IS_UP, 2),
    (Server("gunicorn", "gunicorn", _GUNICORN + "{app}"), _IS_UP, 2),
    (Server("gunicorn-preload", "gunicorn", _GUNICORN + "--preload {app}"), _IS_UP, 2),
    (Server("hypercorn", "hypercorn", "hypercorn --workers 0 --bind 127.0.0.1:{port} {app}"), "Running on", 1),
    (
        Server("granian-workers", "granian", "granian --interface asgi --port {port} --workers 2 {app}"),
        "Started worker-",
        2,
    ),
]
_HTTP2 = (
    Server("hypercorn", "hypercorn", "hypercorn --bind 127.0.0.1:{port} --workers 0 {app}"),
    Server("granian", "granian", "granian --interface asgi --http 2 --host 127.0.0.1 --port {port} {app}"),
)
_BARE = {
    "PYTHONDEVMODE": "1",
    "PYTHONASYNCIODEBUG": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
}
_HELD = 200, {"answer": "held"}
_COLLAPSED = "fwd=uri-miss; collapsed"
_STORED = "fwd=uri-miss; stored"
_TE = "te", "trailers"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what another process does."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it is in another process
            await asyncio.sleep(0.005)


def assert_in_order(served: Running) -> None:
    """It has complained of nothing."""
    said = served.output.read_text(errors="replace")
    assert not [word for word in ("Traceback", "ERROR", "CRITICAL", "Warning") if word in said], said


@pytest.mark.parametrize(("server", "is_up", "workers"), _STOPPED, ids=[server.id for server, _, _ in _STOPPED])
def test_a_server_that_is_stopped_amid_a_load_answers_those_who_wait_and_ends_in_order(
    server: Server, is_up: str, workers: int, tmp_path: Path
) -> None:
    async def scenario() -> None:
        told = tmp_path / "told"
        async with running(server, APP, tmp_path, told) as served, asyncio.TaskGroup() as clients:
            cell = Cell(served.port, told)
            await until(lambda: served.output.read_text().count(is_up) == workers)  # else SIGTERM may get lost
            asked = [clients.create_task(cell.get("/held")) for _ in range(4)]
            await until(lambda: told.read_text().count("asked") == 4 and "load" in told.read_text())
            stopped = clients.create_task(served.stop())
            told.with_suffix(".go").touch()
            assert [(got.status, json.loads(got.body)) for got in await asyncio.gather(*asked)] == [_HELD] * 4
            assert await stopped in (0, -signal.SIGTERM)  # uvicorn without workers ends by the signal
        assert told.read_text().count("load") <= workers
        assert told.read_text().count("shutdown") == workers
        assert_in_order(served)

    asyncio.run(scenario())


@pytest.mark.parametrize("server", _HTTP2, ids=[server.id for server in _HTTP2])
def test_over_http2_equal_requests_are_one_entry_however_their_authority_and_cookies_are_sent(
    server: Server, tmp_path: Path
) -> None:
    async def scenario() -> None:
        told = tmp_path / "told"
        async with running(server, APP, tmp_path, told) as served:
            (first,) = await ask(served.port, "/page", [(":authority", "a.example")])
            assert first.cache_status == _STORED
            assert json.loads(first.body) == {"host": "a.example", "odd": []}  # no pseudo-header field
            for fields in ([(":authority", "A.EXAMPLE")], [("host", "a.example")], [(":authority", "a.example"), _TE]):
                (again,) = await ask(served.port, "/page", fields)
                assert (again.cache_status, again.body) == ("hit", first.body)
            (other,) = await ask(served.port, "/page", [(":authority", "b.example")])
            assert (other.cache_status, json.loads(other.body)["host"]) == (_STORED, "b.example")
            crumbs = [("cookie", "a=1"), ("cookie", "b=2")]
            (named,) = await ask(served.port, "/page", [(":authority", "a.example"), *crumbs])
            assert named.cache_status == "fwd=bypass; detail=credentials"
            told.with_suffix(".go").touch()
            crowd = await ask(served.port, "/held", *[[(":authority", "a.example")]] * 10)
            assert sorted(answer.cache_status for answer in crowd) == [_COLLAPSED] * 9 + [_STORED]
            assert "asked 2" in told.read_text()
            await served.stop()
        assert_in_order(served)

    asyncio.run(scenario())


def test_a_bare_environment_is_enough_and_no_warning_is_given_in_it(tmp_path: Path) -> None:
    """No home, nowhere to write, few files, no assertions; each warning is an error, and asyncio looks closely."""
    nowhere = str(tmp_path / "nowhere")

    async def scenario() -> None:
        told = tmp_path / "told"
        async with running(_ONE, APP, tmp_path, told, **_BARE, HOME=nowhere, TMPDIR=nowhere) as served:
            resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (64, 64))
            cell = Cell(served.port, told)
            assert (await cell.get("/page")).cache_status == MISS
            assert_hit(await cell.get("/page"))
            told.with_suffix(".go").touch()
            crowd = await asyncio.gather(*(cell.get("/held") for _ in range(16)))
            assert {got.status for got in crowd} == {200}
            await served.stop()
        assert_in_order(served)

    asyncio.run(scenario())
