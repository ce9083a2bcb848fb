"""What caches of functions do with a crowd, a client that leaves, a value that is changed, an invalidation amid a load.

Decides what each is asked, in the way that its documentation shows; what it does is printed as it is found. `make
compared` runs it, the peers in their own environment (`peers.py`), where this module is run once more with `--peers`
and must not import glasscache.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Protocol

from tests.bench import habits_http

Value = dict[str, Any]
Loader = Callable[[], Awaitable[Value]]

CROWD = 50
NOBODY = "redis://127.0.0.1:1"
"""A server that is not there."""
PATIENCE = 30.0


class Source:
    """Something slow over what can change. Loads wait for `gate`."""

    def __init__(self) -> None:
        self.loads = 0
        self.version = 1
        self.gate = asyncio.Event()
        self.began = asyncio.Event()

    async def load(self) -> Value:
        """What there is now, once the gate is open."""
        self.loads += 1
        self.began.set()
        found = {"version": self.version, "list": []}
        await self.gate.wait()
        return found


class Cached(Protocol):
    """A cache around one loader. `redis`: the address of its store, else memory."""

    def __init__(self, key: str, redis: str | None = None) -> None: ...

    def wrap(self, load: Loader) -> Loader: ...

    async def invalidate(self) -> None: ...


class Ours:
    def __init__(self, key: str, redis: str | None = None) -> None:
        settings = importlib.import_module("glasscache.settings").Settings
        environ = {"CACHE_TYPE": "hybrid", "REDIS_URL": redis, "GLASSCACHE_KEY": "k" * 32} if redis else {}
        self.cache = settings.from_env(environ).cache()

    def wrap(self, load: Loader) -> Loader:
        async def value() -> Value:
            return await load()

        self.function: Any = self.cache.cached(ttl=60)(value)
        wrapped: Loader = self.function
        return wrapped

    async def invalidate(self) -> None:
        await self.function.invalidate()


class Cashews:
    def __init__(self, key: str, redis: str | None = None) -> None:
        self.key = key
        self.cache = importlib.import_module("cashews").Cache()
        if redis:
            self.cache.setup(redis, suppress=True)
        else:
            self.cache.setup("mem://")

    def wrap(self, load: Loader) -> Loader:
        wrapped: Loader = self.cache(ttl=60, key=self.key)(load)
        return wrapped

    async def invalidate(self) -> None:
        await self.cache.delete(self.key)


class Aiocache:
    decorator = "cached"

    def __init__(self, key: str, redis: str | None = None) -> None:
        self.key = key
        aiocache = importlib.import_module("aiocache")
        self.made: dict[str, Any] = {"cache": aiocache.SimpleMemoryCache}
        if redis:
            host, _, port = redis.rpartition("//")[2].partition(":")
            serializer = importlib.import_module("aiocache.serializers").JsonSerializer()
            self.made = {"cache": aiocache.RedisCache, "endpoint": host, "port": int(port), "serializer": serializer}
        self.decorate = getattr(aiocache, self.decorator)

    def wrap(self, load: Loader) -> Loader:
        self.function = self.decorate(ttl=60, key=self.key, **self.made)(load)
        wrapped: Loader = self.function
        return wrapped

    async def invalidate(self) -> None:
        await self.function.cache.delete(self.key)


class AiocacheStampede(Aiocache):
    decorator = "cached_stampede"


class FastapiCache:
    def __init__(self, key: str, redis: str | None = None) -> None:
        self.key = key
        self.module = importlib.import_module("fastapi_cache")
        backends = "fastapi_cache.backends"
        if redis:
            client = importlib.import_module("redis.asyncio").Redis.from_url(redis)
            backend = importlib.import_module(f"{backends}.redis").RedisBackend(client)
        else:
            backend = importlib.import_module(f"{backends}.inmemory").InMemoryBackend()
        self.module.FastAPICache.reset()
        self.module.FastAPICache.init(backend, prefix="habits")

    def wrap(self, load: Loader) -> Loader:
        async def value() -> Value:
            return await load()

        cache = importlib.import_module("fastapi_cache.decorator").cache
        wrapped: Loader = cache(expire=60, namespace=self.key)(value)
        return wrapped

    async def invalidate(self) -> None:
        await self.module.FastAPICache.clear(namespace=self.key)


OURS: dict[str, type[Cached]] = {"glasscache": Ours}
PEERS: dict[str, type[Cached]] = {
    "cashews": Cashews,
    "aiocache `cached`": Aiocache,
    "aiocache `cached_stampede`": AiocacheStampede,
    "fastapi-cache2": FastapiCache,
}


async def crowd(kind: type[Cached]) -> str:
    source = Source()
    function = kind("crowd").wrap(source.load)
    asked = [asyncio.ensure_future(function()) for _ in range(CROWD)]
    await source.began.wait()
    await asyncio.sleep(0.05)  # for those who load as well
    source.gate.set()
    await asyncio.gather(*asked)
    return str(source.loads)


async def leader_leaves(kind: type[Cached]) -> str:
    source = Source()
    function = kind("leader").wrap(source.load)
    leader = asyncio.ensure_future(function())
    await source.began.wait()
    follower = asyncio.ensure_future(function())
    await asyncio.sleep(0.05)  # for it to join, or to load as well
    leader.cancel()
    await asyncio.sleep(0.01)
    source.gate.set()
    [found] = await asyncio.gather(follower, return_exceptions=True)
    return f"fails: {type(found).__name__}" if isinstance(found, BaseException) else f"{source.loads}"


async def value_is_changed(kind: type[Cached]) -> str:
    source = Source()
    source.gate.set()
    function = kind("changed").wrap(source.load)
    await function()
    (await function())["list"].append("mine")
    return "changed for all" if (await function())["list"] else "own copy"


async def invalidated_amid_a_load(kind: type[Cached]) -> str:
    source = Source()
    cache = kind("amid")
    function = cache.wrap(source.load)
    asked = asyncio.ensure_future(function())
    await source.began.wait()
    source.version = 2
    await cache.invalidate()
    source.gate.set()
    await asked
    await asyncio.sleep(0.05)  # for who stores behind the answer
    return "the old value" if (await function())["version"] == 1 else "the new value"


async def no_redis(kind: type[Cached]) -> str:
    source = Source()
    source.gate.set()
    function = kind("down", NOBODY).wrap(source.load)
    found = await asyncio.gather(function(), return_exceptions=True)
    if isinstance(found[0], BaseException):
        return f"fails: {type(found[0]).__name__}"
    await function()
    return "answered from memory" if source.loads == 1 else "answered, loads each time"


HABITS: dict[str, Callable[[type[Cached]], Awaitable[str]]] = {
    f"{CROWD} ask the same at once: loads": crowd,
    "who asked first leaves; loads until the other has its answer": leader_leaves,
    "a caller changes the value it got; the next gets": value_is_changed,
    "invalidated while it is loaded; the next gets": invalidated_amid_a_load,
    "Redis is not there": no_redis,
}


Questions = dict[str, Callable[[Any], Awaitable[str]]]
Rows = dict[str, dict[str, str]]

SECTIONS: tuple[tuple[Questions, dict[str, Any], dict[str, Any]], ...] = (
    (habits_http.HABITS, habits_http.OURS, habits_http.PEERS),
    (HABITS, OURS, PEERS),
)
"""What is asked, of whom of ours, and of which peers."""


async def found(questions: Questions, kinds: dict[str, Any]) -> Rows:
    """What each of them does: by cache, then by question."""
    return {
        name: {question: await asyncio.wait_for(ask(kind), PATIENCE) for question, ask in questions.items()}
        for name, kind in kinds.items()
    }


def ours() -> list[Rows]:
    """What ours do, section by section."""
    return [asyncio.run(found(questions, kinds)) for questions, kinds, _ in SECTIONS]


def table(rows: Rows) -> str:
    """As docs/compared.md has it."""
    lines = [["", *rows], ["---"] * (len(rows) + 1)]
    lines += [[question, *(row[question] for row in rows.values())] for question in next(iter(rows.values()))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Ask all of them; print the tables."""
    from tests.bench import peers  # noqa: PLC0415 - not where the peers are

    if not peers.ready():
        peers.set_up()
    command = [str(peers.FOLDER / "bin" / "python"), "-m", "tests.bench.habits", "--peers"]
    done = subprocess.run(command, cwd=peers.ROOT, capture_output=True, text=True, check=True)
    for own, others in zip(ours(), json.loads(done.stdout), strict=True):
        print(table(own | others), end="\n\n")


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    if "--peers" in sys.argv:
        print(json.dumps([asyncio.run(found(questions, kinds)) for questions, _, kinds in SECTIONS]))
    else:
        main()
