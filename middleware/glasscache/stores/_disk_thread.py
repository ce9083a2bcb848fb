"""The thread in which a disk store does all its work: no file is touched on the event loop.

Decides what goes there together: all that was asked for while the thread was away, at least all of one turn of the
loop. No caller's cancellation reaches what was asked for. Must never hold up a fork for longer than one batch, nor let
a child inherit a file that is open: SQLite's locks belong to the process that took them.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass
from sqlite3 import Connection
from typing import Any, Generic, Protocol, TypeAlias, TypeVar
from weakref import WeakSet

from glasscache.errors import GlasscacheError, StoreError

T = TypeVar("T")

_CLOSE_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Write(Generic[T]):
    """What is left to be done of a step, in a transaction that writes."""

    do: Callable[[Connection], T]


Step: TypeAlias = Callable[[Connection], T | Write[T]]
"""Reads, and prepares what is to be written: what it returns, or what is left to be done."""


class Job:
    """One step on its way, and what came of it."""

    __slots__ = ("answer", "error", "found", "is_done", "step", "write")

    def __init__(self, step: Step[Any], answer: asyncio.Future[Any]) -> None:
        self.step = step
        self.answer = answer
        self.found: Any = None
        self.error: Exception | None = None
        self.write: Write[Any] | None = None
        self.is_done = False

    def begin(self, db: Connection) -> None:
        """Take the step; what is wrong with the database itself is raised."""
        try:
            found = self.step(db)
        except sqlite3.Error:
            raise
        except Exception as error:
            self.fail(error)
            return
        if isinstance(found, Write):
            self.write = found
        else:
            self.succeed(found)

    def succeed(self, found: Any) -> None:
        """It is done."""
        self.found, self.is_done = found, True

    def fail(self, error: Exception) -> None:
        """It cannot be done. Only errors of ours come out."""
        self.is_done = True
        if not isinstance(error, GlasscacheError):
            told, error = error, StoreError(f"{type(error).__name__}: {error}")
            error.__cause__ = told
        self.error = error

    def tell(self) -> None:
        """Whoever still waits."""
        if self.answer.done():
            return
        if self.error is None:
            self.answer.set_result(self.found)
        else:
            self.answer.set_exception(self.error)


class Worker(Protocol):
    """What works in the thread."""

    def run(self, jobs: Sequence[Job]) -> None:
        """Each of them either succeeds or fails. Must not raise."""

    def close(self) -> None:
        """Let go of everything that is open. Called while nothing runs, in whatever thread. Must not raise."""


class DiskThread:
    """At most one thread, that of `worker`. `told`: called on the event loop after every batch."""

    def __init__(self, worker: Worker, told: Callable[[], None]) -> None:
        self._worker = worker
        self._told = told
        self._loop: asyncio.AbstractEventLoop | None = None
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        """In the child of a fork there is no thread, and the loop is another's."""
        self.lock: threading.Lock = threading.Lock()
        """Held while the worker works."""
        self._pool: ThreadPoolExecutor | None = None
        self._settle(None)

    def _settle(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._waiting: list[Job] = []
        self._is_away = False

    def call(self, step: Step[T]) -> asyncio.Future[T]:
        """What the step will have returned. It is done whether or not somebody waits for that. Raises StoreError."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what another loop left behind has nobody who would hear of it
            self._settle(loop)
        answer: asyncio.Future[T] = loop.create_future()
        self._waiting.append(Job(step, answer))
        if len(self._waiting) == 1 and not self._is_away:
            loop.call_soon(self._send, context=Context())
        return answer

    def write(self, do: Callable[[Connection], T]) -> asyncio.Future[T]:
        """The same for what is a transaction as a whole."""

        def step(_: Connection) -> T | Write[T]:
            return Write(do)

        return self.call(step)

    def _send(self) -> None:
        if self._is_away or not self._waiting or self._loop is None:
            return
        jobs, self._waiting = self._waiting, []
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="glasscache disk")
        self._is_away = True
        try:
            self._pool.submit(self._carry_out, jobs, self._loop)
        except RuntimeError as error:  # no thread can be started
            for job in jobs:
                job.fail(error)
            self._returned(jobs, self._loop)

    def _carry_out(self, jobs: Sequence[Job], loop: asyncio.AbstractEventLoop) -> None:
        with self.lock:
            self._worker.run(jobs)
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._returned, jobs, loop, context=Context())

    def _returned(self, jobs: Sequence[Job], loop: asyncio.AbstractEventLoop) -> None:
        for job in jobs:
            job.tell()
            if job.answer.done() and not job.answer.cancelled():
                job.answer.exception()  # looked at: nobody may be left to do so
        if loop is self._loop:
            self._is_away = False
            self._send()
        self._told()

    async def aclose(self) -> None:
        """Wait for what was asked for, let go of the file, end the thread; what takes longer than 1 s ends later."""
        if self._pool is None:
            return
        await asyncio.wait((self.call(lambda _: None),), timeout=_CLOSE_TIMEOUT)
        pool, self._pool = self._pool, None
        closing = asyncio.wrap_future(pool.submit(self._close))
        _, late = await asyncio.wait((closing,), timeout=_CLOSE_TIMEOUT)
        pool.shutdown(wait=not late)

    def _close(self) -> None:
        with self.lock:
            self._worker.close()

    # --- forks ------------------------------------------------------------------------------------------------------

    def before_fork(self) -> None:
        """Let go of the file: it is opened again when it is needed, by either process."""
        self.lock.acquire()
        self._worker.close()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self.lock.release()

    def after_fork_in_child(self) -> None:
        """Begin anew."""
        self._forget()


_all: WeakSet[DiskThread] = WeakSet()
_forking: list[DiskThread] = []


def _before_fork() -> None:
    _forking[:] = _all
    for thread in _forking:
        thread.before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().after_fork_in_parent()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().after_fork_in_child()


# Windows does not fork.
getattr(os, "register_at_fork", lambda **_: None)(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
)
