"""Writes docs/telemetry.md from the names that glasscache uses: `make reference`.

Decides only how they are laid out; what they mean to a reader stands in meanings.py.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from glasscache.otel import EVENTS, LINKS, METRICS, SERVER, SERVER_HIT, SPANS, Metric, names
from glasscache_exporters._names import family_name, unit_of
from tests.telemetry import meanings

PAGE = Path(__file__).parents[2] / "docs" / "telemetry.md"
INSTRUMENTS = {
    "counter": "Counter",
    "histogram": "Histogram",
    "observable_counter": "ObservableCounter",
    "observable_up_down_counter": "ObservableUpDownCounter",
}
_SUFFIXES = {"histogram": "_bucket", "counter": "_total", "observable_counter": "_total"}


def page() -> str:
    """The page's text."""
    parts = (_top(), _outcomes(), _metrics(), _buckets(), _spans(), _server(), _links(), _events(), _attributes())
    return "\n".join(line for part in parts for line in (*part, ""))


def in_prometheus(metric: Metric) -> str:
    """The series that PromQL asks for (of a histogram also `_sum` and `_count`)."""
    is_counter = metric.kind in ("counter", "observable_counter")
    family = family_name(metric.name, unit_of(metric.unit), is_counter=is_counter, is_ratio=False)
    return family + _SUFFIXES.get(metric.kind, "")


def _table(*rows: Sequence[str]) -> Iterator[str]:
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in body)


def _code(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _top() -> Iterator[str]:
    yield "# Telemetry: every name, and what it tells you"
    yield ""
    yield "<!-- Written by `make reference` from glasscache/_otel_names.py; a test compares them. -->"
    yield ""
    yield meanings.TOP


def _outcomes() -> Iterator[str]:
    yield "## Outcomes: `cache.result`"
    yield ""
    yield "Every request has exactly one. A collapsed request is never counted as a hit."
    yield ""
    yield from _table(("`cache.result`", "the request"), *((f"`{result}`", text) for result, text in meanings.RESULTS))


def _metrics() -> Iterator[str]:
    yield "## Metrics"
    yield ""
    yield meanings.METRICS_TOP
    yield ""
    head = ("metric; in Prometheus", "instrument, unit", "attributes", "what it tells you")
    yield from _table(head, *(_metric(metric) for metric in METRICS))


def _metric(metric: Metric) -> tuple[str, ...]:
    return (
        f"`{metric.name}` <br> `{in_prometheus(metric)}`",
        f"{INSTRUMENTS[metric.kind]}, `{metric.unit}`",
        _code(metric.attributes),
        f"{metric.description} {meanings.METRICS[metric.name]}".strip(),
    )


def _buckets() -> Iterator[str]:
    yield "### Buckets"
    yield ""
    yield meanings.BUCKETS_TOP
    yield ""
    rows = ((f"`{metric.name}`", " ".join(f"{bound:g}" for bound in metric.buckets)) for metric in METRICS)
    yield from _table(("histogram", "upper bounds"), *((name, bounds) for name, bounds in rows if bounds))


def _spans() -> Iterator[str]:
    yield "## Spans"
    yield ""
    yield meanings.SPANS_TOP
    for name, attributes in SPANS.items():
        yield ""
        yield f"### `{name}`"
        yield ""
        yield meanings.SPANS[name]
        yield ""
        yield f"Attributes: {_code(attributes)}."
        if name in LINKS:
            yield f"Links: {_code(LINKS[name])}."


def _server() -> Iterator[str]:
    yield "### The server span (yours)"
    yield ""
    yield meanings.SERVER
    yield ""
    yield f"A hit: {_code(SERVER_HIT)}. Any other outcome may add: {_code(a for a in SERVER if a not in SERVER_HIT)}."


def _links() -> Iterator[str]:
    yield "## Links"
    yield ""
    yield f"Each carries `{names.LINK_TYPE}`. Most backends show a link only at the span that has it: so both sides do."
    yield ""
    rows = ((f"`{kind}`", f"`{name}`", meanings.LINKS[kind]) for name, kinds in LINKS.items() for kind in kinds)
    yield from _table((f"`{names.LINK_TYPE}`", "on", "leads to"), *rows)


def _events() -> Iterator[str]:
    yield "## Events in the log"
    yield ""
    yield meanings.EVENTS_TOP
    yield ""
    head = (f"`{names.EVENT_NAME}`", "level", "attributes", "what it tells you")
    rows = (
        (f"`{e.name}`", logging.getLevelName(e.level), _code(e.attributes), meanings.EVENTS[e.name]) for e in EVENTS
    )
    yield from _table(head, *rows)


def _attributes() -> Iterator[str]:
    yield "## Attributes"
    yield ""
    rows = ((f"`{name}`", _code(values), text) for name, (values, text) in meanings.ATTRIBUTES.items())
    yield from _table(("attribute", "values", "what it says"), *rows)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
