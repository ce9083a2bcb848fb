"""The public API as users write it, in FastAPI and Starlette, with other middleware around it and inside."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
from collections import Counter

import httpx
import pytest
from fastapi import BackgroundTasks, FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from glasscache import Cache, MemoryStore, Policy
from glasscache.asgi import CacheMiddleware, Rule, answer, json_body
from tests.live.rig import Feed, Signal, Stack, ask, eventually, make_cache
from tests.support.patience import PATIENCE
from tests.support.servers import LiveServer, RawConnection, live_server

pytestmark = pytest.mark.usefixtures("no_leaks")

PAGE = "a page that is worth compressing " * 100


class Question(BaseModel):
    question: str
    filters: list[str] = []
    user: str = ""
    trace_id: str = ""


def knowledge_app(cache: Cache, loads: Counter[str], done: Signal) -> FastAPI:
    app = FastAPI()

    @app.post("/ask")
    async def ask_endpoint(asked: Question, tasks: BackgroundTasks) -> dict[str, object]:
        loads["/ask"] += 1
        tasks.add_task(done.set)
        answer().tag("doc:7")
        return {"answer": asked.question.upper(), "filters": asked.filters}

    @app.get("/search")
    def search(q: str) -> list[str]:
        loads["/search"] += 1
        return [q]

    app.add_middleware(
        CacheMiddleware,
        cache=cache,
        rules=[
            Rule(
                "/ask",
                methods=("POST", "QUERY"),
                key=json_body("question", "filters", ignore=("user", "trace_id")),
                ttl=300,
                stale_while_revalidate=60,
                stale_if_error=600,
            ),
            Rule("/search", ttl=60),
        ],
    )
    return app


def test_fastapi_with_the_rules_of_the_readme_answers_repeated_questions_from_memory(stack: Stack) -> None:
    cache = Cache(MemoryStore(max_entries=100, max_bytes=64 * 1024**2), policy=Policy(ttl=300), name="knowledge")
    loads, done = Counter[str](), Signal()

    async def scenario(server: LiveServer) -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            first = await client.post("/ask", json={"question": "why?", "filters": ["a"], "user": "x"})
            assert first.json() == {"answer": "WHY?", "filters": ["a"]}
            assert first.headers["cache-status"] == "glasscache; fwd=uri-miss; stored"
            await done.wait()
            again = await client.post("/ask", json={"trace_id": "1", "filters": ["a"], "question": "why?"})
            assert again.json() == first.json()
            assert "; hit" in again.headers["cache-status"]
            assert again.headers["age"] == "0"
            other = await client.post("/ask", json={"question": "why?", "mood": "bad"})
            assert other.headers["cache-status"] == "glasscache; fwd=bypass; detail=unkeyed_field"
            invalid = [await client.post("/ask", json={"question": 7}) for _ in range(2)]
            assert [answer.status_code for answer in invalid] == [422, 422]
            for hit in (False, True):
                found = await client.get("/search", params={"q": "why"})
                assert found.json() == ["why"]
                assert ("; hit" in found.headers["cache-status"]) == hit
        assert loads == {"/ask": 2, "/search": 1}

    with live_server(knowledge_app(cache, loads, done), **stack) as server:
        asyncio.run(scenario(server))


def test_all_from_the_environment_caches_what_the_origin_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CACHE_TYPE": "memory",
        "CACHE_MAX_SIZE": "7",
        "CACHE_TTL": "60",
        "GLASSCACHE_STATS_PATH": "/metrics/cache",
    }.items():
        monkeypatch.setenv(name, value)
    loads = Counter[str]()
    app = FastAPI()

    @app.get("/{page}")
    async def endpoint(page: str, response: Response) -> str:
        loads[page] += 1
        if page == "public":
            response.headers["Cache-Control"] = "max-age=60"
        return page

    app.add_middleware(CacheMiddleware)

    async def scenario(server: LiveServer) -> None:
        for page in ("public", "silent"):
            for _ in range(2):
                assert json.loads((await ask(server, f"/{page}")).body) == page
        stats = json.loads((await ask(server, "/metrics/cache")).body)
        assert stats["entries_limit"] == 7
        assert (stats["total_hits"], stats["total_misses"], stats["cache_size"]) == (1, 2, 1)
        assert stats["bypass"] == {"uncacheable": 1}
        assert loads == {"public": 1, "silent": 2}

    with live_server(app) as server:
        asyncio.run(scenario(server))


def page_app(loads: Counter[str], *middleware: Middleware) -> Starlette:
    """`GET /page` behind this middleware, outermost first."""

    async def page(request: Request) -> Response:
        loads["page"] += 1
        return PlainTextResponse(PAGE)

    return Starlette(routes=[Route("/page", page)], middleware=middleware)


def caching() -> Middleware:
    return Middleware(CacheMiddleware, cache=make_cache(), rules=[Rule("/page", ttl=60)])


@pytest.mark.parametrize(("order", "due"), [("around", 1), ("inside", 2)])
def test_gzip_around_or_inside_gives_each_client_what_it_can_read(order: str, due: int) -> None:
    loads, zipping = Counter[str](), Middleware(GZipMiddleware)
    layers = [zipping, caching()] if order == "around" else [caching(), zipping]

    async def scenario(server: LiveServer) -> None:
        for turn in range(3):
            for coding in ("gzip", "identity"):
                got = await ask(server, "/page", headers={"Accept-Encoding": coding})
                assert got.header("content-encoding") == ("gzip" if coding == "gzip" else None)
                assert got.header("vary") == "Accept-Encoding"
                assert (gzip.decompress(got.body) if coding == "gzip" else got.body).decode() == PAGE
                if turn:
                    assert "; hit" in (got.cache_status or "")
        assert loads["page"] == due  # inside, each coding is a variant

    with live_server(page_app(loads, *layers)) as server:
        asyncio.run(scenario(server))


def test_gzip_inside_keeps_a_crowd_to_one_load() -> None:
    feed, cache = Feed(3), make_cache()
    app = Starlette(
        routes=[Route("/events", feed.endpoint)],
        middleware=[
            Middleware(CacheMiddleware, cache=cache, rules=[Rule("/events", ttl=60)]),
            Middleware(GZipMiddleware, minimum_size=1),
        ],
    )

    async def scenario(server: LiveServer) -> None:
        async with asyncio.TaskGroup() as clients:
            asked = [
                clients.create_task(ask(server, "/events", headers={"Accept-Encoding": "gzip"})) for _ in range(20)
            ]
            await eventually(lambda: cache._engine.waiters == 19)
            feed.tell()
        assert feed.loads == 1
        assert len({task.result().body for task in asked}) == 1

    with live_server(app) as server:
        asyncio.run(scenario(server))


@pytest.mark.parametrize(("order", "due"), [("around", 1), ("inside", 2)])
def test_cors_around_or_inside_names_each_origin_its_own(order: str, due: int) -> None:
    loads = Counter[str]()
    origins = ["https://a.example", "https://b.example"]
    sharing = Middleware(CORSMiddleware, allow_origins=origins)
    layers = [sharing, caching()] if order == "around" else [caching(), sharing]

    async def scenario(server: LiveServer) -> None:
        for turn in range(3):
            for origin in origins:
                got = await ask(server, "/page", headers={"Origin": origin})
                assert got.header_list("access-control-allow-origin") == [origin]
                assert got.body.decode() == PAGE
                if turn:
                    assert "; hit" in (got.cache_status or "")
            preflight = await ask(
                server, "/page", "OPTIONS", headers={"Origin": origins[0], "Access-Control-Request-Method": "GET"}
            )
            assert preflight.status == 200
            assert preflight.cache_status is None
        assert loads["page"] == due

    with live_server(page_app(loads, *layers)) as server:
        asyncio.run(scenario(server))


class Stamping(BaseHTTPMiddleware):
    """Adds a header, as applications do."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["X-Stamp"] = "stamped"
        return response


