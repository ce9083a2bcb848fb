"""Which answers are stored, and what an app and its handler can do about it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache import Cache
from glasscache._climbing import MOST_TAGS
from glasscache.asgi import CacheMiddleware, Rule, answer
from glasscache.errors import ConfigurationError
from glasscache.policy import Policy
from tests.asgi.site import FIRST, UNSTORED, Echo, Site, read, respond, run
from tests.support.asgi import Client, Message, Receive, Scope, Send

PAGE = Rule("/page", ttl=60)


# --- what is stored -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"", b"all of it"])
def test_who_led_a_load_that_was_over_at_once_gets_it_whole_and_without_an_age(body: bytes) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"1")]})
        await send({"type": "http.response.body", "body": body})

    async def scenario() -> None:
        site = Site(app, PAGE)
        first, second = await site.get(), await site.get()
        assert (first.body, first.cache_status) == (body, "glasscache; fwd=uri-miss; stored")
        assert [name for name, _ in first.headers] == [b"x", b"cache-status"]
        assert (second.body, second.header("age")) == (body, "0")

    run(scenario)


def test_store_if_is_asked_with_status_and_headers_and_has_the_last_word() -> None:
    asked: list[Any] = []

    def store_if(status: int, headers: Any) -> bool:
        asked.append((status, headers))
        return b"x-degraded" not in dict(headers)

    async def scenario() -> None:
        origin = Echo(headers=[(b"X-Degraded", b"1")])
        site = Site(origin, Rule("/page", ttl=60, store_if=store_if))
        assert (await site.get()).cache_status == UNSTORED + "store_if"
        origin.headers = []
        assert (await site.get()).body == b"2 /page"
        assert (await site.get()).body == b"2 /page"
        assert asked == [(200, ((b"x-degraded", b"1"),)), (200, ())]

    run(scenario)


@pytest.mark.parametrize("option", ["store_if", "tags"])
def test_a_callable_that_fails_costs_the_storing_and_not_the_answer(
    option: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> Any:
        raise KeyError("broken")

    async def scenario() -> None:
        options: dict[str, Any] = {option: broken}
        site = Site(Echo(), Rule("/page", ttl=60, **options))
        assert (await site.get()).body == b"1 /page"
        assert (await site.get()).body == b"2 /page"

    run(scenario)
    assert "KeyError" in caplog.text


@pytest.mark.parametrize("option", ["when", "store_if", "tenant"])
@pytest.mark.parametrize("kind", ["coroutine", "future"])
def test_what_a_callable_would_have_to_await_is_no_yes(
    option: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def no() -> bool:
        return False

    def asked(*_: object) -> Any:
        return no() if kind == "coroutine" else asyncio.get_running_loop().create_future()

    async def scenario() -> None:
        options: dict[str, Any] = {option: asked}
        site = Site(Echo(), Rule("/page", ttl=60, **options))
        assert (await site.get()).body == b"1 /page"
        assert (await site.get()).body == b"2 /page"

    run(scenario)
    assert "a rule's callables are plain functions" in caplog.text


@pytest.mark.parametrize("status", [201, 206, 301, 404, 500])
def test_only_a_200_is_stored_by_default(status: int) -> None:
    async def scenario() -> None:
        origin = Echo(status=status)
        site = Site(origin, PAGE)
        for number in (1, 2):
            response = await site.get()
            assert (response.status, response.body) == (status, b"%d /page" % number)
            assert response.cache_status == UNSTORED + "status"

    run(scenario)


def test_more_statuses_are_stored_by_option_and_errors_for_a_short_time_only() -> None:
    async def scenario() -> None:
        origin = Echo(status=301)
        rule = Rule("/page", ttl=60, statuses=(200, 301, 404), negative_ttl=5, stale_if_error=600)
        site = Site(origin, rule)
        await site.get()
        assert (await site.get()).cache_status == "glasscache; hit; ttl=60"
        await asyncio.sleep(1000)
        origin.status = 404
        assert (await site.get()).status == 404
        assert (await site.get()).cache_status == "glasscache; hit; ttl=5"
        await asyncio.sleep(5)
        assert (await site.get()).body == b"3 /page"

    run(scenario)


def test_errors_that_are_to_be_stored_for_no_time_are_refused_with_the_remedy() -> None:
    rule = Rule("/page", ttl=60, statuses=(200, 404))
    remedy = r"Rule\('/page', statuses=\(200, 404\)\): say for how long errors are stored: negative_ttl=10"
    with pytest.raises(ConfigurationError, match=remedy):
        CacheMiddleware(Echo(), cache=Cache(), rules=[rule])
    CacheMiddleware(Echo(), cache=Cache(policy=Policy(negative_ttl=5)), rules=[rule])


def test_a_rule_may_shorten_its_ttls_at_random_so_that_they_do_not_end_together() -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/docs/{id}", ttl=1000, jitter=0.5))
        told = set()
        for number in range(20):
            await site.get(f"/docs/{number}")
            ttl = int(((await site.get(f"/docs/{number}")).cache_status or "").removeprefix("glasscache; hit; ttl="))
            assert 500 <= ttl <= 1000
            told.add(ttl)
        assert len(told) > 10

    run(scenario)


@pytest.mark.parametrize("length", [b"6", b"8", b"x", b"7, 8"])
def test_an_answer_that_is_not_as_long_as_it_says_is_not_stored(length: bytes) -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"content-length", length)]), PAGE)
        client = Client(site.middleware, strict_length=False)
        responses = [await client.request("GET", "/page") for _ in range(2)]
        assert [response.body for response in responses] == [b"1 /page", b"2 /page"]
        assert {response.cache_status for response in responses} == {"glasscache; fwd=uri-miss"}

    run(scenario)


def test_an_answer_that_is_as_long_as_it_says_is_stored() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"content-length", b"7")]), PAGE)
        assert [(await site.get()).body for _ in range(2)] == [b"1 /page"] * 2

    run(scenario)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_trailers_reach_the_one_who_asked_and_are_never_stored_or_shared(status: int) -> None:
    loads: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        loads.append(1)
        number = b"%d" % len(loads)
        await asyncio.sleep(1)
        await send({"type": "http.response.start", "status": status, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": number, "more_body": True})
        await send({"type": "http.response.body", "body": b"."})
        trailers = {"type": "http.response.trailers", "headers": [(b"x-sum", number)]}
        await send({**trailers, "more_trailers": True})
        await send(trailers)

    async def scenario() -> None:
        site = Site(app, PAGE)
        responses = await site.crowd(3, scope={"extensions": {"http.response.trailers": {}}})
        assert sum(str(response.cache_status).startswith(UNSTORED) for response in responses) == 1
        assert sorted(response.body for response in responses) == [b"1.", b"2.", b"3."]
        for response in responses:
            last = response.messages[-2:]
            assert [message["headers"] for message in last] == [[(b"x-sum", response.body[:1])]] * 2
        assert len(loads) == 3
        assert site.cache._engine.near.gauge().entries == 0

    run(scenario)


# --- what the app can and cannot do ---------------------------------------------------------------------------------


def test_extensions_that_would_go_past_the_cache_are_hidden() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGE)
        names = ["pathsend", "zerocopysend", "push", "early_hint", "debug", "trailers"]
        extensions: dict[str, Any] = {f"http.response.{name}": {} for name in names} | {"tls": {"tls_version": 772}}
        await site.get(scope={"extensions": extensions})
        assert set(origin.scopes[0]["extensions"]) == {"http.response.trailers", "tls"}
        await site.get("/unwrapped", scope={"extensions": extensions})
        assert set(origin.scopes[1]["extensions"]) == set(extensions)

    run(scenario)


START: Message = {"type": "http.response.start", "status": 200, "headers": []}
BODY: Message = {"type": "http.response.body", "body": b"a"}


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ([BODY], "before 'http.response.start'"),
        ([{"type": "http.response.trailers", "headers": []}], "before 'http.response.start'"),
        ([START, START], "has started"),
        ([START, {"type": "http.response.pathsend", "path": "/etc/passwd"}], "not offered"),
        ([START, {"type": "http.response.push", "path": "/"}], "not offered"),
        ([START, {"type": "http.response.trailers", "headers": []}], "not offered"),
        ([START, {"type": "http.disconnect"}], "not offered"),
        ([{**START, "headers": [("x-a", "b")]}], "has to be bytes"),
    ],
)
def test_a_message_out_of_order_is_an_error_in_the_app_and_nothing_is_stored(
    messages: list[Message], complaint: str
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    async def scenario() -> None:
        site = Site(app, PAGE)
        with pytest.raises((RuntimeError, TypeError), match=complaint):
            await site.get()
        assert site.cache._engine.near.gauge().entries == 0

    run(scenario)


def test_a_message_after_the_last_is_an_error_in_the_app_and_the_answer_stands(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"whole")
        await send(dict(BODY))

    async def scenario() -> None:
        site = Site(app, PAGE)
        assert (await site.get()).body == b"whole"
        assert (await site.get()).body == b"whole"

    run(scenario)
    assert "the response is complete" in caplog.text


def test_an_app_that_returns_without_an_answer_is_an_error() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        return

    async def scenario() -> None:
        with pytest.raises(Exception, match="before it had answered"):
            await Site(app, PAGE).get()

    run(scenario)


def test_receive_waits_after_the_body_until_the_answer_is_complete() -> None:
    seen: list[tuple[float, str]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)

        async def watch() -> None:
            for _ in range(2):
                message = await receive()
                seen.append((asyncio.get_running_loop().time(), message["type"]))

        watching = asyncio.create_task(watch())
        await asyncio.sleep(3)
        await respond(send, b"done")
        await watching

    async def scenario() -> None:
        await Site(app, PAGE).get()
        await asyncio.sleep(0)

    run(scenario)
    assert seen == [(3.0, "http.disconnect")] * 2


def test_a_background_task_outlasts_the_answer_and_its_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, b"answered")
        await asyncio.sleep(5)
        raise ValueError("in the background")

    async def scenario() -> None:
        site = Site(app, PAGE)
        assert (await site.get()).body == b"answered"
        assert asyncio.get_running_loop().time() == 0
        await asyncio.sleep(6)

    run(scenario)
    assert "in the background" in caplog.text


def test_each_load_gets_a_scope_and_messages_of_its_own() -> None:
    seen: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((b"x-mine", b"1") in scope["headers"])
        scope["headers"].append((b"x-mine", b"1"))
        scope["path"] = "/elsewhere"
        message = await receive()
        assert message["body"] == b"{}"
        message["body"] = b"changed"
        await respond(send, b"%d" % len(seen))

    async def scenario() -> None:
        site = Site(app, Rule("/ask", methods=("POST",), ttl=60, stale_while_revalidate=60))
        await site.post()
        await asyncio.sleep(61)
        assert (await site.post()).body == b"1"  # and a refresh behind
        await asyncio.sleep(1)
        assert (await site.post()).body == b"2"

    run(scenario)
    assert seen == [False, False]


# --- what the handler says ------------------------------------------------------------------------------------------


def test_a_handlers_notes_are_kept_with_its_answer() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer().tag("doc:7").ttl(5).cost(0.5)
        await respond(send, b"noted")

    async def scenario() -> None:
        site = Site(app, Rule("/page", ttl=60, tags=("pages",)))
        await site.get()
        assert (await site.get()).cache_status == "glasscache; hit; ttl=5"
        assert site.cache.counters.groups["/page"].saved_price == 0.5
        assert await site.cache.invalidate(tag="doc:7") == 1
        assert (await site.get()).cache_status == FIRST
        assert await site.cache.invalidate(tag="pages") == 1

    run(scenario)


def test_a_handlers_lifetime_stands_in_for_a_rules_and_for_the_origins_headers() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer().ttl(7)
        await respond(send, b"noted")

    async def scenario() -> None:
        site = Site(app, Rule("/page"))
        assert (await site.get()).cache_status == FIRST
        assert (await site.get()).cache_status == "glasscache; hit; ttl=7"

    run(scenario)


def test_a_handlers_lifetime_does_not_keep_an_error_for_longer_than_errors_are_kept() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer().ttl(600)
        await respond(send, b"not here", status=404)

    async def scenario() -> None:
        site = Site(app, Rule("/page", ttl=60, statuses=(200, 404), policy=Policy(negative_ttl=5)))
        await site.get()
        assert (await site.get()).cache_status == "glasscache; hit; ttl=5"

    run(scenario)


def test_notes_are_taken_until_the_answer_is_complete() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        answer().tag("late").ttl(7)
        await send({"type": "http.response.body", "body": b"b"})

    async def scenario() -> None:
        site = Site(app, PAGE)
        await site.get()
        assert (await site.get()).cache_status == "glasscache; hit; ttl=7"
        assert await site.cache.invalidate(tag="late") == 1

    run(scenario)


def test_an_invalidation_during_the_load_wins_also_by_a_tag_that_was_said_late() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        answer().tag("late")
        await asyncio.sleep(2)
        await send({"type": "http.response.body", "body": b"a"})

    async def scenario() -> None:
        site = Site(app, PAGE)
        first = asyncio.create_task(site.get())
        await asyncio.sleep(1)
        await site.cache.invalidate(tag="late")
        assert (await first).body == b"a"
        assert (await site.get()).cache_status == FIRST

    run(scenario)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_no_store_before_the_answer_begins_keeps_it_to_the_one_who_asked(status: int) -> None:
    loads: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        answer().no_store()
        loads.append(1)
        number = b"%d" % len(loads)
        await asyncio.sleep(1)
        await respond(send, number, status=status)

    async def scenario() -> None:
        site = Site(app, PAGE)
        assert sorted(response.body for response in await site.crowd(4)) == [b"1", b"2", b"3", b"4"]

    run(scenario)


def test_no_store_later_is_in_time_to_store_nothing() -> None:
    loads: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        loads.append(1)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"%d" % len(loads), "more_body": True})
        answer().no_store()
        await send({"type": "http.response.body", "body": b"."})

    async def scenario() -> None:
        site = Site(app, PAGE)
        assert [(await site.get()).body for _ in range(2)] == [b"1.", b"2."]

    run(scenario)


def test_tags_are_told_by_the_request() -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/docs/{id}", ttl=60, tags=lambda scope: [f"doc:{scope['path'][6:]}"]))
        await site.get("/docs/7")
        await site.get("/docs/8")
        assert await site.cache.invalidate(tag="doc:7") == 1
        assert (await site.get("/docs/8")).body == b"2 /docs/8"
        assert (await site.get("/docs/7")).body == b"3 /docs/7"

    run(scenario)


# --- made of values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "kept"), [(1, 1), (MOST_TAGS, 1), (MOST_TAGS + 1, 0)])
def test_an_answer_is_removed_with_the_values_that_it_is_made_of_unless_they_are_too_many(
    count: int, kept: int
) -> None:
    async def scenario() -> None:
        async def passage() -> str:
            return "a passage"

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            tags = [f"doc:{number}" for number in range(count)]
            text: str = await site.cache.get_or_load("passages", passage, tags=tags)
            answer().tag("said")
            await respond(send, text.encode())

        site = Site(app, Rule("/page", ttl=60, tags=("rule",)), Rule("/other", ttl=60))
        for path in ("/page", "/other"):  # the second finds the value
            assert (await site.get(path)).body == b"a passage"
        assert await site.cache.invalidate(tag="doc:0") == 1 + 2 * kept
        await site.get("/page")
        assert await site.cache.invalidate(tag="rule") == kept
        await site.get("/page")
        assert await site.cache.invalidate(tag="said") == kept

    run(scenario)
