"""What a collection of the SDK becomes in Prometheus' data model: families of samples, some with an exemplar.

Decides which kind a metric is, which points are shown, and which exemplar belongs to which bucket. Pure but for the
exemplars it remembers. Must never let through what would make a parser refuse the whole page: a name that is taken, a
series twice, a counter that is negative or not a number.

An exponential histogram is shown as a classic one whose bounds are powers of the square root of 2 (or of a coarser
base, where the SDK has had to take one): a bound may go as the SDK coarsens, none ever moves.
"""

from __future__ import annotations

import logging
import math
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Literal, TypeAlias

from opentelemetry.sdk.metrics.export import (
    ExponentialHistogramDataPoint,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)

from glasscache_exporters._names import family_name, labels_of, unit_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from opentelemetry.sdk.metrics import Exemplar
    from opentelemetry.sdk.metrics.export import ScopeMetrics

Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]
Labels: TypeAlias = "tuple[tuple[str, str], ...]"
Point: TypeAlias = "NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint"

SUFFIXES: dict[Kind, tuple[str, ...]] = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}
_logger = logging.getLogger("glasscache")
_told: set[str] = set()  # names of which a warning has been logged
_SCALE = 1  # bounds of exponential histograms are 2 ** (n / 2 ** _SCALE), or coarser
_MOST_LABEL_CHARACTERS = 128  # OpenMetrics 1.0: of an exemplar's label names and values together


@dataclass(frozen=True, slots=True)
class Sample:
    """One line: the family's name with `suffix`, labels, value; of a bucket the upper bound and perhaps an exemplar.

    All samples of one series hold one and the same `labels`.
    """

    suffix: str
    labels: Labels
    value: float
    exemplar: Exemplar | None = None
    le: str = ""


@dataclass(slots=True)
class Family:
    """A metric as the page has it: all samples of one name, under one HELP and one TYPE."""

    name: str
    kind: Kind
    unit: str
    help: str
    samples: list[Sample] = field(default_factory=list)
    seen: set[Labels] = field(default_factory=set)


class Exemplars:
    """The latest exemplar of each series and bucket.

    The SDK hands an exemplar out once. Prometheus scrapes often, perhaps from two servers, and takes one it knows for
    the same: so it is shown until another takes its place. Bounded as the SDK's own series and buckets are.
    """

    def __init__(self) -> None:
        self._latest: dict[tuple[str, Labels], dict[float, Exemplar]] = {}

    def of(
        self, family: str, labels: Labels, bounds: Sequence[float], new: Iterable[Exemplar]
    ) -> dict[float, Exemplar]:
        """By upper bound, those that lead to a trace; `bounds` ends with infinity."""
        known = self._latest.get((family, labels), {})
        found: dict[float, Exemplar] = {}
        for exemplar in sorted((*known.values(), *new), key=lambda each: each.time_unix_nano):
            bound = next((bound for bound in bounds if exemplar.value <= bound), None)
            if bound is not None and exemplar.trace_id:
                found[bound] = exemplar
        if found:
            self._latest[family, labels] = found
        return found


def families(data: MetricsData | None, exemplars: Exemplars, *, scope_labels: bool = False) -> list[Family]:
    """The families of a collection, `target` (the resource) first.

    `scope_labels`: every series says which instrumentation scope it is from (`otel_scope_name`, `otel_scope_version`);
    without, only those do whose name two scopes share.
    """
    found: dict[str, Family] = {}
    taken: set[str] = set()
    for resource in data.resource_metrics if data else ():
        target = Family("target", "info", "", "What these metrics are about: the resource's attributes.")
        target.samples.append(Sample("_info", tuple(labels_of(resource.resource.attributes).items()), 1))
        _enter(target, found, taken)
        shared = _shared_names(resource.scope_metrics)
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                family = _enter(_family(metric), found, taken)
                if family is not None:
                    is_labelled = scope_labels or metric.name in shared
                    _fill(family, metric, _scope_labels(scope) if is_labelled else {}, exemplars)
    return [family for family in found.values() if family.samples]


def _shared_names(scopes: Iterable[ScopeMetrics]) -> set[str]:
    seen: dict[str, ScopeMetrics] = {}
    return {
        metric.name for scope in scopes for metric in scope.metrics if seen.setdefault(metric.name, scope) is not scope
    }


def _scope_labels(scope: ScopeMetrics) -> dict[str, str]:
    labels = {"otel_scope_name": scope.scope.name, "otel_scope_version": scope.scope.version or ""}
    return {name: value for name, value in labels.items() if value}


