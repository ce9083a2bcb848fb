"""The memory tier: entries in this process, bounded by entries and bytes, every removal told with its cause.

Decides how many bytes an entry counts, that room is made before the cache would make it by itself, and which
cause a removal has. Which entry has to go is decided by the `cachetools.Cache` alone; whether a stored answer
may still be served is decided by the engine. Must never await, read a clock, or let the books and the cache
drift apart: a cache may remove by itself (a TTLCache does), so the books are settled around every change.
"""

from __future__ import annotations

import logging
import math
from collections import OrderedDict
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import cachetools

from glasscache._events import Cause, TierGauge
from glasscache.errors import ConfigurationError
from glasscache.stores._index import Calendar, Index
from glasscache.stores._recent import Recent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from glasscache._entry import Entry, Key
    from glasscache.interfaces import RemovalHook, Steps

_PER_ENTRY = 600
"""Bytes that an entry takes beside body, headers and key.

Measured with tracemalloc on CPython 3.11 for 1,000 to 1,000,000 entries of one chunk: 400 to 430 where their header
fields are alike, up to 600 where each has some of its own.
"""
_PER_TAG = 300
"""Bytes that a tag takes beside its text, if no other entry carries it (measured likewise)."""

_log = logging.getLogger(__name__)


class MemoryStore:
    """Answers from memory: the near tier.

    It is bounded by `max_entries` (default 1000) and `max_bytes` (default 64 MiB: body, headers, key, tags
    and bookkeeping count, see `weigh`). `cache` is the eviction policy, any empty `cachetools.Cache`; the
    default evicts the least recently used. Its bound is its `maxsize`, so `max_entries` is then left out.
    Raises `ConfigurationError` for values that cannot work.

    For one event loop: not safe for several threads, except `gauge`, which only reads.
    """

    name = "memory"

    def __init__(
        self,
        *,
        max_entries: int | None = None,
        max_bytes: int = 64 * 1024**2,
        cache: cachetools.Cache[Key, Entry] | None = None,
    ) -> None:
        bounds: dict[str, object] = {"max_entries": 1 if max_entries is None else max_entries, "max_bytes": max_bytes}
        for name, bound in bounds.items():
            if not (isinstance(bound, int) and bound >= 1):
                raise ConfigurationError(f"MemoryStore({name}={bound!r}): give a whole number, 1 or more")
        self._cache = _policy(max_entries, cache)
        self._table = self._cache.table if isinstance(self._cache, Recent) else None
        self._most = self._cache.maxsize
        self._max_bytes = max_bytes
        self._hooks: list[RemovalHook] = []
        self._hook_failed = False
        # While its timer is entered, a timed cache sees one time only: nothing vanishes between two steps.
        self._frozen: AbstractContextManager[object] = (
            self._cache.timer if isinstance(self._cache, (cachetools.TTLCache, cachetools.TLRUCache)) else nullcontext()
        )
        self._expire: Callable[[], Iterable[tuple[Key, Entry]] | None] = getattr(self._cache, "expire", tuple)
        self._expires_itself = hasattr(self._cache, "expire")
        self._start()

    def _start(self) -> None:
        # the books: what the cache holds, as far as was told; the default one removes nothing that it is not told to
        self._live: dict[Key, Entry] = {} if self._table is None else self._table
        self._bytes = 0
        self._tags = Index[str]()
        self._deaths = Calendar()
        self._gone: list[tuple[Key, Entry, Cause]] = []  # removals that the hooks have not heard of yet

    # --- what a hit costs -----------------------------------------------------------------------------------

    def peek(self, key: Key) -> Entry | None:
        """The entry, counted as a use by the eviction policy; its age is not judged."""
        if (table := self._table) is not None:
            entry = table.get(key)
            if entry is not None:
                table.move_to_end(key)
            return entry
        try:
            return self._cache[key]
        except KeyError:
            return None

    @property
    def steps(self) -> Steps | None:
        """See `Stepping`. None: not by this policy, or by this `peek`."""
        table = self._table
        return (table.get, table.move_to_end) if table is not None and type(self).peek is MemoryStore.peek else None

    # --- changes --------------------------------------------------------------------------------------------

    def put(self, key: Key, entry: Entry) -> bool:
        """Keep the entry; False if it was refused: larger than a bound, or not admitted by the cache.

        An older answer under the key goes in either case: it must not outlive a newer one.
        """
        weight, table = weigh(key, entry), self._table
        if table is not None and weight <= self._max_bytes and key not in table:
            # new to the default policy, which refuses nobody and removes nothing by itself
            if len(table) >= self._most or self._bytes + weight > self._max_bytes:
                self._evict(table, weight)
            self._note(key, entry, weight)
            if self._gone:
                self._tell()
            return True
        with self._frozen:
            self._settle()
            kept = self._fits(key, entry) and self._insert(key, entry)
            if not kept:
                self._remove(key, "replaced")
                self._gone.append((key, entry, "rejected"))
        self._tell()
        return kept

    def drop(self, key: Key, cause: Cause = "invalidated") -> bool:
        """Remove one entry; True if it was there."""
        return self._drop_all((key,), cause) == 1

    def drop_tag(self, tag: str) -> int:
        """Remove every entry that carries the tag; how many there were."""
        return self._drop_all(tuple(self._tags.get(tag, ())), "invalidated")

    def clear(self) -> int:
        """Remove every entry as invalidated; how many there were."""
        return self._drop_all(tuple(self._live), "invalidated")

    def doubt(self, now: float) -> None:
        """`Entry.doubt` for all of them."""
        for entry in self._live.values():
            entry.doubt(now)

    def sweep(self, now: float) -> float | None:
        """Remove what is dead at `now`; when to sweep next.

        That is when the next entry dies, rounded up to a whole second, so that a burst is swept at once;
        None: no entry will die.
        """
        live = self._live
        self._drop_all([key for key in self._deaths.until(now) if live[key].dead_from <= now], "expired")
        return self._deaths.next()

    def _drop_all(self, keys: Iterable[Key], cause: Cause) -> int:
        with self._frozen:
            self._settle()
            count = sum([self._remove(key, cause) for key in keys])
        self._tell()
        return count

    # --- telling --------------------------------------------------------------------------------------------

    def watch(self, hook: RemovalHook) -> None:
        """Call `hook(key, entry, cause)` after every removal and refusal, when the store is consistent again.

        A hook that raises is logged once and otherwise ignored.
        """
        self._hooks.append(hook)

    def gauge(self) -> TierGauge:
        """How full it is. May be called from any thread."""
        # Settling here would let a thread that collects metrics change the books.
        counts = self._cache.getsizeof is cachetools.Cache.getsizeof and self._cache.maxsize < math.inf
        limit = int(self._cache.maxsize) if counts else 0
        return TierGauge(self.name, len(self._live), limit, self._bytes, self._max_bytes)

    def _tell(self) -> None:
        if not self._gone:
            return
        gone, self._gone = self._gone, []
        for key, entry, cause in gone:
            for hook in self._hooks:
                try:
                    hook(key, entry, cause)
                except Exception:  # somebody else's hook must not cost an answer
                    if not self._hook_failed:
                        self._hook_failed = True
                        _log.exception("a removal hook of the memory store raised; further failures are not logged")

    # --- the store, awaited ---------------------------------------------------------------------------------

    async def get(self, key: Key) -> Entry | None:
        """As `peek`."""
        return self.peek(key)

    async def set(self, key: Key, entry: Entry) -> None:
        """As `put`."""
        self.put(key, entry)

    async def delete(self, key: Key) -> None:
        """As `drop`."""
        self.drop(key)

    async def aclose(self) -> None:
        """Forget everything; nothing is told, since nothing was decided about any entry."""
        self._cache.clear()
        self._start()

    # --- the books ------------------------------------------------------------------------------------------

    def _fits(self, key: Key, entry: Entry) -> bool:
        return weigh(key, entry) <= self._max_bytes and self._cache.getsizeof(entry) <= self._cache.maxsize

    def _insert(self, key: Key, entry: Entry) -> bool:
        self._make_room(key, entry)
        old = self._live.get(key)
        try:
            self._cache[key] = entry
        except ValueError:  # how cachetools refuses
            return False
        if not self._holds(key, entry):
            return False
        if old is not None:
            self._strike(key, old, "replaced")
        self._note(key, entry, weigh(key, entry))
        self._settle()
        return True

    def _evict(self, table: OrderedDict[Key, Entry], weight: int) -> None:
        """Make room for one more, that weighs this."""
        while table and (len(table) >= self._most or self._bytes + weight > self._max_bytes):
            victim, old = table.popitem(last=False)
            self._strike(victim, old, "evicted")

    def _note(self, key: Key, entry: Entry, weight: int) -> None:
        """Into the books."""
        self._live[key] = entry
        self._bytes += weight
        for tag in entry.tags:
            self._tags.add(tag, key)
        self._deaths.note(entry.dead_from, key)

    def _holds(self, key: Key, entry: Entry) -> bool:
        """Whether the cache took it: some refuse without a word, and some keep the older value then."""
        if self._live.get(key) is entry:
            return True
        # By the base class, as cachetools does it itself, so that the look is not counted as a use.
        return key in self._cache and cachetools.Cache.__getitem__(self._cache, key) is entry

    def _make_room(self, key: Key, entry: Entry) -> None:
        """Evict until the entry fits beside what stays, in place of what is kept under its key now."""
        getsizeof, limit = self._cache.getsizeof, self._cache.maxsize
        weight, size = weigh(key, entry), getsizeof(entry)
        while self._live:
            old = self._live.get(key)
            spare_bytes = self._max_bytes - self._bytes + (weigh(key, old) if old else 0)
            spare_size = limit - self._cache.currsize + (getsizeof(old) if old else 0)
            if weight <= spare_bytes and size <= spare_size:
                return
            victim, value = self._cache.popitem()
            self._strike(victim, self._live.pop(victim, value), "replaced" if victim == key else "evicted")
            self._settle()

    def _settle(self) -> None:
        """Take out of the books what the cache removed by itself."""
        for key, _ in self._expire() or ():
            self._forget(key, "expired")
        if len(self._cache) != len(self._live):
            for key in [key for key in self._live if key not in self._cache]:
                self._forget(key, "expired" if self._expires_itself else "evicted")

    def _remove(self, key: Key, cause: Cause) -> bool:
        was_there = self._forget(key, cause)
        with suppress(KeyError):
            del self._cache[key]
        return was_there

    def _forget(self, key: Key, cause: Cause) -> bool:
        entry = self._live.pop(key, None)
        if entry is None:
            return False
        self._strike(key, entry, cause)
        return True

    def _strike(self, key: Key, entry: Entry, cause: Cause) -> None:
        """Out of the books: it is gone."""
        self._bytes -= weigh(key, entry)
        for tag in entry.tags:
            self._tags.discard(tag, key)
        self._deaths.strike(entry.dead_from, key)
        self._gone.append((key, entry, cause))


def weigh(key: Key, entry: Entry) -> int:
    """Bytes that an entry counts in the memory tier: body, headers, key, tags, and the bookkeeping of all."""
    weight = entry.size + len(key) + _PER_ENTRY
    return weight + sum(len(tag) + _PER_TAG for tag in entry.tags) if entry.tags else weight


def _policy(max_entries: int | None, cache: cachetools.Cache[Key, Entry] | None) -> cachetools.Cache[Key, Entry]:
    if cache is None:
        return Recent(1000 if max_entries is None else max_entries)
    if max_entries is not None:
        raise ConfigurationError(
            f"MemoryStore(max_entries={max_entries!r}, cache=...): leave out max_entries, cache has maxsize"
        )
    if len(cache):
        raise ConfigurationError(f"MemoryStore(cache=<{len(cache)} entries>): give an empty cache, used by nobody else")
    if type(cache).__missing__ is not cachetools.Cache.__missing__:
        raise ConfigurationError(
            f"MemoryStore(cache={type(cache).__name__}()): give one without __missing__: loads make entries"
        )
    return cache
