"""Every name that glasscache lets out of the process, as data: metrics, spans, links, log events, attributes.

Decides names, units, kinds and buckets (telemetry.md); code, tests, docs and dashboards read them from here.
Must never import anything of ours or of OpenTelemetry. A change here is a change for every user's dashboard.
"""

from __future__ import annotations

from dataclasses import dataclass
from logging import ERROR, INFO, WARNING
from typing import Literal, TypeAlias

SCOPE = "glasscache"
"""The instrumentation scope, and the name of the logger."""

# --- attributes ---------------------------------------------------------------------------------------------

NAME = "cache.name"
RESULT = "cache.result"
TIER = "cache.tier"
GROUP = "cache.key_group"
KEY_HASH = "cache.key_hash"
HTTP_ROUTE = "http.route"  # OpenTelemetry's own: of the server span
KEY = "cache.key"
"""In clear text: only by `Detail(clear_keys=True)`."""
AGE = "cache.age"
TTL = "cache.ttl"
BYPASS_REASON = "cache.bypass.reason"
UNSTORED_REASON = "cache.unstored.reason"
LOAD_TRIGGER = "cache.load.trigger"
LOCK_SCOPE = "cache.lock.scope"
LOCK_OUTCOME = "cache.lock.outcome"
LOCK_RELEASE = "cache.lock.release"
LOCK_RESULT = "cache.lock.result"
LOCK_WAIT = "cache.lock.wait"
LOCK_HOLD = "cache.lock.hold"
LOCK_WAITER_COUNT = "cache.lock.waiter.count"
QUEUE_POSITION = "cache.lock.queue.position"
QUEUE_LENGTH = "cache.lock.queue.length"
HOLDER_ID = "cache.lock.holder.id"
HOLDER_TRACE_ID = "cache.lock.holder.trace_id"
HOLDER_SPAN_ID = "cache.lock.holder.span_id"
HOLDER_ELAPSED = "cache.lock.holder.elapsed"
HOLDER_SAMPLED = "cache.lock.holder.sampled"
FENCING_TOKEN = "cache.fencing_token"
EVICTION_REASON = "cache.eviction.reason"
EVICTION_RATE = "cache.eviction.rate"
ENTRIES = "cache.entry.count"
ENTRIES_LIMIT = "cache.entry.limit"
BYTES = "cache.memory.usage"
BYTES_LIMIT = "cache.memory.limit"
INVALIDATION_SOURCE = "cache.invalidation.source"
INVALIDATION_COUNT = "cache.invalidation.entry.count"
TIER_STATE = "cache.tier.state"
STALE_REASON = "cache.stale.reason"
OPERATION = "cache.operation"
ITEM_SIZE = "cache.item_size"
ERROR_TYPE = "error.type"
LINK_TYPE = "cache.link.type"
EVENT_NAME = "event.name"

OTHER = "_other"
"""The key group of all that came after the first `MAX_GROUPS`."""
MAX_GROUPS = 100
"""Different `cache.key_group` values in metrics, per process over all caches."""

# --- metrics ------------------------------------------------------------------------------------------------

Kind: TypeAlias = Literal["counter", "histogram", "observable_counter", "observable_up_down_counter"]
_LEVEL: Kind = "observable_up_down_counter"


@dataclass(frozen=True, slots=True, eq=False)
class Metric:
    """One instrument. `attributes` stand beside `cache.name`, which all have; `buckets` are advice."""

    name: str
    kind: Kind
    unit: str
    description: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


def _buckets(bounds: str) -> tuple[float, ...]:
    return tuple(map(float, bounds.split()))


_LOAD_BUCKETS = _buckets(".005 .01 .025 .05 .075 .1 .25 .5 .75 1 2.5 5 7.5 10")

