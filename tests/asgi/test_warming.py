"""Answers that are loaded before anybody asks: through the app, by the rules, and counted as nobody's request."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import SimpleNamespace
from typing import Any

import pytest

from glasscache import ConfigurationError, Warmed
from glasscache._events import Acquired, Answered, Load, ServedStale, Wait
from glasscache.asgi import CacheMiddleware, Rule, WarmRequest, credential, json_body
from glasscache.cache import Cache
from glasscache.policy import Detail, Limits, Policy
from tests.asgi.site import COLLAPSED, FIRST, Echo, Origin, Site, respond, run
from tests.asgi.test_operations import live
from tests.support.asgi import Message, Receive, Response, Scope, Send

PAGES = Rule("/page/*", ttl=60, stale_while_revalidate=60)
ASK = Rule("/ask", methods=("POST", "QUERY"), ttl=60, key=json_body("question"))
HERE: dict[str, Any] = {"host": "testserver", "scheme": "http"}
HIT = "glasscache; hit; ttl=60"


def triggers(site: Site) -> Counter[str]:
    return Counter(work.trigger for work in site.telemetry.works if isinstance(work, Load))


def outcome(warmed: Warmed) -> tuple[int, int, dict[str, list[int]], dict[str, list[int]]]:
    return warmed.loaded, warmed.fresh, warmed.not_stored, warmed.failed


# --- what becomes of each -------------------------------------------------------------------------------------------


def test_what_is_warm_is_a_hit_for_the_first_who_asks() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGES, ASK)
        question = b'{"question": "How?"}'
        warmed = await site.middleware.warm(
            [
                "/page/1",
                "http://testserver/page/%C3%A9?a=\u00e9",
                WarmRequest(url="/ask", body=question),
                WarmRequest(url="/ask", method="QUERY", body=question, headers=[("Content-Type", "application/json")]),
            ],
            **HERE,
        )
        assert (outcome(warmed), warmed.is_complete) == ((4, 0, {}, {}), True)
        asked = [
            await site.get("/page/1"),
            await site.get("/page/%C3%A9", query="a=%C3%A9"),
            await site.post(body=b'{ "question":"How?" }'),
            await site.client.request("QUERY", "/ask", body=question, headers=[(b"content-type", b"application/json")]),
        ]
        assert [response.cache_status for response in asked] == [HIT] * 4
        assert origin.loads == 4
        lengths = [dict(scope["headers"]).get(b"content-length") for scope in origin.scopes]
        assert lengths == [None, None, b"20", b"20"]

    run(scenario)


def test_the_fresh_is_left_alone_and_the_stale_is_loaded() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGES)
        await site.get("/page/stale")
        await asyncio.sleep(70)
        await site.get("/page/fresh")
        warmed = await site.middleware.warm(["/page/stale", "/page/fresh", "/page/new"])
        assert outcome(warmed) == (2, 1, {}, {})
        assert [(await site.get(f"/page/{name}")).body for name in ("stale", "fresh", "new")] == [
            b"3 /page/stale",
            b"2 /page/fresh",
            b"4 /page/new",
        ]
        assert triggers(site) == {"miss": 2, "warm": 2}

    run(scenario)


def test_a_stale_answer_is_confirmed_by_its_origin_and_takes_no_new_body() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(dict(scope["headers"]).get(b"if-none-match"))
        status = 304 if seen[-1] == b'"1"' else 200
        await respond(send, b"body" if status == 200 else b"", status=status, headers=[(b"etag", b'"1"'), MAX_AGE])

    seen: list[bytes | None] = []

    async def scenario() -> None:
        site = Site(app, Rule("/*"))
        await site.get()
        await asyncio.sleep(70)
        assert outcome(await site.middleware.warm(["/page"])) == (1, 0, {}, {})
        assert (await site.get()).body == b"body"
        assert seen == [None, b'"1"']
        assert triggers(site) == {"miss": 1, "warm": 1}

    run(scenario)


MAX_AGE = (b"cache-control", b"max-age=60")


@pytest.mark.parametrize(
    ("status", "headers", "not_stored", "failed"),
    [
        (200, [(b"cache-control", b"private")], {"private": [0]}, {}),
        (200, [(b"set-cookie", b"a=1")], {"set_cookie": [0]}, {}),
        (404, [], {"status": [0]}, {}),
        (503, [], {}, {"503": [0]}),
        (200, [(b"content-length", b"100")], {"incomplete": [0]}, {}),
    ],
)
def test_what_is_not_stored_is_told_with_its_reason(
    status: int,
    headers: list[tuple[bytes, bytes]],
    not_stored: dict[str, list[int]],
    failed: dict[str, list[int]],
) -> None:
    async def scenario() -> None:
        site = Site(Origin(status=status, headers=headers), PAGES)
        warmed = await site.middleware.warm(["/page/1"], **HERE)
        assert (outcome(warmed), warmed.is_complete) == ((0, 0, not_stored, failed), False)

    run(scenario)


def test_what_was_found_uncacheable_lately_is_not_asked_again() -> None:
    async def scenario() -> None:
        origin = Origin(headers=[(b"cache-control", b"no-store")])
        site = Site(origin, PAGES)
        found = [outcome(await site.middleware.warm(["/page/1"], **HERE))[2] for _ in range(2)]
        assert (found, origin.loads) == ([{"no_store": [0]}, {"uncacheable": [0]}], 1)

    run(scenario)


def test_an_answer_that_is_too_large_is_given_up() -> None:
    async def scenario() -> None:
        site = Site(Origin(b"x" * 600, b"x" * 600), PAGES, limits=Limits(max_entry_bytes=1000))
        assert outcome(await site.middleware.warm(["/page/1"], **HERE)) == (0, 0, {"too_large": [0]}, {})

    run(scenario)


def test_a_failure_stops_no_other_and_is_told_by_its_class() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/page/2":
            raise LookupError("no such document")
        await respond(send, b"answer")

    async def scenario() -> None:
        site = Site(app, PAGES)
        warmed = await site.middleware.warm([f"/page/{number}" for number in range(5)], concurrency=1, **HERE)
        assert outcome(warmed) == (4, 0, {}, {"LookupError": [2]})

    run(scenario)


def test_an_origin_that_asks_to_be_left_alone_is_left_alone() -> None:
    async def scenario() -> None:
        origin = Origin(status=503, headers=[(b"retry-after", b"30")])
        site = Site(origin, PAGES)
        warmed = await site.middleware.warm([f"/page/{number}" for number in range(9)], concurrency=1, **HERE)
        assert outcome(warmed) == (0, 0, {"retry_after": [*range(1, 9)]}, {"503": [0]})
        assert origin.loads == 1

    run(scenario)


def test_where_all_loads_are_taken_it_does_not_wait() -> None:
    async def scenario() -> None:
        site = Site(Echo(takes=1.0), PAGES, limits=Limits(max_flights=2))
        crowd = [asyncio.create_task(site.get(f"/page/{number}")) for number in range(2)]
        await asyncio.sleep(0.5)
        assert outcome(await site.middleware.warm(["/page/3"])) == (0, 0, {"overload": [0]}, {})
        await asyncio.gather(*crowd)

    run(scenario)


def test_what_is_invalidated_while_it_loads_is_loaded_anew() -> None:
    async def scenario() -> None:
        origin = Echo(takes=1.0)
        site = Site(origin, PAGES)
        warming = asyncio.create_task(site.middleware.warm(["/page/1"], **HERE))
        await asyncio.sleep(0.5)
        await site.cache.invalidate(all=True)
        assert outcome(await warming) == (1, 0, {}, {})
        assert (await site.get("/page/1")).body == b"2 /page/1"

    run(scenario)


def test_what_is_invalidated_again_and_again_is_given_up_at_last() -> None:
    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await site.cache.invalidate(all=True)
            await respond(send, b"answer")

        site = Site(app, PAGES)
        assert outcome(await site.middleware.warm(["/page/1"], **HERE)) == (0, 0, {"invalidated": [0]}, {})
        assert triggers(site)["warm"] == 8

    run(scenario)


def test_each_variant_is_warmed_by_the_headers_that_select_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        language = dict(scope["headers"])[b"accept-language"]
        await respond(send, language, headers=[(b"vary", b"accept-language")])

    async def scenario() -> None:
        site = Site(app, PAGES)
        requests = [WarmRequest(url="/page/1", headers=[("Accept-Language", name)]) for name in ("en", "de", "en")]
        assert outcome(await site.middleware.warm(requests, concurrency=1, **HERE)) == (2, 1, {}, {})
        for name in (b"en", b"de"):
            response = await site.get("/page/1", headers=[(b"accept-language", name)])
            assert (response.body, response.cache_status) == (name, HIT)

    run(scenario)


def test_every_question_is_counted_once_whatever_becomes_of_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        number = int(scope["path"].removeprefix("/page/"))
        await asyncio.sleep(number % 7)
        if number % 5 == 1:
            raise LookupError
        await respond(send, b"answer", headers=[(b"cache-control", b"private")] if number % 5 == 2 else ())

    async def scenario() -> None:
        for concurrency in (1, 3, 16, 100):
            site = Site(app, PAGES)
            numbers = [number * number % 31 for number in range(40)]
            urls = [f"/page/{number}" if number != 7 else "/elsewhere" for number in numbers]
            warmed = await site.middleware.warm(iter(urls), concurrency=concurrency, **HERE)
            loaded, fresh, not_stored, failed = outcome(warmed)
            told = [place for reasons in (not_stored, failed) for places in reasons.values() for place in places]
            assert len(told) == len(set(told))
            assert loaded + fresh + len(told) == len(urls)
            good = {number for number in numbers if number % 5 not in (1, 2) and number != 7}
            assert loaded == len(good)
            assert {numbers[place] for place in failed["LookupError"]} == {n for n in numbers if n % 5 == 1}
            assert set(not_stored) <= {"private", "uncacheable", "no_rule"}

    run(scenario)


# --- beside requests ------------------------------------------------------------------------------------------------


def test_no_more_is_loaded_at_once_than_is_said() -> None:
    most = now = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(1)
        now -= 1
        await respond(send, b"answer")

    async def scenario() -> None:
        nonlocal most
        for concurrency in (1, 4, 9):
            most = 0
            site = Site(app, PAGES)
            begun = asyncio.get_running_loop().time()
            await site.middleware.warm((f"/page/{n}" for n in range(36)), concurrency=concurrency, **HERE)
            assert (most, asyncio.get_running_loop().time() - begun) == (concurrency, 36 / concurrency)

    run(scenario)


def test_a_request_joins_a_load_that_warms_and_a_warming_waits_for_that_of_a_request() -> None:
    async def scenario() -> None:
        origin = Echo(takes=2.0)
        site = Site(origin, PAGES)
        first = asyncio.create_task(site.get("/page/1"))
        await asyncio.sleep(1)
        warming = asyncio.create_task(site.middleware.warm(["/page/1", "/page/2"]))
        await asyncio.sleep(0.5)
        second = await site.get("/page/2")
        assert (second.body, second.cache_status) == (b"2 /page/2", COLLAPSED)
        assert (await first).cache_status == FIRST
        assert outcome(await warming) == (1, 1, {}, {})
        (wait,) = [work for work in site.telemetry.ended if isinstance(work, Wait)]
        assert (wait.holder.trigger, wait.outcome, wait.ended - wait.begun) == ("warm", "served", 1.5)
        assert site.results == {"miss": 1, "collapsed": 1}

    run(scenario)


def test_who_waits_for_a_warming_that_finds_nothing_to_share_is_answered_all_the_same() -> None:
    async def scenario() -> None:
        origin = Echo(takes=2.0, headers=[(b"set-cookie", b"a=1")])
        site = Site(origin, PAGES)
        warming = asyncio.create_task(site.middleware.warm(["/page/1"], **HERE))
        await asyncio.sleep(1)
        response = await site.get("/page/1")
        assert (response.status, response.body) == (200, b"2 /page/1")
        assert outcome(await warming) == (0, 0, {"set_cookie": [0]}, {})

    run(scenario)


def test_a_warming_counts_as_no_request_and_tells_its_loads_as_its_own() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGES)
        await site.middleware.warm(["/page/1", "/page/2", "/page/1", "/nowhere"], concurrency=1, **HERE)
        assert (site.results, site.bypasses) == ({}, {})
        assert triggers(site) == {"warm": 2}
        assert not [event for event in site.telemetry.events if isinstance(event, Answered | Acquired | ServedStale)]
        assert not site.telemetry.outcomes
        group = site.cache.counters.group("/page/*")
        assert (group.hits, group.saved_seconds, group.saved_bytes) == (0, 0, 0)

    run(scenario)


def test_a_hit_of_what_was_warmed_is_named_by_the_route_that_the_app_has_found() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = SimpleNamespace(path_format="/page/{number}")
        await respond(send, b"answer")

    async def scenario() -> None:
        site = Site(app, PAGES)
        await site.middleware.warm(["/page/1"], **HERE)
        assert ((await site.get("/page/1")).cache_status, site.telemetry.routes) == (HIT, ["GET /page/{number}"])

    run(scenario)


def test_a_load_may_warm_others_but_not_itself() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/page/1":
            warmed.append(await site_of[0].middleware.warm(["/page/1", "/page/2"]))
        await respond(send, b"answer")

    site_of: list[Site] = []
    warmed: list[Warmed] = []

    async def scenario() -> None:
        site_of.append(Site(app, PAGES))
        assert (await site_of[0].get("/page/1")).status == 200
        assert [outcome(one) for one in warmed] == [(1, 0, {}, {"RecursiveLoadError": [0]})]

    run(scenario)


def test_what_would_be_refreshed_early_is_fresh_still() -> None:
    async def scenario() -> None:
        site = Site(Echo(takes=10.0), PAGES, policy=Policy(early_refresh=1e9))
        await site.get("/page/1")
        assert outcome(await site.middleware.warm(["/page/1"])) == (0, 1, {}, {})
        assert triggers(site) == {"miss": 1}

    run(scenario)


def test_what_was_asked_is_told_in_clear_text_only_where_that_is_wanted() -> None:
    async def scenario() -> None:
        for clear_keys in (False, True):
            site = Site(Echo(), PAGES, detail=Detail(clear_keys=clear_keys))
            await site.middleware.warm(["/page/1?q=a"], **HERE)
            (load,) = [work for work in site.telemetry.works if isinstance(work, Load)]
            assert load.text == ("GET /page/1?q=a" if clear_keys else "")

    run(scenario)


# --- who may be asked for -------------------------------------------------------------------------------------------

TEAMS = Rule("/teams/*", ttl=60, tenant=lambda scope: dict(scope["headers"]).get(b"x-team", b"").decode())
USERS = Rule("/users/*", ttl=60, tenant=lambda scope: scope["user"])
BEARERS = Rule("/bearers/*", ttl=60, tenant=credential("authorization"))
OPEN = Rule("/open/*", ttl=60, shared=True)
HTTP = Rule("/http/*")
TEAM_A = [("X-Team", "a")]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (WarmRequest(url="/teams/1"), "unscoped"),
        (WarmRequest(url="/teams/1", tenant="a"), "unscoped"),
        (WarmRequest(url="/teams/1", headers=TEAM_A, tenant="b"), "tenant"),
        (WarmRequest(url="/page/1", tenant="b"), "tenant"),
        (WarmRequest(url="/users/1", tenant="a"), "unscoped"),
        (WarmRequest(url="/users/1", scope={"user": "b"}, tenant="a"), "tenant"),
        (WarmRequest(url="/page/1", headers=[("Authorization", "Bearer a")]), "credentials"),
        (WarmRequest(url="/page/1", headers=[("cookie", "a=1")]), "credentials"),
        (WarmRequest(url="/http/1", headers=[("cookie", "a=1")]), "credentials"),
        (WarmRequest(url="/http/1", headers=[("cache-control", "no-store")]), "no_store"),
        (WarmRequest(url="/http/1", headers=[("cache-control", "only-if-cached")]), "only-if-cached"),
        (WarmRequest(url="/page/1", headers=[("range", "bytes=0-1")]), "range"),
        (WarmRequest(url="/page/1", method="POST"), "no_rule"),
        (WarmRequest(url="/ask", body=b'{"question": 1, "user": 2}'), "unkeyed_field"),
        (WarmRequest(url="/stats/invalidate", body=b'{"all": true}'), "no_rule"),
    ],
)
def test_what_a_rule_refuses_of_a_client_and_another_tenant_than_was_said_are_not_loaded(
    request_: WarmRequest, reason: str
) -> None:
    async def scenario() -> None:
        origin = Echo(headers=[MAX_AGE])
        rules = (PAGES, ASK, TEAMS, USERS, HTTP)
        site = Site(origin, *rules, stats_path="/stats", stats_token="hush")
        assert outcome(await site.middleware.warm([request_], **HERE)) == (0, 0, {reason: [0]}, {})
        assert origin.loads == 0

    run(scenario)


def test_each_tenant_finds_what_was_warmed_in_its_name_and_the_app_saw_who_it_was() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, TEAMS, USERS, BEARERS, OPEN)
        bearer = [("Authorization", "Bearer a")]
        requests = [
            WarmRequest(url="/teams/1", headers=TEAM_A, tenant="a"),
            WarmRequest(url="/users/1", scope={"user": "a"}, tenant="a"),
            WarmRequest(url="/bearers/1", headers=bearer),
            WarmRequest(url="/open/1", headers=bearer),
        ]
        assert outcome(await site.middleware.warm(requests, concurrency=1, **HERE)) == (4, 0, {}, {})
        teams, users, bearers, shared = origin.scopes
        assert (b"x-team", b"a") in teams["headers"]
        assert users["user"] == "a"
        assert (b"authorization", b"Bearer a") in bearers["headers"]
        assert (b"authorization", b"Bearer a") not in shared["headers"]
        for name, field, status in [
            ("teams", (b"x-team", b"a"), HIT),
            ("teams", (b"x-team", b"b"), FIRST),
            ("bearers", (b"authorization", b"Bearer a"), HIT),
            ("bearers", (b"authorization", b"Bearer b"), FIRST),
            ("open", (b"authorization", b"Bearer b"), HIT),
        ]:
            assert (await site.get(f"/{name}/1", headers=[field])).cache_status == status

    run(scenario)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"url": "page"}, "url 'page': give path and query"),
        ({"url": "//[page"}, "Invalid IPv6 URL"),
        ({"url": "/page", "method": "DELETE"}, "method='DELETE'): give GET, POST or QUERY"),
        ({"url": "/page", "method": "HEAD"}, "method='HEAD'): give GET, POST or QUERY"),
        ({"url": "/page", "headers": [("a", "b\r\nc: d")]}, "'a' is no field"),
        ({"url": "/page", "headers": [("a b", "c")]}, "'a b' is no field"),
        ({"url": "/page", "headers": [("a", "\u20ac")]}, "'a' is no field"),
    ],
)
def test_what_nobody_could_ask_is_refused_when_it_is_written(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        WarmRequest(**arguments)
    assert why in str(refused.value)


@pytest.mark.parametrize("arguments", [{"concurrency": 0}, {"concurrency": 1.5}])
def test_a_warming_that_cannot_work_is_refused(arguments: dict[str, Any]) -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGES)
        with pytest.raises(ConfigurationError, match="give a whole number of loads at once"):
            await site.middleware.warm(["/page/1"], **arguments, **HERE)
        with pytest.raises(ConfigurationError, match="give a list, such as"):
            await site.middleware.warm("/page/1", **HERE)
        with pytest.raises(ConfigurationError, match="give path and query"):
            await site.middleware.warm(["/page/1", "page"], **HERE)

    run(scenario)


# --- where the app is -----------------------------------------------------------------------------------------------


def test_host_and_scheme_are_said_or_seen() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGES, Rule("/any/*", ttl=60, host=False))
        with pytest.raises(ConfigurationError, match="requests came under 0 schemes and hosts; say which"):
            await site.middleware.warm(["/page/1"])
        await site.get("/page/1")
        assert outcome(await site.middleware.warm(["/page/1", "/page/2"])) == (1, 1, {}, {})
        assert outcome(await site.middleware.warm(["/page/3"], host="testserver")) == (1, 0, {}, {})
        assert outcome(await site.middleware.warm(["/any/1"], scheme="http")) == (1, 0, {}, {})
        for path in ("/page/2", "/page/3", "/any/1"):
            assert (await site.get(path)).cache_status == HIT
        own = WarmRequest(url="/page/1", headers=[("Host", "elsewhere")])
        assert outcome(await site.middleware.warm([own], **HERE)) == (1, 0, {}, {})
        assert (await site.get("/page/1", headers=[(b"host", b"elsewhere")])).cache_status == HIT

    run(scenario)


def test_a_mounted_app_is_asked_where_it_is_mounted() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGES)
        assert outcome(await site.middleware.warm(["/api/page/1"], root_path="/api", **HERE)) == (1, 0, {}, {})
        assert (origin.scopes[0]["root_path"], origin.scopes[0]["path"]) == ("/api", "/api/page/1")
        assert (await site.get("/api/page/1", scope={"root_path": "/api"})).cache_status == HIT

    run(scenario)


def test_the_app_has_what_its_lifespan_shares_and_each_load_a_state_of_its_own() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            scope["state"]["db"] = "the database"
            await send({"type": "lifespan.startup.complete"})
            return
        seen.append((scope["app"], dict(scope["state"])))
        scope["state"]["mine"] = True
        await respond(send, b"answer")

    seen: list[Any] = []

    async def scenario() -> None:
        site = Site(app, PAGES)

        async def around(scope: Scope, receive: Receive, send: Send) -> None:
            await site.middleware({**scope, "app": "around"}, receive, send)

        await live(around, "startup")
        assert outcome(await site.middleware.warm(["/page/1", "/page/2"], **HERE)) == (2, 0, {}, {})
        assert seen == [("around", {"db": "the database"})] * 2

    run(scenario)


def test_where_the_cache_is_switched_off_nothing_is_loaded() -> None:
    async def scenario() -> None:
        origin = Echo()
        middleware = CacheMiddleware(origin, cache=Cache(enabled=False), rules=[PAGES])
        assert outcome(await middleware.warm(["/page/1"], **HERE)) == (0, 0, {"disabled": [0]}, {})
        assert origin.loads == 0

    run(scenario)


# --- the end --------------------------------------------------------------------------------------------------------


class Endless:
    """Never answers; knows who was told to stop."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.stopped: list[tuple[str, float]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        self.begun.append(scope["path"])
        while (await receive())["type"] != "http.disconnect":
            pass
        self.stopped.append((scope["path"], asyncio.get_running_loop().time()))


