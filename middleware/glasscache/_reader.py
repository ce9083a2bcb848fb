"""One request's place in a stream: what it may do, what it takes, how long it waits, and how it leaves.

Decides what a reader may do (`Sight`) and when it is cut. Must never know where what it reads comes from.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from enum import Enum
from types import BuiltinFunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, cast

from glasscache._events import WaitOutcome
from glasscache._wait import Waiting
from glasscache.errors import LoadStoppedError, ReaderCutError
from glasscache.policy import Share

if TYPE_CHECKING:
    from glasscache._stream import Stream


class Sight(Enum):
    """What a reader finds at the end of its wait, before it has passed anything on."""

    PLAY = "play"
    """There is an answer that it may read."""
    FOUND = "found"
    """A far tier had the answer: it is the stream's `entry`."""
    REFUSED = "refused"
    """The answer is the leader's alone (`Share.LEADER`): look again."""
    PRIVATE = "private"
    """The answer is one request's own (`Share.NONE`): load for itself."""
    FAILED = "failed"
    """The load has failed: the stream's `error` says why."""
    GONE = "gone"
    """The reader's own client has left."""
    TIMEOUT = "timeout"
    """Its patience is over, and nothing of this is known yet."""


_ALL, _PLAY = Share.ALL, Sight.PLAY  # until Python 3.12 a name of an Enum costs a call
_REFUSALS = {Share.LEADER: Sight.REFUSED, Share.NONE: Sight.PRIVATE}


class ReaderGone(Exception):
    """The reader's client has left: its request is over."""


def copy_of(error: BaseException) -> BaseException:
    """Each waiter raises a copy of its own: a shared one would collect the tracebacks of them all."""
    kind = type(error)
    try:
        copied = copy(error)
    except Exception:  # an exception class whose constructor takes other arguments than it keeps: do without
        copied = _made_by_python(kind, error)
    return copied if type(copied) is kind else LoadStoppedError(f"the load failed: {error!r}")


def _made_by_python(kind: type[BaseException], error: BaseException) -> BaseException:
    """A copy that no code of its class has made, its own `__new__` neither."""
    bases = [vars(base) for base in kind.__mro__]
    make = next(make for base in bases if isinstance(make := base.get("__new__"), BuiltinFunctionType))
    made: BaseException = make(kind, *error.args)
    made.__dict__.update(error.__dict__)
    for slot in (part for base in bases for part in base.values() if isinstance(part, MemberDescriptorType)):
        with suppress(AttributeError):  # it is empty, or Python's own and set already
            slot.__set__(made, slot.__get__(error))
    return made


def _nothing() -> None:
    """For a reader that has no client to watch."""


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
        """Its patience is over: `sight` ends with TIMEOUT."""
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
        """Its client has disconnected: `sight` ends with GONE, `next` raises ReaderGone."""
        self._is_gone = True
        self.be_cut()

    def be_cut(self) -> None:
        """Read no more, and say so to whoever waits here."""
        self.cut = True
        self.leave()
        self.wake()

    def wake(self) -> None:
        """The stream has news: `sight` or `next` looks again."""
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
"""Stands among a flight's readers for a leader that may turn out to need no reader (`Engine._lead_at_once`): without it
the flight would look deserted. It never reads, so it has no stream.
"""