REQUESTS = Metric(
    "glasscache.requests", "observable_counter", "{request}", "Requests by outcome.", (RESULT, TIER, GROUP)
)
REQUEST_BYPASSES = Metric(
    "glasscache.request.bypasses",
    "observable_counter",
    "{request}",
    "Requests for which the cache was not asked, by reason.",
    (BYPASS_REASON, GROUP),
)
UNSTORED_ANSWERS = Metric(
    "glasscache.unstored.answers",
    "observable_counter",
    "{answer}",
    "Answers that were loaded and not stored, by reason.",
    (UNSTORED_REASON, GROUP),
)
REQUEST_DURATION = Metric(
    "glasscache.request.duration",
    "histogram",
    "s",
    "Time to answer a request; of hits a sample, by opt-in.",
    (RESULT, ERROR_TYPE),
    _buckets(".00005 .0001 .00025 .0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10"),
)
LOAD_DURATION = Metric(
    "glasscache.load.duration",
    "histogram",
    "s",
    "The origin's work for one load.",
    (GROUP, LOAD_TRIGGER, ERROR_TYPE),
    _LOAD_BUCKETS,
)
LOCK_WAIT_DURATION = Metric(
    "glasscache.lock.wait.duration",
    "histogram",
    "s",
    "Time that a request waited for another request's load.",
    (GROUP, LOCK_SCOPE, LOCK_OUTCOME),
    _buckets(".0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 30"),
)
LOCK_HOLD_DURATION = Metric(
    "glasscache.lock.hold.duration",
    "histogram",
    "s",
    "Time that the right to load was held.",
    (GROUP, LOCK_SCOPE, LOCK_RELEASE),
    (*_LOAD_BUCKETS, 30.0),
)
LOCK_ACQUISITIONS = Metric(
    "glasscache.lock.acquisitions",
    "counter",
    "{acquisition}",
    "Times that somebody asked for the right to load, by result.",
    (LOCK_SCOPE, LOCK_RESULT),
)
LOCK_WAITERS = Metric(
    "glasscache.lock.waiter.count",
    _LEVEL,
    "{waiter}",
    "Requests that wait for another request's load, now.",
    (LOCK_SCOPE,),
)
LOCK_HOLDERS = Metric("glasscache.lock.holder.count", _LEVEL, "{holder}", "Loads under way, now.", (LOCK_SCOPE,))
LOCK_QUEUE_LENGTH = Metric(
    "glasscache.lock.queue.length",
    "histogram",
    "{waiter}",
    "Requests that waited for a load at the moment of its release.",
    (LOCK_SCOPE,),
    _buckets("0 1 2 4 8 16 32 64 128 256 512 1024"),
)
EVICTIONS = Metric(
    "glasscache.evictions",
    "observable_counter",
    "{eviction}",
    "Entries that left a tier, by reason.",
    (TIER, EVICTION_REASON),
)
EVICTION_AGE = Metric(
    "glasscache.eviction.age",
    "histogram",
    "s",
    "Age of entries that left a tier; a sample.",
    (TIER, EVICTION_REASON),
    _buckets("1 10 60 300 900 3600 14400 86400"),
)
INVALIDATIONS = Metric(
    "glasscache.invalidations",
    "counter",
    "{entry}",
    "Entries removed on demand, by who demanded it.",
    (INVALIDATION_SOURCE,),
)
INVALIDATION_LAG = Metric(
    "glasscache.invalidation.lag",
    "histogram",
    "s",
    "Time from the telling of an invalidation to its effect on another machine.",
    (),
    _buckets(".001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10"),
)
ENTRY_COUNT = Metric("glasscache.entry.count", _LEVEL, "{entry}", "Entries that a tier holds.", (TIER,))
ENTRY_LIMIT = Metric("glasscache.entry.limit", _LEVEL, "{entry}", "Entries that a tier may hold.", (TIER,))
MEMORY_USAGE = Metric("glasscache.memory.usage", _LEVEL, "By", "Bytes that a tier holds.", (TIER,))
MEMORY_LIMIT = Metric("glasscache.memory.limit", _LEVEL, "By", "Bytes that a tier may hold.", (TIER,))
STALE_AGE = Metric(
    "glasscache.stale.age",
    "histogram",
    "s",
    "How far past their freshness answers were served on purpose.",
    (STALE_REASON,),
    _buckets("1 5 15 60 300 900 3600 86400"),
)
TIER_OPERATION_DURATION = Metric(
    "glasscache.tier.operation.duration",
    "histogram",
    "s",
    "Time of an operation on a tier that has to be awaited.",
    (TIER, OPERATION, RESULT, ERROR_TYPE),
    _buckets(".00025 .0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 5"),
)
TIER_STATES = Metric(
    "glasscache.tier.state",
    _LEVEL,
    "{tier}",
    "1 for the state that a tier is in, 0 for the others.",
    (TIER, TIER_STATE),
)
SAVED_TIME = Metric(
    "glasscache.saved.time",
    "observable_counter",
    "s",
    "The stored load cost of every hit, stale and collapsed answer.",
    (GROUP,),
)
SAVED_PRICE = Metric(
    "glasscache.saved.price",
    "observable_counter",
    "{currency}",
    "What handlers said that an answer costs, of every hit, stale and collapsed one.",
    (GROUP,),
)
SAVED_IO = Metric("glasscache.saved.io", "observable_counter", "By", "Bytes answered without the origin.", (GROUP,))

