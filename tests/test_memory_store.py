"""The memory store where the contract and the model leave something to say: causes, bounds, hooks, settings."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Any

import cachetools
import pytest

from glasscache.errors import ConfigurationError, StoreError
from glasscache.interfaces import NearStore, Store
from glasscache.stores._index import Calendar
from glasscache.stores._null import NullNear, NullStore
from glasscache.stores.memory import MemoryStore, weigh
from glasscache.testing import FlakyStore, ManualClock, entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from glasscache._entry import Entry, Key
    from glasscache._events import Cause

Told = list[tuple["Key", "Cause"]]


def watched(store: MemoryStore) -> Told:
    told: Told = []
    store.watch(lambda key, gone, cause: told.append((key, cause)))
    return told


# --- room ---------------------------------------------------------------------------------------------------


def test_the_least_recently_used_is_evicted_when_the_entries_are_too_many() -> None:
    store = MemoryStore(max_entries=2)
    told = watched(store)
    store.put(b"1", entry())
    store.put(b"2", entry())
    store.peek(b"1")
    store.put(b"3", entry())
    assert told == [(b"2", "evicted")]


def test_as_many_are_evicted_as_the_bytes_need_and_no_more() -> None:
    small, large = entry(bytes(1000)), entry(bytes(2500))
    store = MemoryStore(max_bytes=4 * weigh(b"1", small))
    told = watched(store)
    for key in (b"1", b"2", b"3", b"4"):
        store.put(key, small)
    assert store.gauge().size == store.gauge().size_limit
    store.put(b"5", large)
    assert told == [(b"1", "evicted"), (b"2", "evicted")]
    assert store.gauge().size == 2 * weigh(b"1", small) + weigh(b"5", large)


def test_what_is_replaced_makes_room_for_what_replaces_it() -> None:
    store = MemoryStore(max_entries=2)
    told = watched(store)
    store.put(b"1", entry())
    store.put(b"2", entry())
    store.put(b"1", entry(b"newer"))
    assert told == [(b"1", "replaced")]


def test_an_entry_that_must_go_to_make_room_for_its_own_successor_is_replaced_not_evicted() -> None:
    store = MemoryStore(max_bytes=2 * weigh(b"1", entry(bytes(1000))))
    told = watched(store)
    store.put(b"1", entry(bytes(1000)))
    store.put(b"2", entry(bytes(1000)))
    assert store.put(b"1", entry(bytes(1001)))
    assert told == [(b"1", "replaced"), (b"2", "evicted")]
    assert store.peek(b"1") is not None


def test_a_popular_entry_stays_popular_when_it_is_refreshed() -> None:
    store = MemoryStore(cache=cachetools.LFUCache(2))
    store.put(b"hot", entry())
    for _ in range(5):
        store.peek(b"hot")
    store.put(b"hot", entry(b"refreshed"))
    store.put(b"once", entry())
    store.peek(b"once")
    store.put(b"new", entry())
    assert store.peek(b"hot") is not None
    assert store.peek(b"once") is None


def test_an_entry_larger_than_the_store_is_rejected_and_evicts_nobody() -> None:
    store = MemoryStore(max_bytes=10_000)
    told = watched(store)
    store.put(b"1", entry())
    assert not store.put(b"2", entry(bytes(10_000)))
    assert told == [(b"2", "rejected")]
    assert store.peek(b"1") is not None


def test_a_newer_answer_that_cannot_be_kept_does_not_leave_the_older_one() -> None:
    store = MemoryStore(max_bytes=10_000)
    told = watched(store)
    store.put(b"key", entry())
    assert not store.put(b"key", entry(bytes(10_000)))
    assert store.peek(b"key") is None
    assert told == [(b"key", "replaced"), (b"key", "rejected")]


def test_an_entry_larger_than_the_caches_own_bound_is_rejected() -> None:
    cache: cachetools.Cache[Key, Entry] = cachetools.LRUCache(100, getsizeof=lambda entry: entry.size)
    store = MemoryStore(cache=cache)
    told = watched(store)
    assert not store.put(b"key", entry(bytes(101)))
    assert told == [(b"key", "rejected")]


class Choosy(cachetools.LRUCache[Any, Any]):
    """Admits nothing that is empty; raises for what is short."""

    def __setitem__(self, key: Any, value: Any) -> None:
        if len(value.body) == 1:
            raise ValueError("too short")
        if value.body:
            super().__setitem__(key, value)


@pytest.mark.parametrize("body", [b"", b"1"])
def test_what_the_cache_does_not_admit_is_rejected(body: bytes) -> None:
    store = MemoryStore(cache=Choosy(10))
    told = watched(store)
    assert store.put(b"key", entry(b"kept"))
    assert not store.put(b"key", entry(body))
    assert told[-1] == (b"key", "rejected")
    assert store.put(b"key", entry(b"again"))


def test_an_entry_counts_body_headers_key_tags_and_bookkeeping() -> None:
    plain = weigh(b"key", entry(b"", headers=()))
    assert weigh(b"longer key", entry(b"", headers=())) == plain + 7
    assert weigh(b"key", entry(b"12345", headers=())) == plain + 5
    assert weigh(b"key", entry(b"", headers=((b"a", b"bc"),))) == plain + 7
    assert weigh(b"key", entry(b"", headers=(), tags=("a" * 50,))) > plain + 50


# --- caches that expire by themselves -----------------------------------------------------------------------


def test_what_a_ttl_cache_lets_go_is_told_as_expired() -> None:
    clock = ManualClock()
    store = MemoryStore(cache=cachetools.TTLCache(2, 10.0, clock.now))
    told = watched(store)
    store.put(b"1", entry(tags=("a",)))
    store.put(b"2", entry())
    clock.advance(10.0)
    assert store.peek(b"1") is None
    store.put(b"3", entry())
    assert told == [(b"1", "expired"), (b"2", "expired")]
    assert store.drop_tag("a") == 0
    assert store.gauge().entries == 1


def test_a_sweep_settles_with_a_ttl_cache_even_if_no_entry_is_dead() -> None:
    clock = ManualClock()
    store = MemoryStore(cache=cachetools.TTLCache(2, 10.0, clock.now))
    told = watched(store)
    store.put(b"1", entry())
    clock.advance(10.0)
    assert store.sweep(clock.now()) is None
    assert told == [(b"1", "expired")]


def test_dead_on_arrival_at_a_tlru_cache_is_rejected_and_leaves_no_older_answer() -> None:
    clock = ManualClock()

    def until(key: Key, entry: Entry, now: float) -> float:
        return now + len(entry.body)

    store = MemoryStore(cache=cachetools.TLRUCache(10, until, clock.now))
    told = watched(store)
    assert store.put(b"key", entry(b"older"))
    assert not store.put(b"key", entry(b""))
    assert store.peek(b"key") is None
    assert told == [(b"key", "replaced"), (b"key", "rejected")]


# --- time ---------------------------------------------------------------------------------------------------


def test_sweep_names_the_second_by_which_the_next_one_is_dead() -> None:
    store = MemoryStore()
    store.put(b"1", entry(fresh_until=1010.0))
    store.put(b"2", entry(fresh_until=1020.25))
    store.put(b"3", entry(fresh_until=1020.75))
    store.put(b"for ever", entry(fresh_until=math.inf))
    told = watched(store)
    assert store.sweep(1009.9) == 1010.0
    assert store.sweep(1010.0) == 1021.0
    assert store.sweep(1020.5) == 1021.0
    assert told == [(b"1", "expired"), (b"2", "expired")]
    assert store.sweep(math.inf) is None
    assert store.gauge().entries == 1
    assert store.drop(b"for ever")


def test_the_second_of_an_entry_that_is_gone_is_not_named() -> None:
    store = MemoryStore()
    store.put(b"1", entry(fresh_until=1010.0))
    store.put(b"2", entry(fresh_until=1020.0))
    store.drop(b"1")
    assert store.sweep(1000.0) == 1020.0


def test_the_calendar_stays_small_under_constant_replacement() -> None:
    calendar = Calendar()
    calendar.note(5000.0, b"stays")
    for number in range(10_000):
        calendar.note(float(number), b"key")
        calendar.strike(float(number), b"key")
    assert len(calendar._order) < 100
    assert calendar.next() == 5000.0
    assert calendar.until(5000.0) == [b"stays"]


def test_forgetting_an_entry_twice_named_by_one_tag_is_no_error() -> None:
    store = MemoryStore()
    store.put(b"key", entry(tags=("a", "a")))
    assert store.drop_tag("a") == 1
    assert store.gauge().size == 0


# --- hooks --------------------------------------------------------------------------------------------------


def test_a_hook_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()

    def broken(key: Key, gone: Entry, cause: Cause) -> None:
        raise LookupError("a hook's own trouble")

    store.watch(broken)
    with caplog.at_level(logging.ERROR, logger="glasscache"):
        for _ in range(3):
            store.put(b"key", entry())
            assert store.drop(b"key")
    assert [record.getMessage() for record in caplog.records] == [
        "a removal hook of the memory store raised; further failures are not logged"
    ]


def test_hooks_hear_of_a_removal_when_the_store_is_consistent_again() -> None:
    store = MemoryStore(max_entries=1)
    seen: list[tuple[int, Entry | None]] = []
    store.watch(lambda key, gone, cause: seen.append((store.gauge().entries, store.peek(b"2"))))
    newer = entry(b"newer")
    store.put(b"1", entry())
    store.put(b"2", newer)
    assert seen == [(1, newer)]


# --- settings -----------------------------------------------------------------------------------------------


def missing(cache: cachetools.Cache[Key, Entry], key: Key) -> Entry:
    raise KeyError(key)


def used() -> cachetools.Cache[Key, Entry]:
    cache: cachetools.Cache[Key, Entry] = cachetools.LRUCache(10)
    cache[b"key"] = entry()
    return cache


@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (lambda: MemoryStore(max_entries=0), r"max_entries=0\): give a whole number, 1 or more"),
        (lambda: MemoryStore(max_entries="100"), r"max_entries='100'\): give a whole number"),  # type: ignore[arg-type]
        (lambda: MemoryStore(max_bytes=0), r"max_bytes=0\): give a whole number, 1 or more"),
        (lambda: MemoryStore(max_bytes=1e9), r"max_bytes=1000000000.0\): give a whole"),  # type: ignore[arg-type]
        (lambda: MemoryStore(max_entries=5, cache=cachetools.LRUCache(5)), "leave out max_entries"),
        (lambda: MemoryStore(cache=used()), "give an empty cache"),
        (
            lambda: MemoryStore(cache=type("Making", (cachetools.LRUCache,), {"__missing__": missing})(5)),
            "without __missing__",
        ),
    ],
)
def test_a_setting_that_cannot_work_is_refused_with_its_remedy(make: Callable[[], MemoryStore], remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        make()


@pytest.mark.parametrize(
    ("store", "limit"),
    [
        (MemoryStore(), 1000),
        (MemoryStore(max_entries=7), 7),
        (MemoryStore(cache=cachetools.LFUCache(8)), 8),
        (MemoryStore(cache=cachetools.LRUCache(math.inf)), 0),
        (MemoryStore(cache=cachetools.LRUCache(9, getsizeof=lambda entry: entry.size)), 0),
    ],
)
def test_the_gauge_tells_the_bound_of_entries_or_0_where_there_is_none(store: MemoryStore, limit: int) -> None:
    assert store.gauge() == ("memory", 0, limit, 0, 64 * 1024**2)


# --- null stores --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", [NullStore(), NullNear()])
def test_a_null_store_is_a_store_that_keeps_nothing(store: Store) -> None:
    async def scenario() -> None:
        await store.set(b"key", entry())
        assert await store.get(b"key") is None
        await store.delete(b"key")
        await store.aclose()

    assert isinstance(store, Store)
    assert store.name == "none"
    asyncio.run(scenario())


def test_a_null_near_store_refuses_everything_and_tells_nothing() -> None:
    store: NearStore = NullNear()
    told: list[Key] = []
    store.watch(lambda key, gone, cause: told.append(key))
    assert isinstance(store, NearStore)
    assert not store.put(b"key", entry())
    assert store.peek(b"key") is None
    assert not store.drop(b"key")
    assert store.drop_tag("a") == 0
    assert store.clear() == 0
    assert store.sweep(math.inf) is None
    assert store.gauge() == ("none", 0, 0, 0, 0)
    assert told == []


# --- the flaky store ----------------------------------------------------------------------------------------


def test_a_flaky_store_fails_when_told_to_and_heals() -> None:
    async def scenario() -> None:
        store = FlakyStore(MemoryStore())
        await store.set(b"key", entry())
        store.fail("get")
        with pytest.raises(StoreError, match="get fails"):
            await store.get(b"key")
        await store.delete(b"other")
        store.fail(error=OSError("cut"))
        for call in (store.get(b"key"), store.set(b"key", entry()), store.delete(b"key")):
            with pytest.raises(OSError, match="cut"):
                await call
        store.heal()
        assert await store.get(b"key") is not None
        assert store.calls == {"set": 2, "get": 3, "delete": 2}
        assert store.name == "memory"

    asyncio.run(scenario())


def test_a_flaky_store_waits_at_the_gate_it_was_given() -> None:
    async def scenario() -> None:
        store = FlakyStore(MemoryStore())
        await store.set(b"key", entry())
        gate = asyncio.Event()
        store.hold(gate, "get")
        asked = asyncio.create_task(store.get(b"key"))
        await asyncio.sleep(0)  # its turn
        assert store.calls["get"] == 1
        assert not asked.done()
        store.heal()
        assert await store.get(b"key") is not None, "who comes later passes"
        gate.set()
        assert await asked is not None
        store.hold(asyncio.Event())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await store.delete(b"key")

    asyncio.run(scenario())
