"""The default eviction: whoever was not asked for the longest goes first.

Decides what `cachetools.LRUCache` decides. It is here for the price of a hit alone: that one passes through five Python
functions for each, this one through one.
"""

from __future__ import annotations

from collections import OrderedDict

import cachetools

from glasscache._entry import Entry, Key


class Recent(cachetools.Cache[Key, Entry]):
    """At most `maxsize` entries; the least recently used one is evicted."""

    def __init__(self, maxsize: float) -> None:
        super().__init__(maxsize)
        self._order: OrderedDict[Key, Entry] = OrderedDict()

    def __getitem__(self, key: Key) -> Entry:
        entry = self._order[key]
        self._order.move_to_end(key)
        return entry

    def __setitem__(self, key: Key, entry: Entry) -> None:
        super().__setitem__(key, entry)
        self._order[key] = entry
        self._order.move_to_end(key)

    def __delitem__(self, key: Key) -> None:
        super().__delitem__(key)
        del self._order[key]

    def popitem(self) -> tuple[Key, Entry]:
        """Remove and return the least recently used. KeyError if there is none."""
        try:
            found = next(iter(self._order.items()))
        except StopIteration:
            raise KeyError("it is empty") from None
        del self[found[0]]
        return found

    def clear(self) -> None:
        """Remove all of them."""
        super().clear()
        self._order.clear()
