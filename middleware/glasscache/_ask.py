"""What one request wants of the engine, and how it is answered: records, with what follows from them alone.

Decides nothing but what a request makes of a verdict. Must never await.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeAlias

from msgspec import Struct

from glasscache._counters import GroupCounters
from glasscache._entry import Entry, Key
from glasscache._events import Result, StaleReason, WaitOutcome
from glasscache._flight import Flight
from glasscache._gate import Gate
from glasscache._glance import Glance
from glasscache._reader import Reader
from glasscache._wait import Waiting
from glasscache.policy import Policy, Verdict, judge, may_stand_in

Wish: TypeAlias = Callable[[Entry, float, Verdict], Verdict]
"""What a request makes of a verdict on a stored answer, at a time (its own Cache-Control)."""


def unwanted(entry: Entry, now: float, verdict: Verdict) -> Verdict:
    """The wish of who has no use for what is stored: load anew."""
    return Verdict.UNWANTED


OPEN = Gate()
"""The gate of requests whose loads nobody counts."""


class Ask:
    """What one request wants of the engine: the key, the terms, and how to load it. Each front has its own kind of it
    (`Exchange`, `Question`), which sets what `start` does not.
    """

    key: Key
    counters: GroupCounters
    policy: Policy
    load: Callable[[Flight], Awaitable[None]]
    """Runs the origin and feeds the flight; may go on after the flight has ended."""
    gate: Gate
    queues: bool
    """Whether a load of its own, where none can be shared, waits for its turn (`Limits.max_parallel_loads`)."""
    text: str
    """The key in clear text, if telemetry is to show it."""
    at: Key
    """Where the answer is looked for: `key`, or its variant once the marker is known."""
    marker: Entry | None
    stand_in: Entry | None
    """A stale answer that may be served if the load fails or takes too long."""
    stale: Entry | None
    """A stored answer that the origin may be asked to confirm."""
    wish: Wish | None
    is_missing: bool
    """The near tier has just been looked into, and has nothing: the first turn need not do it again."""
    generation: int
    glanced: Glance | None
    """A glance that has just not answered it: the load that it leads need not begin with another one."""
    waiting: Waiting | None
    """A wait that goes on although its flight is over."""

    def variant(self, marker: Entry) -> Key:
        """The key of this request's variant under a marker."""
        return marker.chunks[0]

    def joined(self, reader: Reader) -> None:
        """Be told, every time this request joins a flight: most have nothing to do then."""

    def unstored(self, reason: str) -> None:
        """Count that what it loads is not stored."""
        self.counters.unstored[reason] += 1

    def confirms(self, entry: Entry) -> bool:
        """Whether the origin can be asked to confirm such an answer."""
        return False

    def start(self) -> None:
        """Nothing has been found yet. (In the object itself: what is only its class's takes longer to find.)"""
        self.queues, self.text, self.is_missing, self.generation = True, "", False, 0
        self.marker = self.stand_in = self.stale = self.wish = self.glanced = self.waiting = None

    def select(self, marker: Entry) -> None:
        """Look under this marker from now on."""
        self.marker = marker
        self.at = self.variant(marker)

    def can_stand_in(self, now: float, *, unreachable: bool = False) -> bool:
        """Whether there is a stale answer that may be served."""
        return may_stand_in(self.stand_in, now, unreachable=unreachable)

    def judge(self, entry: Entry, now: float, *, beta: float, chance: float) -> Verdict:
        """What this request may be served of a stored answer."""
        verdict = judge(entry, now, beta=beta, chance=chance)
        return verdict if self.wish is None else self.wish(entry, now, verdict)

    def confirmable(self) -> Entry | None:
        """The stored answer that the origin is to confirm, if there is one."""
        return self.stale if self.stale is not None and self.confirms(self.stale) else None

    def go_round(self, reader: Reader) -> None:
        """What this reader reads is not for this request, which will look again: the wait is still the same one."""
        self.waiting, reader.waiting = reader.waiting, None

    def end_wait(self, outcome: WaitOutcome) -> None:
        """The wait that went on, if any, is over."""
        if self.waiting is not None:
            self.waiting.over(outcome)
            self.waiting = None


class Answer(Struct, kw_only=True, eq=False):
    """How a request is answered: from `entry`, or by reading `reader` (which the caller must leave).

    A miss with an entry led the load that has just stored it.
    """

    result: Result
    tier: str
    entry: Entry | None = None
    reader: Reader | None = None
    detail: StaleReason | None = None
    bypass: str | None = None
