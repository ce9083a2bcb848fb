"""How long an answer lives and what may be done with it at a given time. Pure decisions: `now` and chance come in.

Must never read a clock, draw a random number, or know where an entry is stored.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum

from glasscache._entry import Entry, Headers, entry_of
from glasscache._lease import Claim
from glasscache.errors import ConfigurationError

_NEVER_EARLIER = 12.0
"""Cost multiples before the end from which XFetch may strike: beyond that its chance is below e^-12."""


def is_amount(value: object) -> bool:
    """Whether it is a finite number, 0 or more, that a float can hold."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= sys.float_info.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long answers live. All times in seconds.

    - `ttl`: freshness of an answer.
    - `stale_while_revalidate`: how long after that it is still served, while it is refreshed behind.
    - `stale_if_error`: how long after its freshness it may stand in for a failed load (both: RFC 5861).
    - `soft_timeout`: serve such a stale answer when the load takes longer than this; None: wait for the load.
    - `negative_ttl`: how long an error answer (404, 410, and 5xx by `statuses` of a rule) may be stored; 0: none is.
    - `jitter`: each ttl is shortened by a random share of up to this (0 to 1), so that entries of one burst do not
      expire together.
    - `early_refresh`: the beta of XFetch (Vattani et al., "Optimal Probabilistic Cache Stampede Prevention", VLDB
      2015): above 1 refreshes earlier, 0 never.

    Raises ConfigurationError for values that cannot work.
    """

    ttl: float = 300.0
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    soft_timeout: float | None = None
    negative_ttl: float = 0.0
    jitter: float = 0.0
    early_refresh: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not is_amount(value) and (value is not None or field.default is not None):
                raise ConfigurationError(f"{field.name}={value!r}: give a finite number of seconds, 0 or more")
        if self.jitter > 1:
            raise ConfigurationError(f"jitter={self.jitter!r}: give a share of the ttl from 0 to 1")

    def but(self, **changes: float | None) -> Policy:
        """A copy with those fields changed that are not None."""
        wanted = {name: value for name, value in changes.items() if value is not None}
        return replace(self, **wanted) if wanted else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much a cache may hold and how long anybody waits. Times in seconds, sizes in bytes.

    - `max_entry_bytes`: the largest answer that is stored.
    - `max_flight_bytes`: what all running loads together may hold.
    - `max_flights`: loads at once; beyond, each request loads for itself.
    - `max_waiters`: requests that share one load; beyond, the same.
    - `max_parallel_loads`: loads at once for one key where they cannot be shared.
    - `wait_timeout`: how long a request waits for another's load before it takes a stale answer or loads for itself.
    - `load_timeout`: the longest time in which a load may make no progress.
    - `reader_timeout`: how long a slow client may hold up others, where an answer is too large to be kept for it.
    - `drain`: how long a shutdown waits for loads.
    - `far_timeout`: what the tiers outside of this process may cost one request, all their answers together.
    - `suspect_ttl`: how long an entry is served that may have been told invalid, if the tier that knows cannot answer.
    - `contention_threshold`: a wait for another request's load that is longer is kept and told as contention.
    - `finish_abandoned`: whether a storable load that a request began goes on when nobody is left to read it.

    Raises ConfigurationError for values that cannot work.
    """

    max_entry_bytes: int = 8 * 1024**2
    max_flight_bytes: int = 256 * 1024**2
    max_flights: int = 10_000
    max_waiters: int = 10_000
    max_parallel_loads: int = 16
    wait_timeout: float = 30.0
    load_timeout: float = 120.0
    reader_timeout: float = 10.0
    drain: float = 5.0
    far_timeout: float = 0.25
    suspect_ttl: float = 30.0
    contention_threshold: float = 1.0
    finish_abandoned: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise ConfigurationError(f"Limits({field.name}={value!r}): give True or False")
            elif not (is_amount(value) and value > 0):
                raise ConfigurationError(f"Limits({field.name}={value!r}): give a finite number above 0")
            elif isinstance(field.default, int) and value != int(value):
                raise ConfigurationError(f"Limits({field.name}={value!r}): give a whole number")


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """How much telemetry tells beyond what costs a hit nothing. All of it is off unless it is asked for.

    `trace_hits`: each hit has a span, `cache.lookup` (hits then take microseconds more). `time_hits`: the duration of
    one hit in so many is measured, 0 of none. `clear_keys`: spans show in clear text what was asked (`cache.key`), and
    not only its hash: whoever sees your traces may then read your users' questions. Raises ConfigurationError for
    values that cannot work.
    """

    trace_hits: bool = False
    time_hits: int = 0
    clear_keys: bool = False

    def __post_init__(self) -> None:
        for name in ("trace_hits", "clear_keys"):
            if not isinstance(value := getattr(self, name), bool):
                raise ConfigurationError(f"Detail({name}={value!r}): give True or False")
        if not is_amount(self.time_hits):
            raise ConfigurationError(f"Detail(time_hits={self.time_hits!r}): give 0, or N for one hit in N")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What was decided about one answer: how long it lives, and what it carries. Times in seconds."""

    ttl: float
    age: float = 0.0
    """Age that it had on arrival (RFC 9111, section 4.2.3)."""
    counts_delay: bool = False
    """Whether the load's duration counts as age, as that section has it; a rule's own ttl begins when the load ends."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    kept: float = 0.0
    """How long after its freshness it is kept to be confirmed by its origin."""
    stale_if_unreachable: bool = False
    """Whether it may then stand in for an origin that cannot be reached."""
    tags: tuple[str, ...] = ()
    price: float = 0.0
    """What the load cost beside time, in the user's own unit of money."""


