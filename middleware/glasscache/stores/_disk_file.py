"""The file of a disk store: one SQLite database in a directory of its own, that the processes of a machine share.

Decides when it is opened, which file is ours, what becomes of one that is not, and what is one transaction. A file that
is damaged, or of another version, is set aside (renamed) and begun anew; one that was taken away from under us is left.
Never touched outside of the store's thread. Must never wait for a lock for longer than a request may, but to open it.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Protocol

from glasscache.errors import StoreError
from glasscache.stores._disk_schema import APPLICATION, SCHEMA, VERSION
from glasscache.stores._disk_thread import Job

log = logging.getLogger("glasscache")

NAME = "glasscache.db"
_BUSY = 0.1
"""Seconds that another process may hold the file up; half of what a request gives all its tiers."""
_OPENING_BUSY = 1.0
_PARTS = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"
"""Ours as they were written, and SQLite's own table of what AUTOINCREMENT has given out."""
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_CUT_SHORT = sqlite3.SQLITE_IOERR_SHORT_READ
"""Of the database, or of its log: it stays so until it is begun anew, as no other trouble of the system's does."""
_ODD = {0, sqlite3.SQLITE_ERROR}
"""What comes of a table, or a row, that is not there: errors of SQLite's, and of what reads its rows."""
_NO_BETTER_ALONE = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
"""What one of a batch alone would meet, too, and wait for."""


class _Foreign(StoreError):
    """A database, but not one of ours, or of another version."""


class Chores(Protocol):
    """What is done beside, by whoever writes next."""

    @property
    def are_due(self) -> bool:
        """Whether a transaction is worth it for them alone."""
        ...

    def do(self, db: Connection) -> None:
        """Within a transaction."""

    def done(self, db: Connection) -> None:
        """The transaction was kept."""


