"""How a command of ours ends when it is told to: in order, so that nothing that it started is left running.

Decides what SIGINT and SIGTERM do: they unwind the command, whose `finally` blocks end its children. Must never be
called on import: it is for the process that a person started.
"""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def end_in_order() -> None:
    """From here on Ctrl-C and SIGTERM end this process by SystemExit, even if it was started with them ignored."""
    for number in _SIGNALS:
        signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> NoReturn:
    for each in _SIGNALS:  # make passes on what its whole group was sent: the second one must not cut off the clean-up
        signal.signal(each, signal.SIG_IGN)
    sys.exit(128 + number)
