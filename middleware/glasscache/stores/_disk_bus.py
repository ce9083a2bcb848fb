"""What processes on one machine tell each other, without a server: rows of messages, and an ear that reads them.

Decides how often the ear looks: hardly ever while it only hears of invalidations, more often while somebody here waits
for another process, not at all while nobody listens. A look asks SQLite whether another connection has written, which
reads no table. Whoever has missed a message learns that there was one. Must never touch the file on the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from functools import partial
from sqlite3 import Connection
from typing import NamedTuple

from glasscache._entry import Key
from glasscache.errors import StoreError
from glasscache.stores._bells import Bells
from glasscache.stores._disk_thread import DiskThread
from glasscache.stores._hearing import Hearing

_WHILE_WAITING = 0.005
"""Seconds between two looks while somebody waits for another process: little beside any load."""
_WHILE_LISTENING = 0.1

_LAST = "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'messages'), 0)"


def wake(db: Connection, key: Key, now: int) -> None:
    """Whoever waits for this key looks again."""
    db.execute("INSERT INTO messages (at, wakes) VALUES (?, ?)", (now, key))


def tell(db: Connection, told: bytes, now: int) -> None:
    """A message of _messages.py, for everybody."""
    db.execute("INSERT INTO messages (at, told) VALUES (?, ?)", (now, told))


class Position(NamedTuple):
    """Up to where somebody has heard."""

    birth: str
    """Of the file."""
    number: int


def position(db: Connection) -> Position:
    """Of who has heard everything so far."""
    (birth,) = db.execute("SELECT birth FROM state").fetchone()
    (number,) = db.execute(_LAST).fetchone()
    return Position(birth, number)


class _Heard(NamedTuple):
    messages: list[tuple[int, Key | None, bytes | None]]
    end: Position
    has_gap: bool


class Ear:
    """That of one process. `generation`: of the connection."""

    def __init__(self, thread: DiskThread, bells: Bells, generation: Callable[[], int]) -> None:
        self._thread = thread
        self._bells = bells
        self._generation = generation
        self._hearing: Hearing | None = None
        self._is_cut = True
        """Whether who listens has been told that messages may be missing, or nothing yet."""
        self._at: Position | None = None
        self._seen: tuple[int, int, Position | None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pause = 0.0
        self._looks = 0
        self._context = Context()

    def wait(self, since: Position) -> None:
        """Somebody here has found another process at work, when everything up to `since` had been told."""
        self._settle()
        self._at = self._at or since
        if self._pause > _WHILE_WAITING and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._look_later()

    def listen(self, hearing: Hearing, context: Context) -> None:
        """Pass everything on, until `deafen`."""
        self._settle()
        self._hearing, self._context, self._is_cut = hearing, context, True
        if self._timer is not None:
            self._timer.cancel()
        self._look()

    def deafen(self) -> None:
        """Pass nothing on any more."""
        hearing, self._hearing = self._hearing, None
        if hearing is not None and not self._is_cut:
            hearing.lost()
        if not self._bells:
            self._stop()

    def close(self) -> None:
        """Look no more."""
        self.deafen()
        self._stop()

    # --- looking ----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """What another loop left behind never comes."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._timer = None
            self._stop()
            self._loop = loop

    def _stop(self) -> None:
        """Whoever listens or waits next begins where the messages are then."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._at = self._seen = self._loop = None
        self._looks += 1

    def _look_later(self) -> None:
        if self._timer is not None or self._loop is None:
            return
        if self._bells:
            self._pause = _WHILE_WAITING
        elif self._hearing is not None:
            self._pause = _WHILE_LISTENING
        else:
            self._stop()
            return
        self._timer = self._loop.call_later(self._pause, self._look, context=self._context)

    def _look(self) -> None:
        self._timer = None
        self._looks += 1
        answer = self._thread.call(partial(self._read, self._at))
        answer.add_done_callback(partial(self._looked, self._looks), context=self._context)

    def _read(self, since: Position | None, db: Connection) -> _Heard | None:
        """In the thread; None: nobody has written since the last look."""
        (version,) = db.execute("PRAGMA data_version").fetchone()
        seen = self._generation(), version, since
        if seen == self._seen:
            return None
        end = position(db)
        if since is None or since.birth != end.birth:
            heard = _Heard([], end, since is not None)
        else:
            ask = "SELECT id, wakes, told FROM messages WHERE id > ? ORDER BY id"
            found = db.execute(ask, (since.number,)).fetchall()
            heard = _Heard(found, end, len(found) != end.number - since.number)
        self._seen = (*seen[:2], end)
        return heard

    def _looked(self, number: int, answer: asyncio.Future[_Heard | None]) -> None:
        if number != self._looks or answer.cancelled():
            return  # closed meanwhile, or begun anew
        try:
            heard = answer.result()
        except StoreError:
            self._failed()
        else:
            self._pass_on(heard)
        self._look_later()

    def _failed(self) -> None:
        if self._hearing is not None and not self._is_cut:
            self._is_cut = True
            self._hearing.lost()

    def _pass_on(self, heard: _Heard | None) -> None:
        hearing = self._hearing
        if hearing is not None and self._is_cut:
            self._is_cut = False
            hearing.restored()
        elif hearing is not None and heard is not None and heard.has_gap:
            hearing.lost()
            hearing.restored()
        if heard is None:
            return
        self._at = heard.end
        if heard.has_gap:
            self._bells.ring_all()
        for _, wakes, told in heard.messages:
            if wakes is not None:
                self._bells.ring(wakes)
            if told is not None and hearing is not None:
                hearing.hear(told)
