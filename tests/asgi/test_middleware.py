"""The middleware from outside: hits, their age, HEAD, 304, and which requests it takes up at all."""

from __future__ import annotations

import asyncio
import math
from typing import Any

import pytest

from glasscache import Cache, MemoryStore
from glasscache._entry import Entry, Key
from glasscache._events import Answered
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.asgi._responder import show
from glasscache.errors import ConfigurationError, RecursiveLoadError
from glasscache.policy import Policy
from glasscache.testing import entry
from tests.asgi.site import FIRST, Echo, Origin, Site, run
from tests.support.asgi import Client, Message, Receive, Scope, Send
from tests.support.null_telemetry import NullTelemetry

PAGE = Rule("/page", ttl=60)
ASK = Rule("/ask", methods=("POST", "QUERY"), ttl=60)
JSON = [(b"content-type", b"application/json")]


def one_body(messages: list[Message]) -> list[tuple[bytes, bool]]:
    return [(message["body"], message["more_body"]) for message in messages if message["type"] == "http.response.body"]


# --- switched off ---------------------------------------------------------------------------------------------------


def test_a_cache_that_is_switched_off_hands_every_request_to_the_app_untouched() -> None:
    async def scenario() -> None:
        seen = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append((scope, receive, send))

        cache = Cache(enabled=False, telemetry=NullTelemetry())
        middleware = CacheMiddleware(app, cache=cache, rules=[PAGE, ASK], stats_path="/stats")
        for method, path in (("GET", "/page"), ("POST", "/ask"), ("PUT", "/page")):
            given: Any = {"type": "http", "method": method, "path": path, "headers": []}, object(), object()
            await middleware(*given)
            assert all(one is other for one, other in zip(seen.pop(), given, strict=True))
        assert (await Client(middleware).request("GET", "/stats")).json()["total_requests"] == 0
        key = middleware.key_for("GET", "/page", host="a", scheme="http")
        assert await cache.invalidate(key=key) == 0

    run(scenario)


# --- hits -----------------------------------------------------------------------------------------------------------


def test_a_store_with_a_peek_of_its_own_is_asked_by_every_hit() -> None:
    class Counting(MemoryStore):
        asked = 0

        def peek(self, key: Key) -> Entry | None:
            self.asked += 1
            return super().peek(key)

    async def scenario() -> None:
        store = Counting()
        site = Site(Origin(), PAGE, store=store)
        await site.get()
        before = store.asked
        assert (await site.get()).header("age") == "0"
        assert store.asked == before + 1

    run(scenario)


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
            await site.get(headers=[(b"host", b"x" * 10_000)])
        assert site.results == {"miss": 3, "hit": 3}

    run(scenario)


def test_the_memory_of_requests_is_bounded_and_a_forgotten_one_is_still_a_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasscache.asgi._places._MEMO", 3)

    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGE)
        for _ in range(2):
            for number in range(10):
                await site.get(query=f"q={number}")
                await site.get(headers=[(b"host", b"%d" % number)])
        assert origin.loads == 20
        assert site.results == {"miss": 20, "hit": 20}

    run(scenario)


def test_hits_tell_the_right_age_and_ttl_when_more_of_them_are_told_than_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("glasscache.asgi._responder._TOLD", 3)
    for shared in ("_AGES", "_HITS"):  # what earlier tests have told is known
        monkeypatch.setattr(f"glasscache.asgi._responder.{shared}.known", {})

    async def scenario() -> None:
        site = Site(Echo(), PAGE)
        await site.get()
        for age in range(8):
            hit = await site.get()
            assert (hit.header("age"), hit.cache_status) == (str(age), f"glasscache; hit; ttl={60 - age}")
            await asyncio.sleep(1)

    run(scenario)


@pytest.mark.parametrize(
    ("changes", "until"),
    [
        ({}, 100.5),  # then its age is another one
        ({"fresh_until": 160.3}, 100.3),  # or its ttl
        ({"settled_until": 100.2}, 100.2),  # or it may be refreshed early
        ({"settled_until": 99.0}, 99.0),
        ({"chunks": (b"1", b"2")}, -math.inf),
    ],
)
def test_what_a_hit_shows_is_true_no_longer_than_hits_need_no_second_thought(
    changes: dict[str, Any], until: float
) -> None:
    stored = entry(**{"born": 99.5, "fresh_until": 160.9, "settled_until": 160.0} | changes)

    assert show(stored, 100.0) == (until > 0.0)

    assert stored.shown[0] == pytest.approx(until)
    stored.doubt(100.1)
    assert stored.shown[0] == -math.inf


def test_an_answer_from_the_future_has_no_age() -> None:
    stored = entry(born=100.5, fresh_until=160.0, settled_until=160.0)

    show(stored, 100.0)

    assert (b"age", b"0") in stored.shown[2]


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


