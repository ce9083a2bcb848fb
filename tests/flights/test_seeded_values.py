"""Values in code under thousands of schedules: loads inside of loads, and callers cancelled at any of their steps."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from glasscache import Cache, MemoryStore
from glasscache._null import NullTelemetry
from glasscache.errors import RecursiveLoadError
from tests.flights.site import LoopClock, prove
from tests.support.seeded_loop import World

pytestmark = pytest.mark.seeded


def cache_in(world: World) -> Cache:
    return Cache(
        MemoryStore(),
        telemetry=NullTelemetry(),
        clock=LoopClock(world.loop),
        key_secret="a secret of thirty-two characters",
        random=Random(world.seed),
    )


async def rest(cache: Cache) -> None:
    tasks = cache.engine._state.tasks
    while tasks:
        await asyncio.wait(tuple(tasks))
    assert not cache.engine.flights
    assert cache.holders == cache.waiters == cache.engine.commons.held_bytes == 0
    await cache.aclose()


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
        await asyncio.wait(tasks)
        assert all(task.cancelled() or task.exception() is None for task in tasks)
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
