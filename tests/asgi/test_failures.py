"""How loads end that do not end well, and what time does to those who wait. All times are virtual."""

from __future__ import annotations

import asyncio

import pytest

from glasscache.asgi import Rule
from glasscache.errors import LoadTimeoutError, ReaderCutError
from glasscache.policy import Limits, Policy
from tests.asgi.site import COLLAPSED, FIRST, UNSTORED, Echo, Site, respond, run
from tests.asgi.streams import PRIVATE, Ticker, now, reading
from tests.support.asgi import Message, Receive, Response, Scope, Send

PAGE = Rule("/page", ttl=60)


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
        assert site.cache._engine.near.gauge().entries == 0

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
        assert site.cache._engine.near.gauge().entries == 0

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
        assert [response.cache_status for response in responses] == [UNSTORED + "status"] + [COLLAPSED] * 4
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
