"""Copies in nearer tiers: none is taken, or put back, that was replaced or removed since the lookup began."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable

import pytest

from glasscache._entry import Entry, Key
from glasscache._events import TierCall
from glasscache._far_tiers import FarTiers
from glasscache._lease import Claim, Lease, Lookup
from glasscache._tiers import TieredStore
from glasscache.errors import StoreError
from glasscache.interfaces import Told
from glasscache.stores.memory import MemoryStore
from glasscache.testing import FlakyStore, ManualClock, SharedServer, entry
from tests.flights.rig import told
from tests.flights.site import Site
from tests.test_machines import Fleet, fleet

KEY = b"k"
OLD, NEW = entry(b"old"), entry(b"new")


class Disk(FlakyStore):
    """Its answers, too, can be held up: what was read is old by then."""

    def __init__(self) -> None:
        store = MemoryStore(max_entries=1000)
        store.name = "disk"
        super().__init__(store)
        self.answers, self.is_told = asyncio.Event(), asyncio.Event()
        self.answers.set()
        self.is_told.set()

    async def get(self, key: Key) -> Entry | None:
        found = await super().get(key)
        await self.answers.wait()
        return found

    async def set(self, key: Key, entry: Entry) -> None:
        await super().set(key, entry)
        await self.is_told.wait()


class Rig:
    """A disk that has an old answer, before a tier that machines share."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.server = SharedServer(self.clock)
        self.disk = Disk()
        self.last = self.server.store("one")
        self.far = self.process()

    def process(self) -> FarTiers:
        """One process of this machine."""
        return FarTiers(TieredStore([self.disk]), self.last, clock=self.clock, max_ttl=math.inf)

    def hold(self, operation: str) -> asyncio.Event:
        """Until the gate is opened, the disk does none of these."""
        gate = asyncio.Event()
        self.disk.hold(gate, operation)
        return gate

    async def begin(self, *, copy: Entry | None = OLD, kept: Entry = OLD) -> None:
        if copy is not None:
            await self.disk.set(KEY, copy)
        await self.last.set(KEY, kept)
        self.disk.calls.clear()

    async def look(self, far: FarTiers | None = None) -> bytes:
        look = await (far or self.far).look(KEY, Claim())
        assert look.entry is not None
        return look.entry.body

    async def copy(self) -> bytes | None:
        await turns()  # it is written behind
        found = await self.disk.store.get(KEY)
        return None if found is None else found.body

    async def lease(self) -> Lease:
        """To load anew what is there."""
        lease = (await self.last.look(KEY, Claim(refreshes=True, fresh_for=math.inf))).lease
        assert lease is not None
        return lease


def run(scenario: Callable[[Rig], Awaitable[None]]) -> None:
    async def with_rig() -> None:
        await scenario(Rig())

    asyncio.run(with_rig())


async def turns() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def dropped(rig: Rig) -> None:
    """Another machine has a newer answer."""
    await rig.last.set(KEY, NEW)
    await rig.far.drop_copy(KEY)


async def committed(rig: Rig) -> None:
    assert await rig.far.commit(KEY, await rig.lease(), NEW) is not None


async def overwritten(rig: Rig) -> None:
    await rig.far.set(KEY, NEW)


async def removed(rig: Rig) -> None:
    await rig.far.delete(KEY)
    await rig.last.set(KEY, NEW)


# --- written behind an answer -----------------------------------------------------------------------------------------


def test_an_answer_does_not_wait_for_its_copy_and_the_end_does() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin(copy=None)
        gate = rig.hold("set")
        assert await rig.look() == b"old"
        assert await rig.copy() is None
        closing = asyncio.create_task(rig.far.aclose())
        await turns()
        assert rig.disk.calls == {"get": 1, "set": 1}
        gate.set()
        await closing
        assert rig.disk.calls["aclose"] == 1
        assert not rig.far._copies.under_way

    run(scenario)


