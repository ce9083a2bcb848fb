"""Values in code under thousands of schedules: loads inside of loads, and callers cancelled at any of their steps."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest

from glasscache import Cache, MemoryStore
from glasscache.errors import RecursiveLoadError
from tests.flights.site import LoopClock, prove
from tests.support.null_telemetry import NullTelemetry
from tests.support.seeded_loop import World

pytestmark = [pytest.mark.seeded, pytest.mark.no_cover]


def cache_in(world: World) -> Cache:
    return Cache(
        MemoryStore(),
        telemetry=NullTelemetry(),
        clock=LoopClock(world.loop),
        key_secret="a secret of thirty-two characters",
        random=Random(world.seed),
    )


async def rest(cache: Cache) -> None:
    tasks = cache._engine._state.tasks
    while tasks:
        await asyncio.wait(tuple(tasks))
    assert not cache._engine._state.flights
    assert cache.holders == cache.waiters == cache._engine.commons.held_bytes == 0
    await cache.aclose()


async def all_well(tasks: Sequence[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
    for task in tasks:
        assert task.cancelled() or task.exception() is None, task.exception()


def test_loads_inside_of_loads_share_what_they_load() -> None:
    async def scenario(world: World) -> None:
        cache = cache_in(world)
        loads: list[str] = []

        async def inner() -> str:
            loads.append("inner")
            await world.sleep(world.random.random())
            return "inner"

        async def outer(name: str) -> list[str]:
            loads.append(name)
            await world.sleep(world.random.random())
            return [name, await cache.get_or_load("inner", inner)]

        async def ask(name: str) -> None:
            await world.sleep(world.random.random())
            assert await cache.get_or_load(name, lambda: outer(name)) == [name, "inner"]

        tasks = [world.spawn(ask(name), victim=True) for name in ("a", "a", "b", "b")]
        tasks.append(world.spawn(cache.get_or_load("inner", inner), victim=True))  # type: ignore[arg-type]
        await all_well(tasks)
        assert sorted(loads) == sorted(set(loads))
        await rest(cache)

    prove(scenario)


def test_loads_that_ask_for_each_other_are_told_so_instead_of_waiting_for_ever() -> None:
    async def scenario(world: World) -> None:
        cache = cache_in(world)
        other = {"a": "b", "b": "c", "c": "a"}

        async def load(name: str) -> str:
            await world.sleep(world.random.choice((0.0, 0.1)))
            return await cache.get_or_load(other[name], lambda: load(other[name]))

        tasks = [world.spawn(cache.get_or_load(name, lambda name=name: load(name)), victim=True) for name in "abc"]  # type: ignore[misc]
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                assert isinstance(task.exception(), RecursiveLoadError)
        assert world.loop.time() < 1.0
        await rest(cache)

    prove(scenario)


def test_refreshed_declined_and_invalidated_values_reach_nobody_whom_they_must_not_reach() -> None:
    async def scenario(world: World) -> None:
        cache = cache_in(world)
        random, now = world.random, world.loop.time
        version = invalidated = 0
        ended: dict[int, float] = {}  # loads that have ended, and when

        async def load() -> list[int]:
            number, seen = len(ended), version
            ended[number] = -1.0
            await world.sleep(random.random())
            ended[number] = now()
            return [number, seen]

        async def change() -> None:
            nonlocal version, invalidated
            await world.sleep(random.random() * 3)
            version += 1
            upto = version
            await cache.invalidate(key="k")
            invalidated = max(invalidated, upto)

        def keeps(value: list[int]) -> bool:
            return value[0] % 3 > 0

        async def ask() -> None:
            await world.sleep(random.random() * 3)
            begun, least = now(), invalidated
            refresh = random.random() < 0.3
            number, seen = await cache.get_or_load("k", load, ttl=1, store_if=keeps, refresh=refresh)
            assert seen >= least, "loaded before it was told invalid"
            if refresh or not keeps([number]):
                assert ended[number] >= begun, "stored, though it was declined or a new one was asked for"

        tasks = [world.spawn(ask(), victim=True) for _ in range(12)]
        tasks += [world.spawn(change()) for _ in range(3)]
        await all_well(tasks)
        await rest(cache)

    prove(scenario)


def test_what_was_made_of_a_value_before_it_was_told_invalid_is_never_found_afterwards() -> None:
    async def scenario(world: World) -> None:
        cache = cache_in(world)
        random = world.random
        version = invalidated = 0

        async def passage() -> int:
            seen = version
            await world.sleep(random.random())
            return seen

        async def made() -> int:
            await world.sleep(random.random() * 0.5)
            seen = await cache.get_or_load("passage", passage, tags=("doc",))
            await world.sleep(random.random() * 0.5)
            return seen

        async def change() -> None:
            nonlocal version, invalidated
            await world.sleep(random.random() * 3)
            version += 1
            upto = version
            await cache.invalidate(tag="doc")
            invalidated = max(invalidated, upto)

        async def ask() -> None:
            await world.sleep(random.random() * 4)
            least = invalidated
            assert await cache.get_or_load("made", made) >= least
            if random.random() < 0.3:
                assert await cache.get_or_load("passage", passage, tags=("doc",)) >= least

        tasks = [world.spawn(ask(), victim=True) for _ in range(12)]
        tasks += [world.spawn(change()) for _ in range(3)]
        await all_well(tasks)
        await rest(cache)

    prove(scenario)
