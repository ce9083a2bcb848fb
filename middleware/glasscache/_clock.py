"""The two clocks of a process. The only module that may read the system's time.

`now` orders and measures (never jumps, and goes on while the machine sleeps); `wall` is for dates that leave the
process. Nothing decides a lifetime by `wall`: it can jump. How long somebody waits is measured by the event loop's own
clock, which may stand still meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any


def steady(system: Any = time) -> Callable[[], float]:
    """The clock of `system` that never jumps: on Linux the one that counts the time for which a laptop was asleep, or a
    virtual machine paused. Others of its kind do so by themselves, or have none.
    """
    boottime = getattr(system, "CLOCK_BOOTTIME", None)
    if boottime is not None:
        try:
            system.clock_gettime(boottime)
        except OSError:  # a sandbox without it
            pass
        else:
            return partial(system.clock_gettime, boottime)
    monotonic: Callable[[], float] = system.monotonic
    return monotonic


_NOW = steady()


class SystemClock:
    """The machine's clocks.

    The attributes are the C functions themselves, so that a hit pays no Python frame to learn the time.
    """

    __slots__ = ("now", "wall")

    def __init__(self) -> None:
        self.now: Callable[[], float] = _NOW
        """Seconds on a clock that never jumps."""
        self.wall: Callable[[], float] = time.time
        """Seconds since the Unix epoch."""