def test_a_copy_of_what_has_changed_before_it_is_begun_is_not_written() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin(copy=None)
        assert await rig.look() == b"old"
        await overwritten(rig)  # in the same turn of the event loop
        assert await rig.copy() == b"new"
        assert rig.disk.calls["set"] == 1

    run(scenario)


def test_a_disk_that_cannot_keep_up_gets_no_more_copies_than_a_hundred_at_once() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin(copy=None)
        keys = [b"%d" % number for number in range(120)]
        for key in keys:
            await rig.last.set(key, OLD)
        gate = rig.hold("set")
        for key in keys:
            look = await rig.far.look(key, Claim())
            assert look.entry is not None
        gate.set()
        await turns()
        assert [await rig.disk.store.get(key) is not None for key in keys] == [True] * 100 + [False] * 20
        assert (await rig.far.look(keys[-1], Claim())).entry is not None
        await turns()
        assert await rig.disk.store.get(keys[-1]) is not None

    run(scenario)


def test_what_another_event_loop_left_unwritten_takes_no_room() -> None:
    rig = Rig()
    loops = [asyncio.new_event_loop(), asyncio.new_event_loop()]

    async def looks() -> None:
        await rig.begin(copy=None)
        rig.hold("set")
        for number in range(100):
            await rig.last.set(b"%d" % number, OLD)
            await rig.far.look(b"%d" % number, Claim())

    async def looks_again() -> None:
        rig.disk.heal()
        assert await rig.look() == b"old"
        assert await rig.copy() == b"old"
        await rig.far.aclose()

    loops[0].run_until_complete(looks())
    loops[1].run_until_complete(looks_again())
    for loop in loops:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(turns())
        loop.close()
    assert not rig.far._copies.under_way


def test_a_copy_of_which_nobody_knows_whether_it_was_written_is_passed_over() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin(copy=None)
        gate = rig.hold("set")
        await rig.look()
        await turns()
        for task in rig.far._behind:
            task.cancel()
        await turns()
        gate.set()
        await rig.disk.store.set(KEY, entry(b"of nobody"))
        assert await rig.look() == b"old"
        assert await rig.copy() == b"old"

    run(scenario)


def test_an_old_copy_that_is_written_after_its_successor_is_never_taken() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin(copy=None)
        gate = rig.hold("set")
        assert await rig.look() == b"old"
        await turns()
        rig.disk.heal()
        await committed(rig)
        assert await rig.copy() == b"new"
        rig.disk.is_told.clear()
        gate.set()  # the write that came first is done last, and nobody knows yet
        assert await rig.copy() == b"old"
        assert await rig.look() == b"new"
        rig.disk.is_told.set()
        assert await rig.copy() is None
        assert await rig.look() == b"new"
        assert await rig.copy() == b"new"

    run(scenario)


def test_where_nothing_is_nearer_nothing_is_copied() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin(copy=None)
        far = TieredStore([rig.last], max_ttl={rig.last.name: 5.0}).far(rig.clock)
        assert isinstance(far, FarTiers)
        assert await rig.look(far) == b"old"
        assert not far._behind

    run(scenario)


CHANGES = (dropped, committed, overwritten, removed)


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_that_was_read_before_its_key_changed_is_not_the_answer(
    change: Callable[[Rig], Awaitable[None]],
) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin()
        rig.disk.answers.clear()
        looks = asyncio.gather(rig.look(), rig.look())
        got = asyncio.create_task(rig.far.get(KEY))
        await turns()
        await change(rig)
        rig.disk.answers.set()
        assert set(await looks) == {b"new"}
        found = await got
        assert found is not None
        assert found.body == b"new"
        assert await rig.copy() in (None, b"new")

    run(scenario)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("until", ["before it is written", "while it is written"])
