"""What every name means to who reads it: the words of docs/telemetry.md."""

from __future__ import annotations

from typing import get_args, get_type_hints

from glasscache._events import (
    Acquired,
    Cause,
    LockScope,
    Release,
    Result,
    Source,
    StaleReason,
    TierCall,
    TierState,
    Trigger,
    WaitOutcome,
)
from glasscache.asgi._why import BYPASSED, UNSTORED

TOP = """\
glasscache speaks to the OpenTelemetry API alone, under the instrumentation scope `glasscache`: set up the SDK yourself, or
call `glasscache_exporters.configure()`. Somebody waits too long? [locks.md](locks.md) walks from the metric to the request that held
the lock. Where tracing is mounted decides what it sees: [tracing.md](tracing.md).

- **A hit costs no span and no call of the SDK.** Hits are integers, read when metrics are collected. A hit sets four attributes
  on the server span, if that is recording.
- **No key, query, tenant or user in a metric, nor in a span or a log record.** A key is shown as `cache.key_hash`, which only who has
  `GLASSCACHE_KEY` can compute. `cache.key_group` is the rule's name or path, or the function's name; at most 100 per
  process, the rest is `_other`.
- **More, if you ask for it**: `Cache(detail=Detail(...))`, or the environment.

| `Detail` | environment | |
|---|---|---|
| `trace_hits=True` | `GLASSCACHE_TRACE_HITS` | a span `cache.lookup` for each hit; hits then take the slow way, microseconds more |
| `time_hits=100` | `GLASSCACHE_TIME_HITS` | one hit in so many goes into `glasscache.request.duration` |
| `clear_keys=True` | `GLASSCACHE_CLEAR_KEYS` | spans carry `cache.key`: method, path, query and content, or the call, up to 1024 characters. Whoever sees your traces may then read your users' questions |

Telemetry never raises, never blocks and never changes an answer: what goes wrong in it is logged once a second."""

RESULTS = (
    ("hit", "got a fresh stored answer"),
    ("stale", "got a stored answer past its freshness, on purpose: `cache.stale.reason` says why"),
    ("revalidated", "got a stored answer after the origin had confirmed it (304)"),
    ("collapsed", "got the answer of another request's load, here or on another machine"),
    ("miss", "led the load that answered it"),
    ("bypass", "was not looked up, or loaded for itself: `cache.bypass.reason` says why"),
    ("error", "got none: the load failed, and nothing stale could stand in"),
)

METRICS_TOP = """\
All carry `cache.name`, beside the attributes of the table. Ratios are for queries to compute: of hits
`sum(rate(glasscache_requests_total{cache_result=~"hit|stale"}[5m])) / sum(rate(glasscache_requests_total{cache_result!="bypass"}[5m]))`."""

METRICS: dict[str, str] = {
    "glasscache.requests": "Hit ratio, origin offload, and errors, for each rule.",
    "glasscache.request.bypasses": "A reason that grows is traffic that is paid for in full: see `cache.bypass.reason`.",
    "glasscache.unstored.answers": "A rule that is here with as many as it has misses keeps nothing: `cache.unstored.reason` says what its answers have, [why.md](why.md) what to change. What a store had no room for is in `glasscache.evictions`, as `rejected`.",
    "glasscache.request.duration": "Hits are not in it unless `Detail(time_hits=N)` says so. Its exemplars lead to the server span.",
    "glasscache.load.duration": "What a miss costs, without the cache's own work. Compare with `lock.wait.duration`: a wait cannot be shorter than what is left of the load.",
    "glasscache.lock.wait.duration": "Who waits here has a duplicate question. `rate(sum)` is the number of requests that are blocked on average. Its exemplars lead to the span of the wait, and that to the load: [locks.md](locks.md).",
    "glasscache.lock.hold.duration": "In scope `cluster`, `expired` and `lost` are leases that ran out or were taken while loading: the answer was not stored. More than a few: raise `GLASSCACHE_LEASE_SECONDS`, or look for machines that stand still.",
    "glasscache.lock.acquisitions": "`contended`: it had to wait before. `timeout`: it waited `wait_timeout` long, then loaded for itself. `error` (cluster): the shared tier could not be asked.",
    "glasscache.lock.waiter.count": "In scope `cluster` one load that waits counts once, however many follow it. A number that does not fall is a load that does not end.",
    "glasscache.lock.holder.count": "In scope `cluster`: leases held.",
    "glasscache.lock.queue.length": "How much one load saved: a queue of 100 is 100 loads that did not happen. In scope `cluster` it counts machines, at most 16.",
    "glasscache.evictions": "`evicted` had to go for room. Beside `eviction.age` it says whether the memory is too small.",
    "glasscache.eviction.age": "If entries are evicted far below their ttl, the tier is too small: see `glasscache.eviction.pressure`.",
    "glasscache.invalidations": "From another machine: `backplane`. Counts what was in the memory of the machine that tells it.",
    "glasscache.invalidation.lag": "As long as this, machines may differ. By the server's clock, so clock skew does not show in it.",
    "glasscache.entry.count": "",
    "glasscache.entry.limit": "Absent where entries are not bounded.",
    "glasscache.memory.usage": "Bodies, headers, keys and bookkeeping, as the memory tier counts them.",
    "glasscache.memory.limit": "",
    "glasscache.stale.age": "`error` and `wait_timeout` are answers that saved a request from an error or a long wait.",
    "glasscache.tier.operation.duration": "Time on the network to a shared tier, timeouts among it. `cache.result` is there for `get` alone.",
    "glasscache.tier.state": "`open`: the tier is left alone for a while, requests are answered from memory and the origin.",
    "glasscache.saved.time": "Divided by the time that passed: how many workers of the origin the cache stands for.",
    "glasscache.saved.price": 'In the currency of `answer().cost(0.02)`; 0 where no handler says so. "Money saved" on the dashboard Overview adds it up.',
    "glasscache.saved.io": "",
}

