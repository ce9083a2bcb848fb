"""What of glasscache is measured, and against which goal (the speed issue's).

Decides which situations stand for it. Every case is verified first: an answer's Cache-Status must say what the case's
name says. Must never take a short cut that an application has not: only public names make the caches and the rules.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule, json_body
from tests.bench.measure import Case, Work
from tests.bench.traffic import (
    ANSWER,
    App,
    MakeRequest,
    ask,
    discard,
    ever_new,
    get,
    one_by_one,
    post,
    question,
    raw,
    raw_reading,
    raw_unsafe,
    respelled,
)
from tests.support.null_telemetry import NullTelemetry

RAW, RAW_POST = "raw ASGI constant", "raw ASGI constant, POST body read"
GET_HIT = "GET hit"


@dataclass(frozen=True, slots=True)
class Goal:
    """At most `limit` times the base, at least that, or at most `limit` microseconds on top of it."""

    kind: Literal["times", "at least", "added"]
    limit: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the table: a case, what it is compared with, and the goal of that comparison, if there is one."""

    case: Case
    base: str = RAW
    goal: Goal | None = None


def rules() -> list[Rule]:
    """What a knowledge service would set."""
    return [
        Rule("/ask", methods=("POST",), key=json_body("question", "filters", ignore=("user", "trace_id")), ttl=3600),
        Rule("/answer", ttl=3600),
    ]


def null_cache() -> Cache:
    """A cache whose telemetry tells nobody."""
    return Cache(MemoryStore(), telemetry=NullTelemetry())


def expect(
    app: App, make: MakeRequest, status: bytes, *, first: bool = True, size: int = len(ANSWER)
) -> Callable[[], Awaitable[None]]:
    """Check that a request is answered in full and with this Cache-Status; the `first` one may be its miss."""
    numbers = itertools.count(10**9)

    async def verify() -> None:
        if first:
            await ask(app, make(next(numbers)))
        fields, body = await ask(app, make(next(numbers)))
        told = fields.get(b"cache-status", b"")
        if not told.startswith(status) or len(body) < size:
            raise RuntimeError(f"the case is not what it claims: Cache-Status is {told!r}, expected {status!r}")

    return verify


def served(name: str, app: App, make: MakeRequest, status: bytes, *, first: bool = True) -> Case:
    """A case of requests, one after the other."""
    prepare = one_by_one(app, make)
    return Case(name=name, prepare=prepare, verify=expect(app, make, status, first=first))


HIT, MISS = b"glasscache; hit", b"glasscache; fwd=uri-miss; stored"


def hits(make_cache: Callable[[], Cache] = null_cache) -> list[Line]:
    """Hits with null telemetry."""
    app = CacheMiddleware(raw, cache=make_cache(), rules=rules())
    reading = CacheMiddleware(raw_reading, cache=make_cache(), rules=rules())
    small, large, varied = question(211), question(2048), respelled(2048)
    repeated = post(lambda _: small(0))
    return [
        Line(case=served(GET_HIT, app, get(), HIT), goal=Goal("times", 5)),
        Line(
            case=served("POST hit, 211 B body seen before", reading, repeated, HIT),
            goal=Goal("times", 7),
        ),
        Line(
            case=served("POST hit, 211 B body first seen", reading, post(small), HIT),
            goal=Goal("times", 14),
        ),
        Line(
            case=served("POST hit, 2 KB body first seen", reading, post(large), HIT),
            goal=Goal("times", 22),
        ),
        Line(case=served("POST hit, 2 KB body first seen, as nobody wrote it before", reading, post(varied), HIT)),
        Line(case=served("route without rule", app, get("/other"), b"", first=False), goal=Goal("added", 0.5)),
    ]


def fresh_query(number: int) -> bytes:
    """A query string that no request had before."""
    return b"q=%d" % number


def missing(name: str, cache: Cache, *, origin: App = raw, full: bool = False) -> Case:
    """Requests that nobody asked before. `full`: the store has no room, so that each of them also evicts."""
    app, make = CacheMiddleware(origin, cache=cache, rules=rules()), get(query=fresh_query)
    prepare = one_by_one(app, make)

    def emptied(count: int) -> Work:
        if not full:
            cache._engine.near.clear()
        work = prepare(count)

        async def until_rest() -> None:
            await work()
            await asyncio.sleep(0)  # the last flight's task ends

        return until_rest

    return Case(name=name, prepare=emptied, verify=expect(app, make, MISS, size=1000))


