"""`configure()`: providers for traces, metrics and logs from the standard OTEL_* variables, set as the global ones.

Decides what the SDK is made of, and refuses to be one of two set-ups. Building (`build`) touches nothing
global.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, TypeVar

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from glasscache.errors import ConfigurationError
from glasscache_exporters import _environment as environment
from glasscache_exporters._config_file import from_file
from glasscache_exporters._lifecycle import Exporters, check_bound
from glasscache_exporters._sending import Logs, Metrics, Spans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.trace.export import SpanExporter

E = TypeVar("E")
P = TypeVar("P")
_REFUSED = (
    "OpenTelemetry is already set up in this process ({found}): call configure() once, and not together with "
    "opentelemetry-instrument or a set-up of your own. A cache uses whatever is set up, without configure()."
)


def configure(
    *,
    service_name: str | None = None,
    console: bool = False,
    loggers: Sequence[str] = (),
    shutdown_timeout: float = 5.0,
) -> Exporters:
    """Send traces, metrics and events as the standard OTEL_* environment variables say: by OTLP. Once per process.

    `service_name` is used where neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES names the service.
    `console=True`: short lines on stdout instead of OTLP, for each signal whose variable is not set. Events are
    what the `glasscache` logger tells of locks and tiers; `loggers` names others all of whose records are sent,
    too ("" is the root).

    Read are, among others, OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL (grpc, the default, or http/protobuf),
    _HEADERS, _COMPRESSION and _TIMEOUT with their variants per signal; OTEL_TRACES_EXPORTER,
    OTEL_METRICS_EXPORTER and OTEL_LOGS_EXPORTER (otlp, console, none); OTEL_TRACES_SAMPLER,
    OTEL_METRIC_EXPORT_INTERVAL, OTEL_METRICS_EXEMPLAR_FILTER (default: exemplars of sampled traces),
    OTEL_SDK_DISABLED. With GLASSCACHE_METRICS_PORT there is a page for Prometheus: see `serve_metrics`. With
    OTEL_CONFIG_FILE that file alone says what is sent where, and the first two arguments are refused.

    `shutdown_timeout`: the seconds that `shutdown()` and the end of the process may take for sending what
    is left. Raises `ConfigurationError` for a value that cannot work, and if OpenTelemetry is set up
    already.
    """
    _refuse_a_second_set_up()
    port = environment.metrics_port()
    if path := environment.config_file():
        exporters = from_file(path, service_name=service_name, console=console, shutdown_timeout=shutdown_timeout)
        _begin(exporters, port, loggers, are_printed=False)
    else:
        exporters = build(service_name=service_name, console=console, shutdown_timeout=shutdown_timeout)
        _begin(exporters, port, loggers, are_printed=environment.are_events_printed("console" if console else "otlp"))
        trace.set_tracer_provider(exporters.tracer_provider)
        metrics.set_meter_provider(exporters.meter_provider)
        _logs.set_logger_provider(exporters.logger_provider)
    return exporters


def _begin(exporters: Exporters, port: int | None, loggers: Sequence[str], *, are_printed: bool) -> None:
    try:
        if port is not None:
            exporters.serve(port, host=environment.metrics_host(), token=environment.metrics_token())
        exporters.listen(loggers, are_printed=are_printed)
    except ConfigurationError:
        exporters.shutdown()
        raise


def build(*, service_name: str | None = None, console: bool = False, shutdown_timeout: float = 5.0) -> Exporters:
    """What `configure` sets up, without making it global."""
    check_bound(shutdown_timeout)
    resource = _resource(service_name)
    spans: list[Callable[[], SpanExporter]] = []
    records: list[Callable[[], LogRecordExporter]] = []
    measurements: list[Metrics] = []
    if not environment.is_disabled():
        default, interval = ("console", 10.0) if console else ("otlp", 60.0)
        spans, records = environment.span_exporters(default), environment.log_exporters(default)
        interval, timeout = environment.metric_interval(interval), environment.metric_timeout()
        makers = environment.metric_exporters(default)
        measurements = [Metrics(make, interval=interval, timeout=timeout) for make in makers]
    # The SDK's own exit handlers block for as long as a collector is down: `Exporters` has one with a bound.
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    logger_provider = LoggerProvider(resource=resource, shutdown_on_exit=False)
    for make in spans:
        tracer_provider.add_span_processor(_batched("OTEL_BSP_*", BatchSpanProcessor, Spans(make)))
    for each in records:
        logger_provider.add_log_record_processor(_batched("OTEL_BLRP_*", BatchLogRecordProcessor, Logs(each)))
    meter_provider = MeterProvider(measurements, resource=resource, shutdown_on_exit=False)
    for measurement in measurements:
        measurement.start(meter_provider)
    return Exporters(
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
        shutdown_timeout=shutdown_timeout,
    )


def _batched(variables: str, kind: Callable[[E], P], exporter: E) -> P:
    try:
        return kind(exporter)
    except ValueError as error:
        raise ConfigurationError(f"{variables}: {error}") from error


def _resource(service_name: str | None) -> Resource:
    given = OTELResourceDetector().detect()
    wanted: dict[str, str] = {}
    if service_name and SERVICE_NAME not in given.attributes:
        wanted[SERVICE_NAME] = service_name
    found = Resource.create(wanted)
    # Newer SDKs give each process an id, and a new one to the child of a fork.
    return Resource({SERVICE_INSTANCE_ID: str(uuid.uuid4())}).merge(found)


def _refuse_a_second_set_up() -> None:
    tracers, meters, loggers = trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()
    # The API's stand-ins for meters and loggers have no public name; the other providers there do nothing on purpose.
    is_free = {
        tracers: isinstance(tracers, trace.ProxyTracerProvider),
        meters: _is_of(meters, "opentelemetry.metrics") and not isinstance(meters, metrics.NoOpMeterProvider),
        loggers: _is_of(loggers, "opentelemetry._logs") and not isinstance(loggers, _logs.NoOpLoggerProvider),
    }
    for provider, free in is_free.items():
        if not free:
            raise ConfigurationError(_REFUSED.format(found=type(provider).__qualname__))


def _is_of(provider: object, package: str) -> bool:
    return type(provider).__module__.startswith(package)
