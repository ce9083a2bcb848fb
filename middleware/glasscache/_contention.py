"""The last waits that were long: who waited, for whose load, how long. Kept in memory, whatever telemetry there is.

Decides which of them are kept. Must never hold on to a load (an error of it would keep alive whatever it came from),
nor know more of a key than its digest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from glasscache._entry import Key
from glasscache._events import LockScope, SpanRef, Wait, WaitOutcome

KEPT = 256
"""Contentions in memory."""
KEPT_OF_ONE_LOAD = 16
"""A crowd behind one load must not push out all others. Who joined first waited longest, and is let go first."""


@dataclass(slots=True, frozen=True, kw_only=True)
class Contention:
    """One wait that was longer than `Limits.contention_threshold`. Durations in seconds."""

    number: int
    """Counts all long waits of this cache, kept or not."""
    load: int
    """The same for all who waited for one load."""
    ended: float
    """Unix time."""
    waited: float
    group: str
    key: Key
    scope: LockScope
    outcome: WaitOutcome
    position: int
    queue_length: int
    waiter: SpanRef | None
    holder: SpanRef | None
    machine: str
    """Where the load ran, if not in this process."""
    fencing_token: int | None
    """Of the load's lease, if it had one."""
    elapsed: float
    """How long the load had been under way when the wait began."""
    running: float
    """The same when the wait was over."""
    held: float | None
    """How long the load took; None: it went on when the wait was over, or it is another machine's."""


@dataclass(slots=True, eq=False)
class _Load:
    number: int
    kept: int = 0


class Contentions:
    """The last `KEPT` long waits, of one load at most `KEPT_OF_ONE_LOAD`."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Start from nothing."""
        self.seen: int = 0
        """Long waits since the beginning, also those that are not kept."""
        self._kept: deque[tuple[Contention, tuple[Key, float]]] = deque()
        self._loads: dict[tuple[Key, float], _Load] = {}
        self._last_load = 0

    def __iter__(self) -> Iterator[Contention]:
        """Newest first."""
        return (contention for contention, _ in reversed(self._kept))

    def add(self, work: Wait, wall: float) -> None:
        """Keep a wait that is over; `wall` is the Unix time now."""
        self.seen += 1
        holder = work.holder if work.holder.waits_for is None else work.holder.waits_for
        of = work.key, holder.begun
        load = self._loads.get(of)
        if load is None:
            self._last_load += 1
            load = self._loads[of] = _Load(self._last_load)
        if load.kept == KEPT_OF_ONE_LOAD:
            return
        load.kept += 1
        contention = Contention(
            number=self.seen,
            load=load.number,
            ended=wall,
            waited=work.ended - work.begun,
            group=work.group,
            key=work.key,
            scope=work.scope,
            outcome=work.outcome,
            position=work.position,
            queue_length=work.holder.queue_length or work.position,
            waiter=work.ref,
            holder=holder.ref,
            machine=holder.machine,
            fencing_token=holder.fencing_token,
            elapsed=max(work.begun - holder.begun, 0.0),
            running=work.ended - holder.begun,
            held=holder.ended - holder.begun if holder.ended else None,
        )
        self._kept.append((contention, of))
        if len(self._kept) > KEPT:
            self._forget(self._kept.popleft()[1])

    def _forget(self, of: tuple[Key, float]) -> None:
        load = self._loads[of]
        load.kept -= 1
        if not load.kept:
            del self._loads[of]
