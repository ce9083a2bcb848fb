"""Proves the OTLP receivers with the real SDK and exporters on the other side."""

from __future__ import annotations

import gzip
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as GrpcSpans
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as HttpSpans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, Counter, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanKind, Status, StatusCode

from tests.support.otlp import Receiver, grpc_receiver, http_receiver
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("no_leaks")
RESOURCE = Resource({"service.name": "proof", "service.instance.id": "one"})
Start = Callable[[], AbstractContextManager[Receiver]]
both = pytest.mark.parametrize("start", [grpc_receiver, http_receiver])


def exporter(receiver: Receiver, start: Start, over_grpc: Any, over_http: Any, path: str, **options: Any) -> Any:
    if start is grpc_receiver:
        return over_grpc(endpoint=receiver.endpoint, insecure=True, **options)
    return over_http(endpoint=f"{receiver.endpoint}/v1/{path}", compression=Compression.Gzip, **options)


@both
def test_spans_arrive_with_ids_links_attributes_and_status(start: Start) -> None:
    with start() as receiver:
        provider = TracerProvider(resource=RESOURCE)
        provider.add_span_processor(SimpleSpanProcessor(exporter(receiver, start, GrpcSpans, HttpSpans, "traces")))
        tracer = provider.get_tracer("scope")
        holder = tracer.start_span("cache.load", kind=SpanKind.INTERNAL)
        with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER) as server:
            link = Link(holder.get_span_context(), {"cache.link.type": "lock_holder"})
            wait = tracer.start_span("cache.lock.wait", links=[link], attributes={"n": 1, "ok": True, "of": ["a"]})
            wait.add_event("woken", {"by": "holder"})
            wait.set_status(Status(StatusCode.ERROR, "why"))
            wait.end()
        holder.end()
        receiver.wait_until(lambda r: len(r.spans()) == 3)
        provider.shutdown()
        spans = {span.name: span for span in receiver.spans()}

    waited, loaded = spans["cache.lock.wait"], spans["cache.load"]
    assert waited.trace_id == trace.format_trace_id(server.get_span_context().trace_id)
    assert waited.parent == spans["GET /"].span_id == trace.format_span_id(server.get_span_context().span_id)
    assert (spans["GET /"].parent, spans["GET /"].kind, waited.kind) == ("", "server", "internal")
    assert waited.attributes == {"n": 1, "ok": True, "of": ["a"]}
    assert [(each.trace_id, each.span_id) for each in waited.links] == [(loaded.trace_id, loaded.span_id)]
    assert waited.links[0].attributes == {"cache.link.type": "lock_holder"}
    assert waited.events == (("woken", {"by": "holder"}),)
    assert (waited.status, waited.status_message, loaded.status) == ("error", "why", "unset")
    assert 0 < waited.start_ns <= waited.end_ns <= loaded.end_ns
    assert (waited.resource["service.instance.id"], waited.scope) == ("one", "scope")


@both
def test_metrics_arrive_with_unit_type_temporality_points_and_exemplars(start: Start) -> None:
    with start() as receiver:
        options = {"preferred_temporality": {Counter: AggregationTemporality.CUMULATIVE}}
        reader = PeriodicExportingMetricReader(
            exporter(receiver, start, GrpcMetrics, HttpMetrics, "metrics", **options), export_interval_millis=3e6
        )
        views = [View(instrument_name="spread", aggregation=ExponentialBucketHistogramAggregation())]
        provider = MeterProvider([reader], RESOURCE, AlwaysOnExemplarFilter(), views=views)
        meter = provider.get_meter("scope")
        requests = meter.create_counter("requests", unit="{request}", description="asked")
        loads = meter.create_histogram("loads", unit="s", explicit_bucket_boundaries_advisory=[0.1, 1])
        meter.create_histogram("spread").record(3)
        meter.create_gauge("level").set(1.5)
        span_context = trace.SpanContext(1, 2, is_remote=False, trace_flags=trace.TraceFlags(1))
        context = trace.set_span_in_context(trace.NonRecordingSpan(span_context))
        loads.record(0.5, {"rule": "ask"}, context)
        for result in ("hit", "miss", "hit"):
            requests.add(1, {"result": result})
            provider.force_flush()
        provider.shutdown()
        metrics = receiver.metrics()

    assert (metrics["requests"].unit, metrics["requests"].type) == ("{request}", "sum")
    assert (metrics["requests"].temporality, metrics["requests"].monotonic) == ("cumulative", True)
    assert metrics["requests"].description == "asked"
    assert metrics["requests"].point({"result": "hit"}).value == 2
    assert metrics["requests"].point({"result": "miss"}).value == 1
    with pytest.raises(AssertionError, match="requests has 2 points"):
        metrics["requests"].point({})
    loaded = metrics["loads"].point({"rule": "ask"})
    assert (loaded.count, loaded.sum, loaded.buckets, loaded.bounds) == (1, 0.5, (0, 1, 0), (0.1, 1.0))
    (exemplar,) = loaded.exemplars
    assert (exemplar.value, exemplar.trace_id, exemplar.span_id) == (0.5, f"{1:032x}", f"{2:016x}")
    assert metrics["spread"].type == "exponential_histogram"
    assert metrics["spread"].point({}).scale is not None
    assert (metrics["level"].type, metrics["level"].temporality) == ("gauge", None)
    assert metrics["level"].point({}).value == 1.5
    assert metrics["level"].point({}).resource["service.name"] == "proof"


