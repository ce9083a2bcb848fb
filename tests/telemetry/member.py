"""One machine of a cluster whose telemetry is looked at: a machine (tests/machines) with tracing around its cache.

Decides nothing: exporters are set up from the environment, a Redis client of anybody is instrumented, and whoever asks
says which trace the request belongs to. Log events are said as they come.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import Counter
from typing import Any

from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.redis import RedisInstrumentor
from redis.asyncio import Redis

from glasscache import Cache
from glasscache._clock import SystemClock
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.settings import Settings
from glasscache_exporters import configure
from tests.machines.machine import Machine, say
from tests.support.asgi import Client, Receive, Scope, Send
from tests.support.redis_process import WAITS_FOR_EVER

RULES = (
    Rule("/ask/{name}", ttl=300, tags=("docs",)),
    Rule("/away/{name}", name="/ask/{name}", ttl=300),
    Rule("/soon/{name}", ttl=0.2, stale_while_revalidate=300),
)

tracer = trace.get_tracer("origin")


class Origin:
    """Tells the server that it loads, and says nothing before it may: so everybody else has to wait."""

    def __init__(self, server: Redis) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].rpartition("/")[2]
        with tracer.start_as_current_span("retrieval"):
            if "never" not in name:
                await self._server.rpush(f"loads:{name}", os.getpid())
            if not {"never", "free"} & {*name.split("-")}:
                await self._server.blpop([f"gate:{name}:{os.getpid()}"])
        headers = [(b"cache-control", b"private")] if "private" in name else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": f"{os.getpid()}".encode()})


class Events(logging.Handler):
    """Says what is logged as an event."""

    def emit(self, record: logging.LogRecord) -> None:
        told = {name: value for name, value in vars(record).items() if "." in name}
        if told:
            say(kind="event", level=record.levelname, **told)


class Member(Machine):
    """Asks under a trace of the caller's."""

    async def ask(self, name: str, count: int, path: str = "/ask/", headers: list[list[str]] | None = None) -> None:
        """Ask `count` times, each with its own headers if there are some; told when the last answer is complete."""
        self.behind(self._ask(name, path, headers or [[]] * count))

    async def _ask(self, name: str, path: str, headers: list[list[str]]) -> None:
        answers = await asyncio.gather(
            *(
                self._client.request("GET", path + name, headers=[tuple(line.split(": ", 1)) for line in own])  # type: ignore[misc]
                for own in headers
            ),
            return_exceptions=True,
        )
        bodies = Counter(repr(a) if isinstance(a, BaseException) else a.text for a in answers)
        statuses = [None if isinstance(a, BaseException) else a.header("cache-status") for a in answers]
        say(kind="answered", name=name, bodies=bodies, statuses=statuses, at=SystemClock().wall())

    async def invalidate(self, tag: str) -> None:
        """Tell it all machines."""
        await self._cache.invalidate(tag=tag)
        say(kind="invalidated")


async def main() -> None:
    """Until standard input ends."""
    exporters = configure(service_name="knowledge")
    RedisInstrumentor().instrument()
    logger = logging.getLogger("glasscache")
    logger.setLevel(logging.INFO)
    logger.addHandler(Events())
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    server = Redis.from_url(os.environ["REDIS_URL"], **WAITS_FOR_EVER)
    cache: Cache = Settings.from_env().cache()
    app: Any = OpenTelemetryMiddleware(CacheMiddleware(Origin(server), cache=cache, rules=RULES))
    say(kind="ready")
    await Member(cache, Client(app)).run(lines)
    await cache.aclose()
    await server.aclose()
    exporters.shutdown()


if __name__ == "__main__":
    asyncio.run(main())
