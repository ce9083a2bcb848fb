"""Whether a far store is asked: it is left alone for a while when it fails too often.

Decides how often is too often, and how long a while is. Never asks anybody itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random

from glasscache._events import TierState

_IN_A_ROW = 5
_WINDOW = 20
_SHARE = 0.5
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 4.0


class Breaker:
    """Whether to ask. Open after 5 failures in a row, or when half of the last 20 failed."""

    def __init__(self, now: Callable[[], float], random: Random) -> None:
        self._now = now
        self._random = random
        self._last: deque[bool] = deque(maxlen=_WINDOW)
        self._in_a_row = 0
        self._pause = _FIRST_PAUSE
        self._ask_at = 0.0
        self.is_open = False
        self.is_calm = False
        """Whether everything has gone well lately: one more success then changes nothing."""

    @property
    def state(self) -> TierState:
        """Open; degraded: the last operation failed; ok."""
        if self.is_open:
            return "open"
        return "degraded" if self._in_a_row else "ok"

    @property
    def is_due(self) -> bool:
        """Whether it is time for a probe."""
        return self.is_open and self._now() >= self._ask_at

    def succeeded(self) -> None:
        """Note an operation that went well."""
        self._in_a_row = 0
        self._last.append(True)
        self.is_calm = len(self._last) == _WINDOW and all(self._last)
        if self.is_calm:
            self._pause = _FIRST_PAUSE  # well again, and not only for a moment

    def failed(self) -> None:
        """Note an operation that went wrong; open if there were too many."""
        self.is_calm = False
        self._in_a_row += 1
        self._last.append(False)
        many = len(self._last) == _WINDOW and self._last.count(False) >= _WINDOW * _SHARE
        if not self.is_open and (many or self._in_a_row >= _IN_A_ROW):  # what was under way fails after the others
            self.open()

    def open(self) -> None:
        """Ask nobody for a while: each time for longer, and not all machines at once."""
        self.is_open, self.is_calm = True, False
        self._ask_at = self._now() + self._pause * (0.5 + self._random.random())
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def close(self) -> None:
        """A probe went well: ask again, as if nothing had been."""
        self.is_open = False
        self._in_a_row = 0
        self._last.clear()
