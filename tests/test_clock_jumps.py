"""The machine's date jumps, as after a virtual machine's sleep, a wrong NTP server, or by hand: nothing follows it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from glasscache import Cache, DiskStore, Limits, MemoryStore, RedisStore, TieredStore
from glasscache._clock import SystemClock
from glasscache.asgi import Rule
from glasscache.interfaces import Store
from tests.asgi.site import LoopClock, Origin, Site, run
from tests.support.asgi import Response
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess

HOUR, DAY = 3600.0, 86_400.0
JUMPS = pytest.mark.parametrize("jump", [HOUR, -HOUR, DAY, -DAY])
KEY = "a secret that all machines of this test share"


class JumpingLoopClock(LoopClock):
    """The loop's time, and a date that is off by so much."""

    off = 0.0

    def wall(self) -> float:
        return super().wall() + self.off


class JumpingClock(SystemClock):
    """The machine's time, and a date that is off by so much."""

    def __init__(self) -> None:
        super().__init__()
        right, self.off = self.wall, 0.0
        self.wall = lambda: right() + self.off


def age(response: Response) -> bytes:
    return dict(response.headers)[b"age"]


@JUMPS
@pytest.mark.parametrize("rule", [Rule("/*", ttl=100), Rule("/*")], ids=["with a ttl", "by HTTP"])
def test_a_stored_answer_ages_and_is_confirmed_as_if_the_date_had_not_jumped(rule: Rule, jump: float) -> None:
    async def scenario() -> None:
        clock = JumpingLoopClock()
        changed = formatdate(clock.wall() - DAY, usegmt=True).encode()
        date, end = (formatdate(clock.wall() + after, usegmt=True).encode() for after in (0, 100))
        origin = Origin(headers=[(b"date", date), (b"expires", end), (b"last-modified", changed)])
        site = Site(origin, rule, clock=clock)
        await site.get()
        clock.off = jump
        await asyncio.sleep(60)
        found = await site.get()
        assert (age(found), dict(found.headers)[b"date"], origin.loads) == (b"60", date, 1)
        unchanged = await site.get(headers=[(b"if-modified-since", changed)])
        assert (unchanged.status, age(unchanged), origin.loads) == (304, b"60", 1)
        await asyncio.sleep(41)
        await site.get()
        assert origin.loads == 2
        await site.cache.aclose()

    run(scenario)


@JUMPS
def test_an_origin_whose_date_jumps_with_ours_is_stored_for_as_long_as_it_says(jump: float) -> None:
    async def scenario() -> None:
        clock = JumpingLoopClock()
        clock.off = jump
        date, end = (formatdate(clock.wall() + after, usegmt=True).encode() for after in (0, 100))
        origin = Origin(headers=[(b"date", date), (b"expires", end)])
        site = Site(origin, Rule("/*"), clock=clock)
        for seconds in (0, 50, 49):
            await asyncio.sleep(seconds)
            await site.get()
        assert origin.loads == 1
        await asyncio.sleep(2)
        await site.get()
        assert origin.loads == 2
        await site.cache.aclose()

    run(scenario)


class Loads:
    """Counts them, and holds them up while it is told to."""

    def __init__(self) -> None:
        self.count = 0
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> int:
        self.count += 1
        mine = self.count
        await self.go.wait()
        return mine


@asynccontextmanager
async def two_machines(far: list[Store], clocks: list[JumpingClock]) -> AsyncIterator[list[Cache]]:
    caches = [
        Cache(TieredStore([MemoryStore(), store]), limits=Limits(far_timeout=10.0), key_secret=KEY, clock=clock)
        for store, clock in zip(far, clocks, strict=True)
    ]
    try:
        yield caches
    finally:
        for cache in caches:
            await cache.aclose()


async def holds(jump: float, far: list[Store], clocks: list[JumpingClock], *, keeps: bool) -> None:
    """One load for two machines, and invalidations that win, while the date of one jumps. `keeps`: what is stored
    outlives it.
    """
    async with two_machines(far, clocks) as (one, two):
        load = Loads()
        asked: dict[str, Any] = {"ttl": 300.0, "tags": ("doc",)}
        assert await one.get_or_load("k", load, **asked) == 1
        for clock in clocks:
            clock.off = jump
        again = await two.get_or_load("k", load, **asked)
        assert again == (1 if keeps else load.count)
        for cache in (one, two):
            await cache.invalidate(tag="doc")
            before = load.count
            assert await cache.get_or_load("k", load, **asked) == before + 1
        load.go.clear()
        before = load.count
        held = asyncio.create_task(one.get_or_load("held", load, **asked))
        while load.count == before:  # noqa: ASYNC110 - a store tells nobody here
            await asyncio.sleep(0.001)
        for clock in clocks:
            clock.off = 0.0
        waits = asyncio.create_task(two.get_or_load("held", load, **asked))
        await asyncio.sleep(0)
        load.go.set()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(held, waits)
        assert await one.bump_epoch() > 0
        assert await two.get_or_load("other", load, **asked) == load.count


@JUMPS
def test_machines_that_share_redis_go_by_its_time_alone(server: RedisProcess, jump: float) -> None:
    async def scenario() -> None:
        clocks = [JumpingClock(), JumpingClock()]
        url, prefix = f"redis://127.0.0.1:{server.port}", f"jump {jump}"
        far = [RedisStore.from_url(url, prefix=prefix, **UNHURRIED, clock=clock) for clock in clocks]
        await holds(jump, list(far), clocks, keeps=True)

    asyncio.run(scenario())


@JUMPS
def test_processes_that_share_a_disk_load_anew_after_a_jump_and_hold_up_nobody(tmp_path: Path, jump: float) -> None:
    async def scenario() -> None:
        clocks = [JumpingClock(), JumpingClock()]
        await holds(jump, [DiskStore(tmp_path, clock=clock) for clock in clocks], clocks, keeps=False)

    asyncio.run(scenario())