@pytest.mark.parametrize(("headers", "result"), [([], "error"), ([(b"range", b"bytes=0-")], "bypass")])
def test_a_request_that_failed_is_told_with_its_duration_and_its_error(
    headers: list[tuple[bytes, bytes]], result: str
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(2)
        raise KeyError("broken")

    async def scenario() -> None:
        site = Site(broken, Rule("/page", ttl=60))
        with pytest.raises(KeyError):
            await site.get(headers=headers)
        (told,) = [event for event in site.telemetry.events if isinstance(event, Answered)]
        assert (told.result, told.duration, type(told.error)) == (result, 2, KeyError)
        assert [outcome.result for outcome in site.telemetry.outcomes] == [result]

    run(scenario)


def test_a_telemetry_that_does_not_annotate_is_not_asked_to() -> None:
    class Silent(NullTelemetry):
        def annotate(self, outcome: object) -> None:
            raise AssertionError("asked to annotate")

    async def scenario() -> None:
        site = Site(Echo(), Rule("/page", ttl=60, stale_while_revalidate=60), telemetry=Silent())
        for headers in ([], [], [(b"range", b"bytes=0-")], [(b"if-none-match", b"a")]):
            await site.get(headers=headers)
        await site.client.request("HEAD", "/elsewhere")
        await site.client.request("HEAD", "/page", query="a")
        assert site.results == {"miss": 1, "hit": 3, "bypass": 1}

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
        assert (response.status, response.body) == (304, b"")  # it has what the load brought
        assert origin.scopes[0]["headers"] == [(b"host", b"testserver"), (b"x-a", b"1")]
        assert (await site.get()).body == b"1 /page"

    run(scenario)


def test_a_conditional_question_by_query_gets_a_304() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"etag", b'"a"')]), ASK)
        for status in (304, 304):
            response = await site.client.request(
                "QUERY", "/ask", body=b"{}", headers=[*JSON, (b"if-none-match", b'"a"')]
            )
            assert response.status == status

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
            {"type": "http", "method": "OPTIONS", "path": "/page", "headers": []},
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
        gauge = middleware.cache._engine.near.gauge()
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


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"rules": PAGE}, r"give a list, such as \[Rule"),
        ({"rules": ["/page"]}, r"rules=\['/page'\]\): give a list"),
        ({"rules": 60}, "give a list"),
        ({"cache": MemoryStore()}, r"give a Cache, such as Cache\(MemoryStore\(\)\)"),
        ({"cache": Cache}, "give a Cache"),
        ({"credentials": "cookie"}, r"credentials='cookie'\): give a tuple of names"),
        ({"credentials": (b"cookie",)}, r"credentials=\(b'cookie',\)\): give a tuple of names"),
        ({"stats_path": "metrics"}, r"CacheMiddleware\(stats_path='metrics'\): give a path that begins with /"),
        ({"stats_path": True}, r"stats_path=True\): give a path"),
        ({"stats_token": 12345}, r"stats_token: int\): give a text"),
    ],
)
def test_what_a_middleware_cannot_be_made_of_is_refused_with_the_remedy(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        CacheMiddleware(Echo(), **options)


def test_what_is_no_app_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"app=None\): give an ASGI app"):
        CacheMiddleware(None)  # type: ignore[arg-type]


def test_a_wrong_environment_is_refused_when_the_middleware_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CACHE_TYPE", "disco")
    with pytest.raises(ConfigurationError, match="CACHE_TYPE='disco'"):
        CacheMiddleware(Echo())


def test_a_scope_without_all_that_a_server_may_leave_out_is_the_same_question() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE)
        whole = {"type": "http", "method": "GET", "path": "/page", "headers": [], "query_string": b""}
        told = []
        for scope in (whole, {**whole, "root_path": "", "scheme": "http", "raw_path": b"/page"}, whole):
            messages: list[Message] = []

            async def receive() -> Message:
                return {"type": "http.request"}

            async def send(message: Message, messages: list[Message] = messages) -> None:
                messages.append(message)

            await site.middleware(scope, receive, send)
            told.append(dict(messages[0]["headers"])[b"cache-status"])
        assert told == [FIRST.encode(), b"glasscache; hit; ttl=60", b"glasscache; hit; ttl=60"]

    run(scenario)


def test_a_middleware_that_is_there_twice_with_one_cache_says_so() -> None:
    async def scenario() -> None:
        cache = Cache()
        inner = CacheMiddleware(Echo(), cache=cache, rules=[PAGE])
        with pytest.raises(RecursiveLoadError, match="there twice, with one cache"):
            await Client(CacheMiddleware(inner, cache=cache, rules=[PAGE])).request("GET", "/page")
        await cache.aclose()

    run(scenario)
