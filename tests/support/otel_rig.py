"""A telemetry with an SDK of its own, and records of work as the engine fills them."""

from __future__ import annotations

import contextvars
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler
from opentelemetry.trace import Span, SpanContext

from glasscache._counters import Counters
from glasscache._events import (
    Acquired,
    Answered,
    Invalidation,
    Load,
    LookedUp,
    Removed,
    Revalidation,
    ServedStale,
    SpanRef,
    TierCall,
    TierGauge,
    TierState,
    Wait,
)
from glasscache.otel import OtelTelemetry
from glasscache.testing import ManualClock
from tests.support.forks import MAY_FORK
from tests.support.patience import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from glasscache.interfaces import Telemetry

KEY = b"a key"
ROOT = Path(__file__).parents[2]
PRELUDE = """
import os, sys
from glasscache._events import Acquired
from glasscache.otel import OtelTelemetry
from glasscache.testing import ManualClock
from opentelemetry import metrics, trace
from tests.support.otel_rig import Rig, Source, load, run_load
"""


class Source:
    """One cache, as telemetry sees it."""

    def __init__(self, name: str = "knowledge") -> None:
        self.name = name
        self.counters = Counters()
        self.waiters = 3
        self.holders = 2
        self.abroad: tuple[int, int] | None = (1, 1)
        self.states: list[tuple[str, TierState]] = [("redis", "ok")]
        self.levels = [TierGauge("memory", 7, 100, 700, 64_000)]

    def gauges(self) -> Iterable[TierGauge]:
        return self.levels

    def tier_states(self) -> Iterable[tuple[str, TierState]]:
        return self.states


class Rig:
    """A telemetry with an SDK of its own."""

    def __init__(self, sampler: Sampler = ALWAYS_ON, name: str = "knowledge") -> None:
        self.exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.clock = ManualClock()
        self.telemetry = self.cache(name)
        self.tracer = self.tracers.get_tracer("test")

    def cache(self, name: str) -> OtelTelemetry:
        return OtelTelemetry(
            name=name,
            label=lambda key: f"hash of {key.decode()}",
            tracer_provider=self.tracers,
            meter_provider=self.meters,
            clock=self.clock,
        )

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.exporter.get_finished_spans() if span.name == name]
        return found

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        (scope,) = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
        assert scope.scope.name == "glasscache"
        return {metric.name: metric for metric in scope.metrics}

    def points(self, name: str) -> list[Any]:
        return list(self.metrics()[name].data.data_points)

    def values(self, name: str) -> dict[tuple[object, ...], float]:
        """Attribute values (in order of their names, without cache.name) -> number."""
        return {
            tuple(value for key, value in sorted(point.attributes.items()) if key != "cache.name"): point.value
            for point in self.points(name)
        }


def load(**changes: Any) -> Load:
    return replace(Load(group="/ask", key=KEY, trigger="miss", begun=10.0, ended=10.3), **changes)


def wait(holder: Load, **changes: Any) -> Wait:
    joined = Wait(group="/ask", key=KEY, scope="process", holder=holder, position=1)
    times: dict[str, Any] = {"begun": 10.1, "ended": 10.3, "outcome": "served"}
    return replace(joined, **times | changes)


def ids(span: ReadableSpan | Span) -> SpanContext:
    found = span.get_span_context()
    assert found is not None
    return found


def parent(span: ReadableSpan) -> int:
    assert span.parent is not None
    return span.parent.span_id


def run_load(telemetry: Telemetry, work: Load) -> None:
    """As the engine does: entered in the load's own context, left from another one."""
    section = telemetry.span(work)
    contextvars.copy_context().run(section.__enter__)
    section.__exit__(None, None, None)


def linked(span: ReadableSpan) -> list[tuple[object, int]]:
    return [((link.attributes or {}).get("cache.link.type"), link.context.span_id) for link in span.links]


def drive_everything(rig: Rig, source: Source) -> None:
    """Whatever can happen, once."""
    tell = rig.telemetry
    tell.observe(source)
    group = source.counters.group("/ask")
    group.hits, group.saved_seconds, group.saved_price, group.saved_bytes = 5, 1.5, 0.25, 2048
    group.others["collapsed", "origin"] = 2
    group.bypasses["unscoped"] = 4
    group.unstored["set_cookie"] = 3
    source.counters.removals["memory", "evicted"] = 6
    holder = load()
    run_load(tell, holder)
    run_load(tell, load(error=ValueError("no")))
    with tell.span(wait(holder)):
        pass
    for call in (
        TierCall(tier="redis", operation="get", begun=1.0, ended=1.1, found=True),
        TierCall(tier="redis", operation="set", begun=1.0, ended=1.1, error=OSError("down")),
    ):
        with tell.span(call):
            pass
    with tell.span(Invalidation(source="tag", count=9)):
        pass
    with tell.span(Invalidation(source="backplane", count=2, cause=SpanRef(1, 2, sampled=True), lag=0.02)):
        pass
    confirming = tell.span(Revalidation(group="/ask"))
    contextvars.copy_context().run(confirming.__enter__)
    confirming.__exit__(None, None, None)
    tell.emit(LookedUp(group="/ask", tier="memory", size=99, seconds=0.001))
    tell.emit(Answered(result="miss", duration=0.3))
    tell.emit(Answered(result="error", duration=0.3, error=ValueError("no")))
    tell.emit(Acquired(scope="process", result="immediate"))
    tell.emit(ServedStale(reason="error", age=12.0))
    tell.emit(Removed(tier="memory", cause="expired", age=400.0))


def in_a_process_of_its_own(script: str) -> str:
    """What the script prints; its failure is ours."""
    code = PRELUDE + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, *MAY_FORK, "-c", code],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout
