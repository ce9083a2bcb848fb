"""What belongs to running a service: the stats page, and the lifespan."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest

from glasscache.asgi import Rule
from glasscache.policy import Limits
from tests.asgi.site import FIRST, Echo, Site, run
from tests.support.asgi import Message, Receive, Response, Scope, Send

PAGE = Rule("/page", ttl=60)


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


# --- who waits for whom -----------------------------------------------------------------------------------------------

BEARER = [(b"authorization", b"Bearer hush")]


def test_the_contention_page_shows_who_waits_and_who_waited_to_who_has_the_token() -> None:
    async def scenario() -> None:
        site = Site(Echo(takes=3.0), PAGE, stats_path="/stats", stats_token="hush")
        crowd = asyncio.create_task(site.crowd(4))
        await asyncio.sleep(1)
        (load,) = (await site.get("/stats/contention", headers=BEARER)).json()["loads"]
        assert (load["key_group"], load["running"], load["waiting"]) == ("/page", 1.0, 3)
        await crowd
        response = await site.get("/stats/contention", headers=BEARER)
        assert (response.status, response.header("cache-control")) == (200, "no-store")
        figures = response.json()
        assert [one["waited"] for one in figures["contentions"]] == [3.0, 3.0, 3.0]
        assert (figures["seen"], figures["loads"], figures["worker"]) == (3, [], os.getpid())

    run(scenario)


@pytest.mark.parametrize("sent", [[], [b"Bearer hus"], [b"Bearer hush", b"Bearer hush"]])
def test_without_the_token_nothing_is_shown_but_what_to_send(sent: list[bytes]) -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE, stats_path="/stats", stats_token="hush")
        response = await site.get("/stats/contention", headers=[(b"authorization", value) for value in sent])
        assert (response.status, response.header("www-authenticate")) == (401, 'Bearer realm="glasscache"')
        assert response.json() == {"error": "send the stats token: Authorization: Bearer ..."}

    run(scenario)


def test_without_a_token_set_the_pages_that_need_one_do_not_exist() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE, stats_path="/stats")
        assert (await site.get("/stats/contention")).body == b"1 /stats/contention"

    run(scenario)


# --- removal of answers ---------------------------------------------------------------------------------------------

LANGUAGES = Rule("/languages/*", ttl=60, headers=("accept-language",))
DOCS = Rule("/docs/*", ttl=60, tags=("docs",))
MANAGED: dict[str, Any] = {"stats_path": "/stats", "stats_token": "hush"}


async def remove(site: Site, wanted: object, **request: Any) -> Response:
    body = wanted if isinstance(wanted, bytes) else json.dumps(wanted).encode()
    return await site.post("/stats/invalidate", body, headers=BEARER, **request)


@pytest.mark.parametrize(
    ("wanted", "gone"),
    [
        ({"all": True}, {"/page", "/docs/1", "/docs/2?a=%C3%A9", "/languages/x", "value"}),
        ({"tag": "docs"}, {"/docs/1", "/docs/2?a=%C3%A9"}),
        ({"url": "/page"}, {"/page"}),
        ({"url": "http://testserver/docs/2?a=\u00e9"}, {"/docs/2?a=%C3%A9"}),
        ({"url": "http://elsewhere.com/page"}, set()),
        ({"url": "/nowhere"}, set()),
        ({"url": "/languages/x"}, {"/languages/x"}),
        ({"key": "value"}, {"value"}),
        ({"key": "no such value"}, set()),
        ({"key": "digest of /docs/1"}, {"/docs/1"}),
    ],
)
def test_who_has_the_token_removes_answers_by_tag_key_url_or_all_together(
    wanted: dict[str, Any], gone: set[str]
) -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE, DOCS, LANGUAGES, **MANAGED)
        urls = ["/page", "/docs/1", "/docs/2?a=%C3%A9", "/languages/x"]
        loaded: list[str] = []

        async def load() -> str:
            loaded.append("value")
            return "value"

        async def ask() -> None:
            for url in urls:
                path, _, query = url.partition("?")
                response = await site.get(path, query=query, headers=[(b"accept-language", b"en")])
                if response.cache_status == FIRST:
                    loaded.append(url)
            await site.cache.get_or_load("value", load)

        await ask()
        loaded.clear()
        said = dict(wanted)
        if said.get("key", "").startswith("digest"):
            said["key"] = site.middleware.key_for("GET", "/docs/1").hex()
        response = await remove(site, said)
        assert (response.status, response.header("cache-control")) == (200, "no-store")
        figures = response.json()
        assert (figures["removed"], figures["name"], figures["worker"]) == (len(gone), "default", os.getpid())
        await ask()
        assert set(loaded) == gone

    run(scenario)


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ({}, "say one of tag, key, url, or all"),
        ({"tag": "a", "all": True}, "say one of tag, key, url, or all"),
        ({"tags": "a"}, "unknown field"),
        ({"tag": 1}, "Expected `str"),
        ({"url": "page"}, "url 'page': give path and query, such as /search"),
        ({"url": "http:/page"}, "give path and query"),
        (b"docs", "malformed"),
        (b"[" * 70_000, "body_size"),
    ],
)
def test_what_names_nothing_to_remove_is_refused_with_the_remedy(wanted: object, why: str) -> None:
    async def scenario() -> None:
        response = await remove(Site(Echo(), PAGE, **MANAGED), wanted)
        assert response.status == 400
        assert why in response.json()["error"]
        assert 'send JSON, such as {"tag": "docs"}' in response.json()["error"]

    run(scenario)


def test_without_the_token_nothing_is_removed() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE, **MANAGED)
        await site.get()
        assert (await site.post("/stats/invalidate", b'{"all": true}')).status == 401
        assert (await site.get()).cache_status == "glasscache; hit; ttl=60"
        site = Site(Echo(), PAGE, stats_path="/stats")
        assert (await remove(site, {"all": True})).body == b'1 /stats/invalidate {"all": true}'

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
        order.append(f"entries: {site_of[0].cache._engine.near.gauge().entries}")
        await send({"type": f"lifespan.{end}"})
        order.append(f"entries: {site_of[0].cache._engine.near.gauge().entries}")

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

        site.cache._engine.near.aclose = aclose  # type: ignore[method-assign]
        assert await live(site.middleware, "shutdown") == ["shutdown.complete"]

    run(scenario)
    assert "stuck" in caplog.text