def _enter(family: Family, found: dict[str, Family], taken: set[str]) -> Family | None:
    """The family of this name, or this one; None if its name is taken by another kind."""
    known = found.get(family.name)
    if known is not None and known.kind == family.kind:
        return known
    names = {family.name + suffix for suffix in SUFFIXES[family.kind]}
    if names & taken:
        _tell_once(family.name, "another metric has this name or one of its suffixes")
        return None
    taken |= names
    found[family.name] = family
    return family


def _family(metric: Metric) -> Family:
    kind: Kind = "histogram"
    if isinstance(metric.data, Gauge) or (isinstance(metric.data, Sum) and not metric.data.is_monotonic):
        kind = "gauge"
    elif isinstance(metric.data, Sum):
        kind = "counter"
    unit = unit_of(metric.unit or "")
    is_ratio = isinstance(metric.data, Gauge) and metric.unit == "1"
    name = family_name(metric.name, unit, is_counter=kind == "counter", is_ratio=is_ratio)
    return Family(name, kind, "ratio" if is_ratio else unit, metric.description or "")


def _fill(family: Family, metric: Metric, scope: dict[str, str], exemplars: Exemplars) -> None:
    for point in metric.data.data_points:
        labels = labels_of(point.attributes)
        if family.kind == "histogram" and "le" in labels:
            labels["exported_le"] = labels.pop("le")  # the name is a histogram's own
        series = tuple(sorted((scope | labels).items()))  # in one order, whoever said what
        if series in family.seen:
            _tell_once(family.name, "two of its series have the same labels; the first is shown")
        else:
            family.seen.add(series)
            family.samples.extend(_samples(family, series, point, exemplars))


def _tell_once(name: str, why: str) -> None:
    if name not in _told:
        _told.add(name)
        _logger.warning("Prometheus does not see all of %s: %s", name, why)


def _samples(family: Family, labels: Labels, point: Point, exemplars: Exemplars) -> Iterator[Sample]:
    if isinstance(point, NumberDataPoint):
        if family.kind == "gauge":
            yield Sample("", labels, point.value)
        elif point.value >= 0:  # false for NaN, too
            exemplar = exemplars.of(family.name, labels, [math.inf], point.exemplars).get(math.inf)
            yield Sample("_total", labels, point.value, exemplar)
        return
    bounds, counts = _buckets(point)
    kept = exemplars.of(family.name, labels, bounds, point.exemplars)
    for bound, count in zip(bounds, accumulate(counts), strict=True):
        yield Sample("_bucket", labels, count, kept.get(bound), _le(bound))
    if point.sum >= 0 and bounds[0] >= 0:  # OpenMetrics: no sum, hence no count, where values may be negative
        yield Sample("_count", labels, point.count)
        yield Sample("_sum", labels, point.sum)


def _buckets(point: HistogramDataPoint | ExponentialHistogramDataPoint) -> tuple[list[float], list[int]]:
    """Upper bounds, the last of them infinity, and how many values each bucket holds."""
    if isinstance(point, HistogramDataPoint):
        return [*point.explicit_bounds, math.inf], list(point.bucket_counts)
    scale = min(point.scale, _SCALE)
    buckets = {0.0: point.zero_count + sum(point.negative.bucket_counts)}
    positive = list(point.positive.bucket_counts)
    while positive and not positive[-1]:  # room that the SDK has made
        positive.pop()
    for index, count in enumerate(positive, point.positive.offset):
        exponent = ((index >> (point.scale - scale)) + 1) / 2.0**scale
        bound = 2.0**exponent if exponent < sys.float_info.max_exp else math.inf
        buckets[bound] = buckets.get(bound, 0) + count
    buckets.setdefault(math.inf, 0)
    return list(buckets), list(buckets.values())


@lru_cache(maxsize=1024)
def _le(bound: float) -> str:
    """As every other exporter writes it, so that series of several processes meet (OpenMetrics: canonical numbers)."""
    if bound == math.inf:
        return "+Inf"
    text = repr(float(bound))
    point = text.find(".")
    if point > 6 and "e" not in text:
        mantissa = f"{text[0]}.{text[1:point]}{text[point + 1 :]}".rstrip("0").rstrip(".")
        return f"{mantissa}e+{point - 1:02d}"
    return text


def exemplar_labels(exemplar: Exemplar) -> Labels:
    """trace_id and span_id, and what a View took out of the series as long as OpenMetrics has room for it."""
    ids = (("trace_id", f"{exemplar.trace_id or 0:032x}"), ("span_id", f"{exemplar.span_id or 0:016x}"))
    every = (*ids, *labels_of(exemplar.filtered_attributes).items())
    room = sum(len(name) + len(value) for name, value in every) <= _MOST_LABEL_CHARACTERS
    return every if room else ids