def test_a_shutdown_ends_it_at_once_and_what_was_done_is_told() -> None:
    async def scenario() -> None:
        origin = Endless()
        site = Site(origin, PAGES)
        warming = asyncio.create_task(
            site.middleware.warm(["/nowhere", *(f"/page/{number}" for number in range(9))], concurrency=2, **HERE)
        )
        await asyncio.sleep(3)
        assert await live(site.middleware, "shutdown") == ["shutdown.complete"]
        assert outcome(await warming) == (0, 0, {"no_rule": [0]}, {})
        assert origin.begun == ["/page/0", "/page/1"]
        assert sorted(origin.stopped) == [("/page/0", 3.0), ("/page/1", 3.0)]

    run(scenario)


def test_a_warming_that_is_cancelled_stops_what_nobody_has_come_to_wait_for() -> None:
    async def scenario() -> None:
        origin = Endless()
        site = Site(origin, PAGES)
        warming = asyncio.create_task(site.middleware.warm(["/page/1", "/page/2", "/page/3"], concurrency=2, **HERE))
        await asyncio.sleep(1)
        waiting = asyncio.create_task(site.get("/page/2"))
        await asyncio.sleep(1)
        warming.cancel()
        with pytest.raises(asyncio.CancelledError):
            await warming
        await asyncio.sleep(1)
        assert (origin.begun, origin.stopped) == (["/page/1", "/page/2"], [("/page/1", 2.0)])
        waiting.cancel()
        await site.cache.aclose()

    run(scenario)


