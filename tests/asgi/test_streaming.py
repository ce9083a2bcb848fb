"""Answers while they are produced: who reads what, who waits for whom. All times are virtual."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache._events import Wait
from glasscache.asgi import Rule
from glasscache.errors import ReaderCutError
from glasscache.policy import Limits
from tests.asgi.site import COLLAPSED, FIRST, Echo, Origin, Site, respond, run
from tests.asgi.streams import KILOBYTE, PRIVATE, Ticker, all_of, now, reading
from tests.support.asgi import Receive, Scope, Send

PAGE = Rule("/page", ttl=60)


# --- everyone from byte 0 -------------------------------------------------------------------------------------------


def test_followers_read_from_byte_0_while_the_answer_is_produced() -> None:
    async def scenario() -> None:
        origin = Ticker(events=4)
        site = Site(origin, PAGE)
        first, later, last = await asyncio.gather(all_of(site), all_of(site, 2.5), all_of(site, 3.5))
        events = [b"data: %d\n\n" % number for number in range(4)]
        assert first == [(1, events[0]), (2, events[1]), (3, events[2]), (4, events[3])]
        assert later == [(2.5, events[0]), (2.5, events[1]), (3, events[2]), (4, events[3])]
        assert last == [(3.5, events[0]), (3.5, events[1]), (3.5, events[2]), (4, events[3])]
        assert len(origin.sent) == 1
        assert site.results == {"miss": 1, "collapsed": 2}

    run(scenario)


def test_the_events_are_replayed_one_by_one_on_a_hit() -> None:
    async def scenario() -> None:
        site = Site(Ticker(events=3), PAGE)
        await all_of(site)
        assert await all_of(site) == [(3, b"data: %d\n\n" % number) for number in range(3)]
        assert site.results == {"miss": 1, "hit": 1}

    run(scenario)


def test_a_crowd_makes_one_load_and_each_is_told_how_it_was_answered() -> None:
    async def scenario() -> None:
        origin = Echo(takes=1.0)
        site = Site(origin, PAGE)
        responses = await site.crowd(1000)
        assert {response.body for response in responses} == {b"1 /page"}
        assert [response.cache_status for response in responses] == [FIRST] + [COLLAPSED] * 999
        assert now() == 1.0
        assert site.results == {"miss": 1, "collapsed": 999}

    run(scenario)


@pytest.mark.parametrize("joins", [0.5, 1.5])
def test_the_head_of_an_answer_reaches_followers_before_its_body(joins: float) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(5)
        await send({"type": "http.response.body", "body": b"slow"})

    async def scenario() -> None:
        site = Site(app, PAGE)
        leader = asyncio.create_task(site.get())
        await asyncio.sleep(joins)
        async with reading(site) as stream:
            assert (await stream.head()).cache_status == COLLAPSED
            assert now() == max(joins, 1.0)
            assert await stream.chunk() == b"slow"
        await leader

    run(scenario)


@pytest.mark.parametrize("chunks", [(b"",), (b"", b"")])
def test_an_empty_answer_is_shared_and_stored(chunks: tuple[bytes, ...]) -> None:
    async def scenario() -> None:
        origin = Origin(*chunks, status=200, takes=1.0)
        site = Site(origin, PAGE)
        assert {response.body for response in await site.crowd(5)} == {b""}
        assert (await site.get()).body == b""
        assert origin.loads == 1
        waits = [work for work in site.telemetry.ended if isinstance(work, Wait)]
        assert [(wait.outcome, wait.ended) for wait in waits] == [("served", 1.0)] * 4

    run(scenario)


def test_who_is_given_a_flights_answer_cannot_change_it_for_others() -> None:
    async def scenario() -> None:
        site = Site(Origin(b"a", b"b", headers=[(b"x-a", b"1")], takes=1.0), PAGE)

        async def spoil() -> None:
            response = await site.get()
            for message in response.messages:
                message.get("headers", []).clear()
                message.clear()

        responses = await asyncio.gather(site.get(), spoil(), site.get())
        for response in (responses[0], responses[2], await site.get()):
            assert response is not None
            assert (b"x-a", b"1") in response.headers
            assert response.body == b"ab"

    run(scenario)


# --- clients that leave, clients that are slow ----------------------------------------------------------------------


@pytest.mark.parametrize("error", [None, ConnectionResetError])
@pytest.mark.parametrize("leaves", [0.5, 1.5, 2.5])
def test_a_leader_that_disconnects_hurts_nobody(leaves: float, error: type[OSError] | None) -> None:
    async def scenario() -> None:
        origin = Ticker(events=4)
        site = Site(origin, PAGE)

        async def lead() -> None:
            async with reading(site) as stream:
                await asyncio.sleep(leaves)
                stream.disconnect(error)

        _, followed = await asyncio.gather(lead(), all_of(site, 0.25))
        assert b"".join(chunk for _, chunk in followed) == b"".join(b"data: %d\n\n" % number for number in range(4))
        assert followed[-1][0] == 4
        assert origin.ends == [(4.0, "whole")]
        assert len(origin.sent) == 1
        assert (await site.get()).cache_status == "glasscache; hit; ttl=60"

    run(scenario)


def test_a_storable_load_that_everyone_has_left_is_finished() -> None:
    async def scenario() -> None:
        origin = Ticker(events=4)
        site = Site(origin, PAGE)
        async with reading(site) as stream:
            await stream.chunk()
        assert now() == 1.0
        assert (await site.get()).cache_status == COLLAPSED
        assert origin.ends == [(4.0, "whole")]

    run(scenario)


def test_by_option_a_load_that_everyone_has_left_is_stopped() -> None:
    async def scenario() -> None:
        origin = Ticker(events=None)
        site = Site(origin, PAGE, limits=Limits(finish_abandoned=False))
        async with reading(site) as stream:
            await stream.chunk()
            await asyncio.sleep(0.5)
        await asyncio.sleep(5)
        assert origin.ends == [(2.0, "OSError")]
        assert origin.disconnects == [1.5]

    run(scenario)


def test_a_request_that_is_cancelled_is_like_a_client_that_left() -> None:
    async def scenario() -> None:
        origin = Ticker(events=3)
        site = Site(origin, PAGE)
        leader = asyncio.create_task(site.get())
        follower = asyncio.create_task(site.get())
        await asyncio.sleep(1.5)
        leader.cancel()
        assert (await follower).cache_status == COLLAPSED
        assert now() == 3.0
        with pytest.raises(asyncio.CancelledError):
            await leader
        assert len(origin.sent) == 1

    run(scenario)


def test_a_follower_that_leaves_while_it_waits_is_told_of_as_cancelled() -> None:
    async def scenario() -> None:
        site = Site(Echo(takes=5.0), PAGE)
        leader = asyncio.create_task(site.get())
        await asyncio.sleep(0)
        async with reading(site):
            await asyncio.sleep(2)
        assert now() == 2.0
        assert site.cache.waiters == 0
        [wait] = [work for work in site.telemetry.ended if isinstance(work, Wait)]
        assert (wait.outcome, wait.ended) == ("cancelled", 2.0)
        await leader

    run(scenario)


def test_a_slow_leader_slows_nobody() -> None:
    async def scenario() -> None:
        origin = Ticker(events=4)
        site = Site(origin, PAGE)
        async with reading(site) as slow:
            await slow.head()
            followed = await all_of(site)
            assert followed[-1][0] == 4
            assert origin.ends == [(4.0, "whole")]
            await asyncio.sleep(100)
            assert (await slow.body()) == b"".join(chunk for _, chunk in followed)

    run(scenario)


# --- answers of one reader ------------------------------------------------------------------------------------------


def test_a_private_answer_is_produced_at_its_readers_pace() -> None:
    async def scenario() -> None:
        origin = Ticker(events=2000, headers=PRIVATE, event=lambda number: KILOBYTE)
        origin.delay = 0.0
        site = Site(origin, PAGE)
        async with reading(site) as stream:
            await stream.head()
            await asyncio.sleep(10)
            ahead = origin.sent[0]
            assert 100 < ahead < 400
            for _ in range(100):
                assert await stream.chunk() == KILOBYTE
            await asyncio.sleep(10)
            assert origin.sent[0] == ahead + 100
            assert len(await stream.body()) == 1900 * 1024

    run(scenario)


@pytest.mark.parametrize("headers", [PRIVATE, [(b"cache-control", b"no-store")]])
@pytest.mark.parametrize("error", [None, BrokenPipeError])
def test_a_private_answer_is_stopped_when_its_reader_disconnects(headers: Any, error: type[OSError] | None) -> None:
    async def scenario() -> None:
        origin = Ticker(events=None, headers=headers)
        site = Site(origin, PAGE)
        async with reading(site) as stream:
            assert await stream.chunk() == b"data: 0\n\n"
            assert await stream.chunk() == b"data: 1\n\n"
            await asyncio.sleep(0.5)
            stream.disconnect(error)
            await asyncio.sleep(1)
        assert origin.disconnects == [2.5]
        assert origin.ends == [(3.0, "OSError")]
        assert site.cache.holders == 0

    run(scenario)


def test_a_private_answer_stops_at_the_disconnect_even_if_nobody_is_there_when_it_begins() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(5)
        try:
            await respond(send, b"a", b"b", headers=PRIVATE)
        except OSError:
            stopped.append(now())
            raise

    stopped: list[float] = []

    async def scenario() -> None:
        site = Site(app, PAGE)
        async with reading(site):
            await asyncio.sleep(2)
        await asyncio.sleep(10)
        assert stopped == [5.0]

    run(scenario)


def test_a_client_that_leaves_between_two_flights_is_not_loaded_for() -> None:
    # it waits for a leader whose answer turns out to be private, then for a slot of its own; and is gone by then
    async def scenario() -> None:
        origin = Ticker(events=None, headers=PRIVATE)
        site = Site(origin, PAGE, limits=Limits(max_parallel_loads=1))
        origin.delay = 2.0
        async with reading(site) as leader, reading(site) as second:
            await leader.head()
            await second.head()  # in the only slot there is
            assert len(origin.sent) == 2
            async with reading(site) as third:
                await asyncio.sleep(10)
                third.disconnect()
                await asyncio.sleep(1)
                second.disconnect()
                await asyncio.sleep(10)
        await asyncio.sleep(10)
        assert site.cache.holders == 0
        assert len(origin.ends) == len(origin.sent)

    run(scenario)


def test_a_client_that_left_while_it_waited_for_a_slot_gets_no_endless_load() -> None:
    async def scenario() -> None:
        origin = Ticker(events=None, headers=PRIVATE)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if not origin.sent:  # the leader takes its time before it says that it is private: others are watched
                await asyncio.sleep(3)
            await origin(scope, receive, send)

        site = Site(app, PAGE, limits=Limits(max_parallel_loads=1))
        async with reading(site) as leader:
            await asyncio.sleep(0)
            async with reading(site) as second, reading(site) as third:
                await leader.chunk()
                assert now() == 4.0
                await second.chunk()
                third.disconnect()
                await asyncio.sleep(2)
                second.disconnect()
                await asyncio.sleep(2)
        await asyncio.sleep(5)
        assert site.cache.holders == 0
        assert len(origin.ends) == len(origin.sent)

    run(scenario)


def test_at_most_so_many_private_loads_of_a_key_run_at_once() -> None:
    async def scenario() -> None:
        running = most = 0

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await asyncio.sleep(1)
            running -= 1
            await respond(send, b"mine", headers=PRIVATE)

        site = Site(app, PAGE, limits=Limits(max_parallel_loads=3))
        await site.get()
        responses = await site.crowd(9)
        assert [response.body for response in responses] == [b"mine"] * 9
        assert most == 3
        assert now() == 4.0

    run(scenario)


# --- too long -------------------------------------------------------------------------------------------------------


def test_an_answer_that_outgrows_the_bound_goes_on_for_its_readers_and_is_not_stored() -> None:
    async def scenario() -> None:
        origin = Ticker(events=8, event=lambda number: KILOBYTE)
        site = Site(origin, PAGE, limits=Limits(max_entry_bytes=4096))
        first, joined, late = await asyncio.gather(all_of(site), all_of(site, 2.5), all_of(site, 6.5))
        assert [len(b"".join(chunk for _, chunk in arrived)) for arrived in (first, joined, late)] == [8192] * 3
        assert [arrived[-1][0] for arrived in (first, joined, late)] == [8, 8, 14.5]
        assert len(origin.sent) == 2
        assert site.cache._engine.near.gauge().entries == 0
        assert site.cache._engine.commons.held_bytes == 0

    run(scenario)


def test_a_reader_that_holds_up_the_others_of_an_outgrown_answer_is_cut_and_never_ended_cleanly() -> None:
    async def scenario() -> None:
        origin = Ticker(events=64, event=lambda number: KILOBYTE * 16)
        site = Site(origin, PAGE, limits=Limits(max_entry_bytes=4096, reader_timeout=10.0))
        slow = site.client.stream("GET", "/page")
        stream = await slow.__aenter__()
        await stream.head()
        followed = await all_of(site)
        assert sum(len(chunk) for _, chunk in followed) == 64 * 16 * 1024
        assert followed[-1][0] == 74.0
        with pytest.raises(ReaderCutError):
            await stream.body()
        assert not stream.rules.complete
        with pytest.raises(ReaderCutError):
            await slow.__aexit__(None, None, None)

    run(scenario)


def test_an_endless_answer_that_nobody_reads_any_more_is_stopped() -> None:
    async def scenario() -> None:
        origin = Ticker(events=None, event=lambda number: KILOBYTE)
        site = Site(origin, PAGE, limits=Limits(max_entry_bytes=4096))
        async with reading(site) as stream:
            for _ in range(6):
                await stream.chunk()
            await asyncio.sleep(0.5)
        await asyncio.sleep(5)
        assert origin.ends == [(7.0, "OSError")]

    run(scenario)
