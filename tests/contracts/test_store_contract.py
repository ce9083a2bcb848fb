"""Every store that ships keeps the contract that ships; and stores that break it are found out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cachetools
import pytest

from glasscache.stores.memory import MemoryStore
from glasscache.testing import FlakyStore, LeaseStoreContract, ManualClock, NearStoreContract, StoreContract

if TYPE_CHECKING:
    from collections.abc import Callable

    from glasscache.interfaces import Cause, Entry, Key, NearStore, Store


class TestMemoryStore(NearStoreContract):
    def make_store(self) -> NearStore:
        return MemoryStore()


class TestMemoryStoreOverLFU(NearStoreContract):
    def make_store(self) -> NearStore:
        return MemoryStore(cache=cachetools.LFUCache(1000))


class TestMemoryStoreOverFIFOCountingBytes(NearStoreContract):
    def make_store(self) -> NearStore:
        return MemoryStore(cache=cachetools.FIFOCache(4 * 1024**2, getsizeof=lambda entry: entry.size))


class TestMemoryStoreOverRandomReplacement(NearStoreContract):
    def make_store(self) -> NearStore:
        return MemoryStore(cache=cachetools.RRCache(1000))


class TestMemoryStoreOverTTLCache(NearStoreContract):
    def make_store(self) -> NearStore:
        return MemoryStore(cache=cachetools.TTLCache(1000, 3600.0, self.clock.now))


class TestMemoryStoreOverTLRUCache(NearStoreContract):
    def make_store(self) -> NearStore:
        def until(key: Key, entry: Entry, now: float) -> float:
            return now + 3600.0

        return MemoryStore(cache=cachetools.TLRUCache(1000, until, self.clock.now))


class TestMemoryStoreOverAnUnboundedCache(NearStoreContract):
    def make_store(self) -> NearStore:
        return MemoryStore(cache=cachetools.Cache(math.inf))


class TestFlakyStoreThatIsNotToldToFail(StoreContract):
    def make_store(self) -> Store:
        return FlakyStore(MemoryStore())


# --- the contract notices -----------------------------------------------------------------------------------


class CopyingStore(MemoryStore):
    """Loses the boundaries of messages."""

    def put(self, key: Key, entry: Entry) -> bool:
        return super().put(key, entry.but(chunks=(entry.body,)))


class DriftingStore(MemoryStore):
    """Its clock is not the one by which the entries are meant."""

    async def get(self, key: Key) -> Entry | None:
        found = await super().get(key)
        if found is not None:
            found.fresh_until += 1.0
        return found


class StickyStore(MemoryStore):
    """Keeps what it was told to delete."""

    async def delete(self, key: Key) -> None:
        pass


class FirstStore(MemoryStore):
    """Keeps the older of two."""

    def put(self, key: Key, entry: Entry) -> bool:
        return self.peek(key) is not None or super().put(key, entry)


class SilentStore(MemoryStore):
    """Tells no removal."""

    def _tell(self) -> None:
        self._gone.clear()


class ForgetfulStore(MemoryStore):
    """Tells the wrong cause."""

    def drop(self, key: Key, cause: Cause = "evicted") -> bool:
        return super().drop(key, "evicted")


class LazyStore(MemoryStore):
    """Never sweeps."""

    def sweep(self, now: float) -> float | None:
        return None


class StayingStore(MemoryStore):
    """Closes without letting go."""

    async def aclose(self) -> None:
        pass


class FinalStore(MemoryStore):
    """Closes for good."""

    async def aclose(self) -> None:
        del self._cache


def broken_by(make: Callable[[], MemoryStore]) -> set[str]:
    """The contract's tests that such a store fails."""

    class Contract(NearStoreContract):
        def make_store(self) -> NearStore:
            return make()

    failed = set()
    for name in dir(Contract):
        if name.startswith("test_"):
            try:
                getattr(Contract(), name)()
            except (AssertionError, AttributeError):
                failed.add(name)
    return failed


@pytest.mark.parametrize(
    ("make", "test"),
    [
        (CopyingStore, "test_every_field_of_an_entry_comes_back"),
        (DriftingStore, "test_a_vary_marker_comes_back"),
        (StickyStore, "test_a_deleted_entry_is_gone_and_the_others_stay"),
        (FirstStore, "test_the_newer_of_two_entries_is_kept"),
        (SilentStore, "test_a_replaced_entry_is_told"),
        (ForgetfulStore, "test_drop_removes_one_entry_and_tells_the_cause_given"),
        (LazyStore, "test_sweep_removes_the_dead_and_says_when_to_come_again"),
        (StayingStore, "test_closing_is_no_removal"),
        (FinalStore, "test_a_closed_store_may_be_used_again"),
        (lambda: MemoryStore(max_entries=100), "test_many_operations_at_once_do_not_mix_entries_up"),
        (lambda: MemoryStore(max_bytes=10_000), "test_a_body_may_have_a_megabyte"),
    ],
)
def test_a_store_that_breaks_a_promise_fails_the_contract(make: Callable[[], MemoryStore], test: str) -> None:
    assert test in broken_by(make)


def test_a_store_that_keeps_every_promise_passes() -> None:
    assert broken_by(MemoryStore) == set()


@pytest.mark.parametrize("contract", [StoreContract, NearStoreContract, LeaseStoreContract])
def test_a_contract_without_a_store_says_what_is_missing(contract: type[StoreContract]) -> None:
    with pytest.raises(NotImplementedError):
        contract().make_store()


def test_the_entries_of_a_contract_follow_its_clock() -> None:
    contract = StoreContract()
    assert isinstance(contract.clock, ManualClock)
    contract.clock.advance(5.0)
    made = contract.entry()
    assert (made.born, made.fresh_until, made.settled_until) == (1005.0, 1305.0, 1295.0)
