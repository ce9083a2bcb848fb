"""The memory store against a plain dict, over every kind of cache: nothing is lost, nothing is counted twice.

The model learns which entry a policy gave up from the store's own reports and holds the store to them: what was put
is either kept or was told gone, once, with a cause that can be right.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, OrderedDict
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import cachetools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from glasscache.stores._recent import Recent
from glasscache.stores.memory import MemoryStore, weigh
from glasscache.testing import ManualClock, entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from glasscache._entry import Entry, Key
    from glasscache._events import Cause

PEEK = cachetools.Cache.__getitem__  # a look that is no use
ROOM = 6000
KEYS = st.sampled_from([b"key %d" % number for number in range(9)])
BODIES = st.sampled_from([0, 1, 300, 1500, ROOM])
TAGS = st.lists(st.sampled_from(["a", "b", "c"]), max_size=3).map(tuple)
TIMES = st.sampled_from([0.0, 0.25, 1.0, 1.5, 7.0, 60.0, math.inf])


class Restless:
    """A clock that moves at every look: between any two steps of the store, time passes."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock

    def __call__(self) -> float:
        self.clock.advance(0.125)
        return self.clock.now()


class Moody(cachetools.LRUCache[Any, Any]):
    """Drops and refuses as it likes, without a word."""

    def __getitem__(self, key: Any) -> Any:
        value = super().__getitem__(key)
        if value.size % 3 == 0:
            del self[key]
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        if value.size % 5 == 0:
            raise ValueError("not today")
        if value.size % 7 != 0:
            super().__setitem__(key, value)
        if len(self) > 2:
            self.popitem()

    def popitem(self) -> tuple[Any, Any]:
        for key in self:
            value = cachetools.Cache.__getitem__(self, key)
            del self[key]
            return key, value
        raise KeyError


class Quiet(cachetools.LRUCache[Any, Any]):
    """Forgets its oldest when it is asked to, and does not say which that was."""

    def expire(self) -> None:
        if len(self) > 3:
            self.popitem()


def size(entry: Entry) -> int:
    return entry.size


def until(key: Key, entry: Entry, now: float) -> float:
    return now + entry.size % 11


CACHES: dict[str, Callable[[ManualClock], cachetools.Cache[Key, Entry] | None]] = {
    "default": lambda clock: None,
    "lru": lambda clock: cachetools.LRUCache(4),
    "lru by bytes": lambda clock: cachetools.LRUCache(2000, getsizeof=size),
    "lfu": lambda clock: cachetools.LFUCache(4),
    "lfu by bytes": lambda clock: cachetools.LFUCache(2000, getsizeof=size),
    "fifo": lambda clock: cachetools.FIFOCache(4),
    "random": lambda clock: cachetools.RRCache(4, choice=lambda keys: sorted(keys)[0]),
    "plain": lambda clock: cachetools.Cache(4),
    "ttl": lambda clock: cachetools.TTLCache(4, 5.0, clock.now),
    "ttl in a hurry": lambda clock: cachetools.TTLCache(4, 5.0, Restless(clock)),
    "ttl by bytes": lambda clock: cachetools.TTLCache(2000, 5.0, clock.now, size),
    "ttl of nothing": lambda clock: cachetools.TTLCache(4, 0.0, clock.now),
    "tlru": lambda clock: cachetools.TLRUCache(4, until, clock.now),
    "tlru in a hurry": lambda clock: cachetools.TLRUCache(4, until, Restless(clock)),
    "moody": lambda clock: Moody(4),
    "quiet": lambda clock: Quiet(5),
    "nothing fits": lambda clock: cachetools.LRUCache(0),
}