@pytest.mark.parametrize("order", ["around", "inside"])
def test_starlettes_function_middleware_around_or_inside_streams_and_stores(order: str, stack: Stack) -> None:
    feed, stamping = Feed(3), Middleware(Stamping)
    caching = Middleware(CacheMiddleware, cache=make_cache(), rules=[Rule("/events", ttl=60)])
    layers = [stamping, caching] if order == "around" else [caching, stamping]
    app = Starlette(routes=[Route("/events", feed.endpoint)], middleware=layers)

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as first, RawConnection(server.port) as second:
            for client in (first, second):
                await client.request("GET", "/events")
                assert (await client.head()).header("x-stamp") == "stamped"
            for number, event in enumerate(feed.events):
                feed.tell(number)
                assert await first.chunk() == await second.chunk() == event
            assert await first.chunk() is await second.chunk() is None
        again = await ask(server, "/events")
        assert again.body == b"".join(feed.events)
        assert again.header("x-stamp") == "stamped"
        assert "; hit" in (again.cache_status or "")
        assert feed.loads == 1

    with live_server(app, **stack) as server:
        asyncio.run(scenario(server))


def test_a_client_that_leaves_while_it_waits_is_no_error_for_function_middleware_around(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That middleware raises "No response returned" if an app answers nothing, even to nobody."""
    go_on, passed = Signal(), list[int]()

    async def passing(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        passed.append(response.status_code)
        return response

    async def endpoint(request: Request) -> Response:
        await go_on.wait()
        return PlainTextResponse("answer")

    cache = make_cache()
    app = Starlette(
        routes=[Route("/a", endpoint)],
        middleware=[
            Middleware(BaseHTTPMiddleware, dispatch=passing),
            Middleware(CacheMiddleware, cache=cache, rules=[Rule("/a", ttl=60)]),
        ],
    )

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as leader, RawConnection(server.port) as follower:
            for client in (leader, follower):
                await client.request("GET", "/a")
            await eventually(lambda: cache._engine.waiters == 1)
            [flight] = cache._engine._state.flights.values()
            for client in (leader, follower):
                client.abort()
            await eventually(lambda: not flight.readers)
        go_on.set()
        await eventually(lambda: len(passed) == 2)
        assert passed == [499, 499]
        assert (await ask(server, "/a")).body == b"answer"

    with live_server(app) as server:
        asyncio.run(scenario(server))
    assert not [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