BUCKETS_TOP = """\
They are given as advice (`explicit_bucket_boundaries_advisory`): a View of yours wins, and so does
`OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=base2_exponential_bucket_histogram`."""

SPANS_TOP = "All are INTERNAL, and their names never carry a value. `error.type` is there only if something failed; the words of an exception never are."

SPANS: dict[str, str] = {
    "cache.lookup": "A hit, from asking to having it. Only with `Detail(trace_hits=True)`: it shows hits of values in code, which have no server span.",
    "cache.load": "The origin's work for a miss or a refresh; the origin's own spans are below it. A child of the request that led it, and it may outlast it; a refresh is a trace of its own. `cache.lock.waiter.count` requests of this machine waited for it. `cache.unstored.reason` is there if its answer was not stored.",
    "cache.lock.wait": "A request that waits for another's load, until its first bytes can be passed on. Where the load runs on another machine, the link leads to the request that set it off there (of a refresh: to the load itself), and `cache.fencing_token` names the load in that trace. While nobody knows who will load, no span begins: it does when that is known, with its link and the time of the wait's own beginning (beyond the first 16 of a crowd: when the wait ends).",
    "cache.store": "An answer is written to a shared tier. Behind the answer: no request waits for it.",
    "cache.revalidate": "The origin is asked whether a stored answer still holds (a conditional request), inside of `cache.load`. `cache.result` is `revalidated` if it does.",
    "cache.invalidate": "A removal on demand. On the other machines it is a trace of its own, linked to the one that told it.",
}

SERVER = """\
Set on the current span when the answer is decided, if it is recording: this is why tracing belongs
[outside](tracing.md) of the cache. Where nobody has asked the app's router, it gets its name and `http.route` as well,
if it is a server's and has none."""

LINKS: dict[str, str] = {
    "lock_waiter": "who waited for this load: at most 16 waits of this process, and 16 requests of other machines",
    "refresh_trigger": "the request that got a stale (or soon stale) answer, and set off this refresh behind it",
    "lock_holder": "the load that is waited for; on another machine: the request that led it",
    "invalidation_source": "the `cache.invalidate` of the machine that told it",
}

EVENTS_TOP = """\
Through `logging`, from the logger `glasscache`, of each cache at most one a second of each name. The attributes are attributes of the record
(`extra`); `glasscache_exporters.configure()` sends them as log records, in the trace of who they happened to
([exporters.md](exporters.md))."""

EVENTS: dict[str, str] = {
    "glasscache.lock.contention": "A wait was longer than `Limits.contention_threshold` (1 s, `GLASSCACHE_CONTENTION_THRESHOLD`). The holder's ids lead to the load.",
    "glasscache.lock.timeout": "A wait was given up after `Limits.wait_timeout` (30 s): the request took a stale answer or loaded for itself.",
    "glasscache.lock.lost": "A lease ran out, or was taken away, while its load went on: the answer was served, and stored nowhere. The ids are those of the load.",
    "glasscache.tier.degraded": "`degraded`: some operations fail. `open`: most do, and the tier is left alone for a while.",
    "glasscache.tier.recovered": "It is asked again.",
    "glasscache.eviction.pressure": "At the rate of the last ten seconds all that the tier holds would be thrown out within a minute, still fresh. Give it more room, or a shorter ttl.",
}


