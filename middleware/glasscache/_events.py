"""What the engine tells: words and records. Ground floor: standard library, and msgspec's records.

Those are made by one function of C, with their names: a dataclass takes four to seven times as long.

Decides the words for what can happen; the names that leave the process are in `_otel_names.py`. `Work` records are
filled while the work goes on and read when it is over; events are told once, after the fact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias

from msgspec import Struct

Result: TypeAlias = Literal["hit", "stale", "revalidated", "collapsed", "miss", "bypass", "error"]
Cause: TypeAlias = Literal["evicted", "expired", "invalidated", "replaced", "rejected"]
"""Why an entry left a store: no room, its age, told so, a newer answer; `rejected` never came in (too large, or a
value without bytes), or was none: bytes that are not an entry under their key."""
LockScope: TypeAlias = Literal["process", "cluster"]
WaitOutcome: TypeAlias = Literal[
    "served", "promoted", "acquired", "timeout", "holder_failed", "stale_served", "cancelled", "error"
]
Trigger: TypeAlias = Literal["miss", "refresh", "revalidate", "warm"]
StaleReason: TypeAlias = Literal["revalidating", "error", "wait_timeout"]
Release: TypeAlias = Literal["released", "expired", "lost"]
TierState: TypeAlias = Literal["ok", "degraded", "open"]
Source: TypeAlias = Literal["api", "tag", "unsafe_method", "backplane"]

MOST_WAITERS_LINKED = 16
"""Of the waits for one load: that it links to, of its own process and again of other machines."""


class SpanRef(NamedTuple):
    """Enough of a span to link to it: W3C trace id, span id and the sampled flag."""

    trace_id: int
    span_id: int
    sampled: bool


class TierGauge(NamedTuple):
    """How full a tier is, and how full it may be. 0 as a limit: not bounded that way."""

    tier: str
    entries: int
    entry_limit: int
    size: int
    size_limit: int


# --- work: handed to Telemetry.span() before it begins, read when it is over ----------------------------------------


class Load(Struct, eq=False, kw_only=True):
    """One run of the origin, and the right to it."""

    group: str
    key: bytes
    trigger: Trigger
    text: str = ""
    """The key in clear text, by opt-in."""
    cause: SpanRef | None = None
    """A background refresh: the span of the request that set it off."""
    ref: SpanRef | None = None
    """Filled by Telemetry when the span opens."""
    begun: float = 0.0
    ended: float = 0.0
    waiters: list[SpanRef] = []
    """The waits that this load may link to; the first `MOST_WAITERS_LINKED`."""
    queue_length: int = 0
    """Followers that waited for it, counted at release."""
    error: BaseException | None = None
    unstored: str = ""
    """Why its answer is not stored, in one word; empty if nothing is known against it."""
    machine: str = ""
    """Where it runs, if not here."""
    waits_for: Load | None = None
    """A load on another machine that this one waits for, before it may begin; its own followers wait for that one."""
    unnamed: list[Callable[[], None]] | None = []
    """Filled by Telemetry: waits to tell when it is known whose load they wait for, this one or `waits_for`. None: it
    is known."""
    fencing_token: int | None = None
    """Of the lease that it was given by a shared tier, if it was. What became of the lease:"""
    release: Release = "released"
    held: float = 0.0
    """Seconds."""
    remote_waiters: list[SpanRef] = []
    """The waits on other machines that this load may link to; at most as many."""
    told_after: float = 0.0
    """Seconds between its end and the end of its record."""

    def named(self) -> None:
        """It is known now who loads: tell who waits for that."""
        unnamed, self.unnamed = self.unnamed or (), None
        for tell in unnamed:
            tell()


class Wait(Struct, eq=False, kw_only=True):
    """One follower's wait: from joining a flight until its first body bytes, or the end of an empty body."""

    group: str
    key: bytes
    scope: LockScope
    holder: Load
    position: int
    """1 is the first follower."""
    begun: float = 0.0
    ended: float = 0.0
    outcome: WaitOutcome = "error"
    ref: SpanRef | None = None


class TierCall(Struct, eq=False, kw_only=True):
    """One operation on a tier that has to be awaited."""

    tier: str
    operation: Literal["get", "set", "delete", "lease", "publish"]
    size: int = 0
    ttl: float = 0.0
    begun: float = 0.0
    ended: float = 0.0
    found: bool | None = None
    error: BaseException | None = None


class Invalidation(Struct, eq=False, kw_only=True):
    """One removal on demand."""

    source: Source
    count: int = 0
    """Entries that it removed on this machine."""
    cause: SpanRef | None = None
    """Told by another machine: the span there, ..."""
    lag: float | None = None
    """... and how many seconds ago."""


class Revalidation(Struct, eq=False, kw_only=True):
    """One conditional request to the origin: is the stored answer still the right one? Inside of a `Load`."""

    group: str
    confirmed: bool = False
    """It is (304); otherwise a new answer came."""


Work: TypeAlias = Load | Wait | TierCall | Invalidation | Revalidation


# --- events: told once, after the fact ------------------------------------------------------------------------------


class Answered(Struct, frozen=True, kw_only=True):
    """A request was answered (hits are told only when sampled)."""

    result: Result
    duration: float
    error: BaseException | None = None


class Acquired(Struct, frozen=True, kw_only=True):
    """Somebody asked for the right to load."""

    scope: LockScope
    result: Literal["immediate", "contended", "timeout", "error"]


class ServedStale(Struct, frozen=True, kw_only=True):
    """A stored answer past its freshness was served on purpose; `age` is seconds past the freshness."""

    reason: StaleReason
    age: float


class Removed(Struct, frozen=True, kw_only=True):
    """An entry left a tier (a sample of all removals); `age` is its age in seconds."""

    tier: str
    cause: Cause
    age: float


class TierChanged(Struct, frozen=True, kw_only=True):
    """A far tier is well, ill (some operations fail), or left alone (most do)."""

    tier: str
    state: TierState
    error: BaseException | None = None
    """What made it worse."""


class LookedUp(Struct, frozen=True, kw_only=True):
    """A stored answer was found, `seconds` after it was asked for (told only by opt-in)."""

    group: str
    tier: str
    size: int
    seconds: float


class Pressed(Struct, frozen=True, kw_only=True):
    """A tier is too small: for lack of room it throws out answers that are still fresh, `rate` of them a second."""

    rate: float
    gauge: TierGauge


Event: TypeAlias = Answered | Acquired | ServedStale | Removed | TierChanged | LookedUp | Pressed


class Outcome(Struct, frozen=True, kw_only=True):
    """How one request was answered, for its server span. `ttl` is the remaining freshness in seconds (negative:
    stale).
    """

    result: Result
    tier: str
    group: str
    key: bytes | None = None
    age: float | None = None
    ttl: float | None = None
    bypass: str | None = None
    text: str = ""
    """The key in clear text, by opt-in."""