class DiskFile:
    """One connection to the database in `folder`, opened when it is needed."""

    def __init__(self, folder: Path, chores: Chores) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._chores = chores
        self._db: Connection | None = None
        self._identity: tuple[int, int] | None = None
        self.generation = 0
        """Which connection it is: what one of them saw says nothing of another."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Every step, those that read first. What fails, fails with a StoreError."""
        error = self._tried(jobs)
        if error is not None and self._replace(error):
            error = self._tried(jobs)
        if error is not None:
            for job in jobs:
                if not job.is_done:
                    job.fail(error)

    def _tried(self, jobs: Sequence[Job]) -> Exception | None:
        """What went wrong with all of them."""
        try:
            self._run(self._opened(), jobs)
        except Exception as error:
            return error
        return None

    def close(self) -> None:
        """Let go of it."""
        db, self._db = self._db, None
        if db is not None:
            with suppress(sqlite3.Error):
                db.close()

    # --- opening ----------------------------------------------------------------------------------------------------

    def _opened(self) -> Connection:
        if self._db is None or _identity(self._path) != self._identity:
            if self._db is not None:
                log.warning("%s was removed, or another put in its place, while it was open: opened anew", self._path)
            self.close()
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with self._alone():
                try:
                    self._db = self._open()
                except (_Foreign, sqlite3.DatabaseError) as error:
                    # of two versions that run side by side the one that came last has the file: no taking turns
                    if not (_is_damage(error) or (isinstance(error, _Foreign) and not self.generation)):
                        raise
                    self._set_aside(error)
                    self._db = self._open()
            self.generation += 1
        return self._db

    def _open(self) -> Connection:
        with suppress(FileExistsError):
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        db = sqlite3.connect(self._path, timeout=_BUSY, isolation_level=None, check_same_thread=False)
        try:
            self._prepare(db)
        except BaseException:
            db.close()
            raise
        self._identity = _identity(self._path)
        return db

    def _prepare(self, db: Connection) -> None:
        found = (_one(db, "PRAGMA application_id"), _one(db, "PRAGMA user_version"))
        is_new = found == (0, 0) and _one(db, "SELECT count(*) FROM sqlite_master") == 0
        if not is_new and found != (APPLICATION, VERSION):
            raise _Foreign(f"{self._path} is not a database of this version of glasscache: {found}")
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        mode = _one(db, "PRAGMA journal_mode = WAL")
        if mode != "wal":
            raise StoreError(f"{self._path}: processes cannot share it here (journal_mode {mode!r}): give a local disk")
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {16 * 1024**2}")
        if is_new:
            with _transaction(db, "IMMEDIATE"):
                for statement in SCHEMA:
                    db.execute(statement)
                db.execute("INSERT INTO state (id, birth) VALUES (1, ?)", (secrets.token_hex(8),))
                db.execute(f"PRAGMA application_id = {APPLICATION}")
                db.execute(f"PRAGMA user_version = {VERSION}")
        if not _is_whole(db):
            raise _Foreign(f"{self._path} lacks a part")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process opens the file meanwhile, or sets it aside. Ends with the process, however that ends."""
        path = self._folder / "glasscache.lock"
        lock = sqlite3.connect(path, timeout=_OPENING_BUSY, isolation_level=None)
        try:
            try:
                lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.DatabaseError as error:
                if _is_damage(error):  # nothing is kept in it
                    path.unlink(missing_ok=True)
                raise
            yield
        finally:
            lock.close()

    # --- what is not ours -------------------------------------------------------------------------------------------

    def _replace(self, error: Exception) -> bool:
        """Begin anew instead of a file that is to blame for an error, unless another process has done so already."""
        try:
            if not self._is_to_blame(error):
                return False
            self.close()
            with self._alone():
                if _identity(self._path) == self._identity:
                    self._set_aside(error)
        except (sqlite3.Error, OSError):
            return False
        return True

    def _is_to_blame(self, error: Exception) -> bool:
        """Whether it is damaged, or somebody has taken a part of it."""
        if self._db is None or _code(error) not in _ODD or isinstance(error, (StoreError, OSError)):
            return _is_damage(error)
        return not _is_whole(self._db)

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_suffix(".db.aside")
        os.replace(self._path, aside)
        for rest in ("-wal", "-shm"):
            Path(f"{self._path}{rest}").unlink(missing_ok=True)
        log.warning("%s was set aside as %s, and begun anew: %s", self._path, aside.name, error)

    # --- transactions -----------------------------------------------------------------------------------------------

    def _run(self, db: Connection, jobs: Sequence[Job]) -> None:
        with _transaction(db, "DEFERRED"):
            for job in jobs:
                if not job.is_done:
                    job.begin(db)
        writes = [job for job in jobs if not job.is_done]
        if not (writes or self._chores.are_due):
            return
        try:
            self._keep(db, writes)
        except Exception as error:
            if self._is_to_blame(error):
                raise
            self._keep_each(db, writes, error)

    def _keep_each(self, db: Connection, writes: Sequence[Job], error: Exception) -> None:
        """What is too much for the disk, or fails, must not take the others with it."""
        if len(writes) == 1 or _code(error) in _NO_BETTER_ALONE:
            for job in writes:
                job.fail(error)
            return
        for job in writes:
            try:
                self._keep(db, (job,))
            except Exception as own:
                job.fail(own)

    def _keep(self, db: Connection, jobs: Sequence[Job]) -> None:
        with _transaction(db, "IMMEDIATE"):
            found = [job.write.do(db) for job in jobs if job.write is not None]
            self._chores.do(db)
        for job, what in zip(jobs, found, strict=True):
            job.succeed(what)
        with suppress(sqlite3.Error):
            self._chores.done(db)


@contextmanager
def _transaction(db: Connection, kind: str) -> Iterator[None]:
    """All of it or nothing."""
    db.execute(f"BEGIN {kind}")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # some errors have ended it already
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise


def _one(db: Connection, question: str) -> Any:
    return db.execute(question).fetchone()[0]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _code(error: Exception) -> int:
    """SQLite's own, without what is special to it; 0: none of its errors."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_damage(error: Exception) -> bool:
    return _code(error) in _DAMAGE or getattr(error, "sqlite_errorcode", 0) == _CUT_SHORT


def _is_whole(db: Connection) -> bool:
    """Whether every part is there, and as it was made."""
    return {*SCHEMA} <= {sql for (sql,) in db.execute(_PARTS)} and _one(db, "SELECT count(*) FROM state") == 1
