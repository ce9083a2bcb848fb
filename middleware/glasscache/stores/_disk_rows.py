"""Entries as rows: how they are found, kept, believed, and removed when room or time runs out.

Decides how long one lives on the disk, which go first, and when the file gets smaller. Whatever is not whole, not ours,
or from the future is a miss. Must never write because something was found: uses are noted, and written with the next
transaction that there is anyway.
"""

from __future__ import annotations

from collections import deque
from sqlite3 import Connection
from typing import NamedTuple

from glasscache._entry import Entry, Key
from glasscache.errors import UnstorableError
from glasscache.interfaces import Clock
from glasscache.stores._envelope import Envelope, EnvelopeError
from glasscache.stores._rejects import Rejects

_ROW = 128
"""Bytes of a row beside its key and its value, about."""
_COARSE = 60_000_000
"""Microseconds that what was used last may seem to have been used earlier."""
_MOST_USES = 256
"""That are noted before they are worth a transaction of their own."""
_MOST_EVICTED = 256
"""In one transaction, which others wait for."""
_SWEEP_EVERY = 1_000_000
_MOST_SWEPT = 256
_MESSAGES_LIVE = 60_000_000
"""Microseconds: who has not heard a message by then has missed it, and learns that it has."""
_QUEUE_LIVES = 600_000_000
"""Microseconds: who queues has been woken, or has given up, long before."""
_MOST_FREE = 256
"""Pages that the file may have to spare, or an eighth of all: most of them are needed again soon."""
_MOST_FREED = 2048
"""Pages that are given back at once."""

_FIND = """SELECT entries.id, written, dead, used, value FROM entries JOIN bodies USING (id)
  WHERE key = ? AND written <= ? AND dead > ?"""
_KEEP = "INSERT INTO entries (key, size, number, written, dead, used) VALUES (?, ?, ?, ?, ?, ?)"
_OLDEST = "SELECT id, size FROM entries ORDER BY used, id LIMIT ?"
_PAST = "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE dead <= ? LIMIT ?)"
_SWEEPS = (
    "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE used > :now LIMIT :most)",
    "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE dead <= :now LIMIT :most)",
    "DELETE FROM leases WHERE since > :now OR until <= :now",
    "DELETE FROM refusals WHERE since > :now OR until <= :now",
    f"DELETE FROM queue WHERE since NOT BETWEEN :now - {_QUEUE_LIVES} AND :now",
    f"""DELETE FROM messages WHERE at NOT BETWEEN :now - {_MESSAGES_LIVE} AND :now
      AND id IN (SELECT id FROM messages ORDER BY id LIMIT :most)""",
)


class Packed(NamedTuple):
    """An entry, ready to be kept."""

    value: bytes
    number: int
    lives: int
    """Microseconds."""


class Rows:
    """Entries of one store. `max_bytes`: of all rows together."""

    def __init__(self, envelope: Envelope, clock: Clock, max_bytes: int, where: str) -> None:
        self._envelope = envelope
        self._now = clock.now
        self._wall = clock.wall
        self._max_bytes = max_bytes
        self._used: set[int] = set()
        self._bad: dict[int, int] = {}
        self._swept = 0
        self.rejects: Rejects = Rejects(where, clock.now)
        """Stored bytes that were not an entry under their key."""
        self.untold: deque[str] = deque()
        """Of those that nobody was told of yet."""

    def now(self) -> int:
        """Microseconds of Unix time."""
        return int(self._wall() * 1e6)

    def find(self, db: Connection, key: Key) -> Entry | None:
        """The entry, if there is one that is whole. EnvelopeError for one that is left to who has written it."""
        now = self.now()
        row = db.execute(_FIND, (key, now, now)).fetchone()
        if row is None:
            return None
        number, written, dead, used, value = row
        try:
            entry = self._envelope.open(key, value, self._now(), (dead - now) / 1e6)
            if used < now - _COARSE:
                self._used.add(number)
        except (EnvelopeError, TypeError, ValueError) as error:  # a value, or a time, of another type
            self._reject(key, number, written, error if isinstance(error, EnvelopeError) else EnvelopeError("foreign"))
            return None
        return entry

    def _reject(self, key: Key, number: int, written: int, error: EnvelopeError) -> None:
        if number not in self._bad:
            self.untold.append(error.reason)
            self.rejects.meet(key, error)
            self._bad[number] = written

    def pack(self, key: Key, entry: Entry) -> Packed | None:
        """What is to be kept; None: it is dead already. UnstorableError for what is too large."""
        lives = int((entry.dead_from - self._now()) * 1e6)
        if lives < 1:
            return None
        value = self._envelope.seal(key, entry, left=lives / 1e6)
        if len(value) + _ROW > self._max_bytes:
            raise UnstorableError(f"an entry of {len(value)} bytes is larger than the whole store ({self._max_bytes})")
        return Packed(value, entry.number, lives)

    def keep(self, db: Connection, key: Key, packed: Packed) -> int:
        """In place of any other under the key; others may have to go. When it was written."""
        now, value = self.now(), packed.value
        db.execute("DELETE FROM entries WHERE key = ?", (key,))
        size = len(key) + len(value) + _ROW
        row = db.execute(_KEEP, (key, size, packed.number, now, min(now + packed.lives, 2**62), now))
        db.execute("INSERT INTO bodies (id, value) VALUES (?, ?)", (row.lastrowid, value))
        self._make_room(db, now)
        return now

    def _make_room(self, db: Connection, now: int) -> None:
        excess = self._excess(db)
        if excess > 0 and db.execute(_PAST, (now, _MOST_EVICTED)).rowcount:
            excess = self._excess(db)
        gone = []
        for number, size in db.execute(_OLDEST, (_MOST_EVICTED,)) if excess > 0 else ():
            gone.append((number,))
            excess -= size
            if excess <= 0:
                break
        db.executemany("DELETE FROM entries WHERE id = ?", gone)

    def _excess(self, db: Connection) -> int:
        (used,) = db.execute("SELECT bytes FROM state").fetchone()
        return int(used) - self._max_bytes

    # --- chores -----------------------------------------------------------------------------------------------------

    @property
    def are_due(self) -> bool:
        """See Chores."""
        return bool(self._bad) or len(self._used) >= _MOST_USES

    def do(self, db: Connection) -> None:
        """See Chores. Once only: what cannot be written now is found, or used, again."""
        now = self.now()
        bad, self._bad = self._bad, {}
        used, self._used = self._used, set()
        db.executemany("DELETE FROM entries WHERE id = ? AND written = ?", bad.items())
        db.executemany("UPDATE entries SET used = ? WHERE id = ?", [(now, number) for number in used])
        if not 0 <= now - self._swept < _SWEEP_EVERY:
            for sweep in _SWEEPS:
                db.execute(sweep, {"now": now, "most": _MOST_SWEPT})

    def done(self, db: Connection) -> None:
        """See Chores."""
        now = self.now()
        if not 0 <= now - self._swept < _SWEEP_EVERY:
            self._swept = now
            free, pages = (db.execute(f"PRAGMA {what}").fetchone()[0] for what in ("freelist_count", "page_count"))
            spare = free - max(_MOST_FREE, pages // 8)
            if spare > 0:
                # a script: `execute` takes one step of it, and so one page
                db.executescript(f"PRAGMA incremental_vacuum({min(spare, _MOST_FREED)})")
