"""The default eviction: whoever was not asked for the longest goes first.

Decides what `cachetools.LRUCache` decides. It is here for the price: a hit passes through one Python function instead
of five, and an entry stands in one table instead of three: here, in the base class, and in the books of the store,
which reads this one. Must never remove an entry while the store has made room: the books would not hear of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

import cachetools

from glasscache._entry import Entry, Key


class Recent(cachetools.Cache[Key, Entry]):
    """At most `maxsize` entries; the least recently used one is evicted."""

    def __init__(self, maxsize: float) -> None:
        super().__init__(maxsize)
        self.table: OrderedDict[Key, Entry] = OrderedDict()
        """All entries, the least recently used first; to look at it is no use."""

    def __getitem__(self, key: Key) -> Entry:
        entry = self.table[key]
        self.table.move_to_end(key)
        return entry

    def __setitem__(self, key: Key, entry: Entry) -> None:
        while len(self.table) >= self.maxsize and key not in self.table:
            self.popitem()
        self.table[key] = entry
        self.table.move_to_end(key)

    def __delitem__(self, key: Key) -> None:
        del self.table[key]

    def __contains__(self, key: object) -> bool:
        return key in self.table

    def __iter__(self) -> Iterator[Key]:
        return iter(self.table)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def currsize(self) -> int:
        """How many there are."""
        return len(self.table)

    def popitem(self) -> tuple[Key, Entry]:
        """Remove and return the least recently used. KeyError if there is none."""
        return self.table.popitem(last=False)

    def clear(self) -> None:
        """Remove all of them."""
        self.table.clear()
