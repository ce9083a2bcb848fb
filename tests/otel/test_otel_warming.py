"""What telemetry tells of a warming: loads, with their trigger, in the trace that asked for them; and no request."""

from __future__ import annotations

import asyncio

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, MetricsData
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule
from tests.asgi.site import SECRET, Origin


def test_its_loads_are_told_as_warm_below_the_span_that_asked_for_them_and_nobody_is_counted() -> None:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider([reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    cache = Cache(tracer_provider=tracers, meter_provider=meters, key_secret=SECRET)
    middleware = CacheMiddleware(Origin(), cache=cache, rules=[Rule("/page/*", ttl=60)])

    async def scenario() -> None:
        with tracers.get_tracer("deploy").start_as_current_span("POST /warm"):
            await middleware.warm(["/page/1", "/page/2", "/page/1"], concurrency=1, host="h", scheme="http")

    asyncio.run(scenario())
    *loads, root = exporter.get_finished_spans()
    assert root.context is not None
    assert [span.name for span in loads] == ["cache.load"] * 2
    for span in loads:
        assert span.parent is not None
        assert (span.parent.trace_id, span.parent.span_id) == (root.context.trace_id, root.context.span_id)
        assert (span.attributes or {})["cache.load.trigger"] == "warm"
        assert not span.links
    (point,) = points(reader.get_metrics_data(), "glasscache.load.duration")
    assert isinstance(point, HistogramDataPoint)
    assert (point.count, (point.attributes or {})["cache.load.trigger"]) == (2, "warm")
    for name in ("glasscache.requests", "glasscache.request.duration", "glasscache.lock.wait.duration"):
        assert not points(reader.get_metrics_data(), name)
    tracers.shutdown()
    meters.shutdown()


def points(told: MetricsData | None, name: str) -> list[object]:
    return [
        point
        for of_resource in (told.resource_metrics if told else ())
        for of_scope in of_resource.scope_metrics
        for metric in of_scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]