def test_a_copy_of_what_the_last_tier_had_before_its_key_changed_does_not_stay(
    change: Callable[[Rig], Awaitable[None]], until: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin(copy=None)
        gate, look, first = asyncio.Event(), rig.last.look, True

        async def late(key: Key, claim: Claim) -> Lookup:
            nonlocal first
            found = await look(key, claim)
            if first:
                first = False
                await gate.wait()
            return found

        if until == "before it is written":
            monkeypatch.setattr(rig.last, "look", late)
        else:
            gate = rig.hold("set")
        looked = asyncio.create_task(rig.look())
        await turns()
        rig.disk.heal()
        await change(rig)
        gate.set()
        await looked
        assert await rig.copy() in (None, b"new")
        assert await rig.look() == b"new"

    run(scenario)


def test_while_a_copy_is_being_removed_nobody_takes_it_and_its_successor_is_kept_afterwards() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin()
        gate = asyncio.Event()
        rig.disk.hold(gate, "delete")
        await rig.last.set(KEY, NEW)
        drop = rig.far.drop_copy(KEY)
        assert await rig.look() == b"new", "before its first step"
        await rig.disk.store.set(KEY, OLD)
        dropping = asyncio.create_task(drop)
        await turns()
        assert await rig.look() == b"new"
        gate.set()
        await dropping
        assert await rig.copy() is None
        assert await rig.look() == b"new"
        assert await rig.copy() == b"new"

    run(scenario)


def test_while_an_answer_is_being_stored_its_predecessor_is_not_taken_from_the_disk() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin()
        lease, gate = await rig.lease(), asyncio.Event()
        rig.disk.hold(gate, "set")
        committing = asyncio.create_task(rig.far.commit(KEY, lease, NEW))
        await turns()
        assert await rig.look() == b"new"
        gate.set()
        assert await committing == ()
        assert await rig.copy() == b"new"

    run(scenario)


def test_of_two_changes_the_end_of_the_first_is_not_the_end_of_both() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin()
        lease, gate = await rig.lease(), asyncio.Event()
        rig.disk.hold(gate, "set")
        committing = asyncio.create_task(rig.far.commit(KEY, lease, NEW))
        await turns()
        await rig.far.drop_copy(KEY)
        await rig.disk.store.set(KEY, OLD)
        rig.clock.advance(2.0)
        assert await rig.look() == b"new"
        gate.set()
        await committing
        assert await rig.copy() == b"new"

    run(scenario)


def test_a_copy_that_cannot_be_removed_is_passed_over_until_another_takes_its_place() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin()
        rig.disk.fail("delete", "set")
        await dropped(rig)
        rig.clock.advance(60.0)
        assert await rig.look() == b"new"
        assert await rig.copy() == b"old"
        rig.disk.heal()
        assert await rig.look() == b"new"
        assert await rig.copy() == b"new"
        rig.disk.calls.clear()
        assert await rig.look() == b"new"
        assert rig.disk.calls == {"get": 1}

    run(scenario)


def test_a_copy_that_an_answer_of_this_machine_could_not_take_the_place_of_is_passed_over() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin()
        rig.disk.fail("set")
        await committed(rig)
        assert await rig.copy() == b"old"
        assert await rig.look() == b"new"

    run(scenario)


def test_where_nobody_knows_whether_an_answer_was_stored_its_predecessor_is_not_taken_from_the_disk() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin()
        lease = await rig.lease()
        rig.server.fail("commit")
        with pytest.raises(StoreError):
            await rig.far.commit(KEY, lease, NEW)
        await rig.last.set(KEY, NEW)  # it was
        assert await rig.look() == b"new"
        assert await rig.copy() == b"new"

    run(scenario)


def test_what_another_process_puts_back_before_it_hears_is_not_taken_meanwhile() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.begin()
        await dropped(rig)
        await rig.disk.store.set(KEY, OLD)  # the other one had asked the last tier before
        assert await rig.look() == b"new"
        await turns()
        rig.clock.advance(2.0)
        rig.disk.calls.clear()
        assert await rig.look() == b"new"
        assert rig.disk.calls == {"get": 1}

    run(scenario)


class Glanced(Disk):
    """It tells its answers as well, when the gate opens."""

    is_likely = True

    def glance(self, key: Key, then: Told) -> bool:
        if self.is_likely:
            asyncio.get_running_loop().create_task(self._tell(key, then)).add_done_callback(asyncio.Task.result)
        return self.is_likely

    async def _tell(self, key: Key, then: Told) -> None:
        try:
            found = await self.get(key)
        except StoreError as error:
            then(error)
        else:
            then(found)


def glanced(scenario: Callable[[Rig, Glanced], Awaitable[None]]) -> None:
    async def with_disk(rig: Rig) -> None:
        rig.disk = disk = Glanced()
        rig.far = rig.process()
        await rig.begin()
        await scenario(rig, disk)
        assert not rig.far._copies.under_way

    run(with_disk)


def test_a_copy_is_told_without_being_awaited_if_there_is_one_and_it_can_be_believed() -> None:
    async def scenario(rig: Rig, disk: Glanced) -> None:
        told: list[Entry | StoreError | None] = []
        assert rig.far.glance(KEY, told.append)
        await turns()
        assert [found.body for found in told if isinstance(found, Entry)] == [b"old"]
        assert rig.far.glanced == "disk"
        disk.is_likely = False
        assert not rig.far.glance(KEY, told.append)
        disk.is_likely = True
        disk.fail("get")
        assert rig.far.glance(KEY, told.append)
        await turns()
        assert told[1:] == [None], "the last tier has not been asked"
        await dropped(rig)
        assert not rig.far.glance(KEY, told.append)

    glanced(scenario)


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_that_changes_while_it_is_told_is_none(change: Callable[[Rig], Awaitable[None]]) -> None:
    async def scenario(rig: Rig, disk: Glanced) -> None:
        disk.answers.clear()
        told: list[Entry | StoreError | None] = []
        assert rig.far.glance(KEY, told.append)
        await turns()
        await change(rig)
        disk.answers.set()
        await turns()
        assert told == [None]

    glanced(scenario)


def test_of_several_tiers_with_copies_none_is_glanced_at() -> None:
    async def scenario(rig: Rig) -> None:
        other = MemoryStore()
        other.name = "other"
        near = TieredStore([Glanced(), FlakyStore(other)])
        assert not FarTiers(near, rig.last, clock=rig.clock, max_ttl=math.inf).glance(KEY, print)

    run(scenario)


# --- in memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("glances", [False, True])
def test_what_another_machine_replaced_while_it_was_asked_for_is_neither_the_answer_nor_kept(glances: bool) -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.settle()
        one.engine.near.clear()
        old = machines.server.slots[b"k"].entry
        assert old is not None
        gate, looks = asyncio.Event(), one.state.far.look

        async def look_late(key: Key, claim: Claim) -> Lookup:
            found = await looks(key, claim)
            await gate.wait()
            return found

        async def tell_late(key: Key, then: Told) -> None:
            found = await looks(key, Claim())
            await gate.wait()
            then(found.entry)

        if glances:
            one.state.ask_far = lambda key, then: not machines.world.spawn(tell_late(key, then)).done()
        else:
            one.state.far.look = look_late  # type: ignore[method-assign]
        request = machines.world.spawn(one.request())
        await turns()
        new = old.but(headers=((b"is", b"new"),))
        await two.state.far.set(b"k", new)
        await two.state.tell_replaced(b"k")
        gate.set()
        answer = await request
        assert answer.entry is not None
        assert (answer.result, answer.entry.headers) == ("hit", new.headers)
        assert one.stored() is answer.entry
        gets = [work for work in told(one).ended if isinstance(work, TierCall) and work.operation == "get"]
        assert [work.found for work in gets[-2:]] == [True, True]
        await machines.rest()

    fleet(2, scenario)