def _of(kind: type, field: str) -> tuple[str, ...]:
    """The values of a field that is annotated with a Literal."""
    return get_args(get_type_hints(kind)[field])


BYPASSES, UNKEPT = tuple(BYPASSED), tuple(UNSTORED)

ATTRIBUTES: dict[str, tuple[tuple[str, ...], str]] = {
    "cache.name": ((), "`Cache(name=)`"),
    "cache.result": (get_args(Result), "the outcome; of an operation on a tier: `hit` or `miss`"),
    "cache.tier": (
        ("memory", "redis", "disk", "origin", "none"),
        "where the answer came from, or the store that is told of; a store of your own has its own name",
    ),
    "cache.key_group": (
        (),
        "the rule's `name` or path; the name of the cached function; `get_or_load(group=)`; `_other`",
    ),
    "cache.key_hash": (
        (),
        "the key's keyed hash: the same for the same question on all machines that share `GLASSCACHE_KEY`",
    ),
    "cache.key": ((), "what was asked, in clear text: only with `Detail(clear_keys=True)`"),
    "cache.age": ((), "seconds since the answer was made"),
    "cache.ttl": ((), "seconds of freshness that are left; negative: stale. On `cache.store`: seconds that it is kept"),
    "cache.bypass.reason": (
        BYPASSES,
        "why the cache was not asked ([why.md](why.md)); or a word of your own `KeyBuilder`",
    ),
    "cache.unstored.reason": (UNKEPT, "why an answer was loaded and not stored ([why.md](why.md))"),
    "cache.load.trigger": (get_args(Trigger), "why it was loaded; `warm`: before anybody asked"),
    "cache.lock.scope": (get_args(LockScope), "among the requests of one process, or among machines"),
    "cache.lock.outcome": (
        get_args(WaitOutcome),
        "how the wait ended: with an answer (`served`), as leader of the next load (`promoted`, `acquired`), with a stale one (`stale_served`), ...",
    ),
    "cache.lock.result": (_of(Acquired, "result"), "how the right to load was asked for"),
    "cache.lock.release": (get_args(Release), "what became of the right to load"),
    "cache.lock.wait": ((), "seconds"),
    "cache.lock.hold": ((), "seconds"),
    "cache.lock.waiter.count": ((), "requests that waited for the load on this machine"),
    "cache.lock.queue.position": ((), "1 is the first who waited"),
    "cache.lock.queue.length": ((), "how many waited when it ended"),
    "cache.lock.holder.id": ((), "the machine that loads, if it is another one: host, process and a random part"),
    "cache.lock.holder.trace_id": ((), "the trace of the load, since some backends drop links"),
    "cache.lock.holder.span_id": ((), "the span that the link leads to"),
    "cache.lock.holder.elapsed": ((), "seconds that the load had been under way when the wait began"),
    "cache.lock.holder.sampled": ((), "false: do not look for that trace, it was not recorded"),
    "cache.fencing_token": ((), "the number of the lease: it rises with each one of a key"),
    "cache.eviction.reason": (
        get_args(Cause),
        "no room, its age, told invalid, a newer answer; `rejected` never came in (too large, or a value that cannot be kept as its annotated type), or, in a shared tier, was no entry under its key: damaged, foreign, tampered with, or encrypted with other secrets",
    ),
    "cache.eviction.rate": ((), "entries a second"),
    "cache.entry.count": ((), "entries that the tier holds"),
    "cache.entry.limit": ((), "entries that it may hold"),
    "cache.memory.usage": ((), "bytes that the tier holds"),
    "cache.memory.limit": ((), "bytes that it may hold"),
    "cache.invalidation.source": (get_args(Source), "who demanded it"),
    "cache.invalidation.entry.count": ((), "entries that it removed from the memory of this machine"),
    "cache.tier.state": (get_args(TierState), "well; some operations fail; left alone"),
    "cache.stale.reason": (get_args(StaleReason), "refreshed behind, in place of an error, in place of a longer wait"),
    "cache.operation": (
        _of(TierCall, "operation"),
        "what a tier was asked to do. `get` grants the right to load, too; `lease` renews it, or gives it back with nothing stored",
    ),
    "cache.item_size": ((), "bytes of the body"),
    "error.type": ((), "the exception's class; only if there was one"),
    "cache.link.type": ((), "see above"),
    "event.name": ((), "see above"),
}
