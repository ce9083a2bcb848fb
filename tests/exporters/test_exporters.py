"""The exporters against real OTLP receivers; what is global, or ends a process, in processes of its own."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import textwrap
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

from glasscache.errors import ConfigurationError
from glasscache_exporters import Exporters
from glasscache_exporters._setup import build
from tests.support.forks import MAY_FORK
from tests.support.otlp import Receiver, grpc_receiver, http_receiver
from tests.support.patience import PATIENCE
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ENDLESS = {"OTEL_EXPORTER_OTLP_TIMEOUT": "600000"}
"""How long an exporter of the SDK tries: an end that waited for it would take longer than any test may."""


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OTEL_"):
            monkeypatch.delenv(name)


@pytest.fixture(params=["grpc", "http/protobuf"])
def receiver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    with (grpc_receiver if request.param == "grpc" else http_receiver)() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
        yield started


def tell(exporters: Exporters) -> None:
    """One span, and one measurement and one event inside of it."""
    histogram = exporters.meter_provider.get_meter("test").create_histogram("waited")
    with exporters.tracer_provider.get_tracer("test").start_as_current_span("question"):
        histogram.record(0.2)
        exporters.logger_provider.get_logger("test").emit(body="waited", event_name="long")


def in_a_process_of_its_own(script: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *MAY_FORK, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)} | settings,
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )


# --- what arrives -------------------------------------------------------------------------------------------


def test_all_signals_arrive_with_a_resource_that_names_service_and_process(receiver: Receiver) -> None:
    with build(service_name="knowledge", shutdown_timeout=PATIENCE) as exporters:
        tell(exporters)
    (span,) = receiver.spans()
    (point,) = receiver.metrics()["waited"].points
    (record,) = receiver.logs()
    assert (span.name, record.event_name) == ("question", "long")
    assert (record.trace_id, record.span_id) == (span.trace_id, span.span_id)
    assert span.resource == point.resource == record.resource
    assert span.resource["service.name"] == "knowledge"
    assert uuid.UUID(span.resource["service.instance.id"]).version == 4


def test_exemplars_lead_to_sampled_spans(receiver: Receiver) -> None:
    with build(shutdown_timeout=PATIENCE) as exporters:
        tell(exporters)
    (span,) = receiver.spans()
    (exemplar,) = receiver.metrics()["waited"].points[0].exemplars
    assert (exemplar.trace_id, exemplar.span_id) == (span.trace_id, span.span_id)


def test_headers_and_compression_are_those_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    came: list[tuple[str | None, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            came.append((self.headers["Authorization"], self.headers["Content-Encoding"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal."""

    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20c2VhcmNo")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        with build(shutdown_timeout=PATIENCE) as exporters:
            tell(exporters)
        server.shutdown()
        thread.join()
    assert came == [("Basic c2VhcmNo", "gzip")] * 3


@pytest.mark.parametrize("value", ["", "none", "gzip"])
def test_every_compression_of_the_specification_can_be_asked_for(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", value)
    with build(shutdown_timeout=PATIENCE) as exporters:
        tell(exporters)
    assert len(receiver.spans()) == 1


def test_each_signal_may_have_its_own_protocol_and_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    with grpc_receiver() as over_grpc, http_receiver() as over_http:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", over_grpc.endpoint)
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", over_http.endpoint + "/v1/metrics")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/protobuf")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", over_http.endpoint + "/v1/logs")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf")
        with build(shutdown_timeout=PATIENCE) as exporters:
            tell(exporters)
        assert (len(over_grpc.spans()), len(over_grpc.metrics()), len(over_grpc.logs())) == (1, 0, 0)
        assert (len(over_http.spans()), len(over_http.metrics()), len(over_http.logs())) == (0, 1, 1)


def test_the_sampler_and_the_name_of_the_service_are_those_of_the_environment(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named by the operator")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.instance.id=one")
    with build(service_name="knowledge", shutdown_timeout=PATIENCE) as exporters:
        tell(exporters)
    assert receiver.spans() == []
    (point,) = receiver.metrics()["waited"].points
    assert point.exemplars == ()
    assert point.resource["service.name"] == "named by the operator"
    assert point.resource["service.instance.id"] == "one"
    assert point.resource["deployment.environment.name"] == "test"