# --- asked for from outside -----------------------------------------------------------------------------------------

BEARER = [(b"authorization", b"Bearer hush")]
MANAGED: dict[str, Any] = {"stats_path": "/stats", "stats_token": "hush"}


async def ask_for(site: Site, body: bytes, **request: Any) -> Response:
    return await site.post("/stats/warm", body, headers=[*BEARER, *request.pop("headers", ())], **request)


def test_who_has_the_token_has_answers_loaded() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGES, ASK, TEAMS, **MANAGED)
        response = await ask_for(
            site,
            b"""{"requests": [
                "/page/1", "https://example.com/page/1", "/nowhere",
                {"url": "/ask", "body": {"question": "How?"}},
                {"url": "/ask", "method": "QUERY", "body": "{\\"question\\": \\"Why?\\"}"},
                {"url": "/teams/1", "headers": {"x-team": "a"}, "tenant": "a"},
                {"url": "/page/1"}
            ], "concurrency": 1}""",
        )
        assert (response.status, response.header("cache-control")) == (200, "no-store")
        said = response.json()
        assert {name: said[name] for name in ("loaded", "fresh", "not_stored", "failed", "name", "of")} == {
            "loaded": 5,
            "fresh": 1,
            "not_stored": {"no_rule": [2]},
            "failed": {},
            "name": "default",
            "of": None,
        }
        assert [scope["path"] for scope in origin.scopes] == ["/page/1", "/page/1", "/ask", "/ask", "/teams/1"]
        assert [scope["scheme"] for scope in origin.scopes[:2]] == ["http", "https"]
        assert (await site.get("/page/1")).cache_status == HIT
        assert (await site.post(body=b'{"question": "How?"}')).cache_status == HIT
        assert (await site.get("/teams/1", headers=[(b"x-team", b"a")])).cache_status == HIT

    run(scenario)


