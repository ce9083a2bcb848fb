"""How loads end when nobody reads them, when they hang or fail, and what an app may do after its answer."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

import pytest
from fastapi import FastAPI, HTTPException
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule
from tests.live.rig import Signal, Stack, ask, ask_on, eventually, make_cache
from tests.support.asgi import ASGIApp, Receive, Scope, Send
from tests.support.patience import PATIENCE
from tests.support.servers import LiveServer, RawConnection, live_server

pytestmark = pytest.mark.usefixtures("no_leaks")


class Endless:
    """An app that never ends by itself, and what made it end."""

    def __init__(self, manner: str, headers: list[tuple[bytes, bytes]], begins: Signal | None = None) -> None:
        self.manner = manner
        self.headers = headers
        self.begins = begins
        self.clients: list[int] = []
        self.stopped_by: list[str] = []
        self.stopped = Signal()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send a tick after the other (`sends`), or one, and then `listens` to the client, or `hangs`."""
        if scope["path"] == "/ping":
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        self.clients.append(int(dict(scope["headers"]).get(b"x-client", b"0")))
        await receive()
        if self.begins is not None:
            await self.begins.wait()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.headers})
            await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            while self.manner == "sends":
                await asyncio.sleep(0.01)
                await send({"type": "http.response.body", "body": b"tick", "more_body": True})
            if self.manner == "listens":
                self.stopped_by.append((await receive())["type"])
            else:
                await asyncio.Event().wait()
        except OSError:
            self.stopped_by.append("OSError")
        except asyncio.CancelledError:
            self.stopped_by.append("cancelled")
            raise
        finally:
            self.stopped.set()

    def served_by(self, cache: Cache) -> ASGIApp:
        """This app behind a cache."""
        return CacheMiddleware(self, cache=cache, rules=[Rule("/endless", ttl=60)])


ENDS = {"sends": "OSError", "listens": "http.disconnect", "hangs": "cancelled"}


async def leave_after_a_tick(port: int) -> None:
    async with RawConnection(port) as raw:
        await raw.request("GET", "/endless")
        await raw.head()
        assert await raw.chunk() == b"tick"
        raw.abort()


@pytest.mark.parametrize("manner", ENDS)
def test_an_endless_stream_that_nobody_reads_any_more_is_stopped_although_it_could_be_stored(manner: str) -> None:
    app, cache = Endless(manner, []), make_cache(load_timeout=1.0)

    async def scenario(port: int) -> None:
        await leave_after_a_tick(port)
        await app.stopped.wait()
        assert app.stopped_by == [ENDS[manner]]
        await eventually(lambda: not cache._engine.holders and not cache._engine._state.flights)

    with live_server(app.served_by(cache), lifespan="off") as server:
        asyncio.run(scenario(server.port))


@pytest.mark.parametrize(
    ("manner", "header"),
    [
        ("sends", (b"cache-control", b"no-store")),
        ("listens", (b"set-cookie", b"a=1")),
        ("hangs", (b"cache-control", b"private")),
    ],
    ids=ENDS,
)
def test_a_private_stream_is_stopped_at_once_when_its_one_client_leaves(
    manner: str, header: tuple[bytes, bytes]
) -> None:
    app, cache = Endless(manner, [header]), make_cache(load_timeout=10 * PATIENCE)

    async def scenario(port: int) -> None:
        await leave_after_a_tick(port)
        await app.stopped.wait()  # an unread load as such would go on for longer than this waits
        assert app.stopped_by == [ENDS[manner]]
        await eventually(lambda: not cache._engine.holders)

    with live_server(app.served_by(cache), lifespan="off") as server:
        asyncio.run(scenario(server.port))


def test_a_client_that_left_while_it_waited_for_its_turn_leaves_no_endless_stream_behind() -> None:
    go_on = Signal()
    app = Endless("listens", [(b"cache-control", b"no-store")], begins=go_on)
    cache = make_cache(max_parallel_loads=1)

    async def scenario(server: LiveServer) -> None:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(RawConnection(server.port)) for _ in range(3)]
            for number, client in enumerate(clients):
                await client.request("GET", "/endless", headers={"X-Client": str(number)})
            await eventually(lambda: cache._engine.waiters == 2)
            go_on.set()
            await eventually(lambda: len(app.clients) == 2)  # one led the flight, one loads for itself ...
            [waiting] = {0, 1, 2} - set(app.clients)  # ... and one waits for its turn
            clients[waiting].abort()
            for _ in range(3):
                await ask(server, "/ping")  # by now the server has seen that it is gone
            for number in app.clients[:]:
                clients[number].abort()
            await eventually(lambda: len(app.stopped_by) == 3 and not cache._engine.holders)

    with live_server(app.served_by(cache), lifespan="off") as server:
        asyncio.run(scenario(server))


