"""Who sets the pace of a stream, and who is cut: readers that do not read, producers that block, answers too large."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule
from tests.live.rig import Feed, Signal, ask, make_cache
from tests.support.patience import PATIENCE
from tests.support.servers import CutOff, LiveServer, RawConnection, live_server

pytestmark = pytest.mark.usefixtures("no_leaks")

PIECE = bytes(range(256)) * 256  # 64 KiB


class Large:
    """`GET /large`: as many pieces as fit into no buffer, from when it is told to."""

    def __init__(self, pieces: int, **headers: str) -> None:
        self.pieces = pieces
        self.loads = 0
        self.go_on = Signal()
        self.produced = 0
        self._headers = headers

    async def endpoint(self, request: Request) -> Response:
        """Stream them."""
        self.loads += 1
        return StreamingResponse(self._stream(), headers=self._headers)

    async def _stream(self) -> AsyncIterator[bytes]:
        await self.go_on.wait()
        for _ in range(self.pieces):
            yield PIECE
            self.produced += 1

    def served_by(self, cache: Cache) -> Starlette:
        """An app with this page behind a cache, and `GET /ping`."""

        async def ping(request: Request) -> Response:
            return PlainTextResponse("pong")

        app = Starlette(routes=[Route("/large", self.endpoint), Route("/ping", ping)])
        app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/large", ttl=60)])
        return app


def test_a_body_larger_than_the_bound_reaches_every_reader_whole_and_is_not_stored() -> None:
    large, cache = Large(pieces=40), make_cache(max_entry_bytes=200_000)

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as leader, RawConnection(server.port) as follower:
            for client in (leader, follower):
                await client.request("GET", "/large")
                await client.head()
            large.go_on.set()
            for body in await asyncio.gather(leader.body(), follower.body()):
                assert body == PIECE * 40
        assert large.loads == 1
        assert cache._engine.near.gauge().entries == 0

    with live_server(large.served_by(cache)) as server:
        asyncio.run(scenario(server))


def test_a_reader_that_does_not_read_is_cut_when_it_holds_up_others_and_nobody_else_loses_a_byte() -> None:
    large, cache = Large(pieces=200), make_cache(max_entry_bytes=200_000, reader_timeout=1.0)

    async def scenario(server: LiveServer) -> None:
        async with (
            RawConnection(server.port, receive_buffer=65_536) as leader,
            RawConnection(server.port) as follower,
        ):
            for client in (leader, follower):
                await client.request("GET", "/large")
                await client.head()
            large.go_on.set()
            assert await follower.body() == PIECE * 200  # 12.5 MiB
            with pytest.raises(CutOff):
                await leader.body()

    with live_server(large.served_by(cache)) as server:
        asyncio.run(scenario(server))


def test_the_one_reader_of_a_private_answer_sets_its_pace() -> None:
    large, cache = Large(200, **{"Cache-Control": "no-store"}), make_cache()
    large.go_on.set()

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port, receive_buffer=65_536) as raw:
            await raw.request("GET", "/large")
            await raw.head()
            for _ in range(20):
                await ask(server, "/ping")  # the server has had its chances to run ahead
            assert large.produced < 200
            assert await raw.body() == PIECE * 200
        assert large.produced == 200
        assert cache._engine.commons.held_bytes == 0

    with live_server(large.served_by(cache)) as server:
        asyncio.run(scenario(server))


def test_a_producer_that_never_awaits_is_passed_on_piece_by_piece() -> None:
    """Computing between two pieces blocks the server's loop; what was sent before has gone out, as without a cache."""
    arrived = [threading.Event() for _ in range(3)]

    async def pieces() -> AsyncIterator[bytes]:
        for event in arrived:
            yield b"piece"
            if not event.wait(PATIENCE):
                raise AssertionError("a piece was held back until the next one was there")

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(pieces())

    app = Starlette(routes=[Route("/a", endpoint)])
    app.add_middleware(CacheMiddleware, cache=make_cache(), rules=[Rule("/a", ttl=60)])

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as raw:
            await raw.request("GET", "/a")
            async with asyncio.timeout(PATIENCE / 2):
                await raw.head()
                for event in arrived:
                    assert await raw.chunk() == b"piece"
                    event.set()
                assert await raw.chunk() is None

    with live_server(app) as server:
        try:
            asyncio.run(scenario(server))
        finally:
            for event in arrived:
                event.set()


def test_a_large_stored_answer_and_a_client_that_reads_nothing_of_it_hold_up_nobody() -> None:
    large, cache = Large(pieces=100), make_cache()  # 6.25 MiB
    large.go_on.set()

    async def scenario(server: LiveServer) -> None:
        assert (await ask(server, "/large")).body == PIECE * 100
        async with RawConnection(server.port, receive_buffer=65_536) as lazy:
            await lazy.request("GET", "/large")
            assert "; hit" in ((await lazy.head()).cache_status or "")
            assert (await ask(server, "/large")).body == PIECE * 100
            assert await lazy.body() == PIECE * 100
        assert large.loads == 1

    with live_server(large.served_by(cache)) as server:
        asyncio.run(scenario(server))


def test_a_feed_outlives_any_number_of_clients_that_come_and_go() -> None:
    feed, cache = Feed(3), make_cache()

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as stays:
            await stays.request("GET", "/events")
            await stays.head()
            for _ in range(20):
                async with RawConnection(server.port) as passes:
                    await passes.request("GET", "/events")
                    await passes.head()
                    passes.abort()
            feed.tell()
            assert await stays.body() == b"".join(feed.events)
        assert feed.loads == 1

    with live_server(feed.served_by(cache)) as server:
        asyncio.run(scenario(server))