def test_metrics_are_sent_at_the_interval_of_the_environment(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "20")
    with build(shutdown_timeout=PATIENCE) as exporters:
        tell(exporters)
        receiver.wait_until(lambda got: "waited" in got.metrics())


# --- what is asked for --------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{"traces": "none", "metrics": "none", "logs": "none"}, {"disabled": "true"}])
def test_nothing_is_sent_if_nothing_is_to_be_sent(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv("OTEL_SDK_DISABLED" if name == "disabled" else f"OTEL_{name.upper()}_EXPORTER", value)
    with build(shutdown_timeout=PATIENCE) as exporters:
        tell(exporters)
    assert receiver.requests() == []


def test_the_console_can_be_added(receiver: Receiver) -> None:
    done = in_a_process_of_its_own(
        """
        from glasscache_exporters._setup import build
        with build(shutdown_timeout=60.0) as exporters:
            exporters.tracer_provider.get_tracer("test").start_span("question").end()
            exporters.meter_provider.get_meter("test").create_counter("asked").add(1)
        """,
        OTEL_TRACES_EXPORTER="otlp, console",
        OTEL_METRICS_EXPORTER="console",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"  span  +[\d.]+ [mu]?s  question  trace ", done.stdout)
    assert "  metric  asked  1 (+1)" in done.stdout
    assert (len(receiver.spans()), len(receiver.metrics())) == (1, 0)


@pytest.mark.parametrize(
    ("variable", "value", "remedy"),
    [
        ("OTEL_TRACES_EXPORTER", "jaeger", "give otlp, console"),
        ("OTEL_METRICS_EXPORTER", "prometheus", "for Prometheus set GLASSCACHE_METRICS_PORT"),
        ("OTEL_LOGS_EXPORTER", "file", "give otlp, console"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "give grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "thrift", "give grpc or http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli", "Correct OTEL_EXPORTER_OTLP_"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "0", "give milliseconds above 0"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "OTEL_BSP_"),
        ("OTEL_BLRP_MAX_QUEUE_SIZE", "0", "OTEL_BLRP_"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, remedy: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigurationError, match=remedy) as refused:
        build()
    assert variable[:9] in str(refused.value)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("inf"), float("nan")])
def test_a_shutdown_needs_a_bound(seconds: float) -> None:
    with pytest.raises(ConfigurationError, match="above 0"):
        build(shutdown_timeout=seconds)


def test_a_missing_protocol_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'glasscache\[exporters\]'"):
        build()


def test_without_the_extra_the_import_names_it() -> None:
    done = in_a_process_of_its_own("""
        import sys
        sys.modules["opentelemetry.sdk"] = None
        import glasscache_exporters
    """)
    assert done.stderr.splitlines()[-1].endswith("pip install 'glasscache[exporters]'")
    assert "opentelemetry.sdk" in done.stderr.splitlines()[-1]


# --- one set-up for a process -------------------------------------------------------------------------------


def test_configure_sets_the_global_providers_and_the_end_of_the_process_sends_the_rest(receiver: Receiver) -> None:
    done = in_a_process_of_its_own("""
        import logging
        from opentelemetry import metrics, trace
        from glasscache_exporters import configure
        early = metrics.get_meter("test").create_counter("asked")
        configure(service_name="knowledge", shutdown_timeout=60.0)
        early.add(1)
        with trace.get_tracer("test").start_as_current_span("question"):
            logging.getLogger("glasscache").info("it happened", extra={"event.name": "glasscache.happened"})
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert [span.name for span in receiver.spans()] == ["question"]
    assert receiver.metrics()["asked"].points[0].value == 1
    assert [record.event_name for record in receiver.logs()] == ["glasscache.happened"]


@pytest.mark.parametrize(
    "before",
    [
        "glasscache_exporters.configure()",
        "trace.set_tracer_provider(TracerProvider())",
        "metrics.set_meter_provider(MeterProvider())",
        "metrics.set_meter_provider(metrics.NoOpMeterProvider())",
        "_logs.set_logger_provider(LoggerProvider())",
        "_logs.set_logger_provider(_logs.NoOpLoggerProvider())",
    ],
)
def test_a_second_set_up_is_refused(before: str) -> None:
    done = in_a_process_of_its_own(
        f"""
        import glasscache_exporters
        from opentelemetry import _logs, metrics, trace
        from opentelemetry.sdk._logs import LoggerProvider
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.trace import TracerProvider
        from glasscache.errors import ConfigurationError
        {before}
        try:
            glasscache_exporters.configure()
        except ConfigurationError as error:
            print(error)
        """,
        OTEL_TRACES_EXPORTER="none",
        OTEL_METRICS_EXPORTER="none",
        OTEL_LOGS_EXPORTER="none",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("OpenTelemetry is already set up in this process (")
    assert "call configure() once" in done.stdout


# --- the end ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["grpc", "http/protobuf"])
def hanging_collector(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", request.param)
        yield


@pytest.mark.usefixtures("hanging_collector")
def test_a_hanging_collector_holds_up_the_end_of_a_process_for_no_longer_than_its_bound() -> None:
    done = in_a_process_of_its_own(
        """
        import time
        from opentelemetry import metrics, trace
        from glasscache_exporters import configure
        exporters = configure(shutdown_timeout=0.3)
        trace.get_tracer("test").start_span("question").end()
        metrics.get_meter("test").create_counter("asked").add(1)
        began = time.monotonic()
        print(exporters.shutdown(), exporters.shutdown(), time.monotonic() - began >= 0.3)
        """,
        **ENDLESS,
    )
    assert done.returncode == 0
    assert done.stdout == "False False True\n"
    assert "gave up sending the last traces and metrics after 0.3 s" in done.stderr


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_without_a_collector_a_process_ends_within_the_bound_by_itself(protocol: str) -> None:
    with free_port() as port:
        done = in_a_process_of_its_own(
            """
            from opentelemetry import trace
            from glasscache_exporters import configure
            configure(shutdown_timeout=0.3)
            trace.get_tracer("test").start_span("question").end()
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}",
            OTEL_EXPORTER_OTLP_PROTOCOL=protocol,
            **ENDLESS,
        )
    assert done.returncode == 0
    assert "gave up sending the last traces after 0.3 s" in done.stderr


def test_a_shutdown_answers_the_same_again_and_its_bound_can_be_given(receiver: Receiver) -> None:
    exporters = build(shutdown_timeout=0.001)
    tell(exporters)
    assert exporters.shutdown(PATIENCE)
    assert exporters.shutdown()
    assert len(receiver.spans()) == 1


def test_an_error_of_the_sdk_ends_a_shutdown_without_reaching_its_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(SpanProcessor):
        def shutdown(self) -> None:
            raise RuntimeError("broken SDK")

    tracer_provider = TracerProvider(shutdown_on_exit=False)
    tracer_provider.add_span_processor(Broken())
    exporters = Exporters(
        tracer_provider=tracer_provider,
        meter_provider=MeterProvider(shutdown_on_exit=False),
        shutdown_timeout=PATIENCE,
    )
    assert not exporters.shutdown()
    assert "the last traces may not have been sent" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_the_child_of_a_fork_sends_its_own_figures_under_an_instance_id_of_its_own() -> None:
    with http_receiver() as receiver:
        done = in_a_process_of_its_own(
            """
            import os, sys
            from opentelemetry import _logs, metrics, trace
            from glasscache_exporters import configure
            exporters = configure(shutdown_timeout=60.0)
            asked = metrics.get_meter("test").create_counter("asked")
            asked.add(5)
            child = os.fork()
            who = "parent" if child else "child"
            trace.get_tracer("test").start_span(who).end()
            _logs.get_logger("test").emit(body=who)
            asked.add(1)
            assert exporters.shutdown()
            if child:
                sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            """,
            OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint,
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
        )
        assert (done.returncode, done.stderr) == (0, "")
        sent = {span.name: span.resource["service.instance.id"] for span in receiver.spans()}
        assert {record.body: record.resource["service.instance.id"] for record in receiver.logs()} == sent
        points = receiver.metrics()["asked"].points
    assert set(sent) == {"parent", "child"}
    assert sent["parent"] != sent["child"]
    counted = {point.resource["service.instance.id"]: point.value for point in points}
    assert counted[sent["parent"]] == 6
    assert counted.get(sent["child"], 0) <= 1  # none at all, if it counted before it had begun anew
