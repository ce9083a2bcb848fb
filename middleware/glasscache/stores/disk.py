"""The tier that the processes of one machine share, and that outlives them: a file, and nothing to run.

Decides what is asked of the file and what becomes of the answers. Every operation is a step in the store's own thread;
those of one turn of the event loop go there together. Must never touch the file on the loop, nor raise anything but
StoreError for what goes wrong there.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import TypeAlias

from glasscache._clock import SystemClock
from glasscache._entry import Entry, Key
from glasscache._events import SpanRef
from glasscache._lease import Claim, Lease, Lookup
from glasscache.errors import ConfigurationError, StoreError, UnstorableError
from glasscache.interfaces import Clock, Told
from glasscache.stores._bells import Bells, KeyBell
from glasscache.stores._compression import best
from glasscache.stores._disk_backplane import DiskBackplane, belong, belong_still, recall
from glasscache.stores._disk_bus import Ear, Position, position
from glasscache.stores._disk_file import DiskFile
from glasscache.stores._disk_leases import Leases
from glasscache.stores._disk_rows import Packed, Rows
from glasscache.stores._disk_thread import DiskThread, Write
from glasscache.stores._envelope import Envelope
from glasscache.stores._machine import Machine

_LEAST_BYTES = 64 * 1024
_PLAIN = Claim()
_MOST_NOTED = 1000
"""Copies that another process may have to spare, or that it is to be told of: a turn of the event loop later."""

_Look: TypeAlias = tuple[Lookup, Position | None]
"""What was found, and up to where there was nothing to hear of its holder."""
_Written: TypeAlias = int | None
"""When an entry was put there, in microseconds: that tells it from others under its key. None: it was dead already."""
_Told: TypeAlias = tuple[SpanRef, ...] | None


def _note(noted: dict[Key, int], key: Key, written: int) -> None:
    """Of the last few keys."""
    noted[key] = written
    if len(noted) > _MOST_NOTED:
        del noted[next(iter(noted))]


def _nobody(tier: str) -> None:
    """Told of what was rejected, where nobody else is."""


class DiskStore:
    """Answers from a file on a local disk, shared by the processes of one machine: they survive a restart.

    `path`: a directory, made if there is none; one for each cache. `max_bytes`: of all entries together; whoever was
    not used for the longest goes first. `lease_seconds`: how long the right to load lasts unless it is renewed, and so
    how long a process that dies holds up the others. `secrets`: encrypt what is stored (32 characters or more each; the
    first writes, all read). `compression`: zstd, zlib or none; None: zstd if it is installed, else zlib.
    `max_entry_bytes`: of the largest entry; None: as its cache has it (`Limits.max_entry_bytes`). Raises
    ConfigurationError for values that cannot work.
    """

    name = "disk"
    is_local = True
    """Whether only the processes of one machine share it."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 1024**3,
        lease_seconds: float = 5.0,
        secrets: Sequence[str] = (),
        compression: str | None = None,
        max_entry_bytes: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        if not path:
            raise ConfigurationError(f"DiskStore(path={path!r}): give a directory, such as '/var/cache/my-app'")
        if max_bytes < _LEAST_BYTES:
            raise ConfigurationError(f"DiskStore(max_bytes={max_bytes!r}): give {_LEAST_BYTES} bytes or more")
        if not 0.05 <= lease_seconds < math.inf:
            raise ConfigurationError(f"DiskStore(lease_seconds={lease_seconds!r}): give 0.05 seconds or more")
        clock = SystemClock() if clock is None else clock
        envelope = Envelope(secrets=secrets, compression=compression or best(), max_size=max_entry_bytes)
        self.fit: Callable[[int], None] = envelope.fit
        """A cache says how many bytes its largest entry may have."""
        self.path: Path = Path(os.path.abspath(path))
        """The directory."""
        self._machine = Machine()
        self.told_rejected: Callable[[str], None] = _nobody
        """Called with the name of the tier whenever stored bytes were no entry."""
        self._is_trusted = self._keeps = self._is_likely = True
        self._life = ""
        self._put: dict[Key, int] = {}
        self._spared: dict[Key, int] = {}
        self._rows = Rows(envelope, clock, max_bytes, repr(self))
        self._leases = Leases(self._rows, lambda: self.machine, lease_seconds, clock.now)
        file = DiskFile(self.path, self._rows)
        self._thread = DiskThread(file, self._tell)
        self._bells = Bells()
        self._ear = Ear(self._thread, self._bells, lambda: file.generation)
        self.backplane: DiskBackplane = DiskBackplane(
            self._thread, self._ear, machine=lambda: self.machine, clock=clock
        )
        """Invalidations between the processes that use this directory."""

    def __repr__(self) -> str:
        return f"<DiskStore {self.path}>"

    @property
    def machine(self) -> str:
        """Tells this process from all others, from those that it was forked from, too."""
        return self._machine.name

    @property
    def rejected(self) -> Counter[str]:
        """Stored bytes that were not an entry under their key, by reason."""
        return self._rows.rejects.counts

    def _tell(self) -> None:
        while self._rows.untold:
            self._rows.untold.popleft()
            self.told_rejected(self.name)

    # --- as a store -------------------------------------------------------------------------------------------------

    async def get(self, key: Key) -> Entry | None:
        """The entry under `key`, or None."""
        if not self._is_trusted:
            return None
        found = await self._thread.call(lambda db: self._rows.find(db, key))
        self._is_likely = found is not None
        return found

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry, in place of any other under `key`."""
        self._put.pop(key, None)
        written = await self._thread.call(partial(self._set, key, entry)) if self._keeps else None
        if written is not None:
            _note(self._put, key, written)

    async def delete(self, key: Key) -> None:
        """Remove the entry and end its lease: what is being loaded is not kept."""
        spared = self._spared.pop(key, 0)
        await self._thread.write(lambda db: self._leases.delete(db, key, spared))
        self._bells.ring(key)

    async def aclose(self) -> None:
        """Listen no more, let operations end, close the file, end the thread."""
        self._ear.close()
        await self._thread.aclose()

    # --- leases -----------------------------------------------------------------------------------------------------

    async def look(self, key: Key, claim: Claim) -> Lookup:
        """The entry, or the lease, or who holds it."""
        look, at = await self._thread.call(partial(self._look, key, claim))
        self._is_likely = look.entry is not None
        if at is not None:
            self._ear.wait(at)
        return look

    def glance(self, key: Key, then: Told) -> bool:
        """Ask for the entry alone, if the last lookup found something."""
        if not (self._is_likely and self._is_trusted):
            return False
        found = self._thread.call(partial(self._leases.find, key=key, claim=_PLAIN))
        found.add_done_callback(partial(self._glanced, then))
        return True

    def _glanced(self, then: Told, found: asyncio.Future[Lookup | None]) -> None:
        try:
            look = found.result()
        except StoreError as error:
            then(error)
            return
        self._is_likely = look is not None
        then(None if look is None else look.entry)

    async def renew(self, key: Key, lease: Lease) -> bool:
        """Hold the lease for `lease.seconds` from now; False: it is lost."""
        return await self._thread.write(lambda db: self._leases.renew(db, key, lease))

    async def commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...] | None:
        """Keep the entry, give the lease back and wake who waits; None: the lease is lost."""
        try:
            told = await self._thread.call(partial(self._commit, key, lease, entry))
        except UnstorableError:
            await self.release(key, lease)
            raise
        self._bells.ring(key)
        return told

    async def release(self, key: Key, lease: Lease, *, refuse_for: float = 0.0) -> tuple[SpanRef, ...]:
        """Give the lease back without an answer, and wake who waits."""
        told = await self._thread.write(lambda db: self._leases.release(db, key, lease, refuse_for))
        self._bells.ring(key)  # the file tells us nothing of what we write ourselves
        return told

    def listen(self, key: Key) -> KeyBell:
        """A bell that rings when another process lets go of `key`."""
        return self._bells.bell(key)

    # --- between memory and a tier that machines share (`Middle`) ---------------------------------------------------

    def stand_between(self) -> None:
        """From now on keep nothing until `belong` was called: of what is kept before, nobody could say whose it is."""
        self._keeps = False

    async def recall(self) -> tuple[str, int]:
        """Which life of a namespace the entries belong to ("": there are none), and the highest number among them."""
        return await self._thread.call(recall)

    async def belong(self, life: str) -> None:
        """From now on they belong to this one. It is trusted."""
        await self._thread.write(partial(belong, life))
        self._life = life
        self._is_trusted = self._keeps = True

    def distrust(self) -> bool:
        """Answer nothing until it is clear whom they belong to; whether it was trusted so far."""
        was_trusted, self._is_trusted = self._is_trusted, False
        return was_trusted

    def put_last(self, key: Key) -> int:
        """What tells the entry that this process has just put there from any other; 0: it has put none."""
        return self._put.pop(key, 0)

    def spare(self, key: Key, copy: int) -> None:
        """The next removal of the key leaves this one: another process of this machine has put it there."""
        _note(self._spared, key, copy)

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _set(self, key: Key, entry: Entry, _: Connection) -> _Written | Write[_Written]:
        packed = self._rows.pack(key, entry)
        return None if packed is None else Write(partial(self._keep, key, packed))

    def _keep(self, key: Key, packed: Packed, db: Connection) -> _Written:
        if self._life:
            belong_still(self._life, db)
        return self._leases.keep(db, key, packed)

    def _look(self, key: Key, claim: Claim, db: Connection) -> _Look | Write[_Look]:
        found = self._leases.find(db, key, claim)
        return Write(partial(self._claim, key, claim)) if found is None else (found, None)

    def _claim(self, key: Key, claim: Claim, db: Connection) -> _Look:
        look = self._leases.claim(db, key, claim)
        return look, None if look.holder is None else position(db)

    def _commit(self, key: Key, lease: Lease, entry: Entry, _: Connection) -> _Told | Write[_Told]:
        packed = self._rows.pack(key, entry)
        if packed is None:
            return Write(lambda db: self._leases.release(db, key, lease, 0.0))
        return Write(lambda db: self._leases.commit(db, key, lease, packed))
