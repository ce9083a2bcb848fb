"""An answer that many readers take from byte 0 while it is produced: what is known of it, and one place per reader.

Decides what a reader may do (`Sight`), and who is woken when there is news: a crowd in small groups, so that the event
loop goes on for everybody else. It knows nothing of producers, stores or time.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from copy import copy
from enum import Enum
from itertools import islice
from types import coroutine
from typing import cast

from msgspec import Struct

from glasscache._buffer import Buffer
from glasscache._entry import Entry, Headers, Key
from glasscache._events import WaitOutcome
from glasscache._inside import Chain
from glasscache._wait import Commons, Waiting
from glasscache.errors import LoadStoppedError, ReaderCutError
from glasscache.policy import Share, Terms

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


class Sight(Enum):
    """What a reader that has passed nothing on yet finds."""

    PLAY = "play"
    """An answer that it may read."""
    FOUND = "found"
    """A stored answer, from a far tier."""
    REFUSED = "refused"
    """The answer is the leader's alone."""
    PRIVATE = "private"
    """Each request must load for itself."""
    FAILED = "failed"
    GONE = "gone"
    """The reader's own client has left."""
    TIMEOUT = "timeout"


_ALL, _PLAY = Share.ALL, Sight.PLAY  # until Python 3.12 a name of an Enum costs a call
_REFUSALS = {Share.LEADER: Sight.REFUSED, Share.NONE: Sight.PRIVATE}


@coroutine
def one_turn() -> Generator[None]:
    """Let the event loop do what it has to do already. What a load does without waiting it has done then: to see that
    takes neither a future nor somebody who sets it.
    """
    yield


class ReaderGone(Exception):
    """The reader's client has left: its request is over."""


def copy_of(error: BaseException) -> BaseException:
    """Each waiter raises a copy of its own: a shared one would collect the tracebacks of them all."""
    kind = type(error)
    try:
        copied = copy(error)
    except Exception:  # an exception class whose constructor takes other arguments than it keeps: do without
        copied = kind.__new__(kind, *error.args)
        copied.__dict__.update(error.__dict__)
    return copied if type(copied) is kind else LoadStoppedError(f"the load failed: {error!r}")


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
        self.paused: dict[Reader | Onlooker, None] = {}
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
        """A reader is gone."""
        del self.readers[reader]
        if self.paused:
            self.paused.pop(reader, None)
        if self.buffer.paced:
            self.buffer.move(reader.position, None)
        if not self.readers:
            self._deserted()

    @abstractmethod
    def _deserted(self) -> None:
        """The last reader is gone."""

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

    def _wake_some(self, readers: Iterator[Reader | Onlooker]) -> None:
        woken = tuple(islice(readers, _WAKE_PER_TICK))
        for reader in woken:
            reader.wake()
        if len(woken) == _WAKE_PER_TICK:
            self.loop.call_soon(self._wake_some, readers)


class Onlooker:
    """One request that waits for news of a stream without reading it."""

    __slots__ = ("news",)

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.news: asyncio.Future[None] = loop.create_future()

    def wake(self) -> None:
        """There is news."""
        if not self.news.done():  # else its request was cancelled
            self.news.set_result(None)


def _nothing() -> None:
    """What a reader without a client does to watch it."""


