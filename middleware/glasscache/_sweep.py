"""Deadlines that cost next to nothing while they are kept: one timer for all that has the same patience.

Decides when something has taken too long, never what becomes of it. Belongs to one event loop at a time; what another
loop left behind is forgotten.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Sweep(Generic[T]):
    """Calls `late` with everything that has begun, and has not ended, for `seconds`: once."""

    def __init__(self, seconds: float, late: Callable[[T], object]) -> None:
        self.seconds = seconds
        self._late = late
        self._due: dict[T, float] = {}  # in the order of their time, which is that of their beginnings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, what: T, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """From now on; for what has begun already: anew. `loop`: the running one, if it is at hand."""
        loop = loop or asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._timer = loop, None
            self._due.clear()
        due = loop.time() + self.seconds
        if what in self._due:
            del self._due[what]
        self._due[what] = due
        if self._timer is None:
            self._timer = loop.call_at(due, self._look)

    def end(self, what: T) -> None:
        """It is over, one way or another."""
        self._due.pop(what, None)

    def rest(self) -> None:
        """Keep no timer if nothing is under way."""
        if self._timer is not None and not self._due:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        assert self._loop is not None
        self._timer, now = None, self._loop.time()
        while self._due:
            what, due = next(iter(self._due.items()))
            if due > now:
                self._timer = self._loop.call_at(due, self._look)
                return
            del self._due[what]
            self._late(what)
