"""What a machine makes of the messages of the others.

Decides whether a message is ours, follows on the one before, or shows that one is missing; and how old it is, by the
server's clock alone, since the clocks of two machines have nothing to do with each other. Does no I/O. Whatever is not
exactly a message of ours is counted, and changes nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from glasscache._lease import Mark
from glasscache.stores._messages import NOT_A_MESSAGE, Marked, Message, decode
from glasscache.stores._traceparent import from_traceparent

if TYPE_CHECKING:
    from collections.abc import Callable

    from glasscache._entry import Key
    from glasscache.interfaces import Listener

_KEEPS = 60.0
"""Seconds for which a reading of the server's clock is better than a later one that took longer: clocks drift."""


def _nobody(key: Key, copy: int) -> None:
    """Told of copies, where there are none."""


class ServerTime:
    """What the server's clock shows now. `now`: seconds on a clock of this process."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.forget()

    def forget(self) -> None:
        """It may be another server."""
        self._offset: float | None = None
        self._error = math.inf
        self._learned = -math.inf

    @property
    def is_old(self) -> bool:
        """Whether it should be asked for again."""
        return self._now() - self._learned > _KEEPS

    def learn(self, asked: float, shown: int) -> None:
        """Asked at `asked`, the server has answered now that it was `shown` (microseconds): in between, most likely."""
        now = self._now()
        error = (now - asked) / 2
        if error <= self._error or self.is_old:
            self._offset, self._error, self._learned = shown / 1e6 - (asked + now) / 2, error, now

    def since(self, shown: int) -> float:
        """Seconds since then, never less than 0; 0 as long as the server's time is not known."""
        if self._offset is None:
            return 0.0
        return max(0.0, self._now() + self._offset - shown / 1e6)


class Hearing:
    """Tells `listener` what `machine` hears."""

    def __init__(self, listener: Listener, machine: str, time: ServerTime) -> None:
        self.listener = listener
        self.spares: Callable[[Key, int], None] = _nobody
        """Told of the newest copy of a key before the listener drops the others."""
        self.ignored: int = 0
        """Messages that were none of ours."""
        self._machine = machine
        self._time = time
        self._last: tuple[str, int] | None = None

    def lost(self) -> None:
        """Messages may be missing."""
        self.listener.lost()

    def restored(self) -> None:
        """Messages arrive again, perhaps from another server."""
        self._last = None
        self._time.forget()
        self.listener.restored()

    def has_read(self, birth: str, number: int) -> None:
        """Everything up to this number is known: the next message follows on it, unless one was heard before."""
        if self._last is None:
            self._last = birth, number

    def hear(self, data: bytes) -> None:
        """A message."""
        try:
            message = decode(data)
        except NOT_A_MESSAGE:
            self.ignored += 1
            return
        if isinstance(message.told, Marked):
            self._marked(message, message.told)
        elif message.told.machine != self._machine:
            self.spares(message.told.key, message.told.copy)
            self.listener.replaced(message.told.key)

    def _marked(self, message: Message, told: Marked) -> None:
        last, self._last = self._last, (message.birth, message.number)
        follows = last is None or last == (message.birth, message.previous)
        if not follows or message.previous >= message.number:
            self.listener.lost()
            self.listener.restored()
        if told.machine != self._machine:
            mark = Mark(number=message.number, tags=told.tags, everything=told.everything)
            self.listener.marked(mark, self._time.since(message.time), from_traceparent(told.source))