def test_they_come_by_the_way_of_who_asks_but_not_as_that_user() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGES, USERS, **MANAGED)
        private = {"user": "admin", "state": {"user": "admin"}, "session": {}, "client": ("10.0.0.1", 1)}

        async def around(scope: Scope, receive: Receive, send: Send) -> None:
            await site.middleware({**scope, **private, "app": "around", "server": ("s", 80)}, receive, send)

        site.client.app = around
        response = await ask_for(
            site,
            b'{"requests": ["/page/1", "/users/1"]}',
            headers=[(b"x-forwarded-proto", b"https"), (b"cookie", b"a=1"), (b"x-requested-with", b"fetch")],
        )
        assert (response.json()["loaded"], response.json()["not_stored"]) == (1, {"unscoped": [1]})
        (scope,) = origin.scopes
        assert scope["headers"] == [(b"host", b"testserver"), (b"x-forwarded-proto", b"https")]
        assert (scope["app"], scope["server"]) == ("around", ("s", 80))
        assert scope["client"] is None
        assert not {"user", "state", "session"} & set(scope)

    run(scenario)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"{}", "missing required field `requests`"),
        (b'{"requests": "/page/1"}', "Expected `array`"),
        (b'{"requests": ["page"]}', "url 'page': give path and query"),
        (b'{"requests": [{"url": "/page/1", "scope": {"user": "a"}}]}', "unknown field `scope`"),
        (b'{"requests": [{"url": "/page/1", "method": "DELETE"}]}', "give GET, POST or QUERY"),
        (b'{"requests": ["/page/1"], "concurrency": 65}', "concurrency 65: give a number from 1 to 64"),
        (b'{"requests": ["/page/1"], "concurrency": 0}', "concurrency 0: give a number from 1 to 64"),
        (b"/page/1", "malformed"),
        (b'"' + b"x" * 1024**2 + b'"', "body_size"),
    ],
)
def test_what_names_nothing_to_warm_is_refused_with_the_remedy(body: bytes, why: str) -> None:
    async def scenario() -> None:
        origin = Echo()
        response = await ask_for(Site(origin, PAGES, **MANAGED), body)
        assert response.status == 400
        assert why in response.json()["error"]
        assert 'send JSON, such as {"requests": ["/search?q=a"]}' in response.json()["error"]
        assert origin.loads == 0

    run(scenario)


