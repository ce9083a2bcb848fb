"""OTLP requests as plain values that a test can compare.

Decides: how protobuf becomes dataclasses (ids as hex, attributes as dicts), and which points of a metric count.
Never: interprets names; what a span or metric should be called is the test's business.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

from google.protobuf.message import Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1 import metrics_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

Attributes = dict[str, Any]
_TEMPORALITY: dict[int, Literal["delta", "cumulative"]] = {1: "delta", 2: "cumulative"}


@dataclasses.dataclass(frozen=True)
class Link:
    """A span's link to another span; ids in hex."""

    trace_id: str
    span_id: str
    attributes: Attributes


@dataclasses.dataclass(frozen=True)
class Span:
    """A finished span. `parent` is "" for a root; `kind` like "internal"; `status` "unset", "ok" or "error"."""

    name: str
    trace_id: str
    span_id: str
    parent: str
    kind: str
    attributes: Attributes
    links: tuple[Link, ...]
    events: tuple[tuple[str, Attributes], ...]
    start_ns: int
    end_ns: int
    status: str
    status_message: str
    resource: Attributes
    scope: str


@dataclasses.dataclass(frozen=True)
class Exemplar:
    """One measurement of a point, with the span in which it was made; ids in hex, "" without a span."""

    value: float
    trace_id: str
    span_id: str
    attributes: Attributes


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of a series. Sums and gauges have a `value`; histograms a `count`, a `sum` (their `value` too) and
    `buckets`: the counts between `bounds`, which an exponential histogram leaves empty (`scale` instead)."""

    attributes: Attributes
    value: float
    start_ns: int
    time_ns: int
    count: int
    sum: float
    buckets: tuple[int, ...]
    bounds: tuple[float, ...]
    scale: int | None
    exemplars: tuple[Exemplar, ...]
    resource: Attributes


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric. `type` is "gauge", "sum", "histogram" or "exponential_histogram"; a gauge has no `temporality`."""

    name: str
    unit: str
    type: str
    temporality: Literal["delta", "cumulative"] | None
    monotonic: bool
    points: tuple[Point, ...]
    description: str

    def point(self, attributes: Mapping[str, Any]) -> Point:
        """Return the one point whose attributes include these."""
        found = [point for point in self.points if attributes.items() <= point.attributes.items()]
        assert len(found) == 1, f"{self.name} has {len(found)} points with {attributes}: {self.points}"
        return found[0]


@dataclasses.dataclass(frozen=True)
class Log:
    """A log record; ids in hex, "" without a span."""

    body: Any
    severity: str
    event_name: str
    attributes: Attributes
    trace_id: str
    span_id: str
    time_ns: int
    resource: Attributes


def spans_of(requests: Iterable[Message]) -> list[Span]:
    """Return the spans of all trace requests, in order."""
    return [
        _span(span, _attributes(group.resource.attributes), scope.scope.name)
        for request in requests
        if isinstance(request, ExportTraceServiceRequest)
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


def metrics_of(requests: Iterable[Message]) -> dict[str, Metric]:
    """Return the metrics of all metric requests by name, each series as told in `Receiver.metrics`. A name that
    comes with two units or types is an error."""
    found: dict[str, Metric] = {}
    for metric in _exported(requests):
        known = found.setdefault(metric.name, metric)
        if known is metric:
            continue
        assert (known.unit, known.type) == (metric.unit, metric.type), f"two metrics named {metric.name}"
        points = (
            known.points + metric.points if metric.temporality == "delta" else _renewed(known.points, metric.points)
        )
        found[metric.name] = dataclasses.replace(metric, points=points)
    return found


def logs_of(requests: Iterable[Message]) -> list[Log]:
    """Return the records of all log requests, in order."""
    return [
        Log(
            body=_value(record.body),
            severity=record.severity_text,
            event_name=record.event_name,
            attributes=_attributes(record.attributes),
            trace_id=record.trace_id.hex(),
            span_id=record.span_id.hex(),
            time_ns=record.time_unix_nano,
            resource=_attributes(group.resource.attributes),
        )
        for request in requests
        if isinstance(request, ExportLogsServiceRequest)
        for group in request.resource_logs
        for scope in group.scope_logs
        for record in scope.log_records
    ]


def _span(span: trace_pb2.Span, resource: Attributes, scope: str) -> Span:
    return Span(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        attributes=_attributes(span.attributes),
        links=tuple(Link(link.trace_id.hex(), link.span_id.hex(), _attributes(link.attributes)) for link in span.links),
        events=tuple((event.name, _attributes(event.attributes)) for event in span.events),
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        status=trace_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_").lower(),
        status_message=span.status.message,
        resource=resource,
        scope=scope,
    )


def _exported(requests: Iterable[Message]) -> Iterator[Metric]:
    for request in requests:
        if isinstance(request, ExportMetricsServiceRequest):
            for group in request.resource_metrics:
                resource = _attributes(group.resource.attributes)
                for scope in group.scope_metrics:
                    yield from (_metric(metric, resource) for metric in scope.metrics)


def _metric(metric: metrics_pb2.Metric, resource: Attributes) -> Metric:
    kind = metric.WhichOneof("data")
    assert kind is not None, f"metric {metric.name} holds no data"
    data: Any = getattr(metric, kind)
    return Metric(
        name=metric.name,
        unit=metric.unit,
        type=kind,
        temporality=_TEMPORALITY.get(getattr(data, "aggregation_temporality", 0)),
        monotonic=getattr(data, "is_monotonic", False),
        points=tuple(_point(point, resource) for point in data.data_points),
        description=metric.description,
    )


def _renewed(old: tuple[Point, ...], new: tuple[Point, ...]) -> tuple[Point, ...]:
    """Return the new points, and the old ones of series that were not exported again. An SDK sends an exemplar only
    once, so those of the old points are kept."""
    latest = {_series(point): point for point in old}
    for point in new:
        before = latest.get(_series(point))
        seen = before.exemplars if before else ()
        fresh = tuple(each for each in point.exemplars if each not in seen)
        latest[_series(point)] = dataclasses.replace(point, exemplars=seen + fresh)
    return tuple(latest.values())


def _series(point: Point) -> str:
    return repr((sorted(point.attributes.items()), sorted(point.resource.items())))


def _point(point: Any, resource: Attributes) -> Point:
    total = getattr(point, "sum", 0.0)
    exponential = hasattr(point, "scale")
    return Point(
        attributes=_attributes(point.attributes),
        value=_number(point) if hasattr(point, "as_int") else total,
        start_ns=point.start_time_unix_nano,
        time_ns=point.time_unix_nano,
        count=getattr(point, "count", 0),
        sum=total,
        buckets=tuple(point.positive.bucket_counts if exponential else getattr(point, "bucket_counts", ())),
        bounds=tuple(getattr(point, "explicit_bounds", ())),
        scale=point.scale if exponential else None,
        exemplars=tuple(
            Exemplar(_number(each), each.trace_id.hex(), each.span_id.hex(), _attributes(each.filtered_attributes))
            for each in point.exemplars
        ),
        resource=resource,
    )


def _number(holder: Any) -> float:
    return float(holder.as_double) if holder.WhichOneof("value") == "as_double" else int(holder.as_int)


def _attributes(pairs: Iterable[KeyValue]) -> Attributes:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)
