"""The two clocks of a process. The only module that may read the system's time.

`now` orders and measures (never jumps); `wall` is for dates that leave the process. Nothing decides a lifetime by
`wall`: it can jump.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class SystemClock:
    """The machine's clocks.

    The attributes are the C functions themselves, so that a hit pays no Python frame to learn the time.
    """

    __slots__ = ("now", "wall")

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.monotonic
        """Seconds on a clock that never jumps."""
        self.wall: Callable[[], float] = time.time
        """Seconds since the Unix epoch."""
