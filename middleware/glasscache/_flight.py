"""One load per key that many requests share: what was produced so far, who reads it, and how it ends.

A flight is fed by one producer (the load's task, see `_engine.py`) and read from byte 0 by any number of readers, its
leader among them. This module decides who is woken and when, whom the producer waits for, and when an unread load is
stopped. It never looks into a store, never decides what may be stored, and runs no origin: its owner does.

Life: opened -> `begin` (the head is known) -> `write`* -> `finish` | `fail` | `found` (answered from a far tier). A flight
that outgrows its buffer, or whose answer is one reader's own, is *paced* (see `_buffer.py`) and takes no more followers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextvars import Context
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Protocol

from glasscache._buffer import Buffer
from glasscache._entry import Entry, Headers, Key
from glasscache._events import Load, WaitOutcome
from glasscache._wait import Commons, Waiting
from glasscache.errors import LoadTimeoutError, ReaderCutError
from glasscache.policy import Share, Terms

_WAKE_PER_TICK = 64  # a crowd of thousands must not hold up the loop for everybody else
_WATCH_AFTER = 1.0  # seconds: most loads are over by then, and watching a client costs a task
_STOP_GRACE = 1.0  # seconds that a stopped origin has to notice, before it is cancelled
_LINKED_WAITS = 16
_NOBODY = "nobody reads this answer any more"


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What is known when an answer begins."""

    status: int
    headers: Headers
    share: Share
    terms: Terms | None = None
    vary: tuple[bytes, ...] = ()
    has_trailers: bool = False


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


_REFUSALS = {Share.LEADER: Sight.REFUSED, Share.NONE: Sight.PRIVATE}


class ReaderGone(Exception):  # noqa: N818 - not an error: the client left, nobody is to be told
    """The reader's client has left: its request is over."""


class FlightOwner(Protocol):
    """The engine, as its flights see it. All of it is synchronous: nothing can happen in between."""

    def headed(self, flight: Flight) -> None:
        """The head is known (called before any reader sees it)."""

    def complete(self, flight: Flight) -> Entry | None:
        """The answer is whole: store it in the near tier if it may be stored (before any reader sees the end)."""

    def closed(self, flight: Flight) -> None:
        """The flight takes no more followers."""

    def landed(self, flight: Flight) -> None:
        """The load is over."""


class Chain:
    """A load's place in the graph of who waits for whom (kept apart from the flight: contexts of tasks outlive it)."""

    __slots__ = ("awaits",)

    def __init__(self) -> None:
        self.awaits: list[Chain] = []

    def leads_to(self, chains: tuple[Chain, ...]) -> bool:
        """Whether this load is, or waits directly or through others for, one of `chains`."""
        seen: set[Chain] = set()
        todo = [self]
        while todo:
            chain = todo.pop()
            if chain in chains:
                return True
            if chain not in seen:
                seen.add(chain)
                todo.extend(chain.awaits)
        return False


