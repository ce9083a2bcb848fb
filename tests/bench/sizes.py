"""What grows: entries, bodies, the full store; and whether anything stops the event loop for long.

Decides what must stay the same when something grows. Memory is what tracemalloc counts, less body and header bytes.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
import tracemalloc
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import cachetools

from glasscache import Cache, MemoryStore
from glasscache._entry import Entry
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.interfaces import Store
from glasscache.stores.memory import MemoryStore as Near
from glasscache.testing import entry
from tests.bench.cases import HIT, Goal, Line, rules
from tests.bench.measure import Case, Work
from tests.bench.report import Row
from tests.bench.traffic import ANSWER, App, Receive, Send, ask, discard, get, new, one_by_one
from tests.support.null_telemetry import NullTelemetry

FEWEST = 100
STALL = 5.0  # milliseconds
_HEADERS = ((b"content-type", b"application/json"), (b"content-length", b"16"))


# --- entries ------------------------------------------------------------------------------------------------------


_BARE = "cachetools.LRUCache alone, any of {:,} entries"


def _name(kind: str, entries: int) -> str:
    return f"GET hit, {kind} of {entries:,} entries"


def among(counts: Sequence[int]) -> list[Line]:
    """Hits in stores that hold so many entries: the same hundred again and again, and any of them. Beside them, what
    the machine gives: the bare lookup of as many.
    """
    lines = []
    for entries in counts:
        app = filled(_large_cache(entries), entries)
        for kind, some in (("the same 100", min(FEWEST, entries)), ("any", entries)):
            base = _name(kind, counts[0])
            lines.append(Line(case=_any_of(_name(kind, entries), app, some), base=base, goal=Goal("times", 1.3)))
        lines.append(Line(case=_bare(_BARE.format(entries), entries), base=_BARE.format(counts[0])))
    return lines


def _large_cache(entries: int) -> Cache:
    return Cache(MemoryStore(max_entries=entries, max_bytes=4 * 1024**3), telemetry=NullTelemetry())


def filled(cache: Cache, entries: int) -> App:
    """A middleware whose store holds an answer to each of the questions 0 to `entries`."""
    app = CacheMiddleware(_small, cache=cache, rules=rules())
    now = cache.clock.now()
    host, scheme = "knowledge.example:8000", "http"
    for number in range(entries):
        key = app.key_for("GET", "/answer", query=f"q={number}", host=host, scheme=scheme)
        cache._engine.near.put(key, _stored(now))
    return app


def _stored(now: float) -> Entry:
    """As a load would have made it: nothing of it is shared with another."""
    body, headers = os.urandom(16), tuple((bytes(bytearray(name)), bytes(bytearray(value))) for name, value in _HEADERS)
    return entry(body, headers=headers, born=now, fresh_until=now + 3600.0, settled_until=now + 3599.5, cost=now * 1e-6)


async def _small(scope: Any, receive: Receive, send: Send) -> None:
    raise RuntimeError("nothing is loaded here")


def _any_of(name: str, app: App, some: int) -> Case:
    random = Random(7)
    make = get(query=lambda _: b"q=%d" % random.randrange(some))

    async def verify() -> None:
        fields, _ = await ask(app, make(0))
        if not fields[b"cache-status"].startswith(HIT):
            raise RuntimeError(f"the case is not what it claims: {fields}")

    return Case(name=name, prepare=one_by_one(app, make), verify=verify)


def _bare(name: str, entries: int) -> Case:
    """Lookups in a cache that does nothing else, by keys that nobody has hashed yet; of what is found, two fields are
    read.
    """
    cache: cachetools.LRUCache[bytes, Entry] = cachetools.LRUCache(entries)
    keys, random, now = [os.urandom(16) for _ in range(entries)], Random(7), time.monotonic()
    for key in keys:
        cache[key] = _stored(now)

    def prepare(count: int) -> Work:
        asked = [new(key) for key in random.choices(keys, k=count)]

        async def work() -> None:
            for key in asked:
                found = cache[key]
                assert found.content
                assert found.status

        return work

    return Case(name=name, prepare=prepare)


def bytes_per_entry(entries: int) -> Row:
    """Bytes beyond body and headers, with the key and all books."""
    store, now = Near(max_entries=entries), time.monotonic()
    made = [(os.urandom(16), _stored(now)) for _ in range(8)]  # what is made once is not counted
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(entries):
            store.put(os.urandom(16), _stored(now))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    content = made[0][1].size
    over = grown / entries - content
    return Row(
        name=f"bytes of an entry beyond its {content} of body and headers, {entries:,} entries",
        goal="400",
        found=f"{over:.0f}",
        met=over <= 400,
    )


# --- bodies -------------------------------------------------------------------------------------------------------


def bodies() -> list[Line]:
    """Hits of 64 KB and 1 MB take as long as those of 2 KB: nothing is copied."""
    lines, base = [], ""
    for size, name in ((len(ANSWER), "2 KB"), (64 * 1024, "64 KB"), (1024**2, "1 MB")):
        app = CacheMiddleware(
            _answering(bytes(size)), cache=Cache(MemoryStore(), telemetry=NullTelemetry()), rules=rules()
        )
        title = f"GET hit, body of {name}"
        base = base or title
        case = Case(name=title, prepare=one_by_one(app, get()), verify=_once(app))
        lines.append(Line(case=case, base=base, goal=Goal("times", 1.3) if title != base else None))
    return lines


def _answering(body: bytes) -> App:
    async def app(scope: Any, receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


def _once(app: App) -> Callable[[], Any]:
    async def verify() -> None:
        await ask(app, get()(0))
        fields, _ = await ask(app, get()(1))
        if not fields[b"cache-status"].startswith(HIT):
            raise RuntimeError(f"the case is not what it claims: {fields}")

    return verify


# --- eviction -----------------------------------------------------------------------------------------------------


def eviction() -> list[Line]:
    """The default policy against cachetools' own LRU cache, alone and as the store uses it."""
    full = 1000
    lines = []
    for what, work in (("a hit", _hits), ("a new entry into a full store", _puts)):
        base = f"cachetools.LRUCache: {what}"
        lines.append(Line(case=work(base, Near(cache=cachetools.LRUCache(full)), full), base=base))
        ours = work(f"the default policy: {what}", Near(max_entries=full), full)
        lines.append(Line(case=ours, base=base, goal=Goal("times", 1.5)))
    return lines


