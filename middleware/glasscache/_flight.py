"""One load per key that many requests share: what was produced so far, who reads it, and how it ends.

A flight is fed by one producer (the load's task, see `_run.py`) and read from byte 0 by any number of readers, its
leader among them. This module decides who is woken and when, whom the producer waits for, and when an unread load is
stopped. It never looks into a store, never decides what may be stored, and runs no origin: a `Run` does.

Life: opened -> `begin` (the head is known) -> `write`* -> `finish` | `fail` | `found` (answered from a far tier). A
flight that outgrows its buffer, or whose answer is one reader's own, is *paced* (see `_buffer.py`) and takes no
more followers.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod

from glasscache._entry import Entry, Key
from glasscache._events import MOST_WAITERS_LINKED, Load
from glasscache._reader import ARRIVING, Reader
from glasscache._stream import Head, Stream
from glasscache._wait import Commons
from glasscache.errors import LoadStoppedError, LoadTimeoutError, ReaderCutError
from glasscache.policy import Share

_ALL, _LEADER = Share.ALL, Share.LEADER  # until Python 3.12 a name of an Enum costs a call
_STOP_GRACE = 1.0  # seconds that a stopped origin has to notice, before it is cancelled
_NOBODY = "nobody reads this answer any more"


class Flight(Stream):
    """One load that many requests share. Belongs to one event loop."""

    __slots__ = (
        *("_over", "_progress", "_timer", "_work", "generation", "is_closed", "is_loading", "number", "task", "void"),
        "waits",
    )

    def __init__(
        self, key: Key, commons: Commons, loop: asyncio.AbstractEventLoop, number: int, generation: int = 0
    ) -> None:
        super().__init__(key, commons, loop)
        self.number = number
        """The highest invalidation number known when the load began."""
        self.generation = generation
        """0, or 1 for the successor of a flight whose answer was its leader's alone."""
        self.task: asyncio.Task[None] | None = None
        self.is_closed: bool = False
        self.is_loading: bool = True
        """Whether the origin is being asked, and not another tier before it."""
        self.void: bool = False
        """Told invalid while it was under way; nothing of it is stored."""
        self.waits: int = 0
        self._work: Load | None = None
        self._progress: float | None = None
        """When there was some; None: its time does not count yet."""
        self._over: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def work(self) -> Load:
        """What is told of it. Made when somebody asks: most loads are over before."""
        work = self._work
        if work is None:
            work = self._work = self._record()
        return work

    # --- what a run adds: all of it is synchronous, nothing can happen in between -------------------------------------

    @abstractmethod
    def _record(self) -> Load:
        """The record of it that telemetry is told, as far as it is known now."""

    @abstractmethod
    def _headed(self, head: Head) -> None:
        """The head is known (called before any reader sees it)."""

    @abstractmethod
    def _complete(self) -> Entry | None:
        """The answer is whole: store it in the near tier if it may be stored (before any reader sees the end)."""

    @abstractmethod
    def _closed(self) -> None:
        """It takes no more followers: out of the table."""

    @abstractmethod
    def _voided(self) -> None:
        """It was told invalid: out of the table, so that later requests do not join it."""

    def _goes_on_unread(self) -> bool:
        """Whether it is of use though nobody is left to read it."""
        return self._commons.limits.finish_abandoned

    def outdate(self) -> None:
        """Another machine has a newer answer: what a far tier had before is none."""

    @abstractmethod
    def _landed(self) -> None:
        """The load is over, with or without a whole answer: give back what it held, close its span."""

    @abstractmethod
    def _gone(self) -> None:
        """A stopped load's origin had its time to end, and is cancelled now: it holds a slot of its gate no more."""

    # --- the producer's side ----------------------------------------------------------------------------------------

    def begin(self, head: Head) -> None:
        """The head is known; readers that may are let go."""
        if self._progress is not None:
            self.note_progress()
        self.head: Head | None = head
        share = head.share
        if share is _LEADER and self.generation:
            share = Share.WHEN_COMPLETE  # two leaders got it: it is no oddity of one client
        self.share = share
        self._headed(head)
        if share is not _ALL and share is not Share.WHEN_COMPLETE:
            self._watch()
            self._pace()  # one reader's own: its pace and its disconnect, as if unwrapped
        if self.paused:
            self._wake()

    def put(self, chunk: bytes) -> None:
        """The next piece of the body, whether or not there is room: for the last one, since a reader that takes it
        should see that it is the end. OSError once the flight is stopped (that is how an app learns of a disconnect).
        """
        if chunk and not self.stopping:
            if not self.buffer.append(chunk) and not self.buffer.paced:
                self._not_kept("too_large")
                self._pace()
            if self.paused:
                self._wake()
        if self.stopping:
            raise OSError(_NOBODY)

    async def write(self, chunk: bytes) -> None:
        """As `put`; then wait until there is room for more."""
        self.put(chunk)
        self.note_progress()
        while self.buffer.is_full:
            await self.buffer.wait_for_room(self._cut_the_slowest)
            self.note_progress()  # the origin was not at fault
            if self.stopping:
                raise OSError(_NOBODY)

    def finish(self) -> None:
        """The answer is whole: store it, if it may be, then let its readers see the end."""
        if not self.ended:
            self.entry = self._complete()
            self._land()

    def spoil(self, reason: str) -> None:
        """It ends otherwise than its head has said: nothing of it is stored."""
        if self.share is _ALL:
            self._not_kept(reason)
            self.share = Share.WHEN_COMPLETE

    def _not_kept(self, reason: str) -> None:
        """Be told why it is not stored, if its head allows it."""

    def found(self, entry: Entry, tier: str) -> None:
        """A far tier had the answer: no load is needed."""
        self.entry = entry
        self.tier: str = tier
        self._land()

    def fail(self, error: BaseException) -> None:
        """The load ended without a whole answer."""
        if not self.ended:
            self.error = error
            self._land()

    def make_void(self) -> None:
        """Told invalid: nothing of it is stored, and nobody joins it any more. Before its origin is asked, nothing can
        be old yet.
        """
        if self.is_loading:
            self.void = True
            self._voided()

    def stop(self, error: BaseException) -> None:
        """Give up on the origin: it sees a disconnect and errors on send; if it does not end, it is cancelled."""
        if self.ended:
            return
        self.stopping = True
        self.fail(error)
        self.buffer.resume()
        if self.task is not None and not self.task.done():
            kill = self.loop.call_later(_STOP_GRACE, self._kill, self.task)
            self.task.add_done_callback(lambda _: kill.cancel())

    def _kill(self, task: asyncio.Task[None]) -> None:
        task.cancel()
        self._gone()

    def bury(self) -> None:
        """Its event loop was closed under it: give back what it holds. There is nobody left to tell."""
        self.error: BaseException | None = LoadStoppedError("the event loop was closed under the load")
        self._over = None
        self.paused.clear()
        self._land()
        for reader in self.readers:
            reader.wait_over("cancelled")
        self.buffer.release()

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
            if waiting.work.ref is not None and len(self.work.waiters) < MOST_WAITERS_LINKED:
                self.work.waiters.append(waiting.work.ref)
        return reader

    def seat(self) -> Reader:
        """The leader's reader, in the place that was kept for it; it must `leave()`."""
        reader = Reader(self, leader=True)
        self.readers[reader] = self.readers.pop(ARRIVING)
        return reader

    def _deserted(self) -> None:
        if self.ended:
            self.buffer.release()
            return
        self._progress = self.loop.time()  # unread: from here it has load_timeout in all
        if self.share not in (None, Share.ALL) or self.buffer.paced or not self._goes_on_unread():
            self.stop(ReaderCutError(_NOBODY))

    # --- pace, time and the end -------------------------------------------------------------------------------------

    def _pace(self) -> None:
        if self.share is Share.WHEN_COMPLETE:
            self.share: Share | None = Share.LEADER  # nobody can wait for the end of what is not retained
        self.is_closed = True
        self._closed()
        self.buffer.pace(reader.position for reader in self.readers)
        if not self.readers:
            self.stop(ReaderCutError(_NOBODY))

    def _cut_the_slowest(self) -> None:
        """A reader that holds up others is cut; those whom nobody is ahead of hold up nobody."""
        slowest = self.buffer.slowest
        late = [reader for reader in self.readers if reader.position == slowest]
        if len(late) < len(self.readers):
            for reader in late:
                reader.be_cut()
        self.buffer.resume()  # the producer looks again, and waits again if it must

    def note_progress(self) -> None:
        """Its time limit begins anew, as long as somebody reads it."""
        if self.readers:
            self._progress = self.loop.time()

    def grow_up(self) -> None:
        """It has not ended at once: from here on it has a time limit. After a second `late` follows."""
        self._progress = self.loop.time()
        self._commons.youth.begin(self, self.loop)

    def late(self) -> None:
        """It has lasted for a second: from here on its clients are watched, and it has a timer of its own."""
        self._commons.youth.end(self)
        self._watch()
        self._tick()

    def _tick(self) -> None:
        now = self.loop.time()
        if self.buffer.is_waiting or self._progress is None:
            self._progress = now
        timeout = self._commons.limits.load_timeout
        due = self._progress + timeout
        if now >= due:
            self.stop(LoadTimeoutError(f"the origin made no progress for {timeout:g} s (Limits.load_timeout)"))
        else:
            self._timer = self.loop.call_at(due, self._tick)

    def _land(self) -> None:
        self.ended = True
        self.chain.key = None
        if self._timer is not None:
            self._timer.cancel()
        elif self._progress is not None:
            self._commons.youth.end(self)
        if not self.is_closed:
            self.is_closed = True
            self._closed()
        self._landed()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        if self.paused:
            self._wake()
        if not self.readers:
            self.buffer.release()
