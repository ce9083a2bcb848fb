"""The alerts: what must be looked at by a person, and what for.

Decides expressions, thresholds and how long something must last. Each has a section of its name in docs/runbook.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from glasscache.otel import names
from glasscache_dashboards._source.promql import ASKED, HITS, INSTANCE, JOB, Lens, prometheus_name, share

PREFIX: Final = "Glasscache"
"""What all alerts' names begin with."""
CACHE: Final = (JOB, names.NAME)

THREE: Final = Lens(window="3m")
"""The shortest that has two points of what is exported each minute, as the SDK does unless told otherwise."""
FIVE: Final = Lens(window="5m")
HALF_HOUR: Final = Lens(window="30m")
YESTERDAY: Final = Lens(window="30m", offset="1d")


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Fires when `value` has been above (or below) `threshold` for as long as `lasts`."""

    name: str
    value: str
    is_bad: Literal[">", "<"] = ">"
    threshold: float
    lasts: str
    severity: Literal["warning", "critical"]
    summary: str
    description: str

    @property
    def expr(self) -> str:
        """The whole condition."""
        return f"(\n{self.value}\n) {self.is_bad} {self.threshold:g}"


def _hit_ratio(lens: Lens) -> str:
    return f"({_share(lens, *HITS)})"


def _share(lens: Lens, *results: str) -> str:
    part = lens.rate(names.REQUESTS, *CACHE, where={names.RESULT: results})
    return share(part, lens.rate(names.REQUESTS, *CACHE, where={names.RESULT: ASKED}))


def _age(cause: str) -> str:
    return f"({HALF_HOUR.quantile(0.5, names.EVICTION_AGE, *CACHE, where={names.EVICTION_REASON: cause})})"


_ANSWERED = ("miss", "collapsed", "error")
"""Results that end a load, or a wait for one."""
_LIVED = f"({_age('expired')} >= 0\nor\n0 * {_age('evicted')} + 300)"
"""How old things grow here: five minutes, where nothing lives to expire."""
_BUSY = f"and on (job, cache_name) ({HALF_HOUR.rate(names.REQUESTS, *CACHE, where={names.RESULT: ASKED})} > 0.1)"
"""Of fewer requests a share says nothing."""
_ALWAYS_TOLD = prometheus_name(names.LOCK_WAITERS)
"""As soon as there is a cache, whether or not it is asked."""

ALERTS: Final = (
    Alert(
        name="GlasscacheHitRatioDropped",
        value=f"{_hit_ratio(HALF_HOUR)}\n/\n{_hit_ratio(YESTERDAY)}\n{_BUSY}",
        is_bad="<",
        threshold=0.7,
        lasts="15m",
        severity="warning",
        summary="{{ $labels.cache_name }} of {{ $labels.job }} hits far less often than a day ago",
        description="The last half hour's hit ratio is {{ $value | humanizePercentage }} of what it was a day before.",
    ),
    Alert(
        name="GlasscacheWaitsLong",
        value=FIVE.quantile(0.99, names.LOCK_WAIT_DURATION, *CACHE, names.LOCK_SCOPE),
        threshold=1,
        lasts="10m",
        severity="warning",
        summary="Requests wait long for another's load in {{ $labels.cache_name }} of {{ $labels.job }}",
        description="One wait in 100 ({{ $labels.cache_lock_scope }}) takes {{ $value | humanizeDuration }} or more.",
    ),
    Alert(
        name="GlasscacheWaitsTimedOut",
        value=FIVE.gained(names.LOCK_ACQUISITIONS, *CACHE, names.LOCK_SCOPE, where={names.LOCK_RESULT: "timeout"}),
        threshold=0,
        lasts="5m",
        severity="warning",
        summary="Waits for a load time out in {{ $labels.cache_name }} of {{ $labels.job }}",
        description="In 5 minutes {{ $value | humanize }} waits ({{ $labels.cache_lock_scope }}) were too long.",
    ),
    Alert(
        name="GlasscacheWaitersStuck",
        value=(
            f"{FIVE.total(names.LOCK_WAITERS, JOB, INSTANCE, names.NAME)}\nunless\n"
            + THREE.rate(names.REQUESTS, JOB, INSTANCE, names.NAME, where={names.RESULT: _ANSWERED})
            + " > 0"
        ),
        threshold=0,
        lasts="1m",
        severity="critical",
        summary="Requests are stuck behind a load in {{ $labels.cache_name }} on {{ $labels.instance }}",
        description="{{ $value | humanize }} requests wait, and none has been answered for minutes.",
    ),
    Alert(
        name="GlasscacheBreakerOpen",
        value=FIVE.most(names.TIER_STATES, JOB, INSTANCE, names.NAME, names.TIER, where={names.TIER_STATE: "open"}),
        threshold=0,
        lasts="1m",
        severity="critical",
        summary="{{ $labels.instance }} does without the tier {{ $labels.cache_tier }}",
        description="{{ $labels.cache_name }} of {{ $labels.job }} leaves the tier alone, since it does not answer.",
    ),
    Alert(
        name="GlasscacheEvictedYoung",
        value=f"{_age('evicted')}\n/\n{_LIVED}",
        is_bad="<",
        threshold=0.2,
        lasts="30m",
        severity="warning",
        summary="{{ $labels.cache_name }} of {{ $labels.job }} is too small for what is asked",
        description="What goes for want of room has lived {{ $value | humanizePercentage }} of what expires (of 5 "
        "minutes, if nothing does).",
    ),
    Alert(
        name="GlasscacheStaleShare",
        value=f"{_share(HALF_HOUR, 'stale')}\n{_BUSY}",
        threshold=0.2,
        lasts="15m",
        severity="warning",
        summary="Many answers of {{ $labels.cache_name }} of {{ $labels.job }} are stale",
        description="{{ $value | humanizePercentage }} of answers were past their freshness.",
    ),
    Alert(
        name="GlasscacheInvalidationLag",
        value=FIVE.quantile(0.99, names.INVALIDATION_LAG, *CACHE),
        threshold=1,
        lasts="5m",
        severity="warning",
        summary="Machines hear late what was told invalid in {{ $labels.cache_name }} of {{ $labels.job }}",
        description="One invalidation in a hundred takes {{ $value | humanizeDuration }} or more to reach a machine.",
    ),
    Alert(
        name="GlasscacheSilent",
        value=(
            f"count by (job) (last_over_time({_ALWAYS_TOLD}[1h]))\nunless\n"
            f"count by (job) (last_over_time({_ALWAYS_TOLD}[5m]))"
        ),
        threshold=0,
        lasts="5m",
        severity="critical",
        summary="{{ $labels.job }} tells nothing of its caches any more",
        description="It did within the last hour: the service, the collector or the way between them is down.",
    ),
)
"""All of them."""
