"""A real service whose loads take as long as they are told to, traced by the SDK, served by uvicorn in a process.

`/ask?q=...&takes=0.5` loads for half a second, with `&gate=a` counted from when `/open?gate=a` was asked for; `/fail`
fails. Runs in the server's process; imported by nobody else.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from glasscache import Cache, Limits, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.asgi.types import Receive, Scope, Send

tracing = TracerProvider()
cache = Cache(
    MemoryStore(max_entries=500),
    name="knowledge",
    limits=Limits(contention_threshold=0.2),
    tracer_provider=tracing,
    key_secret="k" * 32,
)


gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def work(request: Request) -> None:
    """For as long as it is told to."""
    if "gate" in request.query_params:
        await gates[request.query_params["gate"]].wait()
    await asyncio.sleep(float(request.query_params.get("takes") or random.lognormvariate(-1.2, 0.6)))


async def ask(request: Request) -> Response:
    await work(request)
    return JSONResponse({"the answer to": request.query_params["q"]})


async def let_through(request: Request) -> Response:
    gates[request.query_params["gate"]].set()
    return Response()


site = Starlette(routes=[Route("/ask", ask), Route("/search", ask), Route("/open", let_through)])


async def origin(scope: Scope, receive: Receive, send: Send) -> None:
    """The site, and a path that has no answer: a framework would make a 500 of it, which is one."""
    if scope["type"] == "http" and scope["path"] == "/fail":
        await work(Request(scope))
        raise RuntimeError("as the test wants it")
    await site(scope, receive, send)


cached = CacheMiddleware(
    origin,
    cache=cache,
    rules=[
        Rule("/ask", ttl=20, stale_while_revalidate=20),
        Rule("/search", ttl=2, stale_while_revalidate=2),
        Rule("/fail", ttl=20),
    ],
    stats_path="/metrics/cache",
    stats_token="a token, ümlaut and all",
)
app = OpenTelemetryMiddleware(cached, tracer_provider=tracing)