def test_without_the_token_nothing_is_warmed() -> None:
    async def scenario() -> None:
        body = b'{"requests": ["/page/1"]}'
        origin = Echo()
        site = Site(origin, PAGES, **MANAGED)
        assert (await site.post("/stats/warm", body)).status == 401
        assert origin.loads == 0
        site = Site(origin, PAGES, stats_path="/stats")
        assert (await ask_for(site, body)).body.startswith(b"1 /stats/warm")

    run(scenario)


def test_a_client_that_leaves_ends_its_warming() -> None:
    async def scenario() -> None:
        origin = Echo(takes=1.0)
        site = Site(origin, PAGES, **MANAGED)
        body = b'{"requests": ["/page/1", "/page/2", "/page/3"], "concurrency": 1}'
        messages: list[Message] = [{"type": "http.request", "body": body}]

        async def receive() -> Message:
            if messages:
                return messages.pop()
            await asyncio.sleep(1.5)
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            sent.append(message)

        sent: list[Message] = []
        scope = {"type": "http", "method": "POST", "path": "/stats/warm", "headers": [(b"host", b"h"), *BEARER]}
        await site.middleware(scope | {"scheme": "http"}, receive, send)
        assert [scope["path"] for scope in origin.scopes] == ["/page/1", "/page/2"]

    run(scenario)
