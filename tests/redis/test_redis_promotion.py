"""A server that is no longer the right one: a name that comes to mean another primary, slots that move."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache.stats import stats
from tests.support.chaos_proxy import ChaosProxy
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess
from tests.support.redis_sets import move_slots, two_nodes

pytestmark = pytest.mark.usefixtures("no_leaks")

SECRET = "a secret that all machines of this test share"


async def load() -> str:
    return "answer"


async def promoted(first: RedisProcess, second: RedisProcess, after: Callable[[Cache], Awaitable[None]]) -> None:
    """A cache whose server's name comes to mean another one, and then `after`."""
    async with ChaosProxy(first.port) as name:
        store = RedisStore.from_url(f"redis://127.0.0.1:{name.port}", **UNHURRIED)
        cache = Cache(TieredStore([MemoryStore(), store]), limits=Limits(far_timeout=10.0), key_secret=SECRET)
        await asyncio.gather(*(cache.get_or_load(f"before {number}", load) for number in range(200)))
        await asyncio.to_thread(first.do, "REPLICAOF", "127.0.0.1", second.port)
        name.leads_to(second.port)  # who is connected already stays with the first
        async with asyncio.timeout(PATIENCE):
            await after(cache)
        await cache.aclose()


def test_lookups_find_the_server_that_a_name_means_now(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as first, RedisProcess(tmp_path) as second:

        async def after(cache: Cache) -> None:
            number = 0
            while (await asyncio.to_thread(second.do, "DBSIZE")) < 10 or stats(cache)["tiers"] != {"redis": "ok"}:
                number += 1
                assert await cache.get_or_load(f"after {number}", load) == "answer"

        asyncio.run(promoted(first, second, after))


def test_an_invalidation_finds_it_although_nobody_looks_for_anything(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as first, RedisProcess(tmp_path) as second:

        async def after(cache: Cache) -> None:
            await cache.invalidate(tag="any")
            await asyncio.to_thread(second.until, lambda: second.do("HGET", "glasscache:{ns}:n", "number"))

        asyncio.run(promoted(first, second, after))


class Pair:
    """Two machines before a cluster, and how often each question was loaded."""

    def __init__(self, port: int) -> None:
        self.loads: Counter[str] = Counter()
        stores = [RedisStore.from_url(f"redis+cluster://127.0.0.1:{port}", **UNHURRIED) for _ in range(2)]
        limits = Limits(far_timeout=10.0)
        self.caches = [Cache(TieredStore([MemoryStore(), store]), limits=limits, key_secret=SECRET) for store in stores]

    async def ask(self, question: str) -> set[str]:
        """The answers of both."""

        async def run() -> str:
            self.loads[question] += 1
            return f"answer {self.loads.total()}"

        return {await cache.get_or_load(question, run, tags=("doc",)) for cache in self.caches}

    async def until_well(self) -> None:
        """Ask until the tier is well, and both know all invalidations."""
        while not all(
            stats(cache)["tiers"] == {"redis": "ok"} and cache._engine._state.coherence.in_step for cache in self.caches
        ):
            await self.ask(f"again {self.loads.total()}")

    async def aclose(self) -> None:
        for cache in self.caches:
            await cache.aclose()


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """A cluster of two; the first serves all slots."""
    with two_nodes(tmp_path) as made:
        yield made


def test_a_cluster_whose_slots_have_all_moved_is_followed_by_every_operation(
    nodes: tuple[RedisProcess, RedisProcess],
) -> None:
    async def scenario() -> None:
        pair = Pair(nodes[0].port)
        async with asyncio.timeout(PATIENCE):
            await pair.until_well()
            (old,) = await pair.ask("kept")
            await asyncio.to_thread(move_all, *nodes)
            for number in range(20):
                await pair.ask(f"moved {number}")
            await pair.until_well()
            for number in range(20):
                assert len(await pair.ask(f"after {number}")) == 1
            await pair.caches[0].invalidate(tag="doc")
            while old in (found := await pair.ask("kept")):  # noqa: ASYNC110 - until the other one has heard
                await asyncio.sleep(0.01)
        assert len(found) == 1
        assert {count for question, count in pair.loads.items() if question.startswith("after")} == {1}
        await pair.aclose()

    asyncio.run(scenario())


def move_all(giver: RedisProcess, taker: RedisProcess) -> None:
    """Every slot, with nothing that was in it."""
    giver.do("FLUSHALL")
    move_slots(range(16384), taker, giver)
