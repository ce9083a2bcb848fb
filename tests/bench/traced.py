"""Hits under the OpenTelemetry SDK.

Decides what the server around us does: every request runs inside a span of its own, which is made before and ended
after the measured time, so that the figure is what glasscache adds. Making the span current is measured, on both sides
of the comparison. Must never export while it measures: spans are dropped when they end.
"""

from __future__ import annotations

import itertools

from opentelemetry import context, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware
from tests.bench.cases import HIT, Goal, Line, expect, null_cache, rules
from tests.bench.measure import Case, Work
from tests.bench.traffic import App, discard, get, raw

BASE = "GET hit in an unsampled span, null telemetry"


def inside_spans(name: str, app: App, tracers: TracerProvider) -> Case:
    """GET hits, each inside a server span of its own."""
    numbers, make, tracer = itertools.count(), get(), tracers.get_tracer("server")

    def prepare(count: int) -> Work:
        requests = [make(next(numbers)) for _ in range(count)]
        spans = [tracer.start_span("GET /answer", kind=trace.SpanKind.SERVER) for _ in requests]
        contexts = [trace.set_span_in_context(span) for span in spans]

        async def work() -> None:
            for (scope, receive), current in zip(requests, contexts, strict=True):
                token = context.attach(current)
                await app(scope, receive, discard)
                context.detach(token)

        return work

    return Case(name=name, prepare=prepare, verify=expect(app, make, HIT))


def providers(sampler: Sampler) -> tuple[TracerProvider, MeterProvider]:
    """An SDK that samples all or nothing; metrics are kept until somebody collects them."""
    tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    return tracers, MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)


def traced() -> list[Line]:
    """Hits inside server spans, against null telemetry inside the same unsampled span."""
    silent, _ = providers(ALWAYS_OFF)
    app = CacheMiddleware(raw, cache=null_cache(), rules=rules())
    lines = [Line(case=inside_spans(BASE, app, silent))]
    for name, sampler, limit in (
        ("GET hit in an unsampled span, OpenTelemetry SDK", ALWAYS_OFF, 1.2),
        ("GET hit in a sampled span, OpenTelemetry SDK", ALWAYS_ON, 3.5),
    ):
        tracers, meters = providers(sampler)
        cache = Cache(MemoryStore(), tracer_provider=tracers, meter_provider=meters)
        app = CacheMiddleware(raw, cache=cache, rules=rules())
        lines.append(Line(case=inside_spans(name, app, tracers), base=BASE, goal=Goal("times", limit)))
    return lines
