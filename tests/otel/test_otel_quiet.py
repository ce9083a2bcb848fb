"""Whatever is wrong with the SDK: no request is affected."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import context, trace
from opentelemetry.metrics import MeterProvider as ApiMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import TracerProvider as ApiTracerProvider

from glasscache._events import (
    Acquired,
    Answered,
    Invalidation,
    Outcome,
    Pressed,
    SpanRef,
    TierCall,
    TierChanged,
    TierGauge,
)
from glasscache._otel_metrics import release_of
from glasscache.otel import OtelTelemetry
from glasscache.testing import ManualClock, TelemetryContract
from tests.support.otel_rig import KEY, Rig, Source, linked, load, run_load, wait

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _no_span_is_current() -> Iterator[None]:
    """The contract enters loads in the test's own context, where their spans would stay current for ever."""
    token = context.attach(context.Context())
    yield
    context.detach(token)


@pytest.fixture
def rig() -> Rig:
    return Rig()


class TestOtelTelemetry(TelemetryContract):
    def make_telemetry(self) -> OtelTelemetry:
        return Rig().telemetry


class TestOtelTelemetryOnABrokenSdk(TelemetryContract):
    def make_telemetry(self) -> OtelTelemetry:
        return OtelTelemetry(
            name="knowledge", label=repr, tracer_provider=LateBrokenTracers(), meter_provider=BrokenMeters()
        )


class BrokenTracers(ApiTracerProvider):
    def get_tracer(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("broken SDK")


class BrokenMeters(ApiMeterProvider):
    def get_meter(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("broken SDK")


class BrokenSpan(trace.NonRecordingSpan):
    """Opens, and then fails at everything but its end."""

    def __init__(self) -> None:
        super().__init__(trace.SpanContext(1, 2, is_remote=False))
        self.ended = False

    def is_recording(self) -> bool:
        raise RuntimeError("broken SDK")

    def get_span_context(self) -> Any:
        raise RuntimeError("broken SDK")

    def set_attributes(self, attributes: object) -> None:
        raise RuntimeError("broken SDK")

    def set_attribute(self, key: str, value: object) -> None:
        raise RuntimeError("broken SDK")

    def end(self, end_time: int | None = None) -> None:
        self.ended = True


class BrokenTracer(trace.NoOpTracer):
    def __init__(self, span: BrokenSpan) -> None:
        self.span = span

    def start_span(self, *_: Any, **__: Any) -> Any:
        return self.span


class LateBrokenTracers(ApiTracerProvider):
    """Gives a tracer whose spans break."""

    def __init__(self) -> None:
        self.span = BrokenSpan()

    def get_tracer(self, *_: Any, **__: Any) -> Any:
        return BrokenTracer(self.span)


def everything(telemetry: OtelTelemetry) -> int:
    """Call all that the engine may call; how many pieces of work came through."""
    telemetry.observe(Source())
    telemetry.emit(Answered(result="miss", duration=0.3))
    telemetry.emit(Acquired(scope="process", result="immediate"))
    telemetry.annotate(Outcome(result="hit", tier="memory", group="/ask", key=KEY))
    telemetry.on_hit("/ask", KEY)
    assert not telemetry.annotates
    assert telemetry.current() is None
    done = 0
    run_load(telemetry, load(error=ValueError("no"), waiters=[SpanRef(1, 2, True)]))
    for work in (
        wait(load(), ended=99.0),
        TierCall(tier="redis", operation="set"),
        Invalidation(source="api"),
    ):
        with telemetry.span(work):
            done += 1
    return done


@pytest.mark.parametrize("tracers", [BrokenTracers(), LateBrokenTracers()])
def test_a_broken_sdk_never_reaches_a_request(tracers: ApiTracerProvider, caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    telemetry = OtelTelemetry(
        name="knowledge", label=repr, tracer_provider=tracers, meter_provider=BrokenMeters(), clock=clock
    )
    with ExitStack() as stack:
        stack.callback(context.detach, context.attach(trace.set_span_in_context(BrokenSpan())))
        assert everything(telemetry) == 3
    failures = [record for record in caplog.records if record.exc_info]
    assert [record.name for record in failures] == ["glasscache"]  # once: the clock stands still
    assert "broken SDK" in str(failures[0].exc_info)
    if isinstance(tracers, LateBrokenTracers):
        assert tracers.span.ended


def test_an_instrument_that_throws_does_not_cost_the_span(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("broken SDK")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rig.telemetry._out.instruments, "record", broken)
        run_load(rig.telemetry, load(waiters=[SpanRef(1, 2, True)]))
    assert linked(rig.span("cache.load")) == [("lock_waiter", 2)]
    assert [record.getMessage() for record in caplog.records] == ["telemetry failed, requests are not affected"]


def test_a_label_that_throws_costs_the_annotation_and_no_request(caplog: pytest.LogCaptureFixture) -> None:
    rig = Rig()
    telemetry = OtelTelemetry(name="knowledge", label=lambda key: 1 / 0)  # type: ignore[arg-type, return-value]
    with rig.tracer.start_as_current_span("GET /ask"):
        telemetry.annotate(Outcome(result="hit", tier="memory", group="/ask", key=KEY))
        telemetry.on_hit("/ask", KEY)
    assert "ZeroDivisionError" in caplog.text


def test_even_a_log_filter_that_throws_does_not_reach_a_request() -> None:
    def broken(_: logging.LogRecord) -> bool:
        raise RuntimeError("broken filter")

    logger = logging.getLogger("glasscache")
    logger.addFilter(broken)
    try:
        telemetry = OtelTelemetry(name="knowledge", label=repr, meter_provider=BrokenMeters())
        assert everything(telemetry) == 3
    finally:
        logger.removeFilter(broken)


def test_an_interrupt_is_not_swallowed(rig: Rig) -> None:
    with pytest.raises(KeyboardInterrupt), rig.telemetry._quiet:
        raise KeyboardInterrupt


def test_without_an_sdk_everything_is_accepted_and_nothing_is_linked() -> None:
    telemetry = OtelTelemetry(name="knowledge", label=repr, meter_provider=NoOpMeterProvider())
    assert everything(telemetry) == 3
    work = load()
    run_load(telemetry, work)
    assert work.ref is None


def test_with_the_api_alone_only_what_is_logged_is_told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "glasscache")
    telemetry = OtelTelemetry(name="knowledge", label=repr)
    holder, waiter = load(fencing_token=7, release="lost"), wait(load(), ended=20.0, outcome="timeout")
    with telemetry.span(wait(holder)):
        pass
    run_load(telemetry, load())
    telemetry.emit(Answered(result="miss", duration=0.3))
    assert caplog.records == []
    run_load(telemetry, holder)
    with telemetry.span(waiter):
        pass
    telemetry.emit(TierChanged(tier="redis", state="open", error=OSError("down")))
    telemetry.emit(Pressed(rate=20.0, gauge=TierGauge("memory", 8, 8, 0, 0)))
    assert [getattr(record, "event.name") for record in caplog.records] == [
        "glasscache.lock.lost",
        "glasscache.lock.contention",
        "glasscache.lock.timeout",
        "glasscache.tier.degraded",
        "glasscache.eviction.pressure",
    ]
    assert holder.ref is waiter.ref is None


def test_the_release_of_a_package_that_is_not_installed_is_empty() -> None:
    assert release_of("no-such-distribution-of-ours") == ""
    assert release_of("opentelemetry-api")