def _full(store: Near, entries: int) -> list[bytes]:
    keys = [os.urandom(16) for _ in range(entries)]
    for key in keys:
        store.put(key, entry(b"x"))
    return keys


def _hits(name: str, store: Near, entries: int) -> Case:
    keys, random = _full(store, entries), Random(7)

    def prepare(count: int) -> Work:
        asked = random.choices(keys, k=count)

        async def work() -> None:
            for key in asked:
                store.peek(key)

        return work

    return Case(name=name, prepare=prepare, count=1000)


def _puts(name: str, store: Near, entries: int) -> Case:
    _full(store, entries)

    def prepare(count: int) -> Work:
        new = [(os.urandom(16), entry(b"x")) for _ in range(count)]

        async def work() -> None:
            for key, value in new:
                store.put(key, value)

        return work

    return Case(name=name, prepare=prepare, count=200)


# --- the event loop -----------------------------------------------------------------------------------------------


async def longest_turn(load: Callable[[], Any]) -> float:
    """Milliseconds of processor time that one turn of the event loop took at most, while `load` ran."""
    loop, longest, last = asyncio.get_running_loop(), 0.0, time.thread_time()
    watching = True

    def look() -> None:
        nonlocal longest, last
        now = time.thread_time()
        longest, last = max(longest, now - last), now
        if watching:
            loop.call_soon(look)

    loop.call_soon(look)
    await load()
    watching = False
    await asyncio.sleep(0)
    return longest * 1e3


async def stalls(where: str, stores: Sequence[Store], requests: int) -> Row:
    """Hits, misses of small and of large bodies, compressed into a shared tier and read from it by another machine."""
    large = os.urandom(512 * 1024).hex().encode()  # 1 MB, of which half can be saved
    answer = _answering(large)
    secret = "a secret that is for benchmarks only, 0123"
    one, two = (CacheMiddleware(answer, cache=Cache(store, key_secret=secret), rules=_ALL) for store in stores)
    small = CacheMiddleware(_answering(ANSWER), cache=Cache(MemoryStore()), rules=_ALL)

    numbers = itertools.count()

    async def load() -> None:
        for _ in range(requests):
            number = next(numbers)
            make = get(query=lambda number: b"q=%d" % number)
            await asyncio.gather(*[app(*make(number), discard) for app in (one, small)])
            await asyncio.sleep(0.01)  # until it is written
            await asyncio.gather(*[app(*make(number), discard) for app in (two, two, small)])

    await load()  # what is done once, such as reading a module, is not counted
    found = [await longest_turn(load) for _ in range(3)]
    for app in (one, two, small):
        await app.cache.aclose()
    longest = sorted(found)[1]
    return Row(
        name=f"longest turn of the event loop, 1 MB bodies into and out of {where}",
        us=longest,
        goal=f"{STALL:g} ms",
        found=f"{longest:.1f} ms",
        met=longest <= STALL,
    )


_ALL = [Rule("/answer", ttl=3600)]
