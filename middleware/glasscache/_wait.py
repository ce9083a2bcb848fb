"""What all flights of one engine share: the bounds, the bytes they hold, and the bookkeeping of waits.

A wait runs from joining a flight until the first body bytes, or the end of an empty body, can be passed on.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from glasscache._entry import Key
from glasscache._events import Load, SpanRef, Wait, WaitOutcome
from glasscache.interfaces import Clock, Telemetry
from glasscache.policy import Limits


class Waiting:
    """One follower's wait that is going on. `over` ends it, once; later calls do nothing."""

    __slots__ = ("_commons", "_span", "_work", "ref")

    def __init__(self, commons: Commons, work: Wait) -> None:
        self._commons = commons
        self._work = work
        self._span: AbstractContextManager[object] | None = commons.telemetry.span(work)
        work.begun = commons.clock.now()
        self._span.__enter__()
        self.ref: SpanRef | None = work.ref
        commons.waiters += 1

    def over(self, outcome: WaitOutcome) -> None:
        """End the wait with its outcome."""
        span, self._span = self._span, None
        if span is not None:
            self._work.outcome = outcome
            self._work.ended = self._commons.clock.now()
            self._commons.waiters -= 1
            span.__exit__(None, None, None)


class Commons:
    """What all flights of one engine share."""

    __slots__ = ("clock", "held_bytes", "limits", "telemetry", "waiters")

    def __init__(self, limits: Limits, clock: Clock, telemetry: Telemetry) -> None:
        self.limits: Limits = limits
        self.clock: Clock = clock
        self.telemetry: Telemetry = telemetry
        self.held_bytes: int = 0
        """Bytes in the buffers of all running flights."""
        self.waiters: int = 0
        """Requests that wait for another's load, now."""

    def begin_wait(self, holder: Load, group: str, key: Key, position: int) -> Waiting:
        """A follower begins to wait for `holder`."""
        return Waiting(self, Wait(group=group, key=key, scope="process", holder=holder, position=position))
