"""Leases as rows: who may load a key, who waits for it, and who is woken.

Decides, within one transaction, what Redis decides in a script (_redis_lua.py). A lease from the future, or past its
end, is nobody's. Tokens rise with every lease of the file, and with time, so that a file which was begun anew gives
none out twice.
"""

from __future__ import annotations

from collections.abc import Callable
from sqlite3 import Connection

from glasscache._entry import Key
from glasscache._events import MOST_WAITERS_LINKED, SpanRef
from glasscache._lease import Claim, Holder, Lease, Lookup
from glasscache.policy import answers
from glasscache.stores._disk_bus import wake
from glasscache.stores._disk_rows import Packed, Rows
from glasscache.stores._traceparent import from_traceparent, to_traceparent

_HELD = "SELECT token, machine, trace, since, until, number FROM leases WHERE key = ? AND since <= ? AND until > ?"
_GRANT = "REPLACE INTO leases (key, token, machine, trace, since, until, number) VALUES (?, ?, ?, ?, ?, ?, ?)"
_PLACE = """INSERT INTO queue (key, machine, place, trace, since)
  VALUES (:key, :machine, (SELECT count(*) + 1 FROM queue WHERE key = :key), :trace, :now)
  ON CONFLICT DO NOTHING"""


class Leases:
    """Those of `machine`, each for so many `seconds`; `now`: on the clock of entries."""

    def __init__(self, rows: Rows, machine: Callable[[], str], seconds: float, now: Callable[[], float]) -> None:
        self._rows = rows
        self._machine = machine
        self._seconds = seconds
        self._now = now

    def find(self, db: Connection, key: Key, claim: Claim) -> Lookup | None:
        """The entry, if it answers: without writing anything."""
        entry = self._rows.find(db, key)
        is_good = entry is not None and entry.number >= claim.newer_than and answers(entry, claim, self._now())
        return Lookup(entry=entry) if is_good else None

    def claim(self, db: Connection, key: Key, claim: Claim) -> Lookup:
        """The entry, or the lease, or who holds it."""
        entry = self._rows.find(db, key)
        if entry is not None and entry.number < claim.newer_than:
            entry = None
        if entry is not None and answers(entry, claim, self._now()):
            return Lookup(entry=entry)
        now = self._rows.now()
        if db.execute("SELECT 1 FROM refusals WHERE key = ? AND since <= ? AND until > ?", (key, now, now)).fetchone():
            return Lookup(entry=entry, refused=True)
        held = db.execute(_HELD, (key, now, now)).fetchone()
        if held is not None:
            token, machine, trace, since, until, number = held
            if number >= claim.newer_than and not (claim.reclaims and machine == self._machine()):
                holder = Holder(
                    token=token,
                    machine=machine,
                    ref=from_traceparent(trace),
                    elapsed=(now - since) / 1e6,
                    remaining=(until - now) / 1e6,
                    position=self._queue(db, key, claim, now) if claim.waits else 0,
                )
                return Lookup(entry=entry, holder=holder)
        return Lookup(entry=entry, lease=self._grant(db, key, claim, now))

    def _queue(self, db: Connection, key: Key, claim: Claim, now: int) -> int:
        who = {"key": key, "machine": self._machine(), "trace": to_traceparent(claim.ref), "now": now}
        db.execute(_PLACE, who)
        (place,) = db.execute("SELECT place FROM queue WHERE key = :key AND machine = :machine", who).fetchone()
        return int(place)

    def _grant(self, db: Connection, key: Key, claim: Claim, now: int) -> Lease:
        db.execute("UPDATE state SET token = max(token + 1, ?)", (now,))
        (token,) = db.execute("SELECT token FROM state").fetchone()
        until = now + int(self._seconds * 1e6)
        db.execute(_GRANT, (key, token, self._machine(), to_traceparent(claim.ref), now, until, claim.number))
        return Lease(token=token, seconds=self._seconds)

    def _holds(self, db: Connection, key: Key, lease: Lease, now: int) -> bool:
        held = db.execute(_HELD, (key, now, now)).fetchone()
        return held is not None and held[0] == lease.token

    def renew(self, db: Connection, key: Key, lease: Lease) -> bool:
        """Hold it for longer."""
        now = self._rows.now()
        if not self._holds(db, key, lease, now):
            return False
        db.execute("UPDATE leases SET until = ? WHERE key = ?", (now + int(lease.seconds * 1e6), key))
        return True

    def commit(self, db: Connection, key: Key, lease: Lease, packed: Packed) -> tuple[SpanRef, ...] | None:
        """Keep the entry and let go; None: the lease is lost."""
        if not self._holds(db, key, lease, self._rows.now()):
            return None
        self.keep(db, key, packed)
        return self._let_go(db, key)

    def keep(self, db: Connection, key: Key, packed: Packed) -> int:
        """Keep the entry, whoever holds the lease. When it was written."""
        db.execute("DELETE FROM refusals WHERE key = ?", (key,))
        return self._rows.keep(db, key, packed)

    def release(self, db: Connection, key: Key, lease: Lease, refuse_for: float) -> tuple[SpanRef, ...]:
        """Let go without an entry."""
        now = self._rows.now()
        if not self._holds(db, key, lease, now):
            return ()
        if refuse_for > 0:
            until = now + int(min(refuse_for, 1e9) * 1e6)
            db.execute("REPLACE INTO refusals (key, since, until) VALUES (?, ?, ?)", (key, now, until))
        return self._let_go(db, key)

    def delete(self, db: Connection, key: Key, spared: int) -> None:
        """No entry, but one that was written then; no lease, no refusal."""
        db.execute("DELETE FROM entries WHERE key = ? AND written != ?", (key, spared))
        db.execute("DELETE FROM refusals WHERE key = ?", (key,))
        self._let_go(db, key)

    def _let_go(self, db: Connection, key: Key) -> tuple[SpanRef, ...]:
        db.execute("DELETE FROM leases WHERE key = ?", (key,))
        traces = db.execute("SELECT trace FROM queue WHERE key = ? ORDER BY place", (key,)).fetchall()
        if not traces:
            return ()
        db.execute("DELETE FROM queue WHERE key = ?", (key,))
        wake(db, key, self._rows.now())
        refs = [ref for (trace,) in traces if (ref := from_traceparent(trace)) is not None]
        return tuple(refs[:MOST_WAITERS_LINKED])  # all of them are woken
