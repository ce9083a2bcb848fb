"""A question to the far tiers for the entry of one key alone, before there is any load: without a task, and one for all
who ask meanwhile.

Decides when those who wait for its answer are woken: a crowd in small groups, so that the event loop goes on for
everybody else. Never asks anybody, nor judges what was found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import islice

from glasscache._entry import Entry, Key
from glasscache.errors import LoadStoppedError, StoreError

_WOKEN_AT_ONCE = 64


class Glance:
    """One of them, that begins now. Belongs to one event loop. It stands in `table` until its answer has come."""

    __slots__ = ("_now", "_table", "begun", "ended", "found", "is_outdated", "is_seen", "key", "loop", "readers")

    def __init__(
        self, key: Key, table: dict[Key, Glance], loop: asyncio.AbstractEventLoop, now: Callable[[], float]
    ) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.key: Key = key
        self._table = table
        self._now = now
        self.begun: float = now()
        self.ended: float = 0.0
        """When its answer came; 0: it has not."""
        self.found: Entry | StoreError | LoadStoppedError | None = None
        """The answer: None, if there is no entry that would do."""
        self.is_outdated: bool = False
        """Whether another machine has told of a newer answer meanwhile."""
        self.is_seen: bool = False
        """Whether what had to be done once with its answer has been done."""
        self.readers: dict[asyncio.Future[None], None] = {}
        """Who waits for it."""

    def told(self, found: Entry | StoreError | LoadStoppedError | None) -> None:
        """The answer has come, or it is waited for no more: the first word counts."""
        if not self.ended:
            self.found, self.ended = found, self._now()
            self._table.pop(self.key, None)
            self._wake()

    def reader(self) -> asyncio.Future[None]:
        """One more who waits for it; who does so no more leaves `readers`."""
        reader: asyncio.Future[None] = self.loop.create_future()
        self.readers[reader] = None
        return reader

    def _wake(self) -> None:
        readers = self.readers
        for reader in tuple(islice(readers, _WOKEN_AT_ONCE)):
            del readers[reader]
            if not reader.done():  # else its request was cancelled
                reader.set_result(None)
        if readers:
            self.loop.call_soon(self._wake)
