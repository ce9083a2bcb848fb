"""Which stored answers were told invalid: numbers, not times, so that no clock can bring an old answer back.

Every invalidation takes the next number of its namespace. A load remembers the highest number known when it began; an
entry is dead if one of its tags, or everything, was invalidated with a higher one. The table of tags is bounded: when
a tag falls out of it, its number becomes the floor below which every tagged entry counts as dead, which is safe and
only costs loads.
"""

from __future__ import annotations

from collections import OrderedDict

from glasscache._entry import Entry

_MAX_TAGS = 65_536


class Markers:
    """The invalidations of one namespace, as far as this machine knows them."""

    __slots__ = ("_floor", "_tags", "everything", "number")

    def __init__(self) -> None:
        self.number = 0
        """The highest number known."""
        self.everything = 0
        """Everything below this number is dead."""
        self._floor = 0
        self._tags: OrderedDict[str, int] = OrderedDict()

    def mark_tag(self, tag: str, number: int) -> bool:
        """Everything under `tag` whose load began before `number` was given out is dead; False: known already."""
        self.number = max(self.number, number)
        if number <= self._tags.get(tag, 0):
            return False
        self._tags[tag] = number
        self._tags.move_to_end(tag)
        if len(self._tags) > _MAX_TAGS:
            _, fallen = self._tags.popitem(last=False)
            self.raise_floor(fallen)
        return True

    def mark_all(self, number: int) -> bool:
        """Everything whose load began before `number` was given out is dead; False: known already."""
        self.number = max(self.number, number)
        if number <= self.everything:
            return False
        self.everything = number
        self._tags = OrderedDict((tag, known) for tag, known in self._tags.items() if known > number)
        return True

    def raise_floor(self, number: int) -> None:
        """Markers up to `number` are forgotten: whatever has tags and is older counts as dead."""
        self._floor = max(self._floor, number)

    def dead_below(self, entry: Entry, *tags: str) -> int:
        """The number that an entry under its own tags and these must have to be alive."""
        tagged = (max(self._floor, self._tags.get(tag, 0)) for tag in (*entry.tags, *tags))
        return max(self.everything, *tagged, 0)
