"""Whatever is measured, under whatever name, Prometheus' parsers take the page, and find the values again."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import Exemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families as read_plain

from glasscache_exporters import _families
from glasscache_exporters._families import Exemplars, families
from glasscache_exporters._text import openmetrics, plain

pytestmark = pytest.mark.no_cover

read_openmetrics: Callable[[str], Iterable[Family]] = openmetrics_parser.text_string_to_metric_families
CUMULATIVE = AggregationTemporality.CUMULATIVE

# Few letters, so that names and keys meet; what is special to a parser; and anything.
names = st.text("ab._:0", min_size=1, max_size=5) | st.sampled_from(
    ["a_total", "a_count", "target", "target_info", "é"]
)
keys = st.text('ab._"\\', max_size=4) | st.sampled_from(["le", "quantile", "__name__", "otel_scope_name"])
words = st.text('ab"\\\n{},=# ', max_size=6) | st.text(max_size=6)
attributes = st.dictionaries(
    keys, words | st.booleans() | st.integers() | st.floats() | st.lists(words, max_size=2), max_size=3
)
numbers = st.floats() | st.integers(-5, 2**63)
ids = st.integers(0, 2**64 - 1)
# Of exemplars, prometheus_client (0.26) reads no quote that is escaped; Prometheus does.
unquoted = st.dictionaries(keys, words.map(lambda word: word.replace('"', "")), max_size=3)
exemplars = st.lists(
    st.builds(Exemplar, unquoted | st.none(), st.floats(), st.integers(0, 2**62), ids, ids), max_size=3
)
points = st.lists(st.builds(NumberDataPoint, attributes, st.just(0), st.just(0), numbers, exemplars), max_size=3)


@st.composite
def histogram_points(draw: st.DrawFn) -> HistogramDataPoint:
    bounds = sorted(draw(st.sets(st.floats(allow_nan=False, allow_infinity=False), max_size=4)))
    counts = draw(st.lists(st.integers(0, 2**40), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    total = draw(st.floats())
    return HistogramDataPoint(draw(attributes), 0, 0, sum(counts), total, counts, bounds, 0, 0, draw(exemplars))


data = (
    st.builds(Gauge, points)
    | st.builds(Sum, points, st.just(CUMULATIVE), st.booleans())
    | st.builds(Histogram, st.lists(histogram_points(), max_size=2), st.just(CUMULATIVE))
)
metrics = st.builds(Metric, names, words | st.none(), st.sampled_from(["", "1", "s", "By", "{a}", "a/s", "é"]), data)
scopes = st.builds(ScopeMetrics, st.builds(InstrumentationScope, words), st.lists(metrics, max_size=4), st.just(""))
collections = st.builds(
    lambda resource, found: MetricsData([ResourceMetrics(Resource(resource), found, "")]),
    st.dictionaries(words.filter(bool), words, max_size=2),
    st.lists(scopes, max_size=3),
)


@pytest.fixture(autouse=True)
def _said_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_families, "_tell_once", lambda *_: None)


@given(collections, st.booleans())
def test_every_page_is_one_that_parsers_take_and_both_formats_say_the_same(found: MetricsData, scoped: bool) -> None:
    page = families(found, Exemplars(), scope_labels=scoped)
    lines = {line for family in read_openmetrics(openmetrics(page)) for line in told(family)}
    assert {line for family in read_plain(plain(page)) for line in told(family)} == lines
    assert len(lines) == sum(len(family.samples) for family in page)


def told(family: Family) -> list[tuple[Any, ...]]:
    return [(each.name, frozenset(each.labels.items()), repr(float(each.value))) for each in family.samples]


@given(histogram_points())
def test_a_histogram_keeps_its_counts_and_an_exemplar_stands_in_its_bucket(point: HistogramDataPoint) -> None:
    metric = Metric("took", "", "s", Histogram([point], CUMULATIVE))
    found = MetricsData([ResourceMetrics(Resource({}), [ScopeMetrics(InstrumentationScope("a"), [metric], "")], "")])
    page = {family.name: family for family in read_openmetrics(openmetrics(families(found, Exemplars())))}
    buckets = [each for each in page["took_seconds"].samples if each.name == "took_seconds_bucket"]
    assert [each.value for each in buckets] == list(accumulate(point.bucket_counts))
    bounds = [*point.explicit_bounds, math.inf]
    assert [float(each.labels["le"]) for each in buckets] == bounds
    for bound, each in zip(bounds, buckets, strict=True):
        if each.exemplar is not None:
            assert bisect_left(bounds, each.exemplar.value) == bounds.index(bound)
            assert int(each.exemplar.labels["trace_id"], 16) > 0
