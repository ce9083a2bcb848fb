"""The set-up that a file describes: OpenTelemetry's declarative configuration, named by OTEL_CONFIG_FILE.

Decides nothing about it: the package opentelemetry-configuration reads the file and sets the global providers up. What
contradicts the file is refused rather than ignored. Its providers are the SDK's own: they know nothing of our forks.
"""

from __future__ import annotations

import logging
from importlib import import_module

from opentelemetry import _logs, metrics, propagate, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider

from glasscache.errors import ConfigurationError
from glasscache_exporters._lifecycle import Exporters, check_bound

_logger = logging.getLogger("glasscache")


def from_file(path: str, *, service_name: str | None, console: bool, shutdown_timeout: float) -> Exporters:
    """Set up what the file says, as the global providers. ConfigurationError if that cannot be."""
    check_bound(shutdown_timeout)
    for name, value in (("service_name", service_name), ("console", console)):
        if value:
            raise ConfigurationError(
                f"{name}={value!r} and OTEL_CONFIG_FILE={path!r}: where a file describes the set-up, it alone does. "
                f"Drop {name}, or the variable"
            )
    try:
        configuration = import_module("opentelemetry.configuration")
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"OTEL_CONFIG_FILE={path!r} needs {error.name}: pip install opentelemetry-configuration"
        ) from error
    try:
        configuration.configure_sdk(configuration.load_config_file(path))
    except Exception as error:
        raise ConfigurationError(f"OTEL_CONFIG_FILE={path!r}: {error}") from error
    if not propagate.get_global_textmap().fields:
        _logger.warning(
            "OTEL_CONFIG_FILE=%r names no propagator: nobody's trace is continued, and tracing around it may fail; "
            "add propagator: {composite: [{tracecontext: {}}, {baggage: {}}]}",
            path,
        )
    tracers, meters, loggers = trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()
    # A signal that the file leaves out has no provider of the SDK's: one that sends nothing stands in.
    return Exporters(
        tracer_provider=tracers if isinstance(tracers, TracerProvider) else TracerProvider(shutdown_on_exit=False),
        meter_provider=meters if isinstance(meters, MeterProvider) else MeterProvider(shutdown_on_exit=False),
        logger_provider=loggers if isinstance(loggers, LoggerProvider) else None,
        shutdown_timeout=shutdown_timeout,
    )
