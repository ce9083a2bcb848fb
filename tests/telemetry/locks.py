"""`make locks`: three machines, one slow load, and the way from a metric to who holds everybody up.

Decides what is shown of each step; the way itself is `walk`'s. What it prints is in docs/locks.md.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.machines.fleet import until
from tests.support.ending import end_in_order
from tests.support.otlp import Receiver
from tests.support.otlp_model import Log, Span
from tests.telemetry.cluster import cluster, contend, release
from tests.telemetry.walk import Walk, found, walk

SLOW = 1.2  # seconds
WAITS = "glasscache.lock.wait.duration"
CONTENTION = "glasscache.lock.contention"
_SHOWN = {
    "cache.result",
    "cache.lock.scope",
    "cache.lock.outcome",
    "cache.lock.queue.position",
    "cache.lock.holder.id",
    "cache.lock.holder.elapsed",
    "cache.lock.waiter.count",
    "cache.fencing_token",
}


def main() -> None:
    """Run it, and say what was found."""
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder), GLASSCACHE_CONTENTION_THRESHOLD="1") as of:
        holder = contend(of, "slow")
        over = time.monotonic() + SLOW
        until(lambda: time.monotonic() > over)
        release(of, "slow", holder)
        of.receiver.wait_until(_has_all)
        way = walk(of.receiver.metrics()[WAITS], of.receiver.spans())
        print("\n".join(told(way, of.receiver.spans(), of.receiver.logs())))


def _has_all(receiver: Receiver) -> bool:
    spans = receiver.spans()
    known = {span.span_id for span in spans}
    loads = [span for span in spans if span.name == "cache.load" and span.links]
    served = [span for span in spans if span.kind == "server"]
    waits = receiver.metrics().get(WAITS)
    counted = sum(point.count for point in waits.points) if waits else 0
    return (
        counted == 5
        and len(served) == 6
        and bool(loads)
        and all(link.span_id in known for link in loads[0].links)
        and any(_is_of_another_machine(log) for log in receiver.logs())
    )


def _is_of_another_machine(log: Log) -> bool:
    return log.event_name == CONTENTION and log.attributes["cache.lock.scope"] == "cluster"


def told(way: Walk, spans: Sequence[Span], logs: Sequence[Log]) -> Iterator[str]:
    """The steps."""
    yield "1. The metric: how long requests waited for a load on another machine"
    bounds = [*way.point.bounds, float("inf")]
    for below, count in zip(bounds, way.point.buckets, strict=True):
        if count:
            yield f"     up to {below:g} s: {count}"
    yield f"2. An exemplar of the slowest bucket: {way.exemplar.value:.2f} s, trace {_short(way.exemplar.trace_id)}"
    yield f"3. That trace, of process {_process(way.wait)}:"
    yield from _tree(spans, found(spans, way.wait.trace_id, way.wait.parent), 1)
    yield f"4. The link of cache.lock.wait leads to trace {_short(way.load.trace_id)}, of process {_process(way.load)}:"
    yield from _tree(spans, found(spans, way.load.trace_id, way.load.parent), 1)
    yield "5. And back: the links of cache.load lead to everybody whom it held up"
    for link in way.load.links:
        waited = found(spans, link.trace_id, link.span_id)
        yield f"     {waited.name} in trace {_short(link.trace_id)}, of process {_process(waited)}"
    yield "6. The same in the log of a process that waited, without any backend"
    log = next(filter(_is_of_another_machine, logs))
    yield f"     {log.severity} {log.event_name}: {log.body}"
    for name, value in sorted(log.attributes.items()):
        yield f"       {name} = {value:.3f}" if isinstance(value, float) else f"       {name} = {value}"


def _tree(spans: Sequence[Span], span: Span, depth: int) -> Iterator[str]:
    lasted = (span.end_ns - span.start_ns) / 1e9
    shown = {name: value for name, value in span.attributes.items() if name in _SHOWN}
    yield f"   {'  ' * depth}{span.name}  {lasted:.3f} s"
    for name, value in sorted(shown.items()):
        yield (
            f"   {'  ' * depth}    {name} = {value:.3f}"
            if isinstance(value, float)
            else (f"   {'  ' * depth}    {name} = {value}")
        )
    below = [child for child in spans if child.parent == span.span_id and " http " not in child.name]
    for child in sorted(below, key=lambda child: child.start_ns):
        if child.name != "PUBLISH":
            yield from _tree(spans, child, depth + 1)


def _short(trace_id: str) -> str:
    return f"...{trace_id[-8:]}"


def _process(span: Span) -> str:
    return str(span.resource["service.instance.id"])[:8]


if __name__ == "__main__":
    end_in_order()
    main()
