"""The middleware from outside: what is answered from memory, what never is, and what the client is told about it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from glasscache._null import NullTelemetry
from glasscache.asgi import CacheMiddleware, Rule, answer, credential
from glasscache.errors import ConfigurationError
from glasscache.policy import Limits, Policy
from tests.asgi.site import FIRST, UNSTORED, Echo, Origin, Site, read, respond, run
from tests.support.asgi import Client, Message, Receive, Scope, Send

PAGE = Rule("/page", ttl=60)
ASK = Rule("/ask", methods=("POST", "QUERY"), ttl=60)
JSON = [(b"content-type", b"application/json")]


def one_body(messages: list[Message]) -> list[tuple[bytes, bool]]:
    return [(message["body"], message["more_body"]) for message in messages if message["type"] == "http.response.body"]


# --- hits -----------------------------------------------------------------------------------------------------------


def test_the_second_request_is_a_hit_with_its_age_and_what_is_left() -> None:
    async def scenario() -> None:
        origin = Echo(headers=[(b"content-type", b"text/plain"), (b"X-Odd", b"1"), (b"x-odd", b"2")])
        site = Site(origin, PAGE)
        first = await site.get()
        assert first.cache_status == FIRST
        assert first.header("age") is None
        await asyncio.sleep(9.5)
        second = await site.get()
        assert (second.status, second.body) == (200, first.body)
        assert second.headers == [
            (b"content-type", b"text/plain"),
            (b"x-odd", b"1"),
            (b"x-odd", b"2"),
            (b"age", b"9"),
            (b"cache-status", b"glasscache; hit; ttl=50"),
        ]
        assert origin.loads == 1
        assert site.results == {"miss": 1, "hit": 1}

    run(scenario)


@pytest.mark.parametrize("method", ["POST", "QUERY"])
def test_the_same_question_with_the_same_content_is_a_hit(method: str) -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, ASK)
        for _ in range(3):
            response = await site.client.request(method, "/ask", body=b'{"q": 1}', headers=JSON)
            assert response.body == b'1 /ask {"q": 1}'
        assert (await site.client.request(method, "/ask", body=b"", headers=JSON)).body == b"2 /ask"
        assert site.results == {"miss": 2, "hit": 2}

    run(scenario)


def test_a_question_too_long_to_be_remembered_is_a_hit_all_the_same() -> None:
    async def scenario() -> None:
        site = Site(Echo(), ASK, PAGE)
        for _ in range(2):
            await site.post(body=b"x" * 10_000)
            await site.get(query="q=" + "x" * 10_000)
        assert site.results == {"miss": 2, "hit": 2}

    run(scenario)


def test_the_memory_of_requests_is_bounded_and_a_forgotten_one_is_still_a_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasscache.asgi._route._MEMO", 3)

    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGE)
        for _ in range(2):
            for number in range(10):
                await site.get(query=f"q={number}")
        assert origin.loads == 10
        assert site.results == {"miss": 10, "hit": 10}

    run(scenario)


@pytest.mark.parametrize("headers", [[], [(b"authorization", b"a")]])  # the short way, and the slow one
@pytest.mark.parametrize(
    ("chunks", "replayed"),
    [
        ((b"",), [(b"", False)]),
        ((b"one",), [(b"one", False)]),
        ((b"data: 1\n\n", b"data: 2\n\n"), [(b"data: 1\n\n", True), (b"data: 2\n\n", False)]),
        ((b"", b"a", b"", b"b", b""), [(b"a", True), (b"b", False)]),
    ],
)
def test_a_hit_replays_the_body_message_by_message(
    headers: Any, chunks: tuple[bytes, ...], replayed: list[tuple[bytes, bool]]
) -> None:
    async def scenario() -> None:
        site = Site(Origin(*chunks), Rule("/page", ttl=60, shared=True))
        first = await site.get(headers=headers)
        assert first.body == b"".join(chunks)
        second = await site.get(headers=headers)
        assert second.cache_status == "glasscache; hit; ttl=60"
        assert one_body(second.messages) == replayed

    run(scenario)


def test_a_body_that_is_no_bytes_object_is_kept_as_bytes() -> None:
    buffer = bytearray(b"abc")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": memoryview(buffer), "more_body": True})
        buffer[:] = b"xyz"
        await send({"type": "http.response.body"})

    async def scenario() -> None:
        site = Site(app, PAGE)
        assert (await site.get()).body == b"abc"
        assert (await site.get()).body == b"abc"

    run(scenario)


def test_what_a_client_does_to_its_messages_changes_no_other_answer() -> None:
    async def scenario() -> None:
        site = Site(Origin(b"a", b"b", headers=[(b"x-a", b"1")]), PAGE)
        for number in range(3):
            response = await site.get()
            assert (b"x-a", b"1") in response.headers, number
            assert response.body == b"ab"
            for message in response.messages:
                message.get("headers", []).clear()
                message.clear()

    run(scenario)


def test_a_hit_is_annotated_with_nothing_but_what_the_contract_names() -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/page", ttl=60, name="pages"))
        await site.get()
        await site.get()
        miss, hit = site.telemetry.outcomes
        assert (miss.result, miss.tier, miss.group) == ("miss", "origin", "pages")
        assert (hit.result, hit.tier, hit.group, hit.key) == ("hit", "memory", "pages", miss.key)
        assert (hit.age, hit.ttl, hit.bypass) == (None, None, None)

    run(scenario)


def test_a_telemetry_that_does_not_annotate_is_not_asked_to() -> None:
    class Silent(NullTelemetry):
        def annotate(self, outcome: object) -> None:
            raise AssertionError("asked to annotate")

    async def scenario() -> None:
        site = Site(Echo(), Rule("/page", ttl=60, stale_while_revalidate=60), telemetry=Silent())
        for headers in ([], [], [(b"range", b"bytes=0-")], [(b"if-none-match", b"a")]):
            await site.get(headers=headers)
        assert site.results == {"miss": 1, "hit": 2, "bypass": 1}

    run(scenario)


def test_what_a_hit_saved_and_took_is_counted() -> None:
    async def scenario() -> None:
        site = Site(Origin(b"12345", takes=2.0), Rule("/page", ttl=60, policy=Policy(early_refresh=0)))
        for _ in range(4):
            await site.get()
        group = site.cache.counters.groups["/page"]
        assert group.saved_seconds == 6.0
        assert group.saved_bytes == 15
        assert group.hit_samples == 1
        assert (group.miss_seconds, group.misses_timed) == (2.0, 1)

    run(scenario)


# --- age ------------------------------------------------------------------------------------------------------------


def test_when_its_time_is_over_it_is_loaded_anew() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE)
        await site.get()
        await asyncio.sleep(59.9)
        assert (await site.get()).body == b"1 /page"
        await asyncio.sleep(0.1)
        response = await site.get()
        assert response.body == b"2 /page"
        assert response.cache_status == FIRST

    run(scenario)


@pytest.mark.parametrize("headers", [[], [(b"if-none-match", b'"other"')]])
def test_a_stale_answer_is_served_while_it_is_refreshed_behind(headers: Any) -> None:
    async def scenario() -> None:
        origin = Echo(takes=1.0)
        site = Site(origin, Rule("/page", ttl=60, stale_while_revalidate=30))
        await site.get()
        await asyncio.sleep(70)
        stale = await site.get(headers=headers)
        assert stale.body == b"1 /page"
        assert stale.cache_status == "glasscache; hit; ttl=-10; detail=revalidating"
        assert stale.header("age") == "70"
        assert (await site.get()).body == b"1 /page"
        await asyncio.sleep(2)
        assert origin.loads == 2
        assert (await site.get()).body == b"2 /page"
        assert site.results == {"miss": 1, "stale": 2, "hit": 1}

    run(scenario)


def test_a_miss_in_place_of_a_stale_answer_says_so() -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/page", ttl=60, stale_if_error=60))
        await site.get()
        await asyncio.sleep(70)
        assert (await site.get()).cache_status == "glasscache; fwd=stale; stored"

    run(scenario)


def test_a_rule_without_ttl_follows_the_origins_own_word() -> None:
    async def scenario() -> None:
        origin = Echo(headers=[(b"cache-control", b"max-age=10"), (b"age", b"4")])
        site = Site(origin, Rule("/page"))
        await site.get()
        hit = await site.get()
        assert hit.header("age") == "4"
        assert hit.cache_status == "glasscache; hit; ttl=6"
        await asyncio.sleep(6)
        assert (await site.get()).body == b"2 /page"

    run(scenario)


def test_a_rule_with_a_ttl_overrides_max_age_and_leaves_the_header_as_it_is() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"cache-control", b"max-age=1, must-revalidate")]), PAGE)
        await site.get()
        await asyncio.sleep(50)
        hit = await site.get(headers=[(b"cache-control", b"no-cache"), (b"pragma", b"no-cache")])
        assert hit.body == b"1 /page"
        assert hit.header("cache-control") == "max-age=1, must-revalidate"

    run(scenario)


# --- HEAD and 304 ---------------------------------------------------------------------------------------------------


def test_a_head_is_answered_from_a_stored_get_and_never_leads_a_load() -> None:
    async def scenario() -> None:
        origin = Echo(headers=[(b"content-length", b"7")])
        site = Site(origin, PAGE)
        ahead = await Client(site.middleware).request("HEAD", "/page")
        assert ahead.cache_status == "glasscache; fwd=method; detail=method"
        await site.get()
        assert origin.loads == 2
        head = await site.client.request("HEAD", "/page")
        assert head.status == 200
        assert head.body == b""
        assert head.header("content-length") == "7"
        assert head.cache_status == "glasscache; hit; ttl=60"
        assert origin.loads == 2
        await asyncio.sleep(60)
        assert (await site.client.request("HEAD", "/page")).cache_status == "glasscache; fwd=method; detail=method"
        assert origin.scopes[-1]["method"] == "HEAD"
        assert site.bypasses == {"method": 2}

    run(scenario)


def test_a_head_finds_its_variant() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"vary", b"accept-language")]), PAGE)
        await site.get(headers=[(b"accept-language", b"de")])
        german = await site.client.request("HEAD", "/page", headers=[(b"accept-language", b"de")])
        assert german.cache_status == "glasscache; hit; ttl=60"
        other = await site.client.request("HEAD", "/page", headers=[(b"accept-language", b"en")])
        assert other.cache_status == "glasscache; fwd=method; detail=method"

    run(scenario)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_that_has_the_answer_gets_a_304(method: str) -> None:
    async def scenario() -> None:
        headers = [(b"etag", b'"a"'), (b"content-length", b"7"), (b"content-type", b"text/plain")]
        site = Site(Echo(headers=headers), PAGE)
        await site.get()
        await asyncio.sleep(5)
        response = await site.client.request(method, "/page", headers=[(b"if-none-match", b'W/"a"')])
        assert (response.status, response.body) == (304, b"")
        assert response.headers == [
            (b"etag", b'"a"'),
            (b"age", b"5"),
            (b"cache-status", b"glasscache; hit; ttl=55"),
        ]
        other = await site.client.request(method, "/page", headers=[(b"if-none-match", b'"b"')])
        assert other.status == 200

    run(scenario)


def test_conditions_are_hidden_from_the_load() -> None:
    async def scenario() -> None:
        origin = Echo(headers=[(b"etag", b'"a"')])
        site = Site(origin, PAGE)
        sent = [(b"if-none-match", b'"a"'), (b"if-modified-since", b"now"), (b"if-range", b"x"), (b"x-a", b"1")]
        response = await site.get(headers=sent)
        assert (response.status, response.body) == (200, b"1 /page")
        assert origin.scopes[0]["headers"] == [(b"host", b"testserver"), (b"x-a", b"1")]

    run(scenario)


def test_a_conditional_question_by_query_gets_a_304() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"etag", b'"a"')]), ASK)
        for status in (200, 304):
            response = await site.client.request(
                "QUERY", "/ask", body=b"{}", headers=[*JSON, (b"if-none-match", b'"a"')]
            )
            assert response.status == status

    run(scenario)


# --- variants -------------------------------------------------------------------------------------------------------


def test_vary_selects_variants() -> None:
    async def scenario() -> None:
        origin = Echo(headers=[(b"vary", b"Accept-Language")])
        site = Site(origin, PAGE)

        async def ask(*languages: bytes) -> bytes:
            return (await site.get(headers=[(b"accept-language", language) for language in languages])).body

        assert await ask(b"de") == b"1 /page"
        assert await ask(b"en") == b"2 /page"
        assert await ask() == b"3 /page"
        assert await ask(b"") == b"4 /page"
        assert [await ask(b"de"), await ask(b"en"), await ask(), await ask(b"")] == [
            b"%d /page" % number for number in (1, 2, 3, 4)
        ]
        assert site.results == {"miss": 4, "hit": 4}

    run(scenario)


def test_a_miss_of_a_new_variant_says_so() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"vary", b"accept")]), PAGE)
        assert (await site.get(headers=[(b"accept", b"a")])).cache_status == FIRST
        assert (await site.get(headers=[(b"accept", b"b")])).cache_status == "glasscache; fwd=vary-miss; stored"

    run(scenario)


def test_a_crowd_of_two_languages_makes_two_loads_and_nobody_gets_the_other_language() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        language = next(value for name, value in scope["headers"] if name == b"accept-language")
        loads.append(language)
        await asyncio.sleep(1)
        await respond(send, b"in " + language, headers=[(b"vary", b"accept-language")])

    loads: list[bytes] = []

    async def scenario() -> None:
        site = Site(app, PAGE)
        languages = [b"de", b"en"] * 10
        responses = await asyncio.gather(
            *(site.get(headers=[(b"accept-language", language)]) for language in languages)
        )
        assert [response.body for response in responses] == [b"in " + language for language in languages]
        assert sorted(loads) == [b"de", b"en"]

    run(scenario)


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_that_is_not_stored_does_not_cross_its_vary_either(status: int) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        language = next(value for name, value in scope["headers"] if name == b"accept-language")
        await asyncio.sleep(1)
        await respond(send, b"in " + language, status=status, headers=[(b"vary", b"accept-language")])

    async def scenario() -> None:
        site = Site(app, Rule("/page", ttl=60, store_if=lambda status, headers: False))
        languages = [b"de", b"en"] * 4
        responses = await asyncio.gather(
            *(site.get(headers=[(b"accept-language", language)]) for language in languages)
        )
        assert [response.body for response in responses] == [b"in " + language for language in languages]

    run(scenario)


# --- who shares -----------------------------------------------------------------------------------------------------


def test_tenants_that_ask_at_once_never_see_each_others_answers() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        who = dict(scope["headers"])[b"authorization"]
        loads.append(who)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(3):
            await asyncio.sleep(0.1)
            await send({"type": "http.response.body", "body": who, "more_body": True})
        await send({"type": "http.response.body"})

    loads: list[bytes] = []

    async def scenario() -> None:
        site = Site(app, Rule("/page", ttl=60, tenant=credential("authorization")))
        tenants = [b"tenant-%d" % (number % 8) for number in range(40)]
        for _ in range(2):
            responses = await asyncio.gather(*(site.get(headers=[(b"authorization", who)]) for who in tenants))
            assert [response.body for response in responses] == [who * 3 for who in tenants]
        assert sorted(loads) == sorted(set(tenants))

    run(scenario)


def test_shared_hides_the_credentials_from_the_load() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, Rule("/page", ttl=60, shared=True))
        secret = [(b"authorization", b"a"), (b"cookie", b"b"), (b"x-api-key", b"c"), (b"accept", b"d")]
        tls = {"client_cert_name": "CN=me", "client_cert_chain": ["PEM"], "tls_version": 772}
        assert (await site.get(headers=secret, scope={"extensions": {"tls": tls}})).cache_status == FIRST
        assert origin.scopes[0]["headers"] == [(b"host", b"testserver"), (b"accept", b"d")]
        shown = origin.scopes[0]["extensions"].get("tls", {})
        assert not {"client_cert_name", "client_cert_chain"} & set(shown)
        assert (await site.get()).body == b"1 /page"
        assert (await site.get(headers=[(b"cookie", b"other")])).body == b"1 /page"

    run(scenario)


def test_a_tenants_load_sees_the_credentials() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, Rule("/page", ttl=60, tenant=credential("cookie")))
        await site.get(headers=[(b"cookie", b"a=b")])
        assert (b"cookie", b"a=b") in origin.scopes[0]["headers"]

    run(scenario)


@pytest.mark.parametrize(
    "field",
    [
        (b"cache-control", b"no-store"),
        (b"cache-control", b"private"),
        (b"cache-control", b'Private="set-cookie"'),
        (b"cache-control", b"no-cache"),
        (b"set-cookie", b"session=1"),
        (b"vary", b"*"),
        (b"trailer", b"x-checksum"),
        (b"access-control-allow-origin", b"https://a.example"),
    ],
)
def test_what_is_one_clients_own_is_neither_shared_nor_stored(field: tuple[bytes, bytes]) -> None:
    async def scenario() -> None:
        origin = Echo(headers=[field], takes=1.0)
        site = Site(origin, PAGE)
        responses = await site.crowd(5)
        assert sorted(response.body for response in responses) == [b"%d /page" % number for number in range(1, 6)]
        assert [response.cache_status for response in responses].count(UNSTORED) == 1
        alone = "glasscache; fwd=bypass; detail=uncacheable"
        assert [response.cache_status for response in responses].count(alone) == 4
        assert all(field in response.headers for response in responses)
        assert (await site.get()).body == b"6 /page"
        assert site.cache.engine.near.gauge().entries == 0

    run(scenario)


def test_two_cookies_reach_the_client() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]), PAGE)
        assert (await site.get()).header_list("set-cookie") == ["a=1", "b=2"]

    run(scenario)


def test_an_uncacheable_key_is_cached_again_as_soon_as_it_may_be() -> None:
    async def scenario() -> None:
        origin = Echo(headers=[(b"cache-control", b"no-store")])
        site = Site(origin, PAGE)
        await site.get()
        assert (await site.get()).cache_status == "glasscache; fwd=bypass; detail=uncacheable"
        origin.headers = []
        assert (await site.get()).body == b"3 /page"
        assert (await site.get()).body == b"3 /page"
        assert site.bypasses == {"uncacheable": 2}

    run(scenario)


def test_headers_of_one_request_and_of_one_connection_are_not_replayed() -> None:
    async def scenario() -> None:
        own = [(b"traceparent", b"00-a"), (b"x-request-id", b"1"), (b"server-timing", b"a"), (b"connection", b"x-hop")]
        site = Site(Echo(headers=[*own, (b"x-hop", b"1"), (b"x-all", b"2")]), PAGE)
        await site.get()
        assert (await site.get()).headers[:-2] == [(b"x-all", b"2")]

    run(scenario)


# --- what is stored -------------------------------------------------------------------------------------------------


def test_store_if_is_asked_with_status_and_headers_and_has_the_last_word() -> None:
    asked: list[Any] = []

    def store_if(status: int, headers: Any) -> bool:
        asked.append((status, headers))
        return b"x-degraded" not in dict(headers)

    async def scenario() -> None:
        origin = Echo(headers=[(b"X-Degraded", b"1")])
        site = Site(origin, Rule("/page", ttl=60, store_if=store_if))
        assert (await site.get()).cache_status == UNSTORED
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


@pytest.mark.parametrize("status", [201, 206, 301, 404, 500])
def test_only_a_200_is_stored_by_default(status: int) -> None:
    async def scenario() -> None:
        origin = Echo(status=status)
        site = Site(origin, PAGE)
        for number in (1, 2):
            response = await site.get()
            assert (response.status, response.body) == (status, b"%d /page" % number)
            assert response.cache_status == UNSTORED

    run(scenario)


def test_more_statuses_are_stored_by_option_and_errors_for_a_short_time_only() -> None:
    async def scenario() -> None:
        origin = Echo(status=301)
        rule = Rule("/page", ttl=60, statuses=(200, 301, 404), policy=Policy(negative_ttl=5), stale_if_error=600)
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


def test_errors_are_not_stored_without_a_negative_ttl() -> None:
    async def scenario() -> None:
        site = Site(Echo(status=404), Rule("/page", ttl=60, statuses=(200, 404)))
        await site.get()
        assert (await site.get()).body == b"2 /page"

    run(scenario)


@pytest.mark.parametrize("length", [b"6", b"8", b"x", b"7, 8"])
def test_an_answer_that_is_not_as_long_as_it_says_is_not_stored(length: bytes) -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"content-length", length)]), PAGE)
        client = Client(site.middleware, strict_length=False)
        assert (await client.request("GET", "/page")).body == b"1 /page"
        assert (await client.request("GET", "/page")).body == b"2 /page"

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
        assert sorted(response.body for response in responses) == [b"1.", b"2.", b"3."]
        for response in responses:
            last = response.messages[-2:]
            assert [message["headers"] for message in last] == [[(b"x-sum", response.body[:1])]] * 2
        assert len(loads) == 3
        assert site.cache.engine.near.gauge().entries == 0

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
        assert site.cache.engine.near.gauge().entries == 0

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


# --- key_for --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "request_", "key"),
    [
        (PAGE, {"method": "GET", "path": "/page", "query": "a=1"}, {"query": "a=1"}),
        (Rule("/d/{x}", ttl=60), {"method": "GET", "path": "/d/a%20b"}, {"path": "/d/a%20b"}),
        (PAGE, {"method": "GET", "path": "/page"}, {"method": "HEAD"}),
        (ASK, {"method": "POST", "path": "/ask", "body": b"{}", "headers": JSON}, {"body": b"{}"}),
        (
            ASK,
            {"method": "POST", "path": "/ask", "body": b"a", "headers": [(b"content-type", b"text/plain")]},
            {"body": b"a", "headers": [("Content-Type", "text/plain")]},
        ),
        (
            Rule("/page", ttl=60, headers=("X-A",)),
            {"method": "GET", "path": "/page", "headers": [(b"x-a", b"1")]},
            {"headers": [("X-A", "1")]},
        ),
        (
            Rule("/page", ttl=60, tenant=lambda scope: "acme"),
            {"method": "GET", "path": "/page"},
            {"tenant": "acme"},
        ),
        (Rule("/page", ttl=60, host=False), {"method": "GET", "path": "/page", "headers": [(b"host", b"any")]}, {}),
        (PAGE, {"method": "GET", "path": "/app/page", "scope": {"root_path": "/app"}}, {"root_path": "/app"}),
        (
            PAGE,
            {"method": "GET", "path": "/page", "headers": [(b"host", b"A.example")], "scope": {"scheme": "https"}},
            {"host": "a.example", "scheme": "https"},
        ),
        (
            PAGE,
            {"method": "GET", "path": "/page", "scope": {"scheme": "https"}},
            {"scheme": "https"},
        ),
    ],
)
def test_key_for_names_the_key_of_a_request(rule: Rule, request_: dict[str, Any], key: dict[str, Any]) -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, rule)
        for number in (1, 1):
            assert (await site.client.request(**request_)).body.startswith(b"%d " % number)
        path = request_["path"].removeprefix("/app")
        named = site.middleware.key_for(**{"method": request_["method"], "path": path, **key})
        assert await site.cache.invalidate(key=named) == 1
        assert (await site.client.request(**request_)).body.startswith(b"2 ")

    run(scenario)


def test_key_for_takes_all_variants_along() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"vary", b"accept")]), PAGE)
        for accept in (b"a", b"b"):
            await site.get(headers=[(b"accept", accept)])
        await site.cache.invalidate(key=site.middleware.key_for("GET", "/page"))
        assert (await site.get(headers=[(b"accept", b"a")])).body == b"3 /page"
        assert (await site.get(headers=[(b"accept", b"b")])).body == b"4 /page"

    run(scenario)


def test_key_for_does_not_guess_where_names_differ() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE)
        with pytest.raises(ConfigurationError, match="0 schemes and hosts"):
            site.middleware.key_for("GET", "/page")
        await site.get(headers=[(b"host", b"one")])
        await site.get(headers=[(b"host", b"ONE")])
        one = site.middleware.key_for("GET", "/page")
        assert one == site.middleware.key_for("GET", "/page", host="one", scheme="http")
        await site.get(headers=[(b"host", b"two")])
        with pytest.raises(ConfigurationError, match="2 schemes and hosts"):
            site.middleware.key_for("GET", "/page")
        assert site.middleware.key_for("GET", "/page", host="One") == one

    run(scenario)


def test_key_for_needs_no_request_where_it_knows_all() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE, Rule("/any", ttl=60, host=False))
        assert site.middleware.key_for("GET", "/page", host="a", scheme="http")
        assert site.middleware.key_for("GET", "/any", scheme="http")

    run(scenario)


def test_how_many_hosts_are_remembered_is_bounded() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE)
        for number in range(100):
            await site.get(headers=[(b"host", b"%d" % number)])
        with pytest.raises(ConfigurationError, match="64 schemes and hosts"):
            site.middleware.key_for("GET", "/page")

    run(scenario)


def test_key_for_refuses_what_has_no_key() -> None:
    async def scenario() -> None:
        tenant = Rule("/own", ttl=60, tenant=credential("cookie"))
        site = Site(Echo(), PAGE, tenant, stats_path="/stats")
        for method, path in (("GET", "/other"), ("POST", "/page"), ("GET", "/stats")):
            with pytest.raises(ConfigurationError, match="no rule"):
                site.middleware.key_for(method, path)
        with pytest.raises(ConfigurationError, match="unscoped"):
            site.middleware.key_for("GET", "/own", host="a", scheme="http")

    run(scenario)


# --- routes ---------------------------------------------------------------------------------------------------------


def test_what_no_rule_names_passes_untouched() -> None:
    seen: list[tuple[Any, ...]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async def scenario() -> None:
        site = Site(app, PAGE)

        async def receive() -> Message:
            raise AssertionError("read")

        async def send(message: Message) -> None:
            raise AssertionError("sent")

        scopes: list[Scope] = [
            {"type": "http", "method": "GET", "path": "/other", "headers": []},
            {"type": "http", "method": "POST", "path": "/page", "headers": []},
            {"type": "websocket", "path": "/page", "headers": []},
            {"type": "something.new"},
        ]
        for scope in scopes:
            await site.middleware(scope, receive, send)
        assert [given[0] for given in seen] == scopes
        assert all(given[0] is scope for given, scope in zip(seen, scopes, strict=True))
        assert all(given[1:] == (receive, send) for given in seen)
        assert not site.results

    run(scenario)


@pytest.mark.parametrize(
    ("root", "path", "found"),
    [
        ("", "/page", True),
        ("/app", "/app/page", True),
        ("/app", "/page", True),  # servers that do not put the root in front
        ("/app", "/apppage", False),
        ("/pa", "/page", True),
        ("/app", "/app", False),
        ("/page", "/page", False),
        ("/page", "/pages", False),
    ],
)
def test_rules_name_paths_behind_the_root_path(root: str, path: str, found: bool) -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE)
        response = await site.get(path, scope={"root_path": root})
        assert (response.cache_status == FIRST) is found

    run(scenario)


def test_the_root_of_a_mounted_app_is_its_slash() -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/", ttl=60))
        assert (await site.get("/app", scope={"root_path": "/app"})).cache_status == FIRST

    run(scenario)


@pytest.mark.parametrize("env", [{}, {"CACHE_MAX_SIZE": "7", "CACHE_TTL": "9"}])
def test_without_arguments_everything_comes_from_the_environment(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CACHE_MAX_SIZE", "CACHE_TTL", "GLASSCACHE_STATS_PATH"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)

    async def scenario() -> None:
        origin = Echo(headers=[(b"cache-control", b"max-age=100")])
        middleware = CacheMiddleware(origin)
        gauge = middleware.cache.engine.near.gauge()
        assert gauge.entry_limit == int(env.get("CACHE_MAX_SIZE", 100))
        client = Client(middleware)
        assert (await client.request("GET", "/any/path")).cache_status == FIRST
        assert (await client.request("GET", "/any/path")).body == b"1 /any/path"
        origin.headers = []
        for number in (2, 3):
            response = await client.request("GET", "/silent")  # the origin allows nothing
            assert response.body == b"%d /silent" % number
        assert (await client.request("POST", "/any/path")).cache_status is None
        await middleware.cache.aclose()

    asyncio.run(scenario())


def test_a_wrong_environment_is_refused_when_the_middleware_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_TYPE", "redis")
    with pytest.raises(ConfigurationError, match="CACHE_TYPE='redis'"):
        CacheMiddleware(Echo())


# --- the stats page -------------------------------------------------------------------------------------------------


def test_the_stats_page_shows_totals_only() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGE, stats_path="/metrics/cache")
        for _ in range(4):
            await site.get()
        response = await site.get("/metrics/cache", headers=[(b"authorization", b"Bearer None")])
        assert response.header_list("content-type") == ["application/json"]
        assert response.header("cache-control") == "no-store"
        assert response.header("content-length") == str(len(response.body))
        figures = response.json()
        assert figures["hit_rate"] == 0.75
        assert (figures["total_hits"], figures["total_misses"], figures["cache_size"]) == (3, 1, 1)
        assert "groups" not in figures
        assert "/page" not in response.text
        head = await site.client.request("HEAD", "/metrics/cache")
        assert (head.status, head.body) == (200, b"")
        assert int(head.header("content-length") or 0) > 100
        assert origin.loads == 1

    run(scenario)


@pytest.mark.parametrize(
    ("sent", "allowed"),
    [
        ([b"Bearer hush"], True),
        ([b"Bearer hus"], False),
        ([b"bearer hush"], False),
        ([b"hush"], False),
        ([b"Bearer \xff"], False),
        ([], False),
    ],
)
def test_the_stats_page_shows_groups_to_who_has_the_token(sent: list[bytes], allowed: bool) -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE, stats_path="/stats", stats_token="hush")
        await site.get()
        response = await site.get("/stats", headers=[(b"authorization", value) for value in sent])
        assert response.status == 200
        assert ("groups" in response.json()) is allowed
        assert not allowed or response.json()["groups"]["/page"]["total_misses"] == 1

    run(scenario)


def test_the_stats_page_comes_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSCACHE_STATS_PATH", "/figures")
    monkeypatch.setenv("GLASSCACHE_STATS_TOKEN", "hush")

    async def scenario() -> None:
        site = Site(Echo(), Rule("/*", ttl=60))
        token = [(b"authorization", b"Bearer hush")]
        assert "groups" in json.loads((await site.get("/figures", headers=token)).body)
        assert (await site.post("/figures")).body == b"1 /figures {}"

    run(scenario)


def test_there_is_no_stats_page_unless_asked_for() -> None:
    async def scenario() -> None:
        assert (await Site(Echo(), PAGE).get("/metrics/cache")).body == b"1 /metrics/cache"

    run(scenario)


# --- lifespan -------------------------------------------------------------------------------------------------------


async def live(app: Any, *messages: str) -> list[str]:
    """Run a lifespan; what the app answered."""
    todo = list(messages)
    sent: list[str] = []

    async def receive() -> Message:
        return {"type": f"lifespan.{todo.pop(0)}"}

    async def send(message: Message) -> None:
        sent.append(message["type"].removeprefix("lifespan."))

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    return sent


@pytest.mark.parametrize("end", ["shutdown.complete", "shutdown.failed"])
def test_loads_are_drained_before_the_app_shuts_down_and_stores_closed_after_it_has(end: str) -> None:
    order: list[str] = []
    origin = Echo(takes=3.0)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await origin(scope, receive, send)
            order.append("load over")
            return
        order.append((await receive())["type"])
        await send({"type": "lifespan.startup.complete"})
        order.append((await receive())["type"])
        order.append(f"entries: {site_of[0].cache.engine.near.gauge().entries}")
        await send({"type": f"lifespan.{end}"})
        order.append(f"entries: {site_of[0].cache.engine.near.gauge().entries}")

    site_of: list[Site] = []

    async def scenario() -> None:
        site_of.append(Site(app, PAGE))
        request = asyncio.create_task(site_of[0].get())
        await asyncio.sleep(1)
        assert await live(site_of[0].middleware, "startup", "shutdown") == ["startup.complete", end]
        await request
        assert order == ["lifespan.startup", "load over", "lifespan.shutdown", "entries: 1", "entries: 0"]

    run(scenario)


def test_a_load_that_does_not_end_is_stopped_at_the_drain_bound() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await asyncio.Event().wait()
        await receive()
        stopped.append(asyncio.get_running_loop().time())
        await send({"type": "lifespan.shutdown.complete"})

    stopped: list[float] = []

    async def scenario() -> None:
        site = Site(app, PAGE, limits=Limits(drain=2.0))
        request = asyncio.create_task(site.get())
        await asyncio.sleep(1)
        await live(site.middleware, "shutdown")
        assert stopped == [3.0]
        with pytest.raises(Exception, match="shutting down"):
            await request

    run(scenario)


def test_a_store_that_fails_to_close_does_not_hold_up_the_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def scenario() -> None:
        site = Site(app, PAGE)

        async def aclose() -> None:
            raise OSError("stuck")

        site.cache.engine.near.aclose = aclose  # type: ignore[method-assign]
        assert await live(site.middleware, "shutdown") == ["shutdown.complete"]

    run(scenario)
    assert "stuck" in caplog.text
