"""What all flights of one engine share: the bounds, the bytes they hold, and the bookkeeping of waits.

A wait runs from joining a flight until the first body bytes, or the end of an empty body, can be passed on.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from glasscache._contention import Contentions
from glasscache._entry import Key
from glasscache._events import Load, LockScope, Wait, WaitOutcome
from glasscache._sweep import Sweep
from glasscache.interfaces import Clock, Telemetry
from glasscache.policy import Limits

_YOUNG = 1.0  # seconds: most loads are over by then, and watching a client costs a task


class Patient(Protocol):
    """Something that is under way (a load, a follower's wait), and is told once when it has taken too long."""

    def late(self) -> None:
        """Its time is over, and it is not."""

    def __hash__(self) -> int:
        """Two of them are never the same."""


def _tell_late(who: Patient) -> None:
    who.late()


class Waiting:
    """One follower's wait that is going on. `over` ends it, once; later calls do nothing."""

    __slots__ = ("_abroad", "_commons", "_span", "is_over", "work")

    def __init__(self, commons: Commons, work: Wait) -> None:
        self._commons = commons
        self.work: Wait = work
        self._abroad = work.scope == "cluster"
        self._span: AbstractContextManager[object] = commons.telemetry.span(work)
        self.is_over: bool = False
        work.begun = commons.clock.now()
        if work.holder.waits_for is not None:
            work.scope = "cluster"  # who waits for a load that itself waits for another machine waits for that one
        self._span.__enter__()
        if self._abroad:
            commons.abroad += 1
        else:
            commons.waiters += 1

    def over(self, outcome: WaitOutcome) -> None:
        """End the wait with its outcome."""
        if self.is_over:
            return
        self.is_over = True
        work, commons = self.work, self._commons
        work.outcome = outcome
        work.ended = ended = commons.clock.now()
        if self._abroad:
            commons.abroad -= 1
        else:
            commons.waiters -= 1
            work.scope = "process" if work.holder.waits_for is None else "cluster"
        self._span.__exit__(None, None, None)
        if ended - work.begun > commons.limits.contention_threshold:
            commons.contentions.add(work, commons.clock.wall())


class Commons:
    """What all flights of one engine share."""

    __slots__ = ("abroad", "clock", "contentions", "held_bytes", "limits", "patience", "telemetry", "waiters", "youth")

    def __init__(self, limits: Limits, clock: Clock, telemetry: Telemetry) -> None:
        self.limits: Limits = limits
        self.clock: Clock = clock
        self.telemetry: Telemetry = telemetry
        self.held_bytes: int = 0
        """Bytes in the buffers of all running flights."""
        self.waiters: int = 0
        """Requests that wait for another's load, now."""
        self.abroad: int = 0
        """Loads that wait for another machine's, now."""
        self.contentions: Contentions = Contentions()
        """The last waits that were longer than `Limits.contention_threshold`."""
        self.youth: Sweep[Patient] = Sweep(min(_YOUNG, limits.load_timeout), _tell_late)
        """The first second of each load, in which most end: only then its clients are watched, and it has a timer."""
        self.patience: Sweep[Patient] = Sweep(limits.wait_timeout, _tell_late)
        """How long each follower waits (`Limits.wait_timeout`)."""

    def forked(self) -> None:
        """In the child of a fork nobody waits, and nobody did."""
        self.held_bytes = self.waiters = self.abroad = 0
        self.contentions.clear()

    def rest(self) -> None:
        """Cancel the timers that nothing under way needs."""
        self.youth.rest()
        self.patience.rest()

    def begin_wait(self, holder: Load, group: str, key: Key, position: int, scope: LockScope = "process") -> Waiting:
        """A follower begins to wait for `holder`."""
        return Waiting(self, Wait(group=group, key=key, scope=scope, holder=holder, position=position))
