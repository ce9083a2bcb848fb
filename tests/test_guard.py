"""A far store that is slow, fails, and comes back: what its guard makes of it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import Any

import pytest

from glasscache import _guard
from glasscache._entry import Entry, Key
from glasscache._events import TierState
from glasscache._far_tiers import FarTiers
from glasscache._guard import Guard
from glasscache._lease import Claim, Lease, Lookup
from glasscache._tiers import TieredStore
from glasscache.errors import StoreError, UnstorableError
from glasscache.interfaces import LeaseStore
from glasscache.testing import LeaseStoreContract, ManualClock, SharedServer, entry
from tests.support.patience import PATIENCE
from tests.support.seeded_loop import SeededLoop

KEY = b"k"


class TestGuardedStore(LeaseStoreContract):
    def make_stores(self, count: int) -> Sequence[LeaseStore]:
        server = SharedServer(self.clock)
        return [
            Guard(server.store(f"machine {number}"), clock=self.clock, budget=5.0, random=Random(1))
            for number in range(count)
        ]

    async def pass_time(self, seconds: float) -> None:
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(seconds)


class Rig:
    """A guard, and everything that it was told and tells."""

    def __init__(self, budget: float = 5.0, **options: bool) -> None:
        self.clock = ManualClock()
        self.server = SharedServer(self.clock)
        self.store = self.server.store("one")
        self.guard = Guard(self.store, clock=self.clock, budget=budget, random=Random(1), **options)
        self.told: list[tuple[TierState, str]] = []
        self.guard.told = lambda state, error: self.told.append((state, type(error).__name__))

    async def fails(self, operation: Awaitable[object]) -> str:
        with pytest.raises(StoreError) as caught:
            await operation
        return str(caught.value)

    async def break_it(self) -> None:
        """Until it is left alone."""
        self.server.fail()
        while self.guard.state != "open":
            await self.fails(self.guard.get(KEY))

    async def probe(self) -> None:
        """Let the probe, if there is one, come to its end."""
        await self.fails(self.guard.get(KEY)) if self.guard.state == "open" else None
        while self.guard._tasks:
            await asyncio.wait(tuple(self.guard._tasks))


async def until(condition: Callable[[], bool]) -> None:
    """Let everything run until it is so; `run` has the deadline."""
    while not condition():  # noqa: ASYNC110 - tasks of the guard tell nobody
        await asyncio.sleep(0)


def run(scenario: Callable[[Rig], Awaitable[None]], **options: Any) -> None:
    async def with_rig() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario(Rig(**options))

    asyncio.run(with_rig())


def test_after_five_failures_in_a_row_nobody_is_asked_any_more() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.fail()
        for _ in range(5):
            assert "told to fail" in await rig.fails(rig.guard.get(KEY))
        assert "left alone for a while" in await rig.fails(rig.guard.look(KEY, Claim()))
        assert rig.server.calls == {"get": 5}
        assert rig.told == [("degraded", "StoreError"), ("open", "StoreError")]
        assert rig.guard.name == "shared"
        await rig.guard.aclose()

    run(scenario)


def test_one_failure_is_forgotten_after_the_next_success() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.fail("get")
        for _ in range(4):
            await rig.fails(rig.guard.get(KEY))
            await rig.guard.set(KEY, entry())
        assert rig.told == [("degraded", "StoreError"), ("ok", "NoneType")] * 4

    run(scenario)


def test_when_half_of_the_last_twenty_failed_it_is_left_alone() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.fail("get")
        for _ in range(10):
            await rig.guard.set(KEY, entry())
            await rig.fails(rig.guard.get(KEY))
        assert rig.guard.state == "open"

    run(scenario)


def test_an_entry_that_is_refused_is_no_failure_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(rig: Rig) -> None:
        async def refuse(*_: object) -> None:
            raise UnstorableError("too large")

        monkeypatch.setattr(rig.store, "set", refuse)
        for _ in range(30):
            await rig.fails(rig.guard.set(KEY, entry()))
        assert rig.guard.state == "ok"

    run(scenario)


def test_a_probe_that_nobody_waits_for_finds_out_that_it_is_back() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.break_it()
        await rig.probe()
        assert rig.server.calls["get"] == 5, "too early"
        rig.clock.advance(1.0)
        await rig.probe()
        assert (rig.guard.state, rig.server.calls["get"]) == ("open", 6)
        rig.clock.advance(0.4)
        await rig.probe()
        assert rig.server.calls["get"] == 6, "each time it is left alone for longer"
        rig.server.heal()
        rig.clock.advance(2.0)
        assert "left alone" in await rig.fails(rig.guard.get(KEY)), "nobody waits for the probe"
        await rig.fails(rig.guard.get(KEY))
        await rig.probe()
        assert rig.server.calls["get"] == 7, "one probe at a time"
        assert rig.guard.state == "ok"
        assert rig.told[-1] == ("ok", "NoneType")
        assert await rig.guard.get(KEY) is None

    run(scenario)


def test_what_fails_together_counts_as_one_reason_to_leave_it_alone() -> None:
    async def scenario(rig: Rig) -> None:
        rig.server.fail()
        await asyncio.gather(*[rig.guard.get(KEY) for _ in range(64)], return_exceptions=True)
        rig.server.heal()
        rig.clock.advance(0.75)
        await rig.probe()
        assert rig.guard.state == "ok"

    run(scenario)


def test_a_store_that_stays_well_is_soon_asked_again_the_next_time() -> None:
    async def scenario(rig: Rig) -> None:
        for _ in range(6):
            rig.server.fail()
            await rig.break_it()
            rig.server.heal()
            rig.clock.advance(30.0)
            await rig.probe()
        for _ in range(20):
            await rig.guard.get(KEY)
        await rig.break_it()
        rig.server.heal()
        rig.clock.advance(0.75)
        await rig.probe()
        assert rig.guard.state == "ok"

    run(scenario)


def test_a_removal_that_could_not_be_carried_out_is_made_up_for_before_anything_else() -> None:
    async def scenario(rig: Rig) -> None:
        for key in (b"a", b"b", b"c"):
            await rig.guard.set(key, entry())
        rig.server.fail("delete")
        await rig.fails(rig.guard.delete(b"a"))
        await rig.guard.set(b"a", entry(b"newer"))
        await rig.fails(rig.guard.delete(b"b"))
        await rig.break_it()
        await rig.fails(rig.guard.delete(b"c"))
        rig.server.heal()
        rig.server.fail("delete")
        rig.clock.advance(2.0)
        await rig.probe()
        states: list[str] = [rig.guard.state]
        rig.server.heal()
        rig.clock.advance(5.0)
        await rig.probe()
        states.append(rig.guard.state)
        assert states == ["open", "ok"], "not before the removals are carried out"
        assert [await rig.guard.get(key) is None for key in (b"a", b"b", b"c")] == [False, True, True]

    run(scenario)


def test_a_removal_that_failed_while_all_else_went_well_is_made_up_for_too() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.guard.set(b"a", entry())
        rig.server.fail("delete")
        await rig.fails(rig.guard.delete(b"a"))
        for _ in range(30):
            assert await rig.guard.get(b"a") is not None
            await rig.probe()
        assert rig.server.calls["delete"] == 2, "not with every answer"
        rig.server.heal()
        rig.clock.advance(4.0)
        assert await rig.guard.get(b"b") is None
        await rig.probe()
        assert await rig.guard.get(b"a") is None
        assert rig.server.calls["delete"] == 3
        assert rig.guard.state == "ok"

    run(scenario)


def test_an_answer_that_is_not_taken_does_not_stand_for_a_removal() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.guard.set(KEY, entry())
        rig.server.fail("delete")
        await rig.fails(rig.guard.delete(KEY))
        rig.server.heal()
        lease = Lease(token=7, seconds=5.0)  # long lost
        assert await rig.guard.commit(KEY, lease, entry(b"newer")) is None
        rig.clock.advance(4.0)
        await rig.guard.get(b"other")
        await rig.probe()
        assert await rig.guard.get(KEY) is None

    run(scenario)


def test_a_removal_that_is_under_way_is_not_made_up_for() -> None:
    async def scenario(rig: Rig) -> None:
        asked, go = list[Key](), asyncio.Event()
        delete = rig.store.delete

        async def slow(key: Key) -> None:
            asked.append(key)
            await go.wait()
            await delete(key)

        rig.store.delete = slow  # type: ignore[method-assign]
        removal = asyncio.create_task(rig.guard.delete(b"a"))
        await until(lambda: bool(asked))
        await rig.guard.get(b"b")
        go.set()
        await removal
        await rig.probe()
        assert asked == [b"a"], "else what was put there meanwhile would go, too"

    run(scenario)


def test_removals_that_are_kept_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_guard, "_MAX_REMOVALS", 2)

    async def scenario(rig: Rig) -> None:
        rig.server.fail("delete")
        for key in (b"a", b"b", b"c"):
            await rig.fails(rig.guard.delete(key))
        assert list(rig.guard._removals) == [b"b", b"c"]

    run(scenario)


def test_what_keeps_copies_is_left_alone_until_it_can_be_written_again() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.break_it()
        rig.server.heal()
        rig.server.fail("delete")  # it can be read
        rig.clock.advance(1.0)
        await rig.probe()
        states = [rig.guard.state]
        rig.server.heal()
        rig.clock.advance(4.0)
        await rig.probe()
        assert [*states, rig.guard.state] == ["open", "ok"]

    run(scenario, has_copies=True)


def test_a_probe_that_gets_no_answer_is_not_the_last_one() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.break_it()
        rig.server.heal()
        answer = rig.store.get

        async def silent(key: bytes) -> None:
            await asyncio.Event().wait()

        rig.store.get = silent  # type: ignore[method-assign]
        rig.clock.advance(2.0)
        await rig.fails(rig.guard.get(KEY))
        await until(lambda: rig.guard._behind is not None and rig.guard._behind.done())
        rig.store.get = answer  # type: ignore[method-assign]
        rig.clock.advance(5.0)
        await rig.fails(rig.guard.get(KEY))
        await until(lambda: rig.guard.state == "ok")
        for task in rig.guard._tasks:
            task.cancel()

    run(scenario, budget=0.01)


def test_a_probe_that_another_loop_has_left_behind_is_not_the_last_one() -> None:
    rig, first = Rig(), SeededLoop(0)
    answer = rig.store.get

    async def silent(key: bytes) -> None:
        await asyncio.Event().wait()

    async def break_and_probe() -> None:
        await rig.break_it()
        rig.store.get = silent  # type: ignore[method-assign]
        rig.clock.advance(2.0)
        await rig.fails(rig.guard.get(KEY))
        await asyncio.sleep(0.01)

    async def end(left: list[asyncio.Task[Any]]) -> None:
        for task in left:
            task.cancel()
        await asyncio.wait(left)

    first.run_until_complete(break_and_probe())

    async def go_on() -> None:
        rig.store.get = answer  # type: ignore[method-assign]
        rig.server.heal()
        rig.clock.advance(5.0)
        await rig.fails(rig.guard.get(KEY))
        await until(lambda: rig.guard.state == "ok")

    asyncio.run(asyncio.wait_for(go_on(), PATIENCE))
    first.run_until_complete(end(first.pending()))
    first.close()


def test_who_waits_longer_than_the_budget_gets_no_answer_and_disturbs_nothing() -> None:
    async def scenario(rig: Rig) -> None:
        gate, done = asyncio.Event(), []

        async def slow(key: bytes) -> None:
            await gate.wait()
            done.append(key)

        rig.store.get = slow  # type: ignore[method-assign]
        assert await rig.fails(rig.guard.get(KEY)) == "no answer within 0.001 s"
        gate.set()
        await rig.guard.aclose()
        assert done == [KEY]

    run(scenario, budget=0.001)


@pytest.mark.parametrize("cancelled", [True, False])
def test_a_lease_that_comes_too_late_is_given_back(cancelled: bool) -> None:
    async def scenario(rig: Rig) -> None:
        gate, look = asyncio.Event(), rig.store.look

        async def slow(key: bytes, claim: Claim) -> Lookup:
            await gate.wait()
            return await look(key, claim)

        rig.store.look = slow  # type: ignore[method-assign]
        asked = asyncio.ensure_future(rig.guard.look(KEY, Claim()))
        if cancelled:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            asked.cancel()
        await asyncio.wait((asked,))
        gate.set()
        while rig.guard._tasks:
            await asyncio.wait(tuple(rig.guard._tasks))
            await asyncio.sleep(0)
        assert rig.server.calls["release"] == 1
        assert (await look(KEY, Claim())).lease is not None

    run(scenario, budget=60.0 if cancelled else 0.001)


def test_a_lease_that_comes_in_the_moment_in_which_its_asker_is_cancelled_is_given_back() -> None:
    async def scenario(rig: Rig) -> None:
        asked = asyncio.ensure_future(rig.guard.look(KEY, Claim()))
        await until(lambda: KEY in rig.server.slots)
        (operation,) = rig.guard._tasks
        assert operation.done()
        assert not asked.done()
        asked.cancel()
        await asyncio.wait((asked,))
        assert asked.cancelled()
        await until(lambda: rig.server.calls["release"] == 1 and not rig.guard._tasks)
        assert rig.server.slots[KEY].held is None

    run(scenario)


def test_what_comes_too_late_and_is_no_lease_is_forgotten() -> None:
    async def scenario(rig: Rig) -> None:
        await rig.store.set(KEY, entry())
        gate, look, failing = asyncio.Event(), rig.store.look, [False, True]

        async def slow(key: bytes, claim: Claim) -> Lookup:
            await gate.wait()
            if failing.pop():
                raise StoreError("no")
            return await look(key, claim)

        rig.store.look = slow  # type: ignore[method-assign]
        for _ in range(2):
            await rig.fails(rig.guard.look(KEY, Claim()))
        late = asyncio.ensure_future(rig.guard.look(KEY, Claim()))
        await rig.fails(late)
        *_, task = rig.guard._tasks
        task.cancel()
        gate.set()
        while rig.guard._tasks:
            await asyncio.wait(tuple(rig.guard._tasks))
        assert rig.server.calls["release"] == 0

    run(scenario, budget=0.001)


def test_what_came_in_the_moment_of_the_deadline_came_in_time() -> None:
    async def scenario(rig: Rig) -> None:
        loop, came = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        async def found(key: Key) -> Entry | None:
            await came
            return None

        rig.store.get = found  # type: ignore[method-assign]
        asking = asyncio.create_task(rig.guard.get(KEY))
        await until(lambda: bool(came._callbacks))
        came.set_result(None)
        now = loop.time
        loop.time = lambda: now() + 10.0  # type: ignore[method-assign]
        assert await asking is None
        assert rig.guard.state == "ok"

    run(scenario)


@pytest.mark.parametrize("glances", [False, True])
def test_what_a_copy_answers_says_nothing_of_the_store_behind_it(glances: bool) -> None:
    async def scenario(rig: Rig) -> None:
        disk = rig.server.store("disk")
        disk.name = "disk"
        kept = entry(b"kept", fresh_until=rig.clock.now() + 60.0)
        await disk.set(b"kept", kept)
        rig.server.glances = glances
        shared = SharedServer(rig.clock)
        far = FarTiers(TieredStore([disk]), shared.store("one"), clock=rig.clock, max_ttl=math.inf)
        guard = Guard(far, clock=rig.clock, budget=5.0, random=Random(1))
        assert guard.glanced == "disk"
        shared.fail()

        async def ask() -> Entry | StoreError | None:
            if not glances:
                return (await guard.look(b"kept", Claim())).entry
            found: list[Entry | StoreError | None] = []
            assert guard.glance(b"kept", found.append)
            await until(lambda: bool(found))
            return found[0]

        for _ in range(5):
            found = await ask()
            assert isinstance(found, Entry)
            assert found.body == b"kept"
            await rig.fails(guard.look(KEY, Claim()))
        assert guard.state == "open"
        await guard.aclose()

    run(scenario)
