"""The figures of one cache in one process, from its integers.

Decides what each figure of the stats page means. Must never show a key or a tenant, nor a route unless groups
are asked for; never count a collapsed request as a hit; never change what it reads.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, get_args

import msgspec

from glasscache._counters import GroupCounters
from glasscache._events import Cause, Result

if TYPE_CHECKING:
    from collections.abc import Iterable

    from glasscache.interfaces import Observable


def declared_workers() -> int | None:
    """How many workers the service has by WEB_CONCURRENCY; None if it says nothing.

    uvicorn and gunicorn start so many. Set it instead of `--workers`: a worker cannot see how many it has beside it.
    """
    said = os.environ.get("WEB_CONCURRENCY", "")
    return (int(said) or None) if said.isascii() and said.isdigit() else None


def stats(cache: Observable, *, groups: bool = False, of: int | None = None) -> dict[str, object]:
    """What has happened since the process began, and how things stand now.

    Requests, each counted once: `total_requests` = `total_hits` + `total_misses` + `collapsed` +
    `revalidated` + `errors` + all of `bypass`.

    - `total_hits`: answered from a store, fresh or stale (`stale` are the latter).
    - `total_misses`: answered by a load of their own.
    - `collapsed`: answered by another request's load; never a hit.
    - `revalidated`: answered from a store after the origin had confirmed the answer.
    - `errors`: the load failed, and nothing stale could stand in.
    - `bypass`: not looked up, by reason.
    - `not_stored`: loads whose answer was not kept, by why not (`glasscache why REASON` says it in words).
    - `hit_rate`: `total_hits` / (`total_requests` - all bypasses), 0 to 1; 0.0 as long as there were none.
    - `avg_hit_time_ms`, `avg_miss_time_ms`: of those that were timed (of hits a sample); None without any.
    - `saved_seconds`, `saved_bytes`: load time and bytes that stored and shared answers spared the origin.
    - `saved_price`: the sum of what handlers said their answers cost (`answer().cost()`), in their own unit.

    The memory tier: `cache_size` (entries), `entries_limit`, `memory_bytes`, `memory_limit_bytes` (None: not
    bounded), `evictions` (entries gone from any tier, by cause). Now: `waiters` (requests that wait for
    another's on this machine), `loads` (loads under way), `waiting_abroad` (requests that wait for another machine's
    load, one for each key), `leases` (rights to load among all machines that this one holds; both None where no tier
    is shared), `tiers` (each far tier: ok, degraded, open). `doubted`: how often memory has answered with what may have
    been told invalid meanwhile, since the shared tier could not be asked (`Limits.suspect_ttl`). `worker` is this
    process, `of` how many there are (by default what `declared_workers` says; None: not known).

    `groups=True` adds the request figures by key group. Groups name routes and functions: show them only to
    those who may know these.
    """
    counters = cache.counters
    every = list(counters.groups.values())
    memory = [gauge for gauge in cache.gauges() if gauge.tier == "memory"]
    removals: Counter[Cause] = Counter(dict.fromkeys(get_args(Cause), 0))
    for (_, cause), count in counters.removals.items():
        removals[cause] += count
    figures = _requests(every) | {
        "bypass": dict(counters.bypasses),
        "not_stored": dict(counters.unstored),
        "cache_size": sum(gauge.entries for gauge in memory),
        "entries_limit": sum(gauge.entry_limit for gauge in memory) or None,
        "memory_bytes": sum(gauge.size for gauge in memory),
        "memory_limit_bytes": sum(gauge.size_limit for gauge in memory) or None,
        "evictions": dict(removals),
        "waiters": cache.waiters,
        "loads": cache.holders,
        "waiting_abroad": None if cache.abroad is None else cache.abroad[0],
        "leases": None if cache.abroad is None else cache.abroad[1],
        "tiers": dict(cache.tier_states()),
        "doubted": counters.doubted,
        "name": cache.name,
        "worker": os.getpid(),
        "of": declared_workers() if of is None else of,
    }
    if groups:
        figures["groups"] = {group.name: _requests([group]) for group in every}
    return figures


def stats_json(cache: Observable, *, groups: bool = False, of: int | None = None) -> bytes:
    """`stats` as JSON."""
    return msgspec.json.encode(stats(cache, groups=groups, of=of))


def _requests(groups: Iterable[GroupCounters]) -> dict[str, object]:
    groups = list(groups)
    results: Counter[Result] = Counter()
    for group in groups:
        for (result, _), count in group.requests().items():
            results[result] += count
    total, bypassed = results.total(), results["bypass"]
    hits = results["hit"] + results["stale"]
    return {
        "hit_rate": hits / (total - bypassed) if total > bypassed else 0.0,
        "total_requests": total,
        "total_hits": hits,
        "total_misses": results["miss"],
        "stale": results["stale"],
        "collapsed": results["collapsed"],
        "revalidated": results["revalidated"],
        "errors": results["error"],
        "bypass": bypassed,
        "avg_hit_time_ms": _average_ms(
            sum(group.hit_seconds for group in groups), sum(group.hit_samples for group in groups)
        ),
        "avg_miss_time_ms": _average_ms(
            sum(group.miss_seconds for group in groups), sum(group.misses_timed for group in groups)
        ),
        "saved_seconds": round(sum(group.saved_seconds for group in groups), 6),
        "saved_bytes": sum(group.saved_bytes for group in groups),
        "saved_price": round(sum(group.saved_price for group in groups), 6),
    }


def _average_ms(seconds: float, count: int) -> float | None:
    return round(seconds / count * 1000, 6) if count else None
