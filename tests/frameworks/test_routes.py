"""The route in server spans of answers for which nobody has asked the app's router: FastAPI's and Starlette's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from glasscache import Cache, Detail
from glasscache.asgi import CacheMiddleware, Rule, _places
from glasscache.asgi._places import ROUTED, Places
from tests.support.asgi import ASGIApp, Client
from tests.support.otel_rig import Rig

RULES = [Rule("/docs/*", ttl=60, methods=("GET", "POST")), Rule("/part/*", ttl=60), Rule("/none", ttl=60)]


async def page(request: Request) -> PlainTextResponse:
    await asyncio.sleep(0)
    return PlainTextResponse("a page")


def cached(rig: Rig) -> Cache:
    return Cache(tracer_provider=rig.tracers, meter_provider=rig.meters)


def by_fastapi(rig: Rig) -> ASGIApp:
    app, part = FastAPI(telemetry={"tracer_provider": rig.tracers, "metrics": False, "logs": False}), FastAPI()
    app.add_api_route("/docs/{number}", page, methods=["GET", "POST"])
    part.add_api_route("/docs/{n}", page)
    app.mount("/part", part)
    app.add_middleware(CacheMiddleware, cache=cached(rig), rules=RULES)
    return app


def by_starlette(rig: Rig) -> ASGIApp:
    routes = [Route("/docs/{number}", page, methods=["GET", "POST"]), Mount("/part", routes=[Route("/docs/{n}", page)])]
    tracing = Middleware(OpenTelemetryMiddleware, tracer_provider=rig.tracers)
    caching = Middleware(CacheMiddleware, cache=cached(rig), rules=RULES)
    return Starlette(routes=routes, middleware=[tracing, caching])


Make = Callable[[Rig], ASGIApp]
frameworks = pytest.mark.parametrize("make", [by_fastapi, by_starlette])


def served(rig: Rig) -> list[tuple[object, ...]]:
    """Of each request the name of its span, its route, and how it was answered."""
    spans = [span for span in rig.exporter.get_finished_spans() if span.kind is SpanKind.SERVER]
    told = [(span.name, span.attributes or {}) for span in spans]
    return [(name, attributes.get("http.route"), attributes["cache.result"]) for name, attributes in told]


@frameworks
def test_whoever_is_answered_without_the_router_has_the_route_that_it_found_in_a_load(make: Make) -> None:
    async def scenario() -> None:
        rig = Rig()
        client = Client(make(rig))
        await asyncio.gather(*(client.request("GET", "/docs/7") for _ in range(2)))
        await client.request("GET", "/docs/7")
        await client.request("HEAD", "/docs/7")
        await client.request("GET", "/docs/7", headers={"if-none-match": '"it"'})
        route = "/docs/{number}"
        assert served(rig) == [
            (f"GET {route}", route, "miss"),
            (f"GET {route}", route, "collapsed"),
            (f"GET {route}", route, "hit"),
            (f"HEAD {route}", route, "hit"),
            (f"GET {route}", route, "hit"),
        ]

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("rule", "detail"),
    [
        (Rule("/docs/*", ttl=60, tenant=lambda scope: "us"), Detail()),
        (Rule("/docs/*", ttl=60, headers=("accept",)), Detail()),
        (Rule("/docs/*", ttl=60), Detail(clear_keys=True)),
    ],
    ids=["tenant", "headers", "clear keys"],
)
def test_so_has_a_hit_that_takes_the_slow_way(rule: Rule, detail: Detail) -> None:
    async def scenario() -> None:
        rig = Rig()
        cache = Cache(tracer_provider=rig.tracers, meter_provider=rig.meters, detail=detail)
        app = FastAPI(telemetry={"tracer_provider": rig.tracers, "metrics": False, "logs": False})
        app.add_api_route("/docs/{number}", page)
        app.add_middleware(CacheMiddleware, cache=cache, rules=[rule])
        client = Client(app)
        for method in ("GET", "GET", "HEAD"):
            await client.request(method, "/docs/7")
        told = [("GET", "miss"), ("GET", "hit"), ("HEAD", "hit")]
        assert served(rig) == [(f"{method} /docs/{{number}}", "/docs/{number}", result) for method, result in told]

    asyncio.run(scenario())


def test_no_more_routes_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_places, "_MEMO", 2)
    places = Places(Rule("/docs/*", ttl=60, headers=("accept",)), Cache().keyring, frozenset(), hears=False)
    asked = [
        {"method": "GET", "path": path, ROUTED: "/docs/{n}"} for path in ("/docs/1", "/docs/2", "/" * 3000, "/docs/3")
    ]
    for scope in asked:
        places.note_route(scope)
    assert [places.routed(scope) for scope in asked] == [None, None, None, "/docs/{n}"]


@frameworks
def test_a_question_by_post_has_its_route_too(make: Make) -> None:
    async def scenario() -> None:
        rig = Rig()
        client = Client(make(rig))
        for _ in range(2):
            await client.request("POST", "/docs/7", body=b"{}", headers={"content-type": "application/json"})
        route = "/docs/{number}"
        assert served(rig) == [(f"POST {route}", route, result) for result in ("miss", "hit")]

    asyncio.run(scenario())


@frameworks
def test_of_a_mounted_app_nobody_knows_the_whole_route_and_of_what_has_none_there_is_none(make: Make) -> None:
    async def scenario() -> None:
        rig = Rig()
        client = Client(make(rig))
        for path in ("/part/docs/7", "/none"):
            for _ in range(2):
                await client.request("GET", path)
        results = ["miss", "hit", "miss", "miss"]
        assert [told[2] for told in served(rig)] == results
        assert [told[:2] for told in served(rig)] == [("GET /part/docs/{n}", "/part/docs/{n}"), *[("GET", None)] * 3]

    asyncio.run(scenario())


@frameworks
def test_nothing_is_named_where_no_span_is_recorded(make: Make) -> None:
    async def scenario() -> None:
        rig = Rig(ALWAYS_OFF)
        client = Client(make(rig))
        for _ in range(2):
            assert (await client.request("GET", "/docs/7")).status == 200
        assert rig.exporter.get_finished_spans() == ()

    asyncio.run(scenario())
