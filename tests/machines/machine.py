"""One machine: an app with glasscache in front, asked by a crowd in its own process; `Machine` of fleet.py runs it.

Decides nothing: it does what it reads, a JSON object a line, and writes what came of it. The cache is made from the
environment, as a user's is. The origin tells the shared server that it loads, and goes on when it is told to there.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import Coroutine
from typing import Any

from redis.asyncio import Redis

from glasscache import Cache
from glasscache._clock import SystemClock
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.settings import Settings
from tests.support.asgi import Client, Message, Receive, Scope, Send
from tests.support.redis_process import WAITS_FOR_EVER

CHUNKS = 5


class Origin:
    """Answers with the number of its process, a first part at once and the rest when it may."""

    def __init__(self, server: Redis) -> None:
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = scope["path"].removeprefix("/ask/")
        await self._server.rpush(f"loads:{name}", os.getpid())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send(_part(f"{os.getpid()}"))
        if "free" not in name:
            await self._server.blpop([f"gate:{name}:{os.getpid()}"])
        for number in range(CHUNKS):
            await send(_part(f" {number}"))
        await send(_part("", more_body=False))


def _part(text: str, *, more_body: bool = True) -> Message:
    return {"type": "http.response.body", "body": text.encode(), "more_body": more_body}


async def standard_input() -> asyncio.StreamReader:
    """The lines that this process is given."""
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    return lines


class Commands:
    """Carries out one command after the other: a method of the name, with what else the line says."""

    def __init__(self) -> None:
        self._behind: set[asyncio.Task[None]] = set()

    def behind(self, work: Coroutine[Any, Any, None]) -> None:
        """Go on with the next command meanwhile."""
        task = asyncio.get_running_loop().create_task(work)
        self._behind.add(task)
        task.add_done_callback(self._behind.discard)

    async def run(self, lines: asyncio.StreamReader) -> None:
        """Until there is nothing more to read."""
        while line := await lines.readline():
            command = json.loads(line)
            await getattr(self, command.pop("do"))(**command)


class Machine(Commands):
    """Crowds wait for their answers while more is commanded."""

    def __init__(self, cache: Cache, client: Client) -> None:
        super().__init__()
        self._cache = cache
        self._client = client

    async def ask(self, name: str, count: int) -> None:
        """Ask `count` times at once; told when the last answer is complete."""
        self.behind(self._crowd(name, count))

    async def _crowd(self, name: str, count: int) -> None:
        answers = await asyncio.gather(
            *(self._client.request("GET", f"/ask/{name}") for _ in range(count)), return_exceptions=True
        )
        at = SystemClock().wall()
        bodies = Counter(repr(a) if isinstance(a, BaseException) else a.text for a in answers)
        say(kind="answered", name=name, bodies=bodies, at=at)

    async def status(self) -> None:
        """What this machine knows of itself."""
        assert self._cache.abroad is not None
        say(
            kind="status",
            waiters=self._cache.waiters,
            holders=self._cache.holders,
            waiting_abroad=self._cache.abroad[0],
            leases=self._cache.abroad[1],
            tiers=dict(self._cache.tier_states()),
            in_step=self._cache._engine._state.coherence.in_step,
        )

    async def forget(self) -> None:
        """Empty the memory of this machine alone."""
        self._cache._engine.near.clear()
        say(kind="forgot")


def say(**told: Any) -> None:
    """One line for who runs this machine."""
    print(json.dumps(told), flush=True)


async def main() -> None:
    """Until standard input ends."""
    lines = await standard_input()
    server = Redis.from_url(os.environ["REDIS_URL"], **WAITS_FOR_EVER)
    cache = Settings.from_env().cache()
    middleware = CacheMiddleware(Origin(server), cache=cache, rules=[Rule("/ask/{name}", ttl=300)])
    say(kind="ready")
    await Machine(cache, Client(middleware)).run(lines)
    await cache.aclose()
    await server.aclose()


if __name__ == "__main__":
    asyncio.run(main())
