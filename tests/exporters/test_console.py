"""The lines that a developer reads."""

from __future__ import annotations

import re

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, Status, StatusCode
from opentelemetry.util.types import AnyValue

from glasscache_exporters._console import EventLines, MetricLines, SpanLines, _amount
from tests.support.otel_rig import in_a_process_of_its_own

CLOCK = r"\d\d:\d\d:\d\d\.\d{3}"


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What was printed, each line without its time."""
    printed = capsys.readouterr().out.splitlines()
    assert all(re.match(CLOCK, line) for line in printed)
    return [re.sub(f"^{CLOCK}  ", "", line) for line in printed]


def test_a_span_is_one_line_with_its_links(capsys: pytest.CaptureFixture[str]) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SpanLines()))
    tracer = provider.get_tracer("test")
    holder = tracer.start_span("cache.load", start_time=1)
    link, other = Link(holder.get_span_context(), {"cache.link.type": "lock_holder"}), Link(holder.get_span_context())
    attributes: dict[str, AnyValue] = {"cache.lock.outcome": "served", "cache.lock.holder.elapsed": 0.30000001}
    waiter = tracer.start_span("cache.lock.wait", links=[link, other], attributes=attributes, start_time=1_000)
    waiter.end(203_101_000)
    (line,) = lines(capsys)
    about, target = waiter.get_span_context(), f"{holder.get_span_context().span_id:016x}"[:8]
    ids = f"trace {about.trace_id:032x}"[:14] + f" span {about.span_id:016x}"[:14]
    assert line == (
        f"span    203.1 ms  cache.lock.wait  {ids}  -> lock_holder {target}  -> link {target}"
        "  lock.outcome=served lock.holder.elapsed=0.3"
    )


def test_an_error_is_seen(capsys: pytest.CaptureFixture[str]) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SpanLines()))
    with provider.get_tracer("test").start_as_current_span("cache.load") as span:
        span.set_status(Status(StatusCode.ERROR, "no answer"))
    (line,) = lines(capsys)
    assert "  ERROR no answer" in line


def test_a_line_stays_short_and_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(SpanLines()))
    provider.get_tracer("test").start_span("GET\n/ask", attributes={"long": "x" * 1_000}).end()
    (line,) = capsys.readouterr().out.splitlines()
    assert len(line) == 180
    assert line.endswith("…")
    assert "GET /ask" in line


def test_metrics_are_told_when_they_have_changed(capsys: pytest.CaptureFixture[str]) -> None:
    reader = PeriodicExportingMetricReader(MetricLines(), export_interval_millis=float("inf"))
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    asked, took = meter.create_counter("asked"), meter.create_histogram("took", "s")
    level, size = meter.create_up_down_counter("level"), meter.create_histogram("size", "By")
    asked.add(3, {"cache.result": "hit"})
    asked.add(1, {"cache.result": "miss"})
    for seconds in (0.1, 0.3):
        took.record(seconds)
    size.record(2_048)
    level.add(1.5)
    reader.collect()
    assert sorted(lines(capsys)) == [
        "metric  asked  1 (+1)  result=miss",
        "metric  asked  3 (+3)  result=hit",
        "metric  level  1.5 (+1.5)",
        "metric  size  1 (+1), mean 2048 By",
        "metric  took  2 (+2), mean 200 ms",
    ]
    asked.add(2, {"cache.result": "hit"})
    took.record(0.9)
    level.add(-1)
    reader.collect()
    assert lines(capsys) == [
        "metric  asked  5 (+2)  result=hit",
        "metric  took  3 (+1), mean 900 ms",
        "metric  level  0.5 (-1)",
    ]
    reader.shutdown()
    assert lines(capsys) == []


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.0, "0 us"), (7e-6, "7 us"), (0.0015, "1.5 ms"), (1.0, "1 s"), (90.0, "90 s")]
)
def test_times_are_told_in_the_unit_that_fits(seconds: float, expected: str) -> None:
    assert _amount(seconds, "s") == expected


def test_an_event_is_one_line_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(EventLines()))
    logger = provider.get_logger("test")
    attributes: dict[str, AnyValue] = {
        "event.name": "glasscache.lock.contention",
        "cache.lock.wait": 1.25,
        "cache.key_hash": "0" * 16,
    }
    with TracerProvider(shutdown_on_exit=False).get_tracer("test").start_as_current_span("question") as span:
        logger.emit(
            body="waited long", severity_text="WARN", event_name="glasscache.lock.contention", attributes=attributes
        )
    trace = f"{span.get_span_context().trace_id:032x}"[:8]
    assert lines(capsys) == [
        f"event   WARN  glasscache.lock.contention  waited long  trace {trace}  lock.wait=1.25 key_hash=00000000"
    ]
    logger.emit(body="plain")
    assert lines(capsys) == ["event   plain"]
    assert EventLines().force_flush()
    assert MetricLines().force_flush()
    provider.shutdown()


def test_configure_prints_instead_of_sending_if_asked_to_and_the_environment_says_nothing_else() -> None:
    printed = in_a_process_of_its_own("""
        os.environ.update(OTEL_METRICS_EXPORTER="none")
        import logging
        from glasscache_exporters import configure
        with configure(console=True, shutdown_timeout=60):
            metrics.get_meter("test").create_counter("asked").add(1)
            with trace.get_tracer("test").start_as_current_span("question"):
                logging.getLogger("glasscache").info("it happened", extra={"event.name": "glasscache.happened"})
    """)
    said = {re.sub(f"^{CLOCK}  ", "", line).split()[0] for line in printed.splitlines()}
    assert said == {"span", "event"}
