"""The app of the check: a service behind glasscache that can do all that a dashboard shows, in real time.

Decides what each path costs and what becomes of its answer. Its cache and its telemetry are set up as a user's are:
from the environment. Runs in the server's process; imported by nobody else.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from redis.observability.config import MetricGroup, OTelConfig
from redis.observability.providers import get_observability_instance
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route, Router

from glasscache.asgi import CacheMiddleware, Rule
from glasscache.settings import Settings
from glasscache_exporters import configure, metrics_app

exporters = configure(service_name="knowledge", shutdown_timeout=2.0)
# docs/dashboards.md tells users to do the same, for redis-py's own metrics
groups = [MetricGroup.COMMAND, MetricGroup.CONNECTION_BASIC, MetricGroup.CONNECTION_ADVANCED, MetricGroup.RESILIENCY]
get_observability_instance().init(OTelConfig(metric_groups=groups))

cache = Settings.from_env().cache()
asked: Counter[str] = Counter()


async def search(request: Request) -> Response:
    await asyncio.sleep(0.03)
    return Response(f"about {request.query_params['q']}: ".encode() * 20, media_type="text/plain")


async def answer(request: Request) -> Response:
    await asyncio.sleep(0.2)
    return Response(f"the answer to {request.query_params['q']}".encode() * 50, media_type="text/plain")


async def report(request: Request) -> Response:
    """As slow as it is told to be."""
    await asyncio.sleep(float(request.query_params["seconds"]))
    return Response(b"a report", media_type="text/plain")


async def flaky(request: Request) -> Response:
    """Answers once, then fails."""
    question = request.query_params["q"]
    asked[question] += 1
    if asked[question] > 1:
        raise RuntimeError("the model's provider is down")
    return Response(b"an answer", media_type="text/plain")


async def broken(request: Request) -> Response:
    raise ValueError(f"no answer to {request.query_params['q']}")


async def huge(request: Request) -> Response:
    """Larger than the whole store."""
    return Response(b"a" * 400_000, media_type="text/plain")


async def mine(request: Request) -> Response:
    """For one client alone. (Not by a cookie: the client would send it, and go past the cache from then on.)"""
    return Response(b"yours", headers={"cache-control": "private"})


async def forget(request: Request) -> Response:
    """Tell something invalid: what carries a tag, or the answer to a question."""
    if "tag" in request.query_params:
        return JSONResponse(await cache.invalidate(tag=request.query_params["tag"]))
    key = middleware.key_for("GET", "/answer", query=f"q={request.query_params['q']}", host=request.headers["host"])
    return JSONResponse(await cache.invalidate(key=key))


@asynccontextmanager
async def lifespan(_: object) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(exporters.shutdown)


RULES = [
    Rule("/search", ttl=0.6, stale_while_revalidate=20, tags=("docs",), host=False),
    Rule("/answer", ttl=12, host=False),
    Rule("/report", ttl=60, host=False),
    Rule("/flaky", ttl=1, stale_if_error=60, host=False),
    Rule("/broken", ttl=60, host=False),
    Rule("/huge", ttl=60, host=False),
    Rule("/mine", ttl=60, host=False),
]

# A router alone: an app's own handler would make a complete answer of what broken() raises.
routed = (search, answer, report, flaky, broken, huge, mine)
paths = [Route(f"/{each.__name__}", each, methods=["GET"]) for each in routed]
site = Router([*paths, Route("/forget", forget, methods=["POST"]), Mount("/metrics", metrics_app())], lifespan=lifespan)
middleware = CacheMiddleware(site, cache=cache, rules=RULES)
app = OpenTelemetryMiddleware(middleware, excluded_urls="metrics,forget")
