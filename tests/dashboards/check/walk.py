"""From a slow p99 to who held the lock: the way that a person clicks, walked over real data.

Decides the steps: the highest bucket of waits that is not empty, its exemplar, the wait's span, its link, the load on
the other process, and its link back.
"""

from __future__ import annotations

from collections.abc import Iterator

from glasscache.otel import names
from tests.dashboards import model
from tests.dashboards.check.ask import Store
from tests.support.otlp_model import Span

PANEL = "Waits for other machines"


def walk(prometheus: Store, spans: list[Span]) -> Iterator[str]:
    """One line for each step. AssertionError if a step leads nowhere."""
    (target,) = [target for target in model.targets() if target.panel["title"] == PANEL]
    exemplar = max(prometheus.exemplars(target), key=lambda each: float(each["value"]))
    value, labels = float(exemplar["value"]), exemplar["labels"]
    top = min(bound for series in prometheus.panel(target) if (bound := float(series.labels["le"])) >= value)
    yield f'Lock contention, "{PANEL}": the highest bucket that is not empty ends at {top:g} s'
    yield f"its exemplar: {value:.3f} s, trace_id={labels['trace_id']} span_id={labels['span_id']}"
    by_id = {(span.trace_id, span.span_id): span for span in spans}
    wait = by_id[labels["trace_id"], labels["span_id"]]
    assert wait.name == names.WAIT
    yield f"that span, of {_where(wait)}:"
    yield from (f"    {name} = {value}" for name, value in sorted(wait.attributes.items()))
    (link,) = [link for link in wait.links if link.attributes.get(names.LINK_TYPE) == names.LINK_HOLDER]
    yield f"its link ({names.LINK_HOLDER}) leads to trace {link.trace_id}"
    holder = holding(by_id, link.trace_id, wait)
    assert _where(holder) != _where(wait)
    yield f"there, {names.LOAD} of {_where(holder)} took {_seconds(holder):.3f} s:"
    yield from (f"    {name} = {value}" for name, value in sorted(holder.attributes.items()))
    back = {(link.trace_id, link.span_id) for link in holder.links}
    assert back
    yield f"and it links back to {len(back)} who waited for it to the end"


def holding(by_id: dict[tuple[str, str], Span], trace: str, wait: Span) -> Span:
    """The load in that trace which the wait was for: both carry the token of the lease."""
    loads = [span for (of, _), span in by_id.items() if of == trace and span.name == names.LOAD]
    token = wait.attributes[names.FENCING_TOKEN]
    (found,) = [load for load in loads if load.attributes.get(names.FENCING_TOKEN) == token]
    return found


def _where(span: Span) -> str:
    return str(span.resource["service.instance.id"])


def _seconds(span: Span) -> float:
    return (span.end_ns - span.start_ns) / 1e9
