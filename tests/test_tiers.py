"""Several stores as one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from glasscache import Cache, Policy
from glasscache._far_tiers import FarTiers
from glasscache._lease import Claim, Lease
from glasscache._tiers import TieredStore, Unleased
from glasscache.errors import ConfigurationError, StoreError
from glasscache.interfaces import LeaseStore, Store
from glasscache.stores._null import NullBell, NullLeases
from glasscache.stores.memory import MemoryStore
from glasscache.testing import (
    FlakyStore,
    LeaseStoreContract,
    ManualClock,
    RecordingTelemetry,
    SharedServer,
    StoreContract,
    entry,
)

KEY = b"k"


class Far(MemoryStore):
    """A plain store of another name."""

    def __init__(self, name: str = "far") -> None:
        super().__init__(max_entries=1000)
        self.name = name


def plain(name: str = "far") -> FlakyStore:
    return FlakyStore(Far(name))


class TestTieredStore(StoreContract):
    def make_store(self) -> Store:
        return TieredStore([MemoryStore(max_entries=1000), plain()])


class TestUnleased(StoreContract):
    def make_store(self) -> Store:
        return Unleased(plain(), clock=self.clock)


class TestFarTiers(LeaseStoreContract):
    def make_stores(self, count: int) -> Sequence[LeaseStore]:
        server = SharedServer(self.clock)
        between = TieredStore([plain("disk")])
        return [
            FarTiers(between, server.store(f"machine {number}"), clock=self.clock, max_ttl=math.inf)
            for number in range(count)
        ]

    async def pass_time(self, seconds: float) -> None:
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(seconds)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def test_the_nearest_tier_that_has_it_answers_and_every_nearer_one_gets_a_copy() -> None:
    async def scenario() -> None:
        one, two, three = MemoryStore(), plain("two"), plain("three")
        tiers = TieredStore([one, two, three], max_ttl={"memory": 60.0})
        wanted = entry()
        await three.set(KEY, wanted)
        assert await tiers.get(KEY) is wanted
        assert await two.get(KEY) is wanted
        promoted = one.peek(KEY)
        assert promoted is not None
        assert (promoted.born, promoted.fresh_until, promoted.settled_until) == (1000.0, 1060.0, 1060.0)
        three.fail()
        assert (await tiers.get(KEY)) is promoted
        assert tiers.near is one
        assert tiers.name == "three"

    run(scenario)


def test_the_limit_of_memory_holds_for_what_is_loaded_as_for_what_is_promoted() -> None:
    async def scenario() -> None:
        clock, loads = ManualClock(), 0

        async def load() -> str:
            nonlocal loads
            loads += 1
            return "answer"

        tiers = TieredStore([MemoryStore(), plain()], max_ttl={"memory": 60.0})
        cache = Cache(tiers, policy=Policy(ttl=300.0), clock=clock, telemetry=RecordingTelemetry())
        for _ in range(3):  # loaded, then promoted twice
            await cache.get_or_load("k", load, group="asked")
            await asyncio.gather(*cache._engine._state.tasks)
            clock.advance(59)
            await cache.get_or_load("k", load, group="asked")
            clock.advance(2)
        assert loads == 1
        requests = cache.counters.group("asked").requests()
        assert requests == {("miss", "origin"): 1, ("hit", "memory"): 3, ("hit", "far"): 2}
        await cache.aclose()

    run(scenario)


def test_a_tier_that_cannot_answer_is_skipped_and_the_others_are_told_all_the_same() -> None:
    async def scenario() -> None:
        one, two = plain("one"), plain("two")
        tiers = TieredStore([one, two])
        one.fail()
        with pytest.raises(StoreError):
            await tiers.set(KEY, entry())
        assert await tiers.get(KEY) is not None
        with pytest.raises(StoreError):
            await tiers.delete(KEY)
        with pytest.raises(StoreError):
            await tiers.get(KEY)

    run(scenario)


@pytest.mark.parametrize(
    ("stores", "max_ttl", "told"),
    [
        ([], {}, "give at least one store"),
        (MemoryStore(), {}, "give a list of stores"),
        ([MemoryStore], {}, "MemoryStore'> is no store: give MemoryStore"),
        (["redis://localhost"], {}, "'redis://localhost' is no store: .*from_url"),
        ([MemoryStore(), Far("memory")], {}, "each tier needs a name of its own"),
        ([plain(), MemoryStore()], {}, "a store in memory can only be the first"),
        ([MemoryStore()], {"disk": 1.0}, "'disk': .*: there are memory"),
        ([MemoryStore()], {"memory": 0.0}, "'memory': 0.0.*above 0"),
    ],
)
def test_tiers_that_cannot_work_together_are_refused(
    stores: Sequence[Store], max_ttl: dict[str, float], told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        TieredStore(stores, max_ttl=max_ttl)


def test_what_is_far_is_one_store_that_grants_leases() -> None:
    clock = ManualClock()
    shared = SharedServer(clock).store("one")
    assert TieredStore([MemoryStore()]).far(clock) is None
    assert TieredStore([MemoryStore(), shared]).far(clock) is shared
    assert isinstance(TieredStore([plain()]).far(clock), Unleased)
    assert isinstance(TieredStore([plain(), shared], max_ttl={"far": 60.0}).far(clock), FarTiers)
    assert isinstance(TieredStore([shared], max_ttl={"shared": 60.0}).far(clock), FarTiers)


def test_between_memory_and_the_last_tier_others_are_asked_first_and_get_what_was_found() -> None:
    async def scenario() -> None:
        clock, disk = ManualClock(), plain("disk")
        server = SharedServer(clock)
        shared = server.store("one")
        far = TieredStore([disk, shared], max_ttl={"shared": 100.0}).far(clock)
        assert far is not None
        lease = (await far.look(KEY, Claim())).lease
        assert lease is not None
        assert await far.renew(KEY, lease)
        assert await far.commit(KEY, lease, entry(number=3)) == ()
        kept = server.slots[KEY].entry
        assert kept is not None
        assert kept.fresh_until == 1100.0
        assert (await far.look(KEY, Claim())).entry is await disk.get(KEY)
        assert (await far.look(KEY, Claim(newer_than=4))).lease is not None
        await disk.delete(KEY)
        found = (await far.look(KEY, Claim())).entry
        assert found is not None
        await asyncio.sleep(0)  # its copy is written behind
        assert await disk.get(KEY) is found
        disk.fail()
        assert (await far.get(KEY)) is not None
        await far.set(KEY, entry(b"newer"))
        await far.delete(KEY)
        assert server.slots[KEY].entry is None
        assert await disk.store.get(KEY) is found
        server.fail("delete")
        with pytest.raises(StoreError):
            await far.delete(KEY)
        server.heal()
        assert await far.get(KEY) is None
        assert await far.commit(KEY, Lease(token=99, seconds=1.0), entry()) is None
        disk.heal()
        await far.aclose()

    run(scenario)


def test_a_store_without_leases_lets_everybody_load() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        for store in (Unleased(plain(), clock=clock), NullLeases()):
            assert (await store.look(KEY, Claim())).lease is not None
            lease = (await store.look(KEY, Claim())).lease
            assert lease is not None
            assert lease == Lease(token=0, seconds=math.inf)
            assert await store.renew(KEY, lease)
            assert await store.release(KEY, lease) == ()
            assert await store.commit(KEY, lease, entry()) == ()
            bell: Any = store.listen(KEY)
            assert isinstance(bell, NullBell)
            assert not await bell.rung(0.0)
            bell.close()
            await store.aclose()
        await NullLeases().set(KEY, entry())
        await NullLeases().delete(KEY)
        assert await NullLeases().get(KEY) is None

    run(scenario)


def test_an_entry_past_its_freshness_answers_as_long_as_it_may() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = Unleased(plain(), clock=clock)
        await store.set(KEY, entry(stale_while_revalidate=60.0, stale_if_error=600.0, number=2))
        assert (await store.look(KEY, Claim(refreshes=True, fresh_for=299.0))).lease is None
        assert (await store.look(KEY, Claim(refreshes=True, fresh_for=301.0))).lease is not None
        assert (await store.look(KEY, Claim(newer_than=3))).entry is None
        clock.advance(330.0)
        assert (await store.look(KEY, Claim())).lease is None
        clock.advance(60.0)
        look = await store.look(KEY, Claim())
        assert look.entry is not None
        assert look.lease is not None
        await store.delete(KEY)
        assert await store.get(KEY) is None

    run(scenario)
