"""Requests under the OpenTelemetry SDK, which exports over OTLP to a real receiver while they are measured.

Decides what the server around us does: every request runs inside a span of its own, which is made before and ended
after the measured time, so that the figure is what glasscache adds. Making the span current is measured, on both sides
of the comparison. Figures are of the event loop's thread: what the exporter's threads take is another matter.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from glasscache import Cache, Detail, MemoryStore
from glasscache.asgi import CacheMiddleware
from tests.bench.cases import HIT, MISS, RAW, Goal, Line, expect, following, fresh_query, gathered, null_cache, rules
from tests.bench.measure import Case, Work
from tests.bench.traffic import App, MakeRequest, discard, get, one_by_one, raw
from tests.support.otlp import http_receiver

BASE = "GET hit in an unsampled span, null telemetry"
_MISS, _FOLLOWER = "miss in a sampled span, OTLP", "follower in a crowd of 1,000, sampled, OTLP"
_INTERVAL = 1000.0  # milliseconds: a user would take a minute
_SITUATIONS: tuple[tuple[str, Sampler, Detail, float], ...] = (
    ("GET hit in an unsampled span, OTLP", ALWAYS_OFF, Detail(), 1.2),
    ("the same, one hit in 64 into the histogram of durations", ALWAYS_OFF, Detail(time_hits=64), 1.35),
    ("GET hit in a sampled span with four attributes, OTLP", ALWAYS_ON, Detail(), 3.5),
)


def inside_spans(name: str, app: App, tracers: TracerProvider, make: MakeRequest, status: bytes = HIT) -> Case:
    """Requests, each inside a server span of its own."""
    numbers, tracer = itertools.count(), tracers.get_tracer("server")
    spans: list[trace.Span] = []

    def prepare(count: int) -> Work:
        for span in spans:
            _check(span)
            span.end()  # of the sample before: exported while others are measured
        requests = [make(next(numbers)) for _ in range(count)]
        spans[:] = [tracer.start_span("GET /answer", kind=trace.SpanKind.SERVER) for _ in requests]
        contexts = [trace.set_span_in_context(span) for span in spans]

        async def work() -> None:
            for (scope, receive), current in zip(requests, contexts, strict=True):
                token = context.attach(current)
                await app(scope, receive, discard)
                context.detach(token)

        return work

    return Case(name=name, prepare=prepare, verify=expect(app, make, status))


def _check(span: trace.Span) -> None:
    if isinstance(span, Span) and len(span.attributes or ()) not in (4, 5):
        raise RuntimeError(f"the case is not what it claims: the span says {dict(span.attributes or {})}")


class _Sdk:
    """Its providers, all of which send to one receiver."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._providers: list[TracerProvider | MeterProvider] = []

    def cache(self, sampler: Sampler, detail: Detail | None = None) -> tuple[Cache, TracerProvider]:
        """A cache that tells everything, and who samples its spans."""
        tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(f"{self._endpoint}/v1/traces")))
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{self._endpoint}/v1/metrics"), _INTERVAL)
        meters = MeterProvider([reader], shutdown_on_exit=False)
        self._providers += [tracers, meters]
        return Cache(MemoryStore(), tracer_provider=tracers, meter_provider=meters, detail=detail), tracers

    def shutdown(self) -> None:
        """Send the rest."""
        for provider in self._providers:
            provider.shutdown()


def _alone(sdk: _Sdk) -> list[Line]:
    """Requests inside server spans; hits against null telemetry inside the same unsampled span."""
    silent = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)
    app = CacheMiddleware(raw, cache=null_cache(), rules=rules())
    lines = [Line(case=Case(name=RAW, prepare=one_by_one(raw, get())))]
    lines.append(Line(case=inside_spans(BASE, app, silent, get())))
    for name, sampler, detail, limit in _SITUATIONS:
        cache, tracers = sdk.cache(sampler, detail)
        app = CacheMiddleware(raw, cache=cache, rules=rules())
        lines.append(Line(case=inside_spans(name, app, tracers, get()), base=BASE, goal=Goal("times", limit)))
    cache, tracers = sdk.cache(ALWAYS_ON)
    app = CacheMiddleware(raw, cache=cache, rules=rules())
    return [*lines, Line(case=inside_spans(_MISS, app, tracers, get(query=fresh_query), MISS))]


@contextmanager
def traced() -> Iterator[tuple[list[Line], list[Line]]]:
    """Requests one after the other, and crowds, while the SDK is at work."""
    with http_receiver() as receiver:
        sdk = _Sdk(receiver.endpoint)
        try:
            yield _alone(sdk), [gathered(), following(_FOLLOWER, sdk.cache(ALWAYS_ON)[0])]
        finally:
            sdk.shutdown()
        if not receiver.metrics() or not receiver.spans():
            raise RuntimeError("nothing was exported")
