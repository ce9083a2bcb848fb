"""What a server does beside requests: lifespans, shutdown, websockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule
from tests.live.rig import Signal, Stack, ask, eventually, make_cache
from tests.support.asgi import ASGIApp, Message, Receive, Scope, Send
from tests.support.patience import PATIENCE
from tests.support.servers import LiveServer, RawConnection, live_server

pytestmark = pytest.mark.usefixtures("no_leaks")

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def noting(told: list[str]) -> Lifespan:
    """A lifespan that notes when it opens and closes what the app's handlers use."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        told.append("opened")
        yield
        told.append("closed")

    return lifespan


def when_it_shuts_down(app: ASGIApp, signal: Signal) -> ASGIApp:
    """Set the signal when the server says that it is over, before anybody inside hears of it."""

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        async def watched() -> Message:
            message: Message = await receive()
            if message["type"] == "lifespan.shutdown":
                signal.set()
            return message

        await app(scope, watched if scope["type"] == "lifespan" else receive, send)

    return outermost


async def ask_and_leave(port: int, started: Signal) -> None:
    async with RawConnection(port) as raw:
        await raw.request("GET", "/a")
        await started.wait()
        raw.abort()


def slow_app(cache: Cache, told: list[str], started: Signal, go_on: Signal) -> Starlette:
    async def endpoint(request: Request) -> Response:
        started.set()
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            told.append("stopped")
            raise
        await asyncio.sleep(0)  # still at work while the server shuts down
        told.append("loaded")
        return PlainTextResponse("answer")

    app = Starlette(routes=[Route("/a", endpoint)], lifespan=noting(told))
    app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/a", ttl=60)])
    return app


def test_a_load_under_way_at_shutdown_may_finish_before_the_app_closes_what_it_uses(stack: Stack) -> None:
    told: list[str] = []
    started, shutdown = Signal(), Signal()
    app = when_it_shuts_down(slow_app(make_cache(), told, started, shutdown), shutdown)
    with live_server(app, lifespan="on", **stack) as server:
        asyncio.run(ask_and_leave(server.port, started))
    assert told == ["opened", "loaded", "closed"]


def test_a_load_that_does_not_end_holds_up_the_shutdown_no_longer_than_the_drain() -> None:
    told: list[str] = []
    started, never = Signal(), Signal()
    cache = make_cache(drain=0.05)
    with live_server(slow_app(cache, told, started, never), lifespan="on") as server:
        asyncio.run(ask_and_leave(server.port, started))
    assert told == ["opened", "stopped", "closed"]
    assert cache._engine.holders == 0


def test_a_handler_that_hangs_in_a_thread_cannot_keep_the_app_from_closing() -> None:
    told: list[str] = []
    started, thread_may_end, thread_has_ended = Signal(), threading.Event(), threading.Event()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        told.append("closed")
        thread_may_end.set()

    def endpoint(request: Request) -> Response:
        started.set()
        assert thread_may_end.wait(PATIENCE)
        told.append("thread ended")
        thread_has_ended.set()
        return PlainTextResponse("answer")

    app = Starlette(routes=[Route("/a", endpoint)], lifespan=lifespan)
    app.add_middleware(CacheMiddleware, cache=make_cache(drain=0.05), rules=[Rule("/a", ttl=60)])
    with live_server(app, lifespan="on", graceful=1) as server:
        asyncio.run(ask_and_leave(server.port, started))
    assert thread_has_ended.wait(PATIENCE)
    assert told == ["closed", "thread ended"]


def test_without_lifespan_messages_everything_else_works() -> None:
    told: list[str] = []
    started, go_on = Signal(), Signal()
    go_on.set()
    app = slow_app(make_cache(), told, started, go_on)

    async def scenario(server: LiveServer) -> None:
        assert (await ask(server, "/a")).body == b"answer"
        assert "; hit" in ((await ask(server, "/a")).cache_status or "")

    with live_server(app, lifespan="off") as server:
        asyncio.run(scenario(server))
    assert told == ["loaded"]


def test_an_app_that_knows_no_lifespan_is_served_all_the_same() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    async def scenario(server: LiveServer) -> None:
        assert (await ask(server, "/a")).body == b"answer"

    with live_server(CacheMiddleware(app, cache=make_cache(), rules=[Rule("/a", ttl=60)]), lifespan="auto") as server:
        asyncio.run(scenario(server))


def test_a_cache_serves_one_server_after_another() -> None:
    cache, told = make_cache(), list[str]()
    started, go_on = Signal(), Signal()
    go_on.set()
    app = slow_app(cache, told, started, go_on)

    async def scenario(server: LiveServer) -> None:
        assert (await ask(server, "/a")).body == b"answer"

    for _ in range(2):
        with live_server(app, lifespan="on") as server:
            asyncio.run(scenario(server))
    assert told == ["opened", "loaded", "closed"] * 2  # a closed store starts anew


@pytest.mark.parametrize("protocol", ["websockets-sansio", "wsproto"])
def test_websockets_pass_through_untouched(protocol: Literal["websockets-sansio", "wsproto"]) -> None:
    scopes: list[object] = []

    async def echo(socket: WebSocket) -> None:
        await socket.accept(subprotocol="parrot")
        async for text in socket.iter_text():
            await socket.send_text(f"{text}, {text}")

    routed = Starlette(routes=[WebSocketRoute("/talk", echo)])

    async def spy(scope: Scope, receive: Receive, send: Send) -> None:
        scopes.append(scope)
        await routed(scope, receive, send)

    middleware = CacheMiddleware(spy, cache=make_cache(), rules=[Rule("/*", ttl=60)])

    async def outermost(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware(scope, receive, send)
        if scope["type"] == "websocket":
            assert scope is scopes[-1]

    async def scenario(port: int) -> None:
        async with connect(f"ws://127.0.0.1:{port}/talk", subprotocols=["parrot"]) as socket:  # type: ignore[list-item]
            assert socket.subprotocol == "parrot"
            for word in ("hello", "hello", "bye"):
                await socket.send(word)
                assert await socket.recv() == f"{word}, {word}"

    with live_server(outermost, lifespan="on", ws=protocol) as server:
        asyncio.run(scenario(server.port))


def test_a_server_that_stops_in_the_middle_of_a_crowd_leaves_nothing_behind() -> None:
    cache, told = make_cache(drain=0.05), list[str]()
    started, never = Signal(), Signal()

    async def scenario(port: int) -> None:
        clients = [RawConnection(port) for _ in range(20)]
        for client in clients:
            await client.__aenter__()
            await client.request("GET", "/a")
        await eventually(lambda: cache._engine.waiters == 19)
        for client in clients:
            await client.__aexit__()

    with live_server(slow_app(cache, told, started, never), lifespan="on", graceful=1) as server:
        asyncio.run(scenario(server.port))
    assert told == ["opened", "stopped", "closed"]
    assert (cache._engine.waiters, cache._engine.holders, len(cache._engine._state.flights)) == (0, 0, 0)