METRICS: tuple[Metric, ...] = tuple(named for named in tuple(globals().values()) if isinstance(named, Metric))
"""All metrics, in the order in which they stand here."""

# --- spans, their links, and log events ---------------------------------------------------------------------

LOOKUP = "cache.lookup"
LOAD = "cache.load"
WAIT = "cache.lock.wait"
STORE = "cache.store"
REVALIDATE = "cache.revalidate"
INVALIDATE = "cache.invalidate"

_HOLDER = (HOLDER_ID, HOLDER_TRACE_ID, HOLDER_SPAN_ID)
SPANS: dict[str, tuple[str, ...]] = {
    LOOKUP: (GROUP, TIER, ITEM_SIZE),
    LOAD: (GROUP, KEY, LOAD_TRIGGER, LOCK_WAITER_COUNT, FENCING_TOKEN, UNSTORED_REASON, ERROR_TYPE),
    WAIT: (
        GROUP,
        KEY,
        LOCK_SCOPE,
        LOCK_OUTCOME,
        QUEUE_POSITION,
        QUEUE_LENGTH,
        *_HOLDER,
        HOLDER_ELAPSED,
        HOLDER_SAMPLED,
        FENCING_TOKEN,
    ),
    STORE: (TIER, ITEM_SIZE, TTL, ERROR_TYPE),
    REVALIDATE: (GROUP, RESULT, ERROR_TYPE),
    INVALIDATE: (INVALIDATION_SOURCE, INVALIDATION_COUNT, ERROR_TYPE),
}
"""Our spans (all INTERNAL) and the attributes that they may carry."""
SERVER_HIT: tuple[str, ...] = (RESULT, TIER, GROUP, KEY_HASH)
"""What a hit sets on the current span of whoever serves the request, if that is recording; and `KEY`, by opt-in."""
SERVER: tuple[str, ...] = (*SERVER_HIT, KEY, NAME, AGE, TTL, BYPASS_REASON)
"""What any other outcome may set there."""

LINK_HOLDER = "lock_holder"
LINK_WAITER = "lock_waiter"
LINK_REFRESH = "refresh_trigger"
LINK_INVALIDATION = "invalidation_source"
LINKS: dict[str, tuple[str, ...]] = {
    LOAD: (LINK_WAITER, LINK_REFRESH),
    WAIT: (LINK_HOLDER,),
    INVALIDATE: (LINK_INVALIDATION,),
}
"""The links that a span may carry, each with its `cache.link.type`."""
MAX_WAITER_LINKS = 16


@dataclass(frozen=True, slots=True, eq=False)
class LogEvent:
    """One log record of the logger `glasscache`: its `event.name`, and the attributes it may carry beside that."""

    name: str
    level: int
    message: str
    attributes: tuple[str, ...]


_WAITED = (NAME, GROUP, KEY_HASH, LOCK_SCOPE, LOCK_WAIT, QUEUE_LENGTH, *_HOLDER)
CONTENTION = LogEvent("glasscache.lock.contention", WARNING, "waited long for another request's load", _WAITED)
TIMEOUT = LogEvent("glasscache.lock.timeout", ERROR, "gave up waiting for another request's load", _WAITED)
LOST = LogEvent(
    "glasscache.lock.lost",
    ERROR,
    "lost the right to load while loading",
    (NAME, GROUP, KEY_HASH, LOCK_SCOPE, LOCK_HOLD, LOCK_RELEASE, QUEUE_LENGTH, *_HOLDER[1:], FENCING_TOKEN),
)
DEGRADED = LogEvent(
    "glasscache.tier.degraded", WARNING, "a tier does not answer as it should", (NAME, TIER, TIER_STATE, ERROR_TYPE)
)
RECOVERED = LogEvent("glasscache.tier.recovered", INFO, "a tier answers again", (NAME, TIER, TIER_STATE))
PRESSURE = LogEvent(
    "glasscache.eviction.pressure",
    WARNING,
    "a tier is too small (CACHE_MAX_SIZE, GLASSCACHE_MAX_BYTES): it throws out answers that are still fresh",
    (NAME, TIER, EVICTION_RATE, ENTRIES, ENTRIES_LIMIT, BYTES, BYTES_LIMIT),
)
EVENTS: tuple[LogEvent, ...] = (CONTENTION, TIMEOUT, LOST, DEGRADED, RECOVERED, PRESSURE)
