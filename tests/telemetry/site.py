"""The app of these tests: a cached site, its telemetry as the environment asks for it, and the desk of the test.

Decides which layer is outside of which (`ORDER`), who sets OpenTelemetry up (`SETUP`), and that time stands still until
the desk moves it: durations in telemetry are exact. Runs in the server's process; imported by nobody else.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import logging
import os
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs

from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from glasscache import Cache, Detail, Limits, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule, json_body
from glasscache.asgi.types import ASGIApp, Receive, Scope, Send
from glasscache.stats import stats
from glasscache.testing import ManualClock
from glasscache_exporters import Exporters, configure

DESK = "/_desk"
ORDER = os.environ.get("SITE_ORDER", "cache alone")
SETUP = os.environ.get("SITE_SETUP", "configure")
BOUND = float(os.environ.get("SITE_SHUTDOWN", "10"))

clock = ManualClock()
detail = Detail(trace_hits=True, time_hits=1, clear_keys=True) if os.environ.get("SITE_DETAIL") else Detail()
store = MemoryStore(max_entries=8, max_bytes=100_000)
limits = Limits(wait_timeout=float(os.environ.get("SITE_WAIT_TIMEOUT", "30")))
cache = Cache(store, name="knowledge", clock=clock, key_secret="k" * 32, detail=detail, limits=limits)
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
loads: list[str] = []
tracer = trace.get_tracer("site")


class EveryAttribute(logging.Formatter):
    """Shows all that a record holds: what a log pipeline could pick up."""

    def format(self, record: logging.LogRecord) -> str:
        shown = {name: value for name, value in vars(record).items() if name not in ("msg", "args", "exc_info")}
        return f"{super().format(record)} {shown!r}"


def listen() -> None:
    """Everything that is logged goes to stderr, except what the server says, which goes to stdout."""
    handler = logging.StreamHandler()
    handler.setFormatter(EveryAttribute("%(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG, handlers=[handler])


async def ask(request: Request) -> Response:
    question = request.query_params["q"]
    loads.append(question)
    with tracer.start_as_current_span("retrieval"):
        size = 200_000 if question == "big" else 10
    return Response(b"a" * size, media_type="text/plain")


async def document(request: Request) -> Response:
    loads.append(request.path_params["id"])
    return Response(b"a document")


async def question(request: Request) -> Response:
    return JSONResponse({"you asked": await request.json()})


async def slow(request: Request) -> Response:
    name = request.query_params["q"]
    loads.append(name)
    with tracer.start_as_current_span("retrieval"):
        await gates[name].wait()
    return Response(b"at last")


async def broken(request: Request) -> Response:
    name = request.query_params["q"]
    loads.append(name)
    await gates[name].wait()
    raise RuntimeError(f"no answer to {name}")


async def late(request: Request) -> Response:
    def work() -> None:
        raise RuntimeError(f"no work for {request.query_params['q']}")

    return Response(b"done, nearly", background=BackgroundTask(work))


async def mine(request: Request) -> Response:
    return Response(b"for you alone", headers={"cache-control": "private"})


async def page(request: Request) -> Response:
    """Follows HTTP: who has it already is told that it has not changed."""
    fields = {"etag": '"page-1"', "cache-control": "max-age=5"}
    if request.headers.get("if-none-match") == fields["etag"]:
        return Response(status_code=304, headers=fields)
    return Response(b"a page", headers=fields)


ENDPOINTS = {
    "/page": page,
    "/ask": ask,
    "/documents/{id}": document,
    "/question": question,
    "/slow": slow,
    "/broken": broken,
    "/late": late,
    "/mine": mine,
}
RULES = [
    Rule("/ask", ttl=10, stale_while_revalidate=60, tags=("docs",)),
    Rule("/documents/{id}", ttl=10),
    Rule("/question", methods=("POST",), key=json_body(), ttl=10, tenant=lambda scope: header(scope, b"x-tenant")),
    Rule("/page"),
    Rule("/slow", ttl=60),
    Rule("/broken", ttl=60),
    Rule("/late", ttl=60),
    Rule("/mine", ttl=60),
]


CACHED: dict[str, Any] = {
    "cache": cache,
    "rules": RULES,
    "stats_path": "/metrics/cache",
    "stats_token": "token",
}


def header(scope: Scope, wanted: bytes) -> str | None:
    return next((value.decode() for name, value in scope["headers"] if name == wanted), None)


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    yield
    # uvicorn ends by raising its signal again: Python's own exit handlers never run
    if exporters is not None and not await asyncio.to_thread(exporters.shutdown):
        faulthandler.dump_traceback()  # what held it up


LAYERS: dict[str, list[str]] = {  # outermost first, around the site
    "cache alone": ["cache"],
    "fastapi outside": ["cache"],
    "asgi outside": ["tracing", "cache"],
    "asgi inside": ["cache", "tracing"],
    "fastapi inside": [],
}


def build(order: str) -> ASGIApp:
    """FastAPI has its tracing around all middleware, so only around FastAPI the cache is outside of it."""
    site: Starlette
    if order.startswith("fastapi"):
        from fastapi import FastAPI  # noqa: PLC0415 - a second of work that two of the orders need

        site = FastAPI(lifespan=lifespan)
    else:
        site = Starlette(lifespan=lifespan)
    for path, endpoint in ENDPOINTS.items():
        site.add_route(path, endpoint, methods=["GET", "POST"])
    for layer in reversed(LAYERS[order]):
        if layer == "cache":
            site.add_middleware(CacheMiddleware, **CACHED)
        else:
            site.add_middleware(OpenTelemetryMiddleware)
    return CacheMiddleware(site, **CACHED) if order == "fastapi inside" else site


async def desk(scope: Scope, send: Send) -> None:
    """Open gates, move time, invalidate; answer how things stand."""
    wanted = parse_qs(scope["query_string"].decode())
    for seconds in wanted.get("advance", ()):
        clock.advance(float(seconds))
    for tag in wanted.get("invalidate", ()):
        await cache.invalidate(tag=tag)
    for gate in wanted.get("open", ()):
        gates[gate].set()
    figures: Any = stats(cache)
    readers = sum(len(flight.readers) for flight in cache._engine._state.flights.values())
    body = json.dumps({"pid": os.getpid(), "readers": readers, "asked": loads, **figures}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The site, and the desk in front of everything."""
    if scope["type"] == "http" and scope["path"] == DESK:
        await desk(scope, send)
    else:
        await site(scope, receive, send)


def start_exporters() -> Exporters:
    return configure(service_name="site", shutdown_timeout=BOUND)


listen()
exporters = start_exporters() if SETUP == "configure" else None
site = build(ORDER)