class Model(RuleBasedStateMachine):
    """What was put and not told gone is there; all sums agree."""

    kind: ClassVar[str]

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock()
        cache = CACHES[self.kind](self.clock)
        self.store = MemoryStore(max_entries=None if cache is not None else 4, max_bytes=ROOM, cache=cache)
        self.cache = self.store._cache
        self.store.watch(self.told)
        self.live: dict[Key, Entry] = {}
        self.arriving: tuple[Key, Entry] | None = None
        self.causes: Counter[Cause] = Counter()
        self.puts = 0

    def told(self, key: Key, gone: Entry, cause: Cause) -> None:
        self.causes[cause] += 1
        if cause == "rejected":
            assert self.arriving == (key, gone)
            self.arriving = None
            return
        if self.arriving is not None and self.arriving[1] is gone:  # a moody cache dropped it at once
            self.arriving = None
            return
        assert self.live.pop(key) is gone, "told gone twice, or never put"
        if cause == "evicted" and self.kind not in ("moody", "quiet"):
            assert self.arriving is not None
            assert self.arriving[0] != key, "its own successor made it go: replaced"
        if cause == "replaced":
            assert self.arriving is not None
            assert self.arriving[0] == key

    def settled(self) -> None:
        """After a change the cache holds what the books say: the very same entries, no fewer."""
        if "hurry" not in self.kind:
            look = self.cache.table.get if isinstance(self.cache, Recent) else partial(PEEK, self.cache)
            held = {key: look(key) for key in self.cache}
            assert held == self.live

    @rule(key=KEYS, body=BODIES, more=st.integers(0, 12), tags=TAGS, lives=TIMES)
    def put(self, key: Key, body: int, more: int, tags: tuple[str, ...], lives: float) -> None:
        new = entry(bytes(body + more), headers=(), tags=tags, fresh_until=self.clock.now() + lives)
        self.arriving = (key, new)
        self.puts += 1
        before = self.causes.copy()
        kept = self.store.put(key, new)
        assert kept == (self.causes["rejected"] == before["rejected"])
        if self.arriving is not None:
            assert kept
            assert key not in self.live, "an older answer outlived a newer one"
            self.live[key] = new
        self.arriving = None
        self.settled()

    @rule(key=KEYS)
    def peek(self, key: Key) -> None:
        found = self.store.peek(key)
        assert found is None or found is self.live[key]
        if self.kind not in ("moody", "quiet") and "tl" not in self.kind:
            assert (found is not None) == (key in self.live)

    @rule(key=KEYS, cause=st.sampled_from(["invalidated", "expired"]))
    def drop(self, key: Key, cause: Cause) -> None:
        before = self.causes[cause]
        found = self.store.drop(key, cause)
        assert key not in self.live
        assert self.causes[cause] >= before + found
        self.settled()

    @rule(tag=st.sampled_from(["a", "b", "c"]))
    def drop_tag(self, tag: str) -> None:
        before = self.causes["invalidated"]
        assert self.store.drop_tag(tag) == self.causes["invalidated"] - before
        assert not any(tag in kept.tags for kept in self.live.values())
        self.settled()

    @rule()
    def clear(self) -> None:
        before = self.causes["invalidated"]
        assert self.store.clear() == self.causes["invalidated"] - before
        assert self.live == {}

    @rule(seconds=st.sampled_from([0.0, 0.25, 1.0, 3.0, 10.0]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        now = self.clock.now()
        again = self.store.sweep(now)
        deaths = [kept.dead_from for kept in self.live.values() if kept.dead_from < math.inf]
        assert all(death > now for death in deaths)
        if deaths:
            assert again is not None
            assert min(deaths) <= again < min(deaths) + 1
        else:
            assert again is None

    @rule()
    def close(self) -> None:
        asyncio.run(self.store.aclose())
        self.live.clear()
        self.causes.clear()
        self.puts = 0

    @invariant()
    def nothing_is_lost_and_nothing_counted_twice(self) -> None:
        assert self.puts == len(self.live) + sum(self.causes.values())

    @invariant()
    def the_books_agree_with_the_model(self) -> None:
        gauge = self.store.gauge()
        assert self.store._live == self.live
        assert gauge.entries == len(self.live)
        assert gauge.size == sum(weigh(key, kept) for key, kept in self.live.items())

    @invariant()
    def no_bound_is_exceeded(self) -> None:
        gauge = self.store.gauge()
        assert gauge.size <= gauge.size_limit == ROOM
        assert self.cache.currsize <= self.cache.maxsize
        if gauge.entry_limit:
            assert gauge.entries <= gauge.entry_limit

    @invariant()
    def the_cache_holds_nothing_that_is_not_in_the_books(self) -> None:
        assert set(self.cache) <= set(self.live)

    @invariant()
    def both_indexes_name_what_is_kept_and_nothing_else(self) -> None:
        tags: dict[str, set[Key]] = {}
        seconds: dict[int, set[Key]] = {}
        for key, kept in self.live.items():
            for tag in kept.tags:
                tags.setdefault(tag, set()).add(key)
            if kept.dead_from < math.inf:
                seconds.setdefault(math.ceil(kept.dead_from), set()).add(key)
        assert {tag: set(keys) for tag, keys in self.store._tags.items()} == tags
        assert {second: set(keys) for second, keys in self.store._deaths._seconds.items()} == seconds
        assert set(seconds) <= set(self.store._deaths._order)
        assert len(self.store._deaths._order) <= 2 * len(seconds) + 65


@pytest.mark.parametrize("kind", CACHES)
def test_the_store_agrees_with_the_model(kind: str) -> None:
    run_state_machine_as_test(
        type("ModelOfOneKind", (Model,), {"kind": kind}),
        settings=settings(max_examples=12, stateful_step_count=40, deadline=None, derandomize=True),
    )


class ExactLRU:
    """What a store of four entries and `ROOM` bytes must do."""

    def __init__(self) -> None:
        self.weights: OrderedDict[Key, int] = OrderedDict()
        self.evicted: list[Key] = []

    def full_for(self, key: Key, weight: int) -> bool:
        rest = {other: size for other, size in self.weights.items() if other != key}
        return len(rest) > 3 or sum(rest.values()) + weight > ROOM

    def put(self, key: Key, weight: int) -> bool:
        if weight > ROOM:
            self.weights.pop(key, None)
            return False
        while self.full_for(key, weight):
            victim, _ = self.weights.popitem(last=False)
            if victim != key:
                self.evicted.append(victim)
        self.weights[key] = weight
        self.weights.move_to_end(key)
        return True

    def peek(self, key: Key) -> bool:
        if key in self.weights:
            self.weights.move_to_end(key)
        return key in self.weights


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from(["put", "peek", "drop"]), KEYS, BODIES), max_size=60))
def test_the_default_evicts_the_least_recently_used_and_no_more_than_needed(
    steps: list[tuple[str, Key, int]],
) -> None:
    store, model = MemoryStore(max_entries=4, max_bytes=ROOM), ExactLRU()
    evicted: list[Key] = []
    store.watch(lambda key, gone, cause: evicted.append(key) if cause == "evicted" else None)
    for step, key, body in steps:
        if step == "peek":
            assert (store.peek(key) is not None) == model.peek(key)
        elif step == "drop":
            assert store.drop(key) == (model.weights.pop(key, None) is not None)
        else:
            new = entry(bytes(body))
            assert store.put(key, new) == model.put(key, weigh(key, new))
    assert evicted == model.evicted
    assert {key: weigh(key, kept) for key, kept in store._live.items()} == model.weights


STEPS: dict[str, Callable[[Any, bytes, Entry], object]] = {
    "get": lambda cache, key, value: cache[key],
    "look": lambda cache, key, value: key in cache,
    "set": lambda cache, key, value: cache.__setitem__(key, value),
    "delete": lambda cache, key, value: cache.__delitem__(key),
    "evict": lambda cache, key, value: cache.popitem(),
    "clear": lambda cache, key, value: cache.clear(),
}


def after(cache: cachetools.Cache[Any, Any], step: str, key: bytes, value: Entry) -> object:
    """What came of a step."""
    try:
        found = STEPS[step](cache, key, value)
    except KeyError:
        return "nothing there"
    return found, len(cache), sorted(cache), cache.currsize


@given(st.lists(st.tuples(st.sampled_from((*STEPS, "set", "set")), KEYS)))
@example([("set", b"key %d" % number) for number in range(5)])
@example([("look", b"key 0")])
def test_the_default_evicts_as_the_lru_cache_of_cachetools_does(steps: list[tuple[str, bytes]]) -> None:
    ours, model = Recent(4), cachetools.LRUCache[Any, Any](4)
    for step, key in steps:
        value = entry(b"x")
        assert after(ours, step, key, value) == after(model, step, key, value)
