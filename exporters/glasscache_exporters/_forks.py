"""What survives a fork: locks that nobody holds, and readers that begin with nothing.

Decides that a fork finds nobody at work here, and that a child counts only its own. A child inherits its parent's
locks as they stand, its sockets and its figures, and no thread but the one that forked. So a fork waits for what is
under way (but not for a collector that hangs: who waits for its answer holds no lock of the SDK), and whoever is told
of the child begins anew.
"""

from __future__ import annotations

import os
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader

_PAUSE = 1.0  # seconds that a fork waits at most; a collection and its sending take milliseconds


class Busy:
    """A lock, held by `with` around what a fork has to wait for. A child begins with one that is free."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_paused = False
        _locks.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def pause(self) -> None:
        """Before a fork: wait for who holds the lock, at most a moment, and hold it."""
        self._is_paused = self._lock.acquire(timeout=_PAUSE)

    def go_on(self) -> None:
        """After a fork, in the parent: let go of the lock."""
        if self._is_paused:
            self._lock.release()

    def renew(self) -> None:
        """After a fork, in the child: a new lock, since nobody is left to let go of the old one."""
        self._lock = threading.Lock()


class Heir(Protocol):
    """Who is told that it lives in a child now."""

    def in_child(self) -> None:
        """Begin anew. In the thread that forked: must not wait for anything."""


def tell(heir: Heir) -> None:
    """From now on, tell it of each child; as long as it lives, or until `forget`."""
    _heirs.add(heir)


def forget(heir: Heir) -> None:
    """Tell this one of no more children."""
    _heirs.discard(heir)


def read_anew(provider: MeterProvider | None, reader: MetricReader) -> None:
    """Let a reader of this provider begin with nothing: the parent goes on telling what it has counted.

    Not in the thread that forked: another reader's collection may have left a lock of the SDK locked for ever.
    """
    if provider is not None:
        provider.remove_metric_reader(reader)
        provider.add_metric_reader(reader)


_locks: weakref.WeakSet[Busy] = weakref.WeakSet()
_heirs: weakref.WeakSet[Heir] = weakref.WeakSet()


def _before() -> None:
    for lock in list(_locks):
        lock.pause()


def _in_parent() -> None:
    for lock in list(_locks):
        lock.go_on()


def _in_child() -> None:
    for lock in list(_locks):
        lock.renew()
    for heir in list(_heirs):
        heir.in_child()


getattr(os, "register_at_fork", lambda **_: None)(  # Windows does not fork
    before=_before, after_in_parent=_in_parent, after_in_child=_in_child
)
