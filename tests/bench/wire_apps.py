"""What is served for wrk: `python -m tests.bench.wire_apps NAME PORT` serves it by uvicorn until it is ended.

Decides how it is served: uvloop, httptools, no access log. granian takes the functions as factories.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glasscache import Cache, MemoryStore, RedisStore
from glasscache.asgi import CacheMiddleware
from tests.bench.cases import rules
from tests.bench.traffic import ANSWER, App, raw


def constant() -> App:
    """The limit."""
    return raw


def hit() -> App:
    """The same answer as a hit, with the default telemetry."""
    return CacheMiddleware(raw, cache=Cache(MemoryStore()), rules=rules())


def starlette_route() -> App:
    """The framework's own way to it."""

    async def endpoint(request: Request) -> Response:
        return Response(ANSWER, media_type="application/json")

    return Starlette(routes=[Route("/answer", endpoint)])


def redis_hit() -> App:
    """Every hit from a shared tier: nothing is kept in memory."""
    store = RedisStore.from_url(os.environ["BENCH_REDIS_URL"], timeout=10.0, connect_timeout=10.0)
    return CacheMiddleware(raw, cache=Cache(store, key_secret="for benchmarks only, 0123456789 0123"), rules=rules())


APPS: dict[str, Callable[[], App]] = {
    "constant": constant,
    "hit": hit,
    "starlette_route": starlette_route,
    "redis_hit": redis_hit,
}


def main(name: str, port: int) -> None:
    """Serve one of them."""
    uvicorn.run(
        APPS[name](),
        host="127.0.0.1",
        port=port,
        backlog=1024,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
