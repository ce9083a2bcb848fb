"""What telemetry tells of hits: nothing, unless it is asked for; and then each, one in so many, or what was asked."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from glasscache import Cache, Detail, MemoryStore
from glasscache._events import Answered, LookedUp, Pressed
from glasscache._events import Load as LoadWork
from glasscache.asgi import Rule, json_body
from glasscache.testing import ManualClock, RecordingTelemetry
from tests.asgi.site import SECRET, Origin, Site, run
from tests.flights.rig import FarStore
from tests.flights.rig import events as told
from tests.flights.rig import make as make_engine
from tests.flights.rig import run as run_engine
from tests.support.seeded_loop import World

RULES = (Rule("/page", ttl=60), Rule("/ask", methods=("POST",), key=json_body("question"), ttl=60))
TIMES = 10


def of(telemetry: RecordingTelemetry, kind: type) -> list[Any]:
    return [event for event in telemetry.events if isinstance(event, kind)]


def site(detail: Detail | None, scenario: Callable[[Site], Awaitable[None]]) -> None:
    async def with_site() -> None:
        await scenario(Site(Origin(), *RULES, detail=detail))

    run(with_site)


async def hits(asked: Site) -> None:
    """A miss and `TIMES` hits, of each kind."""
    for _ in range(1 + TIMES):
        await asked.get("/page?q=one")
        await asked.post("/ask", b'{"question": "who?"}')


def in_code(detail: Detail | None, scenario: Callable[[Cache, RecordingTelemetry], Awaitable[None]]) -> None:
    async def with_cache() -> None:
        telemetry = RecordingTelemetry()
        cache = Cache(MemoryStore(), key_secret=SECRET, telemetry=telemetry, clock=ManualClock(), detail=detail)
        await scenario(cache, telemetry)
        await cache.aclose()

    asyncio.run(with_cache())


async def value() -> str:
    return "a value"


def test_of_hits_nothing_is_told_and_nothing_shows_what_was_asked() -> None:
    async def scenario(asked: Site) -> None:
        await hits(asked)
        assert [event.result for event in of(asked.telemetry, Answered)] == ["miss", "miss"]
        assert of(asked.telemetry, LookedUp) == []
        assert {outcome.text for outcome in asked.telemetry.outcomes} == {""}
        assert {work.text for work in asked.telemetry.works if isinstance(work, LoadWork)} == {""}

    site(None, scenario)


def test_each_hit_is_told_if_hits_are_traced_however_it_is_asked_for() -> None:
    async def scenario(asked: Site) -> None:
        await hits(asked)
        await asked.client.request("HEAD", "/page?q=one")
        found = of(asked.telemetry, LookedUp)
        assert [(one.group, one.tier) for one in found] == [("/page", "memory"), ("/ask", "memory")] * TIMES + [
            ("/page", "memory")
        ]
        assert {one.size for one in found if one.group == "/ask"} == {len(b"an answer")}
        assert asked.results == {"miss": 2, "hit": 2 * TIMES + 1}

    site(Detail(trace_hits=True), scenario)


def test_a_hit_of_a_far_tier_is_told_with_the_time_that_it_took() -> None:
    async def scenario(world: World) -> None:
        asked = make_engine(world, far=FarStore(), detail=Detail(trace_hits=True))
        await asked.request()
        await asked.rest_of_loads()
        asked.engine.near.clear()
        await asked.request()
        (found,) = told(asked, LookedUp)
        assert (found.tier, found.seconds) == ("far", 0.0)
        await asked.rest()

    run_engine(scenario)


@pytest.mark.parametrize(("every", "timed"), [(1, 2 * TIMES), (5, 4), (1000, 2)])
def test_one_hit_in_so_many_is_timed_the_first_of_each_rule_among_them(every: int, timed: int) -> None:
    async def scenario(asked: Site) -> None:
        await hits(asked)
        answered = [event for event in of(asked.telemetry, Answered) if event.result == "hit"]
        assert len(answered) == timed
        assert of(asked.telemetry, LookedUp) == []
        assert sum(group.hit_samples for group in asked.cache.counters.groups.values()) == timed

    site(Detail(time_hits=every), scenario)


def test_hits_that_take_the_slow_way_are_timed_as_often() -> None:
    async def scenario(asked: Site) -> None:
        await asked.get("/page?q=one")
        for _ in range(TIMES):
            await asked.client.request("HEAD", "/page?q=one")
        assert [event.result for event in of(asked.telemetry, Answered)] == ["miss", "hit", "hit"]

    site(Detail(time_hits=5), scenario)


def test_values_that_are_found_in_code_are_told_and_timed_too() -> None:
    async def scenario(cache: Cache, telemetry: RecordingTelemetry) -> None:
        for _ in range(1 + TIMES):
            await cache.get_or_load("a key", value, group="values")
        assert [(one.group, one.tier) for one in of(telemetry, LookedUp)] == [("values", "memory")] * TIMES
        assert [event.result for event in of(telemetry, Answered)] == ["miss", *["hit"] * TIMES]

    in_code(Detail(trace_hits=True, time_hits=1), scenario)


def test_values_that_are_found_the_short_way_are_timed_one_in_so_many() -> None:
    async def scenario(cache: Cache, telemetry: RecordingTelemetry) -> None:
        for _ in range(1 + TIMES):
            await cache.get_or_load("a key", value)
        assert [event.result for event in of(telemetry, Answered)] == ["miss", "hit", "hit"]
        assert cache.counters.group("get_or_load").hit_samples == 2

    in_code(Detail(time_hits=5), scenario)


def test_spans_show_what_was_asked_only_if_they_are_to() -> None:
    async def scenario(asked: Site) -> None:
        await hits(asked)
        long = "/page?q=" + "a" * 5000
        await asked.get(long)
        shown = [work.text for work in asked.telemetry.works if isinstance(work, LoadWork)]
        assert shown == ["GET /page?q=one", 'POST /ask {"question": "who?"}', f"GET {long}"[:1024]]
        outcomes = [outcome.text for outcome in asked.telemetry.outcomes if outcome.result == "hit"]
        assert outcomes == ["GET /page?q=one", 'POST /ask {"question": "who?"}'] * TIMES

    site(Detail(clear_keys=True), scenario)


class Shy:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_a_call_is_shown_as_it_was_written_and_by_its_name_if_it_cannot_be_shown() -> None:
    async def scenario(cache: Cache, telemetry: RecordingTelemetry) -> None:
        async def find(question: str, limit: int = 3) -> str:
            return question * limit

        def count(words: object) -> int:
            return len(f"{type(words)}")

        await cache.cached(name="find")(find)("who?", limit=2)
        await cache.cached(name="count")(count)("one two")
        await cache.cached(name="shy", ignore=("words",))(count)(words=Shy())
        await cache.get_or_load("a key", functools.partial(value))
        shown = [work.text for work in telemetry.works if isinstance(work, LoadWork)]
        assert shown == ["find('who?', limit=2)", "count('one two')", "shy", "a key"]

    in_code(Detail(clear_keys=True), scenario)


def test_a_memory_that_is_too_small_says_so() -> None:
    async def scenario() -> None:
        telemetry, clock = RecordingTelemetry(), ManualClock()
        store = MemoryStore(max_entries=10)
        cache = Cache(store, key_secret=SECRET, telemetry=telemetry, clock=clock)
        for number in range(60):
            await cache.get_or_load(f"{number}", value)
            clock.advance(1.0)
        pressed = of(telemetry, Pressed)
        assert [(one.rate, one.gauge.tier, one.gauge.entry_limit) for one in pressed] == [(1.0, "memory", 10)] * 4
        await cache.aclose()

    asyncio.run(scenario())


def test_a_memory_that_loses_only_what_is_stale_is_not_too_small() -> None:
    async def scenario() -> None:
        telemetry, clock = RecordingTelemetry(), ManualClock()
        cache = Cache(MemoryStore(max_entries=10), key_secret=SECRET, telemetry=telemetry, clock=clock)
        for number in range(60):
            await cache.get_or_load(f"{number}", value, ttl=5)
            clock.advance(1.0)
        assert of(telemetry, Pressed) == []
        await cache.aclose()

    asyncio.run(scenario())
