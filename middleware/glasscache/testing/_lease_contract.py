"""What every `LeaseStore` promises beside being a `Store`: tests to subclass.

Decides nothing that `interfaces.py` does not say. Waits for bells, never for time, but where a lease has to run out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from glasscache._entry import Key
from glasscache._events import SpanRef
from glasscache._lease import Claim, Holder, Lease
from glasscache.interfaces import Bell, LeaseStore
from glasscache.testing._store_contract import StoreContract

_A, _B, _C = (SpanRef(trace_id=number, span_id=number, sampled=number != 2) for number in (1, 2, 3))
_PATIENCE = 60.0  # seconds until what must come has not
_KEY: Key = b"the key of a leas"[:16]


async def lease_of(store: LeaseStore, claim: Claim | None = None, key: Key = _KEY) -> Lease:
    """Look the key up, and expect to be granted its lease."""
    look = await store.look(key, claim or Claim())
    assert look.lease is not None, f"no lease, but {look}"
    return look.lease


async def holder_of(store: LeaseStore, claim: Claim | None = None, key: Key = _KEY) -> Holder:
    """Look the key up, and expect to be told who holds its lease."""
    look = await store.look(key, claim or Claim())
    assert look.holder is not None, f"nobody holds it, but {look}"
    assert look.lease is None
    assert not look.refused
    return look.holder


class LeaseStoreContract(StoreContract):
    """What every `LeaseStore` promises. Override `make_stores`: each is a machine's view of one shared tier."""

    def make_stores(self, count: int) -> Sequence[LeaseStore]:
        """Views of one empty tier, whose leases last for 5 s or longer."""
        raise NotImplementedError

    def make_store(self) -> LeaseStore:
        """The view of the only machine."""
        (store,) = self.make_stores(1)
        return store

    async def ready(self, store: LeaseStore, bell: Bell) -> None:
        """Called before a bell has to ring: a store may need a moment until it hears."""

    def run_machines(self, count: int, scenario: Callable[..., Awaitable[None]]) -> None:
        """Run the scenario with that many machines, which are closed at the end."""

        async def with_stores() -> None:
            stores = self.make_stores(count)
            try:
                await scenario(*stores)
            finally:
                for store in stores:
                    await store.aclose()

        asyncio.run(with_stores())

    def test_it_is_a_store_that_grants_leases(self) -> None:
        async def scenario(store: LeaseStore) -> None:
            assert isinstance(store, LeaseStore)

        self.run_machines(1, scenario)

    def test_a_miss_grants_the_lease_to_one_and_tells_the_others_who_has_it(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore, three: LeaseStore) -> None:
            lease = await lease_of(one, Claim(ref=_A))
            assert lease.seconds > 0
            holder = await holder_of(two, Claim(ref=_B))
            assert (holder.token, holder.ref, holder.position) == (lease.token, _A, 1)
            assert holder.machine
            assert 0 <= holder.elapsed < lease.seconds
            assert 0 < holder.remaining <= lease.seconds
            assert (await holder_of(three, Claim(ref=_C))).position == 2
            assert (await holder_of(two, Claim(ref=_B))).position == 1, "who asks again stands where it stood"
            assert (await holder_of(two, Claim(waits=False))).position in (0, 1)

        self.run_machines(3, scenario)

    def test_a_commit_keeps_the_entry_frees_the_lease_and_wakes_who_waits(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore, three: LeaseStore) -> None:
            lease = await lease_of(one, Claim(ref=_A))
            bells = [store.listen(_KEY) for store in (two, three)]
            await holder_of(two, Claim(ref=_B))
            await holder_of(three)
            for store, bell in zip((two, three), bells, strict=True):
                await self.ready(store, bell)
            other = two.listen(b"another key")
            wanted = self.entry(b"loaded once")
            assert await one.commit(_KEY, lease, wanted) == (_B,)
            for bell in bells:
                assert await bell.rung(_PATIENCE)
                assert not await bell.rung(0.01), "one release rings once"
                bell.close()
                bell.close()
            assert not await other.rung(0.01)
            other.close()
            for store in (one, two, three):
                look = await store.look(_KEY, Claim())
                self.assert_same(look.entry, wanted)
                assert (look.lease, look.holder, look.refused) == (None, None, False)

        self.run_machines(3, scenario)

    def test_a_bell_that_rang_before_it_was_asked_has_rung(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            lease = await lease_of(one)
            early, late = two.listen(_KEY), two.listen(_KEY)
            await holder_of(two)
            await self.ready(two, early)
            await one.release(_KEY, lease)
            assert await late.rung(_PATIENCE)
            assert await early.rung(_PATIENCE)
            early.close()
            late.close()

        self.run_machines(2, scenario)

    def test_a_release_without_an_answer_lets_the_next_one_load(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            first = await lease_of(one)
            await holder_of(two, Claim(ref=_B))
            assert await one.release(_KEY, first) == (_B,)
            assert await one.release(_KEY, first) == (), "released already"
            second = await lease_of(two)
            assert second.token > first.token

        self.run_machines(2, scenario)

    def test_a_refusal_is_told_until_it_is_over_or_something_is_stored(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            await one.release(_KEY, await lease_of(one), refuse_for=60.0)
            look = await two.look(_KEY, Claim())
            assert (look.refused, look.lease, look.holder, look.entry) == (True, None, None, None)
            await one.set(_KEY, self.entry(b"after all"))
            assert (await two.look(_KEY, Claim())).entry is not None
            await one.delete(_KEY)
            await lease_of(two)

        self.run_machines(2, scenario)

    def test_a_late_writer_is_refused(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            lost = await lease_of(one)
            await one.delete(_KEY)
            assert not await one.renew(_KEY, lost)
            assert await one.commit(_KEY, lost, self.entry(b"late")) is None
            assert await one.get(_KEY) is None
            lease = await lease_of(two)
            assert await one.commit(_KEY, lost, self.entry(b"late")) is None
            assert not await one.renew(_KEY, lost)
            assert await one.release(_KEY, lost) == ()
            assert await two.renew(_KEY, lease)
            assert await two.commit(_KEY, lease, self.entry(b"in time")) == ()

        self.run_machines(2, scenario)

    def test_a_delete_wakes_who_waits(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            await lease_of(one)
            bell = two.listen(_KEY)
            await holder_of(two)
            await self.ready(two, bell)
            await one.delete(_KEY)
            assert await bell.rung(_PATIENCE)
            bell.close()
            await lease_of(two)

        self.run_machines(2, scenario)

    def test_a_lease_that_is_not_renewed_runs_out(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            lease = await lease_of(one)
            assert await one.renew(_KEY, Lease(token=lease.token, seconds=0.05))
            while (look := await two.look(_KEY, Claim())).holder is not None:
                await self.pass_time(0.02)
            assert look.lease is not None
            assert look.lease.token > lease.token
            assert await one.commit(_KEY, lease, self.entry()) is None

        self.run_machines(2, scenario)

    async def pass_time(self, seconds: float) -> None:
        """Let this much time pass by the tier's clock: override it if that can be moved by hand."""
        await asyncio.sleep(seconds)

    def test_what_is_within_its_stale_window_answers_but_for_a_refresh(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            now = self.clock.now()
            stale = self.entry(born=now - 60, fresh_until=now - 1, settled_until=now - 2, stale_while_revalidate=500.0)
            await one.set(_KEY, stale)
            look = await two.look(_KEY, Claim())
            assert (look.entry is not None, look.lease, look.holder) == (True, None, None)
            look = await one.look(_KEY, Claim(refreshes=True, waits=False))
            assert look.entry is not None
            assert look.lease is not None
            look = await two.look(_KEY, Claim(refreshes=True, waits=False))
            assert look.entry is not None
            assert look.holder is not None

        self.run_machines(2, scenario)

    def test_what_may_only_stand_in_comes_beside_the_lease(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            now = self.clock.now()
            stale = self.entry(born=now - 60, fresh_until=now - 1, settled_until=now - 2, stale_if_error=500.0)
            await one.set(_KEY, stale)
            look = await one.look(_KEY, Claim())
            self.assert_same(look.entry, stale)
            assert look.lease is not None
            look = await two.look(_KEY, Claim())
            self.assert_same(look.entry, stale)
            assert look.holder is not None
            await one.release(_KEY, look.lease or Lease(token=look.holder.token, seconds=1.0), refuse_for=60.0)
            look = await two.look(_KEY, Claim())
            self.assert_same(look.entry, stale)
            assert look.refused

        self.run_machines(2, scenario)

    def test_a_refresh_takes_what_is_fresh_for_longer_than_its_own(self) -> None:
        async def scenario(one: LeaseStore) -> None:
            await one.set(_KEY, self.entry())
            assert (await one.look(_KEY, Claim(refreshes=True, fresh_for=200.0))).lease is None
            assert (await one.look(_KEY, Claim(refreshes=True, fresh_for=400.0))).lease is not None

        self.run_machines(1, scenario)

    def test_what_was_told_invalid_is_not_there_nor_is_a_lease_from_before(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            await one.set(_KEY, self.entry(number=4))
            assert (await one.look(_KEY, Claim(number=4, newer_than=4))).entry is not None
            old = await lease_of(one, Claim(number=4, newer_than=5))
            new = await lease_of(two, Claim(number=5, newer_than=5))
            assert (await holder_of(one, Claim(number=5, newer_than=5))).token == new.token
            assert new.token > old.token
            assert await one.commit(_KEY, old, self.entry(number=4)) is None
            assert await two.commit(_KEY, new, self.entry(number=5)) is not None

        self.run_machines(2, scenario)

    def test_a_lease_that_its_machine_knows_nothing_of_is_granted_anew_to_that_machine_alone(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            lost = await lease_of(one)
            assert (await holder_of(one)).token == lost.token
            assert (await holder_of(two, Claim(reclaims=True))).token == lost.token
            lease = await lease_of(one, Claim(reclaims=True))
            assert lease.token > lost.token
            assert await one.commit(_KEY, lost, self.entry(b"late")) is None
            assert await one.commit(_KEY, lease, self.entry(b"in time")) is not None

        self.run_machines(2, scenario)

    def test_a_lease_that_its_machine_knows_nothing_of_is_given_back_by_claiming_it_once_more(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            await lease_of(one)
            bell = two.listen(_KEY)
            await holder_of(two)
            await self.ready(two, bell)
            await one.release(_KEY, await lease_of(one, Claim(reclaims=True, waits=False)))
            assert await bell.rung(_PATIENCE)
            bell.close()
            await lease_of(two)

        self.run_machines(2, scenario)

    def test_a_caller_that_is_cancelled_disturbs_nobody(self) -> None:
        async def scenario(one: LeaseStore, two: LeaseStore) -> None:
            await one.set(_KEY, self.entry(b"there"))
            asks = [asyncio.ensure_future(one.look(_KEY, Claim())) for _ in range(30)]
            await asyncio.sleep(0)
            for ask in asks[::2]:
                ask.cancel()
            for ask in asks[1::2]:
                self.assert_same((await ask).entry, self.entry(b"there"))
            self.assert_same(await one.get(_KEY), self.entry(b"there"))

        self.run_machines(2, scenario)
