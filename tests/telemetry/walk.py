"""From the histogram of waits to the load that was waited for, by nothing but what was exported.

Decides each step as a person takes it in Grafana: the slowest bucket that is not empty, an exemplar of it, the span of
the wait, its link, and the load there, on whichever machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.otlp_model import Exemplar, Metric, Point, Span


@dataclass(frozen=True)
class Walk:
    """Every place that was passed."""

    point: Point
    above: float
    """The lower bound of the bucket, in seconds."""
    exemplar: Exemplar
    wait: Span
    load: Span


def walk(waits: Metric, spans: Sequence[Span], *, scope: str = "cluster") -> Walk:
    """Go the way, from the waits of this scope. Raises AssertionError where it ends too soon."""
    point, above = slowest([point for point in waits.points if point.attributes["cache.lock.scope"] == scope])
    exemplar = next(each for each in point.exemplars if each.value > above)
    wait = found(spans, exemplar.trace_id, exemplar.span_id)
    assert wait.name == "cache.lock.wait"
    (link,) = wait.links
    assert link.attributes == {"cache.link.type": "lock_holder"}
    return Walk(point, above, exemplar, wait, load_of(spans, wait, link.trace_id, link.span_id))


def slowest(points: Sequence[Point]) -> tuple[Point, float]:
    """The series that has the highest bucket which is not empty, and that bucket's lower bound."""

    def highest(point: Point) -> int:
        return max(number for number, count in enumerate(point.buckets) if count)

    point = max(points, key=highest)
    number = highest(point)
    return point, point.bounds[number - 1] if number else 0.0


def load_of(spans: Sequence[Span], wait: Span, trace_id: str, span_id: str) -> Span:
    """The link's own span, or of the loads in its trace the one under the lease that was waited for."""
    linked = found(spans, trace_id, span_id)
    if linked.name == "cache.load":
        return linked
    token = wait.attributes["cache.fencing_token"]
    (load,) = [
        span
        for span in spans
        if span.name == "cache.load"
        and span.trace_id == trace_id
        and span.attributes.get("cache.fencing_token") == token
    ]
    return load


def found(spans: Sequence[Span], trace_id: str, span_id: str) -> Span:
    """The span that was exported under these ids."""
    (span,) = [span for span in spans if (span.trace_id, span.span_id) == (trace_id, span_id)]
    return span
