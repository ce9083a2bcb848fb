"""Which exporters the standard OTEL_* variables ask for.

Decides exporter and protocol; endpoints, headers, compression, certificates and timeouts are read from
their own variables by the exporters themselves. A value that cannot work is refused with its name and the
remedy.
"""

from __future__ import annotations

import math
import os
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from glasscache.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

Signal: TypeAlias = Literal["traces", "metrics"]

_DEFAULT_PROTOCOL = "grpc"  # as opentelemetry-python has it
_PACKAGES = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
}
_MODULES: dict[Signal, str] = {"traces": "trace_exporter", "metrics": "metric_exporter"}
_OTLP: dict[Signal, str] = {"traces": "OTLPSpanExporter", "metrics": "OTLPMetricExporter"}
_CONSOLE: dict[Signal, tuple[str, str]] = {
    "traces": ("opentelemetry.sdk.trace.export", "ConsoleSpanExporter"),
    "metrics": ("opentelemetry.sdk.metrics.export", "ConsoleMetricExporter"),
}


def is_disabled() -> bool:
    """Whether OTEL_SDK_DISABLED turns all telemetry off."""
    return _value("OTEL_SDK_DISABLED").lower() == "true"


def span_exporters() -> list[Callable[[], SpanExporter]]:
    """What makes the exporters that OTEL_TRACES_EXPORTER names; OTLP if it is not set."""
    return _exporters("traces")


def metric_exporters() -> list[Callable[[], MetricExporter]]:
    """What makes the exporters that OTEL_METRICS_EXPORTER names; OTLP if it is not set."""
    return _exporters("metrics")


def metric_interval() -> float:
    """OTEL_METRIC_EXPORT_INTERVAL, in seconds."""
    return _seconds("OTEL_METRIC_EXPORT_INTERVAL", 60.0)


def metric_timeout() -> float:
    """OTEL_METRIC_EXPORT_TIMEOUT, in seconds."""
    return _seconds("OTEL_METRIC_EXPORT_TIMEOUT", 30.0)


def _seconds(variable: str, default: float) -> float:
    value = _value(variable)
    try:
        seconds = float(value) / 1_000 if value else default
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigurationError(f"{variable}={value!r}: give milliseconds above 0")
    return seconds


def _value(name: str) -> str:
    """The variable's value; an empty one counts as not set, as the specification wants it."""
    return os.environ.get(name, "").strip()


def _exporters(signal: Signal) -> list[Callable[[], Any]]:
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    names = [name.strip() for name in (_value(variable) or "otlp").split(",")]
    if names == ["none"]:
        return []
    return [partial(_exporter, signal, name, variable) for name in names]


def _exporter(signal: Signal, name: str, variable: str) -> Any:
    if name == "console":
        module, kind = _CONSOLE[signal]
        return getattr(import_module(module), kind)()
    if name != "otlp":
        raise ConfigurationError(f"{variable}={name!r}: give otlp, console, both (otlp,console), or none")
    return _otlp(signal)


def _otlp(signal: Signal) -> Any:
    protocol = _protocol(signal)
    module = f"{_PACKAGES[protocol]}.{_MODULES[signal]}"
    try:
        kind = getattr(import_module(module), _OTLP[signal])
        arguments = _compression(signal) if protocol == "grpc" else {}
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"OTLP over {protocol} needs {error.name}: pip install 'glasscache[exporters]'"
        ) from error
    try:
        return kind(**arguments)
    except Exception as error:
        raise ConfigurationError(
            f"the OTLP exporter for {signal} over {protocol} cannot be made: {error}. "
            f"Correct OTEL_EXPORTER_OTLP_* or OTEL_EXPORTER_OTLP_{signal.upper()}_*"
        ) from error


def _protocol(signal: Signal) -> str:
    variable, protocol = _setting(signal, "PROTOCOL")
    if protocol and protocol not in _PACKAGES:
        raise ConfigurationError(f"{variable}={protocol!r}: give {' or '.join(_PACKAGES)}")
    return protocol or _DEFAULT_PROTOCOL


def _compression(signal: Signal) -> dict[str, object]:
    """The gRPC exporters refuse `none` and an empty value, which the specification allows."""
    _, value = _setting(signal, "COMPRESSION")
    grpc = import_module("grpc")
    known = {"": grpc.Compression.NoCompression, "none": grpc.Compression.NoCompression}
    known["gzip"] = grpc.Compression.Gzip
    return {"compression": known[value]} if value in known else {}


def _setting(signal: Signal, name: str) -> tuple[str, str]:
    """Variable and value: the signal's own one if it is set, else the common one."""
    own, common = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{name}", f"OTEL_EXPORTER_OTLP_{name}"
    return (own, _value(own)) if _value(own) else (common, _value(common))
