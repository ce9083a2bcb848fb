"""Keys of which something was learned lately: that their answers are each request's own (hit-for-miss).

Decides when one is forgotten: after its time, and the oldest first where there are too many.
"""

from __future__ import annotations

from glasscache._entry import Key
from glasscache.interfaces import Clock


class Lately(dict[Key, float]):
    """Keys that are remembered for some seconds each, at most so many of them; whether there are any costs nothing."""

    __slots__ = ("_clock", "_most", "_seconds")

    def __init__(self, most: int, seconds: float, clock: Clock) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock

    def __contains__(self, key: object) -> bool:
        """Whether it is remembered yet."""
        self._forget()
        return super().__contains__(key)

    def add(self, key: Key) -> None:
        """Remember it from now on, for its whole time again if it is remembered already."""
        self.pop(key, None)  # so that they stand in the order of their end
        self[key] = self._clock.now() + self._seconds
        self._forget()

    def _forget(self) -> None:
        now = self._clock.now()
        while self:
            oldest = next(iter(self))
            if self[oldest] > now and len(self) <= self._most:
                break
            del self[oldest]
