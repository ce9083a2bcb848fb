"""The two clocks of a process. The only module that may read the system's time.

`now` orders and measures (never jumps); `wall` is for dates that leave the process. Nothing decides a lifetime by
`wall`: it can jump.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class SystemClock:
    """The machine's clocks.

    The methods are the C functions themselves, so that a hit pays no Python frame to learn the time.
    """

    __slots__ = ()

    now: Callable[[], float] = staticmethod(time.monotonic)
    """Seconds on a clock that never jumps."""
    wall: Callable[[], float] = staticmethod(time.time)
    """Seconds since the Unix epoch."""