def misses() -> list[Line]:
    """Requests that lead a load."""
    goal = Goal("added", 25)
    return [
        Line(case=missing("miss, null telemetry", null_cache())),
        Line(case=missing("miss, OpenTelemetry API only", Cache(MemoryStore())), goal=goal),
        Line(case=missing("miss, an answer of another length each time", null_cache(), origin=ever_new())),
        Line(case=missing("miss that evicts, OpenTelemetry API only", Cache(MemoryStore(max_entries=8)), full=True)),
    ]


GATHER = "bare gather"


def crowd(name: str, app: App, check: Callable[[int], None] = lambda size: None) -> Case:
    """Everybody asks the same at once, something new every time; `check(size)` looks at what came of it."""
    numbers = itertools.count()

    def prepare(count: int) -> Work:
        query = fresh_query(next(numbers))
        make = get(query=lambda _: query)
        requests = [make(number) for number in range(count)]
        return lambda: asyncio.gather(*[app(*request, discard) for request in requests])

    async def verify() -> None:
        await prepare(10)()
        check(10)

    return Case(name=name, prepare=prepare, count=1000, verify=verify)


def following(name: str, cache: Cache, goal: Goal | None = None) -> Line:
    """A crowd of which one loads, and all others follow."""

    def one_load(size: int) -> None:
        found = cache.counters.group("/answer").requests()
        if (found["miss", "origin"], found["collapsed", "origin"]) != (1, size - 1):
            raise RuntimeError(f"the case is not what it claims: {dict(found)}")

    return Line(case=crowd(name, CacheMiddleware(raw, cache=cache, rules=rules()), one_load), base=GATHER, goal=goal)


def gathered() -> Line:
    """What a crowd takes by itself."""
    return Line(case=crowd(GATHER, raw), base=GATHER)


def crowds() -> list[Line]:
    """A thousand identical requests at once: they take long, and are measured on their own."""
    return [
        gathered(),
        following("follower in a crowd of 1,000, null telemetry", null_cache()),
        following("follower in a crowd of 1,000, OpenTelemetry API only", Cache(MemoryStore()), Goal("added", 15)),
    ]


def in_code(make_cache: Callable[[], Cache] = null_cache) -> list[Line]:
    """`get_or_load`: a hit is a value of one's own, decoded anew; a miss is a key that nobody has asked for before."""
    asked, missed, numbers = make_cache(), make_cache(), itertools.count()

    async def load() -> list[str]:
        return ["a passage of some hundred characters " * 5] * 4

    def asking(cache: Cache, make: Callable[[int], list[str]]) -> Callable[[int], Work]:
        def prepare(count: int) -> Work:
            keys = make(count)

            async def work() -> None:
                for key in keys:
                    await cache.get_or_load(key, load)

            return work

        return prepare

    def known(count: int) -> list[str]:
        return [f"question:{number % 10}" for number in range(count)]

    def new(count: int) -> list[str]:
        missed._engine.near.clear()
        return [f"new:{next(numbers)}" for _ in range(count)]

    return [
        Line(case=Case(name="get_or_load hit, about 750 B", prepare=asking(asked, known))),
        Line(case=Case(name="get_or_load miss", prepare=asking(missed, new))),
    ]


def framework() -> Line:
    """The framework's own way to the same answer, of which a hit must be a quarter."""

    async def endpoint(request: Request) -> Response:
        return Response(ANSWER, media_type="application/json")

    app = Starlette(routes=[Route("/answer", endpoint)])
    case = served("Starlette route, no cache", app, get(), b"", first=False)
    return Line(case=case, base=GET_HIT, goal=Goal("at least", 4))


def one_at_a_time() -> list[Line]:
    """Requests one after the other, in a process that has no OpenTelemetry SDK at work."""
    limits = [
        Line(case=Case(name=RAW, prepare=one_by_one(raw, get()))),
        Line(case=Case(name="the same messages sent again and again", prepare=one_by_one(raw_unsafe, get()))),
        Line(case=Case(name=RAW_POST, prepare=one_by_one(raw_reading, post(question(211))))),
    ]
    return [*limits, framework(), *hits(), *misses(), *in_code()]
