"""What all flights of one engine share: the bounds, the bytes they hold, and the bookkeeping of waits.

A wait runs from joining a flight until the first body bytes, or the end of an empty body, can be passed on.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from glasscache._contention import Contentions
from glasscache._entry import Key
from glasscache._events import Load, Scope, SpanRef, Wait, WaitOutcome
from glasscache.interfaces import Clock, Telemetry
from glasscache.policy import Limits


class Waiting:
    """One follower's wait that is going on. `over` ends it, once; later calls do nothing."""

    __slots__ = ("_abroad", "_commons", "_span", "ref", "work")

    def __init__(self, commons: Commons, work: Wait) -> None:
        self._commons = commons
        self.work: Wait = work
        self._abroad = work.scope == "cluster"
        self._span: AbstractContextManager[object] | None = commons.telemetry.span(work)
        work.begun = commons.clock.now()
        self._set_scope()
        self._span.__enter__()
        self.ref: SpanRef | None = work.ref
        self._count(1)

    def over(self, outcome: WaitOutcome) -> None:
        """End the wait with its outcome."""
        span, self._span = self._span, None
        if span is not None:
            work, commons = self.work, self._commons
            work.outcome = outcome
            work.ended = commons.clock.now()
            self._set_scope()
            self._count(-1)
            if work.ended - work.begun > commons.limits.contention_threshold:
                commons.contentions.add(work, commons.clock.wall())
            span.__exit__(None, None, None)

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._span is None

    def _set_scope(self) -> None:
        """Who waits for a load that itself waits for another machine waits for that one."""
        self.work.scope = "cluster" if self._abroad or self.work.holder.waits_for else "process"

    def _count(self, step: int) -> None:
        if self._abroad:
            self._commons.abroad += step
        else:
            self._commons.waiters += step


class Commons:
    """What all flights of one engine share."""

    __slots__ = ("abroad", "clock", "contentions", "held_bytes", "limits", "telemetry", "waiters")

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

    def begin_wait(self, holder: Load, group: str, key: Key, position: int, scope: Scope = "process") -> Waiting:
        """A follower begins to wait for `holder`."""
        return Waiting(self, Wait(group=group, key=key, scope=scope, holder=holder, position=position))
