"""An answer that many readers take from byte 0 while it is produced: what is known of it, and who reads it.

Decides who is woken when there is news: a crowd in small groups, so that the event loop goes on for everybody else. It
knows nothing of producers, stores or time.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator
from itertools import islice
from types import coroutine
from typing import TYPE_CHECKING

from msgspec import Struct

from glasscache._buffer import Buffer
from glasscache._entry import Entry, Headers, Key
from glasscache._inside import Chain
from glasscache._wait import Commons
from glasscache.policy import Share, Terms

if TYPE_CHECKING:
    from glasscache._reader import Reader

_WAKE_PER_TICK = 64


class Head(Struct, kw_only=True):
    """What is known when an answer begins. Immutable by agreement."""

    status: int
    headers: Headers
    share: Share
    terms: Terms | None = None
    own_headers: Headers = ()
    """All header fields, for the request that led the load: `headers` are those that are true for everyone."""
    vary: tuple[bytes, ...] = ()
    has_trailers: bool = False
    reason: str = ""
    """Why it is not stored, in one word, if that is known."""


@coroutine
def one_turn() -> Generator[None]:
    """Let the event loop do what it has to do already. What a load does without waiting it has done then: to see that
    takes neither a future nor somebody who sets it.
    """
    yield


class Stream(ABC):
    """What readers see of a flight. Belongs to one event loop."""

    __slots__ = (
        *("_commons", "buffer", "chain", "collapsed", "confirmed", "ended", "entry", "error", "head", "is_watched"),
        *("key", "loop", "marker", "paused", "readers", "share", "stale", "stand_in", "stopping", "tier", "trailers"),
        "variant",
    )

    def __init__(self, key: Key, commons: Commons, loop: asyncio.AbstractEventLoop) -> None:
        self.loop: asyncio.AbstractEventLoop = loop
        self.key: Key = key
        self.chain: Chain = Chain(key)
        self.buffer: Buffer = Buffer(commons)
        self.readers: dict[Reader, None] = {}
        self._commons: Commons = commons
        self.paused: dict[Reader, None] = {}
        """Whom to wake at the next news."""
        self.head: Head | None = None
        self.share: Share | None = None
        """Who may read it; None until the head is known."""
        self.marker: Entry | None = None
        """Set by the owner when the head has a Vary: the marker of the variants, ..."""
        self.variant: Key | None = None
        """... and the key of the variant that this answer is."""
        self.stand_in: Entry | None = None
        """A stale answer that a far tier had."""
        self.stale: Entry | None = None
        """A stored answer that the origin is asked to confirm, ..."""
        self.confirmed: bool = False
        """... and whether it did: what is read is then that answer."""
        self.entry: Entry | None = None
        """What was stored, or found in a far tier."""
        self.tier: str = "origin"
        self.collapsed: bool = False
        """Whether what was found came of a load on another machine that was waited for."""
        self.error: BaseException | None = None
        self.ended: bool = False
        self.stopping: bool = False
        """Given up on: by its readers, by its time limit, or at the end of the application."""
        self.is_watched: bool = False
        """Whether readers should watch for their client's disconnect."""
        self.trailers: tuple[dict[str, object], ...] = ()

    def left(self, reader: Reader) -> None:
        """A reader will read no more (`Reader.leave`)."""
        del self.readers[reader]
        if self.paused:
            self.paused.pop(reader, None)
        if self.buffer.paced:
            self.buffer.move(reader.position, None)
        if not self.readers:
            self._deserted()

    @abstractmethod
    def _deserted(self) -> None:
        """The last reader has left: forget what is over, or decide whether a load goes on unread."""

    def _watch(self) -> None:
        self.is_watched = True
        for reader in tuple(self.readers):
            reader.watch()

    def _wake(self) -> None:
        paused, self.paused = self.paused, {}
        if len(paused) < _WAKE_PER_TICK:
            for reader in paused:
                reader.wake()
        else:
            self._wake_some(iter(tuple(paused)))

    def _wake_some(self, readers: Iterator[Reader]) -> None:
        woken = tuple(islice(readers, _WAKE_PER_TICK))
        for reader in woken:
            reader.wake()
        if len(woken) == _WAKE_PER_TICK:
            self.loop.call_soon(self._wake_some, readers)
