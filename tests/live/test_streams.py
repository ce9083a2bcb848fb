"""Streams over sockets: everyone from byte 0, as produced; nobody held up or hurt by another."""

from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glasscache.asgi import CacheMiddleware, Rule
from tests.live.rig import Feed, Signal, Stack, ask, eventually, got, make_cache
from tests.support.servers import CutOff, RawConnection, live_server

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_both_clients_see_each_event_when_it_is_produced_and_the_later_one_from_byte_0(stack: Stack) -> None:
    feed, cache = Feed(3), make_cache()

    async def scenario(port: int) -> None:
        async with RawConnection(port) as first, RawConnection(port) as second:
            await first.request("GET", "/events")
            assert "stored" in ((await first.head()).cache_status or "")  # the head comes before any event
            feed.tell(0)
            assert await first.chunk() == feed.events[0]
            await second.request("GET", "/events")
            assert (await second.head()).cache_status == "glasscache; fwd=uri-miss; collapsed"
            assert await second.chunk() == feed.events[0]
            feed.tell(1)
            assert await first.chunk() == await second.chunk() == feed.events[1]
            assert not feed.ended.is_set
            feed.tell(2)
            assert await first.chunk() == await second.chunk() == feed.events[2]
            assert await first.chunk() is await second.chunk() is None
        assert feed.loads == 1

    with live_server(feed.served_by(cache), **stack) as server:
        asyncio.run(scenario(server.port))


def test_a_later_hit_replays_the_events_with_their_boundaries(stack: Stack) -> None:
    feed, cache = Feed(4), make_cache()
    feed.tell()

    async def scenario(port: int) -> None:
        async with RawConnection(port) as raw:
            await raw.request("GET", "/events")
            await raw.head()
            await raw.body()
            await raw.request("GET", "/events")
            head = await raw.head()
            assert (head.cache_status or "").startswith("glasscache; hit; ttl=")
            assert (head.header("content-type") or "").startswith("text/event-stream")
            assert [await raw.chunk() for _ in range(5)] == [*feed.events, None]

    with live_server(feed.served_by(cache), **stack) as server:
        asyncio.run(scenario(server.port))


def test_a_leader_that_does_not_read_its_socket_slows_nobody(stack: Stack) -> None:
    body = bytes(range(256)) * (5 * 4096)  # 5 MiB: more than fits into the buffers of one connection
    started, go_on = Signal(), Signal()

    async def large(request: Request) -> Response:
        started.set()
        await go_on.wait()
        return Response(body)

    app = Starlette(routes=[Route("/large", large)])
    app.add_middleware(CacheMiddleware, cache=make_cache(), rules=[Rule("/large", ttl=60)])

    async def scenario(port: int) -> None:
        async with RawConnection(port, receive_buffer=65_536) as leader, RawConnection(port) as follower:
            await leader.request("GET", "/large")
            await started.wait()
            await follower.request("GET", "/large")
            go_on.set()
            assert (await got(follower)).body == body
            assert (await ask(server, "/large")).body == body
            assert (await got(leader)).body == body  # and loses nothing by it

    with live_server(app, **stack) as server:
        asyncio.run(scenario(server.port))


def test_a_leader_that_resets_its_connection_hurts_no_follower_and_the_answer_is_stored(stack: Stack) -> None:
    feed, cache = Feed(3), make_cache()

    async def scenario(port: int) -> None:
        async with RawConnection(port) as leader, RawConnection(port) as follower:
            await leader.request("GET", "/events")
            feed.tell(0)
            await leader.head()
            assert await leader.chunk() == feed.events[0]
            await follower.request("GET", "/events")
            await follower.head()
            leader.abort()
            feed.tell(1, 2)
            assert await follower.body() == b"".join(feed.events)
        assert ((await ask(server, "/events")).cache_status or "").startswith("glasscache; hit; ttl=")
        assert feed.loads == 1

    with live_server(feed.served_by(cache), **stack) as server:
        asyncio.run(scenario(server.port))


def test_a_finite_load_that_everybody_has_left_finishes_and_is_stored() -> None:
    feed, cache = Feed(3), make_cache()

    async def scenario(port: int) -> None:
        async with RawConnection(port) as leader, RawConnection(port) as follower:
            for client in (leader, follower):
                await client.request("GET", "/events")
                await client.head()
            [flight] = cache._engine._state.flights.values()
            for client in (leader, follower):
                client.abort()
            await eventually(lambda: not flight.readers)
        feed.tell()
        await feed.ended.wait()
        await eventually(lambda: not cache._engine.holders)
        answer = await ask(server, "/events")
        assert answer.body == b"".join(feed.events)
        assert (answer.cache_status or "").startswith("glasscache; hit")
        assert feed.loads == 1

    with live_server(feed.served_by(cache)) as server:
        asyncio.run(scenario(server.port))


def test_a_stream_that_breaks_is_cut_for_everyone_and_never_ends_cleanly() -> None:
    feed, cache = Feed(2, fails=True), make_cache()

    async def scenario(port: int) -> None:
        async with RawConnection(port) as leader, RawConnection(port) as follower:
            for client in (leader, follower):
                await client.request("GET", "/events")
                await client.head()
            feed.tell()
            for client in (leader, follower):
                with pytest.raises(CutOff):
                    await client.body()
        assert cache._engine.near.gauge().entries == 0

    with live_server(feed.served_by(cache)) as server:
        asyncio.run(scenario(server.port))
