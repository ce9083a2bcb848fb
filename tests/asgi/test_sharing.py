"""Who may read whose answer: variants, tenants, credentials, and what is one client's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache.asgi import Rule, credential
from glasscache.errors import ConfigurationError
from tests.asgi.site import FIRST, UNSTORED, Echo, Site, respond, run
from tests.support.asgi import Client, Receive, Scope, Send

PAGE = Rule("/page", ttl=60)
ASK = Rule("/ask", methods=("POST", "QUERY"), ttl=60)
JSON = [(b"content-type", b"application/json")]


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
    ("field", "why"),
    [
        ((b"cache-control", b"no-store"), "no_store"),
        ((b"cache-control", b"private"), "private"),
        ((b"cache-control", b'Private="set-cookie"'), "private"),
        ((b"cache-control", b"no-cache"), "no_cache"),
        ((b"set-cookie", b"session=1"), "set_cookie"),
        ((b"vary", b"*"), "vary_star"),
        ((b"trailer", b"x-checksum"), "trailers"),
        ((b"access-control-allow-origin", b"https://a.example"), "cors_without_vary"),
    ],
)
def test_what_is_one_clients_own_is_neither_shared_nor_stored(field: tuple[bytes, bytes], why: str) -> None:
    async def scenario() -> None:
        origin = Echo(headers=[field], takes=1.0)
        site = Site(origin, PAGE)
        responses = await site.crowd(5)
        assert sorted(response.body for response in responses) == [b"%d /page" % number for number in range(1, 6)]
        assert [response.cache_status for response in responses].count(UNSTORED + why) == 1
        alone = "glasscache; fwd=bypass; detail=uncacheable"
        assert [response.cache_status for response in responses].count(alone) == 4
        assert all(field in response.headers for response in responses)
        assert (await site.get()).body == b"6 /page"
        assert site.cache._engine.near.gauge().entries == 0

    run(scenario)


def test_two_cookies_reach_the_client() -> None:
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]), PAGE)
        assert (await site.get()).header_list("set-cookie") == ["a=1", "b=2"]

    run(scenario)


@pytest.mark.parametrize(("rule", "at_once"), [(Rule("/page"), 40), (PAGE, 17)])
def test_where_the_origin_decides_private_answers_do_not_queue_for_each_other(rule: Rule, at_once: int) -> None:
    async def scenario() -> None:
        running, most = 0, 0

        async def origin(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal running, most
            running += 1
            most = max(most, running)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"private")]})
            await asyncio.sleep(1)
            running -= 1
            await send({"type": "http.response.body", "body": b"yours"})

        site = Site(origin, rule)
        answers = await asyncio.gather(*(site.get() for _ in range(40)))
        assert [one.body for one in answers] == [b"yours"] * 40
        assert most == at_once  # with a ttl: max_parallel_loads, and the load that showed that it is private

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


@pytest.mark.parametrize("status", [200, 500])
def test_who_led_the_load_gets_the_headers_of_its_own_request_and_followers_do_not(status: int) -> None:
    async def scenario() -> None:
        site = Site(Echo(status=status, headers=[(b"X-Request-Id", b"1"), (b"x-all", b"2")], takes=1), PAGE)
        leader, follower = await asyncio.gather(site.get(), site.get())
        assert leader.headers[:-1] == [(b"x-request-id", b"1"), (b"x-all", b"2")]
        assert follower.headers[:-1] == [(b"x-all", b"2")]

    run(scenario)


def test_middleware_around_us_sees_which_route_answered() -> None:
    async def scenario() -> None:
        async def routed(scope: Scope, receive: Receive, send: Send) -> None:
            scope.update({"endpoint": "search", "internals": object()})
            await respond(send, b"an answer")

        site = Site(routed, PAGE)
        seen: list[Scope] = []

        async def around(scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope)
            await site.middleware(scope, receive, send)

        await Client(around).request("GET", "/page")
        assert seen[0]["endpoint"] == "search"
        assert "internals" not in seen[0]

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
