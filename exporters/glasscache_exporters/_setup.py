"""`configure()`: providers for traces and metrics from the standard OTEL_* variables, set as the global ones.

Decides what the SDK is made of, and refuses to be one of two set-ups. Building (`build`) touches nothing
global.
"""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from glasscache.errors import ConfigurationError
from glasscache_exporters import _environment as environment
from glasscache_exporters._lifecycle import Exporters
from glasscache_exporters._sending import Metrics, Spans

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export import SpanExporter

_REFUSED = (
    "OpenTelemetry is already set up in this process ({found}): call configure() once, and not together with "
    "opentelemetry-instrument or a set-up of your own. A cache uses whatever is set up, without configure()."
)


def configure(*, service_name: str | None = None, shutdown_timeout: float = 5.0) -> Exporters:
    """Send traces and metrics over OTLP, as the standard OTEL_* environment variables say. Once per process.

    `service_name` is used where neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES names the service.
    Read are, among others, OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL (grpc, the default, or http/protobuf),
    _HEADERS, _COMPRESSION and _TIMEOUT with their variants per signal; OTEL_TRACES_EXPORTER and
    OTEL_METRICS_EXPORTER (otlp, console, none); OTEL_TRACES_SAMPLER, OTEL_METRIC_EXPORT_INTERVAL,
    OTEL_METRICS_EXEMPLAR_FILTER (default: exemplars of sampled traces), OTEL_SDK_DISABLED.
    `shutdown_timeout`: the seconds that `shutdown()` and the end of the process may take for sending what
    is left. Raises `ConfigurationError` for a value that cannot work, and if OpenTelemetry is set up
    already.
    """
    _refuse_a_second_set_up()
    exporters = build(service_name=service_name, shutdown_timeout=shutdown_timeout)
    trace.set_tracer_provider(exporters.tracer_provider)
    metrics.set_meter_provider(exporters.meter_provider)
    return exporters


def build(*, service_name: str | None = None, shutdown_timeout: float = 5.0) -> Exporters:
    """What `configure` sets up, without making it global."""
    if not 0 < shutdown_timeout < math.inf:
        raise ConfigurationError(f"shutdown_timeout={shutdown_timeout!r}: give a finite number of seconds above 0")
    resource = _resource(service_name)
    spans: list[Callable[[], SpanExporter]] = []
    measurements: list[Metrics] = []
    if not environment.is_disabled():
        spans = environment.span_exporters()
        interval, timeout = environment.metric_interval(), environment.metric_timeout()
        measurements = [Metrics(make, interval=interval, timeout=timeout) for make in environment.metric_exporters()]
    # The SDK's own exit handlers block for as long as a collector is down: `Exporters` has one with a bound.
    tracer_provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    for make in spans:
        tracer_provider.add_span_processor(_processor(make))
    readers = [each.reader for each in measurements]
    meter_provider = MeterProvider(readers, resource=resource, shutdown_on_exit=False)
    for each in measurements:
        each.start()
    return Exporters(tracer_provider=tracer_provider, meter_provider=meter_provider, shutdown_timeout=shutdown_timeout)


def _processor(make: Callable[[], SpanExporter]) -> BatchSpanProcessor:
    exporter = Spans(make)
    try:
        return BatchSpanProcessor(exporter)
    except ValueError as error:
        raise ConfigurationError(f"OTEL_BSP_*: {error}") from error


def _resource(service_name: str | None) -> Resource:
    given = OTELResourceDetector().detect()
    wanted: dict[str, str] = {}
    if service_name and SERVICE_NAME not in given.attributes:
        wanted[SERVICE_NAME] = service_name
    found = Resource.create(wanted)
    # Newer SDKs give each process an id, and a new one to the child of a fork.
    return Resource({SERVICE_INSTANCE_ID: str(uuid.uuid4())}).merge(found)


def _refuse_a_second_set_up() -> None:
    tracers, meters = trace.get_tracer_provider(), metrics.get_meter_provider()
    if not isinstance(tracers, trace.ProxyTracerProvider):
        raise ConfigurationError(_REFUSED.format(found=type(tracers).__qualname__))
    # The API's stand-in for meters has no public name; the other provider there is one that measures nothing.
    is_stand_in = type(meters).__module__.startswith("opentelemetry.metrics")
    if not is_stand_in or isinstance(meters, metrics.NoOpMeterProvider):
        raise ConfigurationError(_REFUSED.format(found=type(meters).__qualname__))
