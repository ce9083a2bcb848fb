"""How metrics are collected and sent by `glasscache_exporters`, also in the middle of a fork."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from glasscache.errors import ConfigurationError
from glasscache_exporters import _environment, _forks
from glasscache_exporters._sending import Metrics, Spans
from tests.support.otel_rig import in_a_process_of_its_own
from tests.support.patience import PATIENCE


class Kept(MetricExporter):
    """Keeps what it is given; fails as long as it `fails`."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.fails = False
        self.called = threading.Event()

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        self.called.set()
        if self.fails:
            raise OSError("no way out")
        scopes = [scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics]
        self.names += [metric.name for scope in scopes for metric in scope.metrics]
        return MetricExportResult.SUCCESS

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        return True

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Nothing is held."""


def begin(exporter: Kept, interval: float) -> tuple[Metrics, MeterProvider]:
    metrics = Metrics(lambda: exporter, interval=interval, timeout=5.0)
    provider = MeterProvider([metrics], shutdown_on_exit=False)
    metrics.start(provider)
    provider.get_meter("test").create_counter("asked").add(1)
    return metrics, provider


@pytest.mark.usefixtures("no_leaks")
def test_the_shutdown_of_its_provider_collects_and_sends_once_more() -> None:
    exporter = Kept()
    _, provider = begin(exporter, interval=3_600.0)
    provider.shutdown()
    assert exporter.names == ["asked"]


@pytest.mark.usefixtures("no_leaks")
def test_a_flush_sends_at_once() -> None:
    exporter = Kept()
    _, provider = begin(exporter, interval=3_600.0)
    assert provider.force_flush()
    assert exporter.names == ["asked"]
    provider.shutdown()


@pytest.mark.usefixtures("no_leaks")
def test_an_exporter_that_fails_is_told_in_the_log_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    exporter = Kept()
    exporter.fails = True
    _, provider = begin(exporter, interval=0.001)
    assert exporter.called.wait(PATIENCE)
    exporter.fails = False
    provider.shutdown()
    assert "asked" in exporter.names
    assert "metrics were not sent; the next try is in 0.001 s" in caplog.text


def test_a_fork_does_not_wait_for_ever_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_forks, "_PAUSE", 0.001)
    busy = _forks.Busy()
    with busy:  # as long as the collector says nothing
        busy.pause()
        busy.go_on()
        assert busy._lock.locked()
    busy.pause()
    assert busy._lock.locked()
    busy.go_on()
    assert not busy._lock.locked()


def test_spans_are_flushed_by_the_exporter_of_this_process() -> None:
    spans = Spans(InMemorySpanExporter)
    assert spans.force_flush()
    spans.shutdown()


@pytest.mark.parametrize("value", ["a minute", "0", "-1", "inf", "nan"])
def test_an_interval_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_TIMEOUT", value)
    with pytest.raises(ConfigurationError, match=r"OTEL_METRIC_EXPORT_TIMEOUT.*give milliseconds above 0"):
        _environment.metric_timeout()


def test_the_child_of_a_fork_in_the_middle_of_an_export_sends_by_an_exporter_of_its_own() -> None:
    printed = in_a_process_of_its_own("""
        import threading
        from opentelemetry.metrics import Observation
        from opentelemetry.sdk.metrics import MeterProvider
        from glasscache_exporters._sending import Metrics
        from tests.telemetry.test_sending import Kept

        sending, parent = threading.Event(), os.getpid()

        class Hanging(Kept):
            def export(self, metrics_data, timeout_millis=0, **_):
                if os.getpid() == parent:
                    sending.set()
                    threading.Event().wait()
                print("sent by the child", self.made_by == os.getpid(), flush=True)

            def __init__(self):
                super().__init__()
                self.made_by = os.getpid()

        metrics = Metrics(Hanging, interval=0.01, timeout=5.0)
        provider = MeterProvider([metrics], shutdown_on_exit=False)
        metrics.start(provider)
        meter = provider.get_meter("test")
        meter.create_observable_counter("asked", [lambda _: [Observation(1)]])
        sending.wait()
        child = os.fork()
        if child == 0:
            provider.shutdown()
        else:
            sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """)
    assert set(printed.splitlines()) == {"sent by the child True"}