class Flight:
    """One load that many requests share. Belongs to one event loop."""

    def __init__(
        self, key: Key, work: Load, owner: FlightOwner, commons: Commons, *, number: int, generation: int = 0
    ) -> None:
        self.key = key
        self.work = work
        self.number = number
        """The highest invalidation number known when the load began."""
        self.generation = generation
        """0, or 1 for the successor of a flight whose answer was its leader's alone."""
        self.loop = asyncio.get_running_loop()
        self.chain = Chain()
        self.context: Context
        self.task: asyncio.Task[None] | None = None
        self.head: Head | None = None
        self.share: Share | None = None
        self.marker: Entry | None = None
        """Set by the owner when the head has a Vary: the marker of the variants, ..."""
        self.variant: Key | None = None
        """... and the key of the variant that this flight answers."""
        self.stand_in: Entry | None = None
        """A stale answer that a far tier had."""
        self.entry: Entry | None = None
        self.tier = "origin"
        self.error: BaseException | None = None
        self.ended = False
        self.stopping = False
        self.is_closed = False
        self.void = False
        """Set by the owner: told invalid while it was under way; nothing of it is stored."""
        self.is_watched = False
        """Whether readers should watch for their client's disconnect."""
        self.trailers: list[dict[str, object]] = []
        self.buffer = Buffer(commons)
        self.readers: dict[Reader, None] = {}
        self.waits = 0
        self._owner = owner
        self._commons = commons
        self._paused: dict[Reader, None] = {}
        self._over: asyncio.Future[None] | None = None
        self._progress = self.loop.time()
        self._timer = self.loop.call_later(min(_WATCH_AFTER, commons.limits.load_timeout), self._tick)

    # --- the producer's side ----------------------------------------------------------------------------------------

    def begin(self, head: Head) -> None:
        """The head is known; readers that may are let go."""
        self._note_progress()
        self.head = head
        share = head.share
        if share is Share.LEADER and self.generation:
            share = Share.WHEN_COMPLETE  # two leaders got it: it is no oddity of one client
        self.share = share
        self._owner.headed(self)
        if share in _REFUSALS:
            self._watch()
            self._pace()  # one reader's own: its pace and its disconnect, as if unwrapped
        self._wake()

    async def write(self, chunk: bytes) -> None:
        """The next piece of the body. OSError once the flight is stopped (that is how an app learns of a disconnect)."""
        if chunk and not self.stopping:
            self._note_progress()
            if not self.buffer.append(chunk) and not self.buffer.paced:
                self._pace()
            self._wake()
            while self.buffer.is_full and not self.stopping:
                await self.buffer.wait_for_room(self._cut_the_slowest)
                self._note_progress()  # the origin was not at fault
        if self.stopping:
            raise OSError(_NOBODY)

    def finish(self) -> None:
        """The answer is whole."""
        if not self.ended:
            self.entry = self._owner.complete(self)
            self._land()

    def found(self, entry: Entry, tier: str) -> None:
        """A far tier had the answer: no load is needed."""
        self.entry, self.tier = entry, tier
        self._land()

    def fail(self, error: BaseException) -> None:
        """The load ended without a whole answer."""
        if not self.ended:
            self.error = error
            self._land()

    def stop(self, error: BaseException) -> None:
        """Give up on the origin: it sees a disconnect and errors on send; if it does not end, it is cancelled."""
        if self.ended:
            return
        self.stopping = True
        self.fail(error)
        self.buffer.resume()
        if self.task is not None and not self.task.done():
            kill = self.loop.call_later(_STOP_GRACE, self.task.cancel)
            self.task.add_done_callback(lambda _: kill.cancel())

    async def until_over(self) -> None:
        """Wait until the load is over or stopped: what an app's `receive` waits for after the body."""
        if not self.ended:
            if self._over is None:
                self._over = self.loop.create_future()
            await asyncio.shield(self._over)

    # --- the readers' side ------------------------------------------------------------------------------------------

    def join(self, *, leader: bool, group: str) -> Reader:
        """A new reader, at byte 0; it must `leave()`."""
        reader = Reader(self, leader)
        self.buffer.enter(0)
        self.readers[reader] = None
        if not leader and not self.buffer.chunks and not self.ended:
            self.waits += 1
            reader.waiting = waiting = self._commons.begin_wait(self.work, group, self.key, self.waits)
            if waiting.ref is not None and len(self.work.waiters) < _LINKED_WAITS:
                self.work.waiters.append(waiting.ref)
        return reader

    def pause(self, reader: Reader) -> None:
        """Wake the reader at the next news."""
        self._paused[reader] = None

    def left(self, reader: Reader) -> None:
        """A reader is gone."""
        del self.readers[reader]
        self._paused.pop(reader, None)
        self.buffer.move(reader.position, None)
        if self.readers:
            return
        self._progress = self.loop.time()  # unread: from here it has load_timeout in all
        if self.ended:
            self.buffer.release()
        elif self.share not in (None, Share.ALL) or self.buffer.paced or not self._commons.limits.finish_abandoned:
            self.stop(ReaderCutError(_NOBODY))

    def _wake(self) -> None:
        if self._paused:
            paused, self._paused = self._paused, {}
            self._wake_some(iter(tuple(paused)))

    def _wake_some(self, readers: Iterator[Reader]) -> None:
        woken = tuple(islice(readers, _WAKE_PER_TICK))
        for reader in woken:
            reader.wake()
        if len(woken) == _WAKE_PER_TICK:
            self.loop.call_soon(self._wake_some, readers)

    # --- pace, time and the end -------------------------------------------------------------------------------------

    def _pace(self) -> None:
        if self.share is Share.WHEN_COMPLETE:
            self.share = Share.LEADER  # nobody can wait for the end of what is not retained
        self._close()
        self.buffer.pace(reader.position for reader in self.readers)
        if not self.readers:
            self.stop(ReaderCutError(_NOBODY))

    def _cut_the_slowest(self) -> None:
        """A reader that holds up others is cut; one that is alone holds up nobody."""
        if len(self.readers) > 1:
            slowest = self.buffer.slowest
            for reader in [reader for reader in self.readers if reader.position == slowest]:
                reader.be_cut()
        self.buffer.resume()  # the producer looks again, and waits again if it must

    def _note_progress(self) -> None:
        if self.readers:
            self._progress = self.loop.time()

    def _tick(self) -> None:
        self._watch()
        now = self.loop.time()
        if self.buffer.is_waiting:
            self._progress = now
        timeout = self._commons.limits.load_timeout
        due = self._progress + timeout
        if now >= due:
            self.stop(LoadTimeoutError(f"the origin made no progress for {timeout:g} s (Limits.load_timeout)"))
        else:
            self._timer = self.loop.call_at(due, self._tick)

    def _watch(self) -> None:
        self.is_watched = True
        for reader in tuple(self.readers):
            reader.watch()

    def _close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._owner.closed(self)

    def _land(self) -> None:
        self.ended = True
        self._timer.cancel()
        self.work.queue_length = self.waits
        self._close()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        self._owner.landed(self)
        self._wake()
        if not self.readers:
            self.buffer.release()


