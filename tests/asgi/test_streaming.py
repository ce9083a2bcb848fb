"""Answers while they are produced: who reads what, who waits for whom, and how things end. All times are virtual."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from glasscache._events import Wait
from glasscache.asgi import Rule
from glasscache.errors import LoadTimeoutError, ReaderCutError
from glasscache.policy import Limits, Policy
from tests.asgi.site import COLLAPSED, FIRST, UNSTORED, Echo, Origin, Site, respond, run
from tests.support.asgi import Message, Receive, Response, Scope, Send, Stream

PAGE = Rule("/page", ttl=60)
PRIVATE = [(b"cache-control", b"private")]
STREAM = [(b"content-type", b"text/event-stream")]
KILOBYTE = b"k" * 1024


def now() -> float:
    return asyncio.get_running_loop().time()


class Ticker:
    """Sends one event each second; remembers what became of each of its loads."""

    def __init__(
        self, *, events: int | None, headers: Any = STREAM, event: Callable[[int], bytes] | None = None
    ) -> None:
        self.events = events
        self.headers = headers
        self.event = event or (lambda number: b"data: %d\n\n" % number)
        self.sent: list[int] = []
        self.ends: list[tuple[float, str]] = []
        self.disconnects: list[float] = []
        self.delay = 1.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        load = len(self.sent)
        self.sent.append(0)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnects.append(now())

        watching = asyncio.create_task(watch())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(self.headers)})
            while self.events is None or self.sent[load] < self.events:
                await asyncio.sleep(self.delay)
                await send({"type": "http.response.body", "body": self.event(self.sent[load]), "more_body": True})
                self.sent[load] += 1
            await send({"type": "http.response.body"})
            self.ends.append((now(), "whole"))
        except BaseException as error:
            self.ends.append((now(), type(error).__name__))
            raise
        finally:
            watching.cancel()


@asynccontextmanager
async def reading(site: Site, **options: Any) -> AsyncIterator[Stream]:
    """A client that takes its messages one by one."""
    async with site.client.stream("GET", "/page", **options) as stream:
        yield stream


async def all_of(site: Site, start: float = 0.0, **options: Any) -> list[tuple[float, bytes]]:
    """When which chunk arrived, for a client that comes at `start` and is as fast as the answer."""
    await asyncio.sleep(start)
    arrived = []
    async with reading(site, **options) as stream:
        while chunk := await stream.chunk():  # an empty one only says that it is over
            arrived.append((now(), chunk))
    return arrived


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
        assert site.cache.engine.near.gauge().entries == 0
        assert site.cache.engine.commons.held_bytes == 0

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


# --- time -----------------------------------------------------------------------------------------------------------


def test_a_handler_that_hangs_is_given_up_and_cannot_hold_its_key() -> None:
    ends: list[tuple[float, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if ends or loads:
            await respond(send, b"well again")
            return
        loads.append(1)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ends.append((now(), "cancelled"))
            raise

    loads: list[int] = []

    async def scenario() -> None:
        site = Site(app, PAGE, limits=Limits(load_timeout=20.0, wait_timeout=100.0))
        leader, follower = asyncio.create_task(site.get()), asyncio.create_task(site.get())
        results = await asyncio.gather(leader, follower, return_exceptions=True)
        assert now() == 20.0
        assert all(isinstance(result, LoadTimeoutError) for result in results)
        assert results[0] is not results[1]
        assert (await site.get()).body == b"well again"
        await asyncio.sleep(5)
        assert ends == [(21.0, "cancelled")]
        assert site.results == {"error": 2, "miss": 1}

    run(scenario)


def test_an_answer_that_hangs_in_the_middle_is_cut_for_all() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.Event().wait()

    async def scenario() -> None:
        site = Site(app, PAGE, limits=Limits(load_timeout=20.0))
        streams = [site.client.stream("GET", "/page") for _ in range(2)]
        leader, follower = [await stream.__aenter__() for stream in streams]
        assert [await leader.chunk(), await follower.chunk()] == [b"half", b"half"]
        errors: list[type[Exception]] = [LoadTimeoutError, ReaderCutError]
        for stream, error in zip((leader, follower), errors, strict=True):
            with pytest.raises(error):
                await stream.chunk()
            assert not stream.rules.complete
        for context, error in zip(streams, errors, strict=True):
            with pytest.raises(error):
                await context.__aexit__(None, None, None)
        assert now() == 20.0
        await asyncio.sleep(2)  # the origin is cancelled
        assert site.cache.engine.near.gauge().entries == 0

    run(scenario)


def test_a_follower_that_has_waited_long_enough_loads_for_itself() -> None:
    async def scenario() -> None:
        origin = Echo(takes=50.0)
        site = Site(origin, PAGE, limits=Limits(wait_timeout=10.0))

        async def impatient() -> Response:
            await asyncio.sleep(1)
            origin.takes = 1.0
            return await site.get()

        leader, follower = await asyncio.gather(site.get(), impatient())
        assert leader.body == b"1 /page"
        assert (follower.body, follower.cache_status) == (b"2 /page", FIRST)
        assert origin.loads == 2

    run(scenario)


def test_a_follower_that_has_waited_long_enough_takes_a_stale_answer() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, Rule("/page", ttl=60, stale_if_error=600), limits=Limits(wait_timeout=10.0))
        await site.get()
        await asyncio.sleep(100)
        origin.takes = 50.0
        begun = now()
        leader = asyncio.create_task(site.get())
        await asyncio.sleep(0)
        response = await site.get()
        assert now() == begun + 10
        assert response.cache_status == "glasscache; hit; ttl=-50; detail=wait_timeout"
        assert (await leader).body == b"2 /page"
        assert origin.loads == 2

    run(scenario)


def test_the_soft_timeout_serves_stale_to_the_leader_too_and_the_load_goes_on() -> None:
    async def scenario() -> None:
        origin = Echo()
        rule = Rule("/page", ttl=60, stale_if_error=600, policy=Policy(soft_timeout=2.0))
        site = Site(origin, rule)
        await site.get()
        await asyncio.sleep(100)
        origin.takes = 5.0
        begun = now()
        response = await site.get()
        assert now() == begun + 2
        assert response.body == b"1 /page"
        await asyncio.sleep(4)
        assert (await site.get()).body == b"2 /page"

    run(scenario)


def test_at_most_max_loads_of_a_rule_run_at_once() -> None:
    async def scenario() -> None:
        origin = Echo(takes=1.0)
        site = Site(origin, Rule("/docs/{id}", ttl=60, max_loads=2), PAGE)
        pages = [f"/docs/{number}" for number in range(6)]
        responses = await asyncio.gather(*map(site.get, pages), site.get("/page"))
        assert {response.status for response in responses} == {200}
        assert now() == 3.0
        assert origin.loads == 7

    run(scenario)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_an_error_of_the_origin_is_shared_and_each_raises_its_own_copy() -> None:
    class OddError(Exception):
        pass

    loads: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        loads.append(1)
        await asyncio.sleep(1)
        raise OddError("no")

    async def scenario() -> None:
        site = Site(app, PAGE)
        errors = await asyncio.gather(*(site.get() for _ in range(5)), return_exceptions=True)
        assert [type(error) for error in errors] == [OddError] * 5
        assert len({id(error) for error in errors}) == 5
        assert all(error.__cause__ is errors[0] for error in errors[1:] if isinstance(error, BaseException))
        assert loads == [1]
        assert site.results == {"error": 5}

    run(scenario)


def test_an_error_after_the_answer_has_begun_cuts_everyone() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(1)
        raise ValueError("broken")

    async def scenario() -> None:
        site = Site(app, PAGE)
        errors = await asyncio.gather(*(site.get() for _ in range(3)), return_exceptions=True)
        assert [type(error) for error in errors] == [ValueError, ReaderCutError, ReaderCutError]
        assert site.cache.engine.near.gauge().entries == 0

    run(scenario)


@pytest.mark.parametrize("failure", ["exception", "500", "503"])
def test_a_stale_answer_stands_in_for_a_failed_load(failure: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        loads.append(1)
        if len(loads) > 1 and failure == "exception":
            raise ValueError("broken")
        await respond(send, b"%d" % len(loads), status=int(failure) if len(loads) > 1 else 200)

    loads: list[int] = []

    async def scenario() -> None:
        site = Site(app, Rule("/page", ttl=60, stale_if_error=600))
        await site.get()
        await asyncio.sleep(100)
        for _ in range(2):
            responses = await site.crowd(3)
            assert {response.body for response in responses} == {b"1"}
            assert {response.cache_status for response in responses} == {"glasscache; hit; ttl=-40; detail=error"}
        await asyncio.sleep(600)
        if failure == "exception":
            with pytest.raises(ValueError, match="broken"):
                await site.get()
        else:
            assert (await site.get()).status == int(failure)

    run(scenario)


def test_a_complete_5xx_is_shared_with_those_who_waited_and_not_stored() -> None:
    async def scenario() -> None:
        origin = Echo(status=500, takes=1.0)
        site = Site(origin, PAGE)
        responses = await site.crowd(5)
        assert {(response.status, response.body) for response in responses} == {(500, b"1 /page")}
        assert [response.cache_status for response in responses] == [UNSTORED] + [COLLAPSED] * 4
        assert (await site.get()).body == b"2 /page"

    run(scenario)


def test_a_5xx_that_breaks_off_is_shared_with_nobody() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        await asyncio.sleep(1)
        raise ValueError("broken")

    async def scenario() -> None:
        errors = await asyncio.gather(*(Site(app, PAGE).crowd(3),), return_exceptions=True)
        assert [type(error) for error in errors] == [ValueError]

    run(scenario)


@pytest.mark.parametrize("status", [400, 404, 302])
def test_another_status_is_the_leaders_alone(status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        odd = (b"x-odd", b"1") in scope["headers"]
        loads.append(odd)
        await asyncio.sleep(1)
        await respond(send, b"odd" if odd else b"good", status=status if odd else 200)

    loads: list[bool] = []

    async def scenario() -> None:
        site = Site(app, PAGE)
        odd, *others = await asyncio.gather(site.get(headers=[(b"x-odd", b"1")]), *(site.get() for _ in range(5)))
        assert (odd.status, odd.body) == (status, b"odd")
        assert {(response.status, response.body) for response in others} == {(200, b"good")}
        assert loads == [True, False]
        assert [response.cache_status for response in others] == [FIRST] + [COLLAPSED] * 4

    run(scenario)


def test_a_status_that_two_leaders_get_is_no_oddity_and_is_shared() -> None:
    async def scenario() -> None:
        origin = Echo(status=404, takes=1.0)
        site = Site(origin, PAGE)
        responses = await site.crowd(10)
        assert sorted(response.body for response in responses) == [b"1 /page"] + [b"2 /page"] * 9
        assert origin.loads == 2

    run(scenario)


def test_retry_after_pauses_refreshes_and_stale_answers_are_served_meanwhile() -> None:
    async def scenario() -> None:
        origin = Echo()
        rule = Rule("/page", ttl=60, stale_while_revalidate=100, stale_if_error=1000)
        site = Site(origin, rule)
        await site.get()
        origin.status, origin.headers = 503, [(b"retry-after", b"30")]
        await asyncio.sleep(70)
        assert (await site.get()).body == b"1 /page"  # its refresh hears of the pause
        await asyncio.sleep(1)
        assert origin.loads == 2
        for _ in range(28):
            assert (await site.get()).body == b"1 /page"
            await asyncio.sleep(1)
        assert origin.loads == 2
        origin.status, origin.headers = 200, []
        await asyncio.sleep(2)
        assert (await site.get()).body == b"1 /page"
        await asyncio.sleep(1)
        assert (await site.get()).body == b"3 /page"

    run(scenario)


def test_a_miss_goes_to_a_paused_origin_all_the_same() -> None:
    async def scenario() -> None:
        origin = Echo(status=429, headers=[(b"retry-after", b"30")])
        site = Site(origin, PAGE)
        assert [(await site.get()).status for _ in range(2)] == [429, 429]
        assert origin.loads == 2

    run(scenario)


# --- clients' own errors --------------------------------------------------------------------------------------------


def test_an_error_of_a_clients_send_is_that_clients_alone() -> None:
    async def scenario() -> None:
        site = Site(Ticker(events=3), PAGE)

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.body":
                raise ConnectionResetError("gone")

        async with reading(site) as witness:
            scope = dict(witness.scope)
            broken = asyncio.create_task(_call(site, scope, receive, send))
            assert await witness.body() == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
            with pytest.raises(ConnectionResetError):
                await broken
        for headers in ([], [(b"if-none-match", b'"x"')]):  # the short way, and the slow one
            with pytest.raises(ConnectionResetError):
                await site.middleware({**scope, "headers": [*scope["headers"], *headers]}, receive, send)
        assert (await site.get()).body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"

    run(scenario)


async def _call(site: Site, scope: Scope, receive: Receive, send: Send) -> None:
    await site.middleware(scope, receive, send)


def test_a_receive_that_fails_while_it_is_watched_counts_as_a_client_that_left() -> None:
    async def scenario() -> None:
        origin = Ticker(events=None, headers=PRIVATE)
        site = Site(origin, PAGE)
        sent: list[Message] = []

        async def receive() -> Message:
            await asyncio.sleep(2.5)
            raise ConnectionResetError("gone")

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": "/page", "headers": [], "query_string": b""}
        await site.middleware(scope, receive, send)
        await asyncio.sleep(5)
        assert origin.ends == [(3.0, "OSError")]
        assert len(sent) == 3

    run(scenario)


def test_a_watched_client_is_read_to_its_disconnect_by_one_reader_only() -> None:
    # `Client` fails the test when two calls of `receive` wait at once; the request's own messages come first
    async def scenario() -> None:
        origin = Ticker(events=4)
        site = Site(origin, PAGE)
        async with reading(site, body=[b"", b""]) as stream:
            assert len(await stream.body()) == 4 * 9
        assert origin.ends == [(4.0, "whole")]

    run(scenario)