@both
def test_log_records_arrive(start: Start) -> None:
    with start() as receiver:
        provider = LoggerProvider(resource=RESOURCE)
        provider.add_log_record_processor(
            SimpleLogRecordProcessor(exporter(receiver, start, GrpcLogs, HttpLogs, "logs"))
        )
        logger = provider.get_logger("scope")
        body: dict[str, Any] = {"text": "waited", "seconds": 2.5}
        logger.emit(body=body, severity_text="WARN", event_name="glasscache.lock.contention", attributes={"n": 1})
        receiver.wait_until(lambda r: bool(r.logs()))
        provider.shutdown()
        (record,) = receiver.logs()
    assert (record.body, record.severity, record.event_name) == (body, "WARN", "glasscache.lock.contention")
    assert (record.attributes, record.resource["service.name"], record.trace_id) == ({"n": 1}, "proof", "")


def metric_request(name: str, value: int, *, delta: bool, unit: str = "s") -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name=name, unit=unit)
    metric.sum.aggregation_temporality = 1 if delta else 2  # type: ignore[assignment]
    metric.sum.data_points.add(as_int=value)
    return request


def test_a_delta_series_keeps_all_its_points_and_a_cumulative_one_its_latest() -> None:
    receiver = Receiver()
    for value in (1, 2, 3):
        receiver.accept(metric_request("delta", value, delta=True))
        receiver.accept(metric_request("total", value, delta=False))
    metrics = receiver.metrics()
    assert [point.value for point in metrics["delta"].points] == [1, 2, 3]
    assert [point.value for point in metrics["total"].points] == [3]


def test_a_cumulative_point_keeps_the_exemplars_of_its_series_and_other_machines_stay_apart() -> None:
    receiver = Receiver()
    receiver.accept(ExportTraceServiceRequest())
    for value, machine in ((1, "a"), (2, "a"), (5, "b")):
        request = metric_request("total", value, delta=False)
        resource = request.resource_metrics[0].resource.attributes.add(key="service.instance.id")
        resource.value.string_value = machine
        point = request.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0]
        point.exemplars.add(as_int=value)
        receiver.accept(request)
    points = receiver.metrics()["total"].points
    assert [(point.value, [each.value for each in point.exemplars]) for point in points] == [(2, [1, 2]), (5, [5])]


def test_one_name_with_two_units_is_an_error() -> None:
    receiver = Receiver()
    receiver.accept(metric_request("same", 1, delta=False))
    receiver.accept(metric_request("same", 1, delta=False, unit="By"))
    with pytest.raises(AssertionError, match="two metrics named same"):
        receiver.metrics()


def test_an_attribute_without_a_value_is_none() -> None:
    request = ExportTraceServiceRequest()
    request.resource_spans.add().scope_spans.add().spans.add(name="n").attributes.add(key="empty")
    receiver = Receiver()
    receiver.accept(request)
    assert receiver.spans()[0].attributes == {"empty": None}


def test_a_waiter_is_woken_by_the_arrival_and_told_what_came_when_it_waits_in_vain() -> None:
    receiver = Receiver()
    looked = threading.Event()

    def arrived(seen: Receiver) -> bool:
        looked.set()
        return "late" in seen.metrics()

    waiter = threading.Thread(target=receiver.wait_until, args=(arrived, 30))
    waiter.start()
    assert looked.wait(PATIENCE)
    receiver.accept(metric_request("late", 1, delta=False))
    waiter.join(PATIENCE)
    assert not waiter.is_alive()
    with pytest.raises(TimeoutError, match=r"1 requests brought \['late'\]"):
        receiver.wait_until(lambda _: False, timeout=0)


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("/v1/traces", b"", {}, 200),
        ("/v1/traces", gzip.compress(b"", mtime=0), {"Content-Encoding": "gzip"}, 200),
        ("/v1/nothing", b"", {}, 404),
        ("/v1/traces", b"{}", {"Content-Type": "application/json"}, 415),
        ("/v1/traces", b"", {"Content-Encoding": "br"}, 415),
        ("/v1/traces", b"\xff\xff", {}, 400),
        ("/v1/traces", b"no gzip", {"Content-Encoding": "gzip"}, 400),
        ("/v1/traces", b"no zlib", {"Content-Encoding": "deflate"}, 400),
    ],
    ids=["plain", "gzip", "other path", "json", "brotli", "not protobuf", "not gzip", "not zlib"],
)
def test_the_http_receiver_answers_as_the_protocol_says(
    path: str, body: bytes, headers: dict[str, str], status: int
) -> None:
    with http_receiver() as receiver:
        headers = {"Content-Type": "application/x-protobuf", **headers}
        request = urllib.request.Request(receiver.endpoint + path, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as response:
                answered = response.status
        except urllib.error.HTTPError as error:
            answered = error.code
            error.close()
        assert answered == status
        assert len(receiver.requests()) == (status == 200)