class Reader:
    """One request's place in a stream. (No record: what is written again and again takes four times as long in one.)"""

    __slots__ = (
        *("_future", "_has_left", "_is_gone", "_out_of_patience", "at_end", "cut", "leader", "position", "stream"),
        *("waiting", "watch"),
    )

    def __init__(self, stream: Stream, leader: bool) -> None:
        self.stream: Stream = stream
        self.leader: bool = leader
        self.position: int = 0
        self.at_end: bool = False
        """Whether what was taken last was the end of a whole answer."""
        self.cut: bool = False
        self.waiting: Waiting | None = None
        self.watch: Callable[[], None] = _nothing
        """Called (again and again, perhaps) when the client should be watched for its disconnect."""
        self._future: asyncio.Future[None] | None = None
        self._out_of_patience: bool = False
        self._has_left: bool = False
        self._is_gone: bool = False

    async def sight(self, patience: float | None) -> Sight:
        """Wait until it is clear what this reader may do; at most `patience` seconds (None: as long as it takes)."""
        stream, found = self.stream, None
        self._out_of_patience = False
        sweep, timer = None, None
        if patience is None:
            pass
        elif patience == stream._commons.patience.seconds:
            sweep = stream._commons.patience
            sweep.begin(self, stream.loop)
        else:
            timer = stream.loop.call_later(patience, self.late)
        try:
            while (found := self.look()) is None and not self._out_of_patience:
                self._future = stream.loop.create_future()
                if self.leader:  # others may have come while it had not begun to wait
                    stream.paused = {self: None, **stream.paused}
                else:
                    stream.paused[self] = None
                await self._future
        finally:
            self._future = None
            if sweep is not None:
                sweep.end(self)
            elif timer is not None:
                timer.cancel()
        return found or Sight.TIMEOUT

    def late(self) -> None:
        """Its patience is over."""
        self._out_of_patience = True
        self.wake()

    def look(self) -> Sight | None:
        """What this reader may do; None: that is not clear yet."""
        stream = self.stream
        if self.cut:
            return Sight.GONE
        if stream.error is not None:
            return Sight.FAILED
        if stream.tier != "origin":
            return Sight.FOUND
        share = stream.share
        if share is None:
            return None
        if self.leader or share is _ALL:
            return _PLAY
        if share is Share.WHEN_COMPLETE:
            return Sight.PLAY if stream.ended else None
        return _REFUSALS[share]

    def take(self) -> bytes | None:
        """The next chunk, if it is there already."""
        stream, position = self.stream, self.position
        buffer = stream.buffer
        chunks, index = buffer.chunks, position - buffer.first
        if self.cut or index >= len(chunks):
            return None
        chunk = chunks[index]
        self.position = position + 1
        self.at_end = stream.ended and index + 1 == len(chunks) and stream.error is None
        if buffer.paced:
            buffer.move(position, position + 1)
        waiting = self.waiting
        if waiting is not None and not waiting.is_over:
            waiting.over("served")
        return chunk

    async def next(self) -> bytes | None:
        """The next chunk, None at the end. ReaderCutError if the answer cannot be continued (the leader: the
        origin's error).
        """
        stream = self.stream
        while (chunk := self.take()) is None:
            if self.cut:
                raise self._why_cut()
            if stream.error is not None:
                self.wait_over("holder_failed")
                if self.leader:
                    raise stream.error
                raise ReaderCutError("the load failed after this answer had begun") from stream.error
            if stream.ended:
                self.wait_over("served")
                return None
            self._future = stream.loop.create_future()
            stream.paused[self] = None
            try:
                await self._future
            finally:
                self._future = None
        return chunk

    def _why_cut(self) -> Exception:
        if self._is_gone:
            return ReaderGone()
        return ReaderCutError("this reader was too slow for the others (Limits.reader_timeout)")

    def gone(self) -> None:
        """The client has disconnected."""
        self._is_gone = True
        self.be_cut()

    def be_cut(self) -> None:
        """Read no more, and say so to whoever waits here."""
        self.cut = True
        self.leave()
        self.wake()

    def wake(self) -> None:
        """There is news."""
        if self._future is not None and not self._future.done():
            self._future.set_result(None)

    def wait_over(self, outcome: WaitOutcome) -> None:
        """The wait, if this reader had to wait, ended like this; the first word counts."""
        if self.waiting is not None:
            self.waiting.over(outcome)

    def leave(self) -> None:
        """Read no more. Every reader must; twice does no harm."""
        if not self._has_left:
            self._has_left = True
            self.watch = _nothing
            waiting = self.waiting
            if waiting is not None and not waiting.is_over:
                waiting.over("cancelled")
            self.stream.left(self)


ARRIVING: Reader = Reader(cast("Stream", None), leader=True)
"""In the place of a leader that may turn out to need no reader. It does not read, so it needs no stream."""
