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

_WOKEN_AT_ONCE = 64


class Glance:
    """One of them, for the entry under `at`, of who asks for `asked` (see Ask). Belongs to one event loop.

    `over`: called once, with its answer, before anybody is woken. Must not raise.
    """

    __slots__ = (
        *("_over", "asked", "at", "begun", "ended", "entry", "found", "is_outdated", "is_told", "loop"),
        "readers",
    )

    def __init__(
        self, at: Key, asked: Key, begun: float, over: Callable[[Glance, Entry | Exception | None], None]
    ) -> None:
        self.at: Key = at
        self.asked: Key = asked
        self.begun: float = begun
        self._over = over
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.readers: dict[asyncio.Future[None], None] = {}
        """Who waits for its answer."""
        self.is_outdated: bool = False
        """Whether another machine has told of a newer answer meanwhile."""
        self.ended: float = 0.0
        """When its answer came; 0: it has not."""
        self.found: Entry | Exception | None = None
        """The answer; None: there is no entry that would do. A StoreError: there was none. Any other error is that of
        whoever asks.
        """
        self.entry: Entry | None = None
        """What was found, if it is alive."""
        self.is_told: bool = False
        """Whether telemetry knows of the answer."""

    def told(self, found: Entry | Exception | None) -> None:
        """The answer has come, or it is waited for no more: the first word counts."""
        if not self.ended:
            self._over(self, found)
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
