"""What the memory tier finds entries by, beside their keys: tags, and the second in which they die.

Must never hold a label or a second that no key needs: both come from outside, and without end.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Hashable
from typing import Generic, TypeVar

from glasscache._entry import Key

L = TypeVar("L", bound=Hashable)


class Index(dict[L, dict[Key, None]], Generic[L]):
    """label -> the keys that carry it; a label without keys is not kept.

    Keys stand in dicts: a set of as many takes up to four times the memory.
    """

    def add(self, label: L, key: Key) -> None:
        """The key carries the label."""
        self.setdefault(label, {})[key] = None

    def discard(self, label: L, key: Key) -> None:
        """The key carries the label no more."""
        keys = self.get(label)
        if keys is not None:  # an entry may name a tag twice
            keys.pop(key, None)
            if not keys:
                del self[label]


class Calendar:
    """Which keys die within which second, in order of time.

    Smaller than a heap of (time, key), and exact: a removed key leaves nothing behind but, at most, the
    number of its second; of such numbers there are never more than are in use, give or take 64.
    """

    def __init__(self) -> None:
        self._seconds = Index[int]()  # the whole second by which they are dead -> keys
        self._order: list[int] = []  # a heap of all these seconds, and of some that are gone
        self._latest: float = -math.inf  # the second that was noted last, as the next one nearly always is, ...
        self._keys: dict[Key, None] = {}  # ... and its keys

    def note(self, when: float, key: Key) -> None:
        """The key dies at `when`."""
        latest = self._latest
        if latest - 1 < when <= latest:
            self._keys[key] = None
        elif math.isfinite(when):  # else never
            self._note(math.ceil(when), key)

    def _note(self, second: int, key: Key) -> None:
        if second not in self._seconds:
            heapq.heappush(self._order, second)
        self._seconds.add(second, key)
        self._latest, self._keys = second, self._seconds[second]
        if len(self._order) > 2 * len(self._seconds) + 64:
            self._order = sorted(self._seconds)

    def strike(self, when: float, key: Key) -> None:
        """The key, noted for `when`, is gone."""
        if math.isfinite(when):
            second = math.ceil(when)
            self._seconds.discard(second, key)
            if second not in self._seconds and second == self._latest:
                self._latest = -math.inf

    def until(self, now: float) -> list[Key]:
        """The keys that may be dead at `now`: all of the past (strike them), and of this second."""
        keys: list[Key] = []
        running = None
        while self._order and self._order[0] < now + 1:
            second = heapq.heappop(self._order)
            keys += self._seconds.get(second, ())
            running = second if second > now else None
        if running is not None:
            heapq.heappush(self._order, running)
        return keys

    def next(self) -> float | None:
        """By when the next key is dead."""
        while self._order and self._order[0] not in self._seconds:
            heapq.heappop(self._order)
        return float(self._order[0]) if self._order else None
