"""A miss by the short way and by the long one: the same answers, counts, events, records, and the same in memory."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any, NamedTuple

import pytest
from msgspec import structs

from glasscache._entry import Entry
from glasscache._values import whole
from glasscache.policy import Limits, Policy, Share
from glasscache.testing import RecordingTelemetry
from tests.flights.site import Load, OriginError, Site
from tests.support.null_telemetry import NullTelemetry
from tests.support.seeded_loop import World, run_seed

pytestmark = pytest.mark.no_cover

SEEDS = range(300)
KEYS = (b"a", b"b")


class Way(NamedTuple):
    """How a scenario is run."""

    is_short: bool
    is_heard: bool


class Origin:
    """What each load does is drawn by its number, so that it is the same in every run."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    async def __call__(self, load: Load) -> None:
        chance = Random(f"{self._seed} {load.number}")
        await self._pause(chance)
        kind = chance.choice(["whole"] * 4 + ["vary", "private", "mine", "failure", "raises", "silent", "cut", "large"])
        if kind == "raises":
            raise OriginError(code=7)
        if kind == "silent":
            return
        if load.flight.ended:  # as an app learns of it: from what it sends
            raise OSError("nobody reads this any more")
        share = {"private": Share.NONE, "mine": Share.LEADER, "failure": Share.WHEN_COMPLETE}.get(kind, Share.ALL)
        load.begin(share, status=503 if kind == "failure" else 200, vary=(b"accept",) if kind == "vary" else ())
        await self._pause(chance)
        for number, chunk in enumerate(load.body):
            if kind == "cut" and number:
                raise OriginError(code=8)
            await load.flight.write(chunk + b" " * 4000 if kind == "large" else chunk)
            await self._pause(chance)
        load.flight.finish()
        load.over()
        await self._pause(chance)

    async def _pause(self, chance: Random) -> None:
        """Often none at all: such a load is over within its first turn of the loop. What does not happen at the same
        moment has an order: no two of these times, and of those of the requests, add up to the same.
        """
        for _ in range(chance.choice((0, 0, 0, 0, 1, 2))):
            await asyncio.sleep(chance.choice((0.0, 0.2613, 0.5377, 1.2719)))


def limits(chance: Random) -> Limits:
    return Limits(
        max_entry_bytes=chance.choice((4000, 100_000)),
        max_flights=chance.choice((1, 2, 100)),
        max_waiters=chance.choice((1, 100)),
        wait_timeout=chance.choice((0.75, 30.0)),
        load_timeout=chance.choice((1.0, 30.0)),
        finish_abandoned=chance.random() < 0.5,
    )


def shown(body: bytes) -> bytes:
    return body.replace(b" " * 4000, b"+")


async def scenario(world: World, seed: int, way: Way) -> dict[str, Any]:
    """Everything that can be seen of one run, by name."""
    chance = Random(seed)
    telemetry = RecordingTelemetry() if way.is_heard else NullTelemetry()
    site = Site(
        world,
        limits=limits(chance),
        policy=Policy(ttl=2.0, stale_while_revalidate=1.0, stale_if_error=chance.choice((0.0, 5.0)), early_refresh=0.0),
        telemetry=telemetry,
        origin=Origin(seed),
        max_loads=chance.choice((None, None, 1)),
        looks_first=way.is_short,
    )
    seen: list[tuple[str, float, Any]] = []

    async def request(who: str, key: bytes, after: float) -> None:
        await asyncio.sleep(after)
        ask = site.ask(key, who, variant=lambda marker: key + b"/" + marker.vary[0])
        ask.is_missing = way.is_short and site.stored(key) is None
        found: Any = "cancelled"
        try:
            answer = await site.engine.answer(ask)
            body = answer.entry.body if answer.entry else await whole(answer.reader)
            site.engine.tally.finished(ask, answer, 0.0)
            found = answer.result, answer.tier, answer.detail, answer.bypass, shown(body)
        except Exception as error:
            found = type(error).__name__, str(error)
        finally:
            seen.append((who, world.loop.time(), found))

    async def meddle(after: float, victims: list[asyncio.Task[None]]) -> None:
        await asyncio.sleep(after)
        kind = chance.choice(("key", "tag", "all", "cancel", "cancel"))
        if kind == "cancel":
            chance.choice(victims).cancel()
        elif kind == "key":
            await site.engine.invalidate(key=chance.choice(KEYS))
        else:
            await site.engine.invalidate(tag="tag:a" if kind == "tag" else None, everything=kind == "all")

    requests = [
        world.spawn(request(f"r{number}", chance.choice(KEYS), chance.randrange(12) * 0.5 + number / 97))
        for number in range(8)
    ]
    others = [world.spawn(meddle(chance.randrange(12) * 0.5 + number / 101 + 0.2, requests)) for number in range(3)]
    await asyncio.wait((*requests, *others))
    await site.rest_of_loads()
    kept = {key: entry for key in KEYS if (entry := site.stored(key)) is not None}
    told = telemetry if isinstance(telemetry, RecordingTelemetry) else None
    site.check_rest()
    await site.engine.aclose()
    return {
        "answers": sorted(seen, key=str),
        "loads": site.loads,
        "requests": dict(site.engine.counters.group("site").requests()),
        "removals": dict(site.engine.counters.removals),
        "stored": {key: [getattr(entry, name) for name in fields_of(entry)] for key, entry in kept.items()},
        "events": [] if told is None else sorted(map(repr, told.events)),
        "works": [] if told is None else sorted(repr(plain(work)) for work in told.works),
        "ended": [] if told is None else sorted(repr(plain(work)) for work in told.ended),
    }


def fields_of(entry: Entry) -> list[str]:
    """All but the salt of a marker, which no two of them share."""
    return [name for name in Entry.FIELDS if not (entry.vary and name == "chunks")]


def plain(work: Any) -> dict[str, Any]:
    """What a record says, of others no more than that they are there."""
    told = {}
    for name, value in structs.asdict(work).items():
        if name in {"ref", "cause", "waiters", "unnamed", "holder", "waits_for"}:
            continue
        told[name] = f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else value
    return {type(work).__name__: told}


def ran(seed: int, way: Way) -> dict[str, Any]:
    return run_seed(seed, lambda world: scenario(world, seed, way), order="fifo")


@pytest.mark.parametrize("part", range(5))
def test_the_short_way_of_a_miss_agrees_with_the_long_one_in_all_that_can_be_seen(part: int) -> None:
    for seed in SEEDS[part::5]:
        assert ran(seed, Way(is_short=True, is_heard=True)) == ran(seed, Way(is_short=False, is_heard=True)), seed


@pytest.mark.parametrize("part", range(5))
def test_a_load_that_nobody_hears_of_differs_in_nothing_but_what_is_told(part: int) -> None:
    for seed in SEEDS[part::5]:
        heard, unheard = (ran(seed, Way(is_short=True, is_heard=is_heard)) for is_heard in (True, False))
        for name in ("answers", "loads", "requests", "removals", "stored"):
            assert heard[name] == unheard[name], (seed, name)


def test_the_scenarios_have_short_misses_followers_failures_and_removals_in_them() -> None:
    found: set[Any] = set()
    for seed in SEEDS:
        seen = ran(seed, Way(is_short=True, is_heard=True))
        found.update(seen["requests"])
        found.update(outcome[0] if isinstance(outcome, tuple) else outcome for _, _, outcome in seen["answers"])
    assert {"miss", "hit", "stale", "collapsed", "bypass", "cancelled", "OriginError", "LoadStoppedError"} <= found
