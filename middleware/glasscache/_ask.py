"""What one request wants of the engine, and how it is answered: records, with what follows from them alone.

Decides nothing but what a request makes of a verdict. Must never await.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from glasscache._entry import Entry, Key
from glasscache._events import GroupCounters, Result, StaleReason, WaitOutcome
from glasscache._flight import Flight
from glasscache._gate import Gate
from glasscache._stream import Reader
from glasscache._wait import Waiting
from glasscache.policy import Policy, Verdict, judge, may_stand_in


@dataclass(slots=True, kw_only=True, eq=False)
class Ask:
    """What one request wants: the key, the terms, and how to load it."""

    key: Key
    counters: GroupCounters
    policy: Policy
    load: Callable[[Flight], Awaitable[None]]
    """Runs the origin and feeds the flight; may go on after the flight has ended."""
    variant: Callable[[Entry], Key] = lambda marker: marker.chunks[0]
    """The key of this request's variant under a marker."""
    gate: Gate = field(default_factory=Gate)
    joined: Callable[[Reader], None] = lambda reader: None
    """Told every time this request joins a flight."""
    queues: bool = True
    """Whether a load of its own, where none can be shared, waits for its turn (`Limits.max_parallel_loads`)."""
    text: str = ""
    """The key in clear text, if telemetry is to show it."""
    at: Key = b""
    """Where the answer is looked for: `key`, or its variant once the marker is known."""
    marker: Entry | None = None
    stand_in: Entry | None = None
    """A stale answer that may be served if the load fails or takes too long."""
    stale: Entry | None = None
    """A stored answer that the origin may be asked to confirm."""
    confirms: Callable[[Entry], bool] = lambda entry: False
    """Whether the origin can be asked to confirm such an answer."""
    wish: Callable[[Entry, float, Verdict], Verdict] | None = None
    """What this request makes of a verdict on a stored answer, at a time (its own Cache-Control)."""
    is_missing: bool = False
    """The near tier has just been looked into, and has nothing: the first turn need not do it again."""
    generation: int = 0
    waiting: Waiting | None = None
    """A wait that goes on although its flight is over."""

    def __post_init__(self) -> None:
        self.at = self.key

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

    @property
    def confirmable(self) -> Entry | None:
        """The stored answer that the origin is to confirm, if there is one."""
        return self.stale if self.stale is not None and self.confirms(self.stale) else None

    def go_round(self, reader: Reader) -> None:
        """The request will look again; its wait goes on."""
        self.waiting, reader.waiting = reader.waiting, None

    def end_wait(self, outcome: WaitOutcome) -> None:
        """The wait that went on, if any, is over."""
        if self.waiting is not None:
            self.waiting.over(outcome)
            self.waiting = None


@dataclass(slots=True, kw_only=True, eq=False)
class Answer:
    """How a request is answered: from `entry`, or by reading `reader` (which the caller must leave)."""

    result: Result
    tier: str
    entry: Entry | None = None
    reader: Reader | None = None
    detail: StaleReason | None = None
    bypass: str | None = None