def _nothing() -> None:
    """What a reader without a client does to watch it."""


class Reader:
    """One request's place in a flight."""

    __slots__ = ("_future", "_has_left", "_is_gone", "_out_of_patience", "cut", "flight", "leader", "position", "waiting", "watch")

    def __init__(self, flight: Flight, leader: bool) -> None:
        self.flight = flight
        self.leader = leader
        self.position = 0
        self.cut = False
        self.waiting: Waiting | None = None
        self.watch: Callable[[], None] = _nothing
        """Called (again and again, perhaps) when the client should be watched for its disconnect."""
        self._future: asyncio.Future[None] | None = None
        self._out_of_patience = False
        self._has_left = False
        self._is_gone = False

    @property
    def at_end(self) -> bool:
        """Whether everything has been taken."""
        return self.flight.ended and self.flight.error is None and self.position == self.flight.buffer.end

    async def sight(self, patience: float | None) -> Sight:
        """Wait until it is clear what this reader may do; at most `patience` seconds (None: as long as it takes)."""
        found = self._look()
        if found is not None:
            return found
        self._out_of_patience = False
        timer = None if patience is None else self.flight.loop.call_later(patience, self._lose_patience)
        try:
            while (found := self._look()) is None and not self._out_of_patience:
                await self._pause()
        finally:
            if timer is not None:
                timer.cancel()
        return found or Sight.TIMEOUT

    def _look(self) -> Sight | None:
        flight = self.flight
        if self.cut:
            return Sight.GONE
        if flight.error is not None:
            return Sight.FAILED
        if flight.tier != "origin":
            return Sight.FOUND
        share = flight.share
        if share is None:
            return None
        if self.leader or share is Share.ALL:
            return Sight.PLAY
        if share is Share.WHEN_COMPLETE:
            return Sight.PLAY if flight.ended else None
        return _REFUSALS[share]

    async def next(self) -> bytes | None:
        """The next chunk, None at the end. ReaderCutError if the answer cannot be continued (the leader: the origin's error)."""
        flight, buffer = self.flight, self.flight.buffer
        while True:
            if self.cut:
                raise self._why_cut()
            if self.position < buffer.end:
                chunk = buffer.chunks[self.position - buffer.first]
                self.position += 1
                buffer.move(self.position - 1, self.position)
                self.wait_over("served")
                return chunk
            if flight.error is not None:
                self.wait_over("holder_failed")
                if self.leader:
                    raise flight.error
                raise ReaderCutError("the load failed after this answer had begun") from flight.error
            if flight.ended:
                self.wait_over("served")
                return None
            await self._pause()

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

    async def _pause(self) -> None:
        self._future = self.flight.loop.create_future()
        self.flight.pause(self)
        try:
            await self._future
        finally:
            self._future = None

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
            self.wait_over("cancelled")
            self.flight.left(self)

    def _lose_patience(self) -> None:
        self._out_of_patience = True
        self.wake()
