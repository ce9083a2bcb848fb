"""Who waits for whom, and who did: the slow-lock finder of one cache in one process.

Decides what is shown of a wait and of a load. Must never show a key other than as `cache.key_hash`, nor a request, a
tenant or an error's words; never more than a bounded number of either; never change what it reads.
"""

from __future__ import annotations

import os
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from glasscache._contention import KEPT_OF_ONE_LOAD
from glasscache.stats import declared_workers

if TYPE_CHECKING:
    from glasscache._contention import Contention
    from glasscache._events import Load, SpanRef
    from glasscache._flight import Flight
    from glasscache.cache import Cache

_SHOWN_LOADS = 50
_LOOKED_AT_READERS = 1_000  # of one load: a crowd may be larger, and is not counted one by one


def contention(cache: Cache, *, since: int = 0, of: int | None = None) -> dict[str, object]:
    """Who waits for whom now, and the last waits that were longer than `Limits.contention_threshold`. All in seconds.

    - `loads`: under way now, those with most readers first, at most 50. `running`: for how long; `waiting`: how many
      requests wait for its first bytes; `waiters`: the first 16 of them, how long each has `waited`, and its trace.
    - `contentions`: the last 256 waits above `threshold`, newest first; of one load at most 16, so that a crowd does
      not push out the others (`queue_length` counts all of it). `number` counts them; `since` leaves out those up to
      that number. `load` is the same for all who waited for one load. `ended`: Unix time. `waited`: how long.
    - `holder`, of both: whose load it is. `id`: the other machine's, None if it is this process's own. `trace_id`,
      `span_id`: its `cache.load` span (None without tracing). `fencing_token`: of its lease, which names it in that
      trace. Of a contention also `elapsed`: how long it had been under way when the wait began; `running`: the same
      at the wait's end; `held`: how long it took in all (None: it went on, or is another machine's).
    - `waiters`: requests of this process that wait now. `seen`: all long waits so far, kept or not. `at`: Unix time.

    `worker` is this process, `of` how many there are (by default what `declared_workers` says; None: not known).
    """
    return {
        "name": cache.name,
        "worker": os.getpid(),
        "of": declared_workers() if of is None else of,
        "at": cache.clock.wall(),
        "threshold": cache.limits.contention_threshold,
        "waiters": cache.waiters,
        "loads": loads_now(cache),
        "seen": cache._engine.commons.contentions.seen,
        "contentions": contentions(cache, since=since),
    }


def contention_json(cache: Cache, *, of: int | None = None) -> bytes:
    """`contention` as JSON."""
    return msgspec.json.encode(contention(cache, of=of))


def contentions(cache: Cache, *, since: int = 0) -> list[dict[str, object]]:
    """The last long waits, newest first, but for the first `since` of this process."""
    label = cache.keyring.label
    return [_past(one, label(one.key)) for one in cache._engine.commons.contentions if one.number > since]


def loads_now(cache: Cache, *, waiters: int = KEPT_OF_ONE_LOAD) -> list[dict[str, object]]:
    """The loads under way, those with most readers first, and of who waits for each at most so many one by one."""
    now, label = cache.clock.now(), cache.keyring.label
    return [_present(flight, label(flight.key), now, waiters) for flight in cache._engine.under_way(_SHOWN_LOADS)]


def _past(one: Contention, key_hash: str) -> dict[str, object]:
    return {
        "number": one.number,
        "load": one.load,
        "ended": one.ended,
        "waited": _rounded(one.waited),
        "key_group": one.group,
        "key_hash": key_hash,
        "scope": one.scope,
        "outcome": one.outcome,
        "queue_position": one.position,
        "queue_length": one.queue_length,
        "waiter": _span(one.waiter),
        "holder": {
            "id": one.machine or None,
            **_span(one.holder),
            "fencing_token": one.fencing_token,
            "elapsed": _rounded(one.elapsed),
            "running": _rounded(one.running),
            "held": None if one.held is None else _rounded(one.held),
        },
    }


def _present(flight: Flight, key_hash: str, now: float, waiters: int) -> dict[str, object]:
    work = flight.work
    holder = work if work.waits_for is None else work.waits_for
    readers = islice(flight.readers, _LOOKED_AT_READERS)
    waits = [reader.waiting.work for reader in readers if reader.waiting and not reader.waiting.is_over]
    return {
        "key_group": work.group,
        "key_hash": key_hash,
        "trigger": work.trigger,
        "running": _rounded(now - holder.begun),
        "holder": _holder(holder),
        "waiting": len(waits),
        "waiters": [
            {"waited": _rounded(now - wait.begun), "queue_position": wait.position, **_span(wait.ref)}
            for wait in waits[:waiters]
        ],
    }


def _holder(load: Load) -> dict[str, object]:
    return {"id": load.machine or None, **_span(load.ref), "fencing_token": load.fencing_token}


def _rounded(seconds: float) -> float:
    return round(seconds, 6)


def _span(ref: SpanRef | None) -> dict[str, object]:
    """A trace id as the backends show it."""
    if ref is None:
        return {"trace_id": None, "span_id": None}
    return {"trace_id": f"{ref.trace_id:032x}", "span_id": f"{ref.span_id:016x}"}