class Share(Enum):
    """Who may read a load's answer, decided when its head is known."""

    ALL = "all"
    """Everyone, as it is produced; stored when complete."""
    WHEN_COMPLETE = "when_complete"
    """Those who waited, once it is complete (a 5xx); not stored."""
    LEADER = "leader"
    """The request that led the load alone (another status that is not stored): one odd header must not fail a crowd."""
    NONE = "none"
    """Each request its own (private, no-store, Set-Cookie, Vary: *)."""


class Verdict(Enum):
    """What may be done with a stored answer now."""

    FRESH = "fresh"
    EARLY = "early"
    """Fresh; and this request is the one that refreshes it behind."""
    STALE = "stale"
    """May be served while it is refreshed behind."""
    STAND_IN = "stand_in"
    """May only be served in place of a load that fails or takes too long, or after its origin has confirmed it."""
    UNWANTED = "unwanted"
    """May only be served after its origin has confirmed it: this request asks for that."""
    DEAD = "dead"


_FRESH = Verdict.FRESH  # until Python 3.12 a name of an Enum costs a call


def judge(entry: Entry, now: float, *, beta: float, chance: float) -> Verdict:
    """What may be done with `entry` at `now`.

    `chance` is uniform in (0, 1]; an entry is refreshed early when `now - cost * beta * ln(chance) >= fresh_until`
    (XFetch), so a costly load starts earlier and of many requests about one starts it.
    """
    if now < entry.settled_until:
        return _FRESH
    if now < entry.fresh_until:
        early = now - entry.cost * beta * math.log(chance) >= entry.fresh_until
        return Verdict.EARLY if early else Verdict.FRESH
    past = now - entry.fresh_until
    if past < entry.stale_while_revalidate:
        return Verdict.STALE
    return Verdict.STAND_IN if past < max(entry.stale_if_error, entry.kept) else Verdict.DEAD


def answers(entry: Entry, claim: Claim, now: float) -> bool:
    """Whether an entry is the answer to a lookup, and not only a stand-in."""
    fresh = entry.fresh_until - now
    return fresh > claim.fresh_for if claim.refreshes else fresh + entry.stale_while_revalidate > 0


def may_stand_in(entry: Entry | None, now: float, *, unreachable: bool = False) -> bool:
    """Whether a stored answer may be served in place of a load that failed or takes too long.

    `unreachable`: there was no answer at all, since the origin could not be reached.
    """
    if entry is None:
        return False
    window = max(entry.stale_while_revalidate, entry.stale_if_error)
    if unreachable and entry.stale_if_unreachable:
        window = max(window, entry.kept)
    return now < entry.fresh_until + window


def make_entry(
    chunks: Sequence[bytes],
    status: int,
    headers: Headers,
    terms: Terms,
    policy: Policy,
    begun: float,
    now: float,
    chance: float,
    number: int,
    saves: float | None = None,
) -> Entry:
    """The entry for an answer whose load began at `begun` and is complete at `now`; `chance` is uniform in [0, 1).

    `saves`: the seconds that a hit saves, if its load took others (it only confirmed an older answer).
    """
    cost = now - begun
    ttl = terms.ttl * (1 - policy.jitter * chance)
    born = (begun if terms.counts_delay else now) - terms.age
    fresh_until, early = born + ttl, cost * policy.early_refresh * _NEVER_EARLIER
    return entry_of(  # in order: with names it takes three times as long
        chunks,
        born,
        fresh_until,
        fresh_until - (early if early < ttl else ttl),
        status,
        headers,
        (),
        terms.tags,
        terms.stale_while_revalidate,
        terms.stale_if_error,
        terms.kept,
        terms.stale_if_unreachable,
        cost if saves is None else saves,
        terms.price,
        number,
    )


class Pressure:
    """How fast a tier throws out, for lack of room, answers that are still fresh.

    It is too small if at that rate all that it holds would be gone within a minute.
    """

    WINDOW = 10.0
    """Seconds over which the rate is taken."""

    def __init__(self) -> None:
        self._begun = -math.inf
        self._count = 0

    def evicted(self, now: float, entries: int) -> float | None:
        """One more was, of a tier that holds `entries`; how many a second, if too many (judged once a window)."""
        self._count += 1
        lasted = now - self._begun
        if lasted < self.WINDOW:
            return None
        rate, self._begun, self._count = self._count / lasted, now, 0
        return rate if rate * 60 >= entries else None


def make_marker(vary: tuple[bytes, ...], salt: bytes, *, now: float, lifetime: float, number: int) -> Entry:
    """The marker under which variants are found; it lives as long as the longest of them may."""
    until = now + lifetime
    return entry_of(chunks=(salt,), vary=vary, born=now, fresh_until=until, settled_until=until, number=number)


def shorten(entry: Entry, ttl: float, since: float) -> Entry:
    """The entry with at most `ttl` seconds of freshness `since` that time; itself if it has no more."""
    until = since + ttl
    if entry.fresh_until <= until:
        return entry
    return entry.but(fresh_until=until, settled_until=min(entry.settled_until, until))