def test_a_background_task_runs_once_after_the_answer_and_delays_nobody(stack: Stack) -> None:
    go_on, done = Signal(), Signal()
    runs: list[str] = []

    async def work() -> None:
        runs.append("begun")
        await go_on.wait()
        runs.append("done")
        done.set()

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("answer", background=BackgroundTask(work))

    app = Starlette(routes=[Route("/a", endpoint)])
    app.add_middleware(CacheMiddleware, cache=make_cache(), rules=[Rule("/a", ttl=60)])

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as raw:
            assert (await ask_on(raw, "/a")).body == b"answer"
            for _ in range(2):
                answer = await ask_on(raw, "/a")
                assert answer.body == b"answer"
                assert (answer.cache_status or "").startswith("glasscache; hit")
        assert runs == ["begun"]
        go_on.set()
        await done.wait()
        assert runs == ["begun", "done"]

    with live_server(app, **stack) as server:
        asyncio.run(scenario(server))


def test_an_error_in_a_background_task_is_logged_and_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    runs = 0

    async def fail() -> None:
        nonlocal runs
        runs += 1
        raise RuntimeError("the letter was not sent")

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("answer", background=BackgroundTask(fail))

    app, cache = Starlette(routes=[Route("/a", endpoint)]), make_cache()
    app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/a", ttl=60)])

    async def scenario(server: LiveServer) -> None:
        assert (await ask(server, "/a")).status == 200
        await eventually(lambda: runs and len(caplog.records) == 1)
        answer = await ask(server, "/a")
        assert answer.body == b"answer"
        assert (answer.cache_status or "").startswith("glasscache; hit")

    with caplog.at_level(logging.WARNING), live_server(app) as server:
        asyncio.run(scenario(server))
    [record] = caplog.records
    assert record.name == "glasscache"
    assert "the letter was not sent" in str(record.exc_info)


def test_a_hung_handler_is_an_error_for_all_who_waited_and_the_key_can_be_used_again() -> None:
    runs: list[str] = []
    cancelled = Signal()

    async def endpoint(request: Request) -> Response:
        runs.append("run")
        if len(runs) > 1:
            return PlainTextResponse("answer")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("nobody sets that event")

    app = Starlette(routes=[Route("/a", endpoint)])
    cache = make_cache(load_timeout=2.0)  # in which all five must have come
    app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/a", ttl=60)])

    async def scenario(server: LiveServer) -> None:
        answers = await asyncio.gather(*(ask(server, "/a") for _ in range(5)))
        assert [answer.status for answer in answers] == [500] * 5
        assert len(runs) == 1
        assert (await ask(server, "/a")).body == b"answer"  # whether the first has noticed yet or not
        await cancelled.wait()

    with live_server(app) as server:
        asyncio.run(scenario(server))


class TooHardError(Exception):
    """What the app's own exception handler turns into an answer."""


def failing_app(cache: Cache, let_go: Signal, loads: list[str]) -> FastAPI:
    app = FastAPI()

    @app.get("/{kind}")
    async def endpoint(kind: str) -> dict[str, str]:
        loads.append(kind)
        await let_go.wait()
        if kind == "crash":
            raise RuntimeError("crash")
        if kind == "unavailable":
            raise HTTPException(503, "unavailable")
        raise TooHardError(kind)

    @app.exception_handler(TooHardError)
    async def explain(request: Request, error: TooHardError) -> Response:
        return JSONResponse({"too": str(error)}, status_code=422)

    app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/{kind}", ttl=60)])
    return app


@pytest.mark.parametrize(
    ("kind", "status", "body", "loads_due"),
    [
        ("crash", 500, b"Internal Server Error", 1),
        ("unavailable", 503, b'{"detail":"unavailable"}', 1),
        ("hard", 422, b'{"too":"hard"}', 2),  # it might be the leader's own fault: one of the others tries again
    ],
)
def test_each_of_50_clients_gets_the_apps_own_answer_to_an_exception_and_nothing_is_stored(
    kind: str, status: int, body: bytes, loads_due: int
) -> None:
    cache, let_go, loads = make_cache(), Signal(), list[str]()
    app = failing_app(cache, let_go, loads)

    async def scenario(server: LiveServer) -> None:
        async with asyncio.TaskGroup() as clients:
            asked = [clients.create_task(ask(server, f"/{kind}")) for _ in range(50)]
            await eventually(lambda: cache._engine.waiters == 49)
            let_go.set()
        assert [(task.result().status, task.result().body) for task in asked] == [(status, body)] * 50
        assert len(loads) == loads_due
        assert cache._engine.near.gauge().entries == 0
        assert (await ask(server, f"/{kind}")).status == status
        assert len(loads) == loads_due + 1

    with live_server(app) as server:
        asyncio.run(scenario(server))


def test_an_exception_handler_for_every_error_answers_every_waiter() -> None:
    cache, let_go, loads = make_cache(), Signal(), list[str]()
    app = failing_app(cache, let_go, loads)

    @app.exception_handler(Exception)
    async def apologise(request: Request, error: Exception) -> Response:
        return JSONResponse({"sorry": str(error)}, status_code=500)

    async def scenario(server: LiveServer) -> None:
        async with asyncio.TaskGroup() as clients:
            asked = [clients.create_task(ask(server, "/crash")) for _ in range(10)]
            await eventually(lambda: cache._engine.waiters == 9)
            let_go.set()
        assert {(task.result().status, task.result().body) for task in asked} == {(500, b'{"sorry":"crash"}')}
        assert len(loads) == 1

    with live_server(app) as server:
        asyncio.run(scenario(server))
