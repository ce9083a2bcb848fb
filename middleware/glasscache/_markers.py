"""Which stored answers were told invalid: numbers, not times, so that no clock can bring an old answer back.

Every invalidation takes the next number. A load remembers the highest number there was when it began; an entry is
dead if one of its tags, or everything, was invalidated with a higher one. The table of tags is bounded: when a tag
falls out of it, its number becomes the floor below which every tagged entry counts as dead, which is safe and only
costs loads.
"""

from __future__ import annotations

from collections import OrderedDict

from glasscache._entry import Entry

_MAX_TAGS = 65_536


class Markers:
    """The invalidations of one namespace."""

    __slots__ = ("_all", "_floor", "_tags", "number")

    def __init__(self) -> None:
        self.number = 0
        """The highest number given out."""
        self._all = 0
        self._floor = 0
        self._tags: OrderedDict[str, int] = OrderedDict()

    def mark_tag(self, tag: str) -> None:
        """Everything under `tag` whose load began before now is dead."""
        self.number += 1
        self._tags[tag] = self.number
        self._tags.move_to_end(tag)
        if len(self._tags) > _MAX_TAGS:
            _, self._floor = self._tags.popitem(last=False)

    def mark_all(self) -> None:
        """Everything whose load began before now is dead."""
        self.number += 1
        self._all = self.number
        self._tags.clear()
        self._floor = 0

    def is_dead(self, entry: Entry, *tags: str) -> bool:
        """Whether the entry, under its own tags and these, was told invalid after its load began."""
        if entry.number < self._all:
            return True
        return any(entry.number < max(self._floor, self._tags.get(tag, 0)) for tag in (*entry.tags, *tags))
