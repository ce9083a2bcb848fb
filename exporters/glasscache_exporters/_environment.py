"""What the environment asks for: exporters by the standard OTEL_* variables, Prometheus' page by our own.

Decides exporter and protocol; endpoints, headers, compression, certificates and timeouts are read from
their own variables by the exporters themselves. A value that cannot work is refused with its name and the
remedy.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from glasscache.errors import ConfigurationError
from glasscache_exporters._console import EventLines, MetricLines, SpanLines

if TYPE_CHECKING:
    from opentelemetry.sdk._logs.export import LogRecordExporter
    from opentelemetry.sdk.metrics.export import MetricExporter
    from opentelemetry.sdk.trace.export import SpanExporter

Signal: TypeAlias = Literal["traces", "metrics", "logs"]

_DEFAULT_PROTOCOL = "grpc"  # as opentelemetry-python has it
_PACKAGES = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http",
}
_MODULES: dict[Signal, str] = {"traces": "trace_exporter", "metrics": "metric_exporter", "logs": "_log_exporter"}
_OTLP: dict[Signal, str] = {"traces": "OTLPSpanExporter", "metrics": "OTLPMetricExporter", "logs": "OTLPLogExporter"}
_CONSOLE: dict[Signal, Callable[[], Any]] = {"traces": SpanLines, "metrics": MetricLines, "logs": EventLines}


def is_disabled() -> bool:
    """Whether OTEL_SDK_DISABLED turns all telemetry off."""
    return _value("OTEL_SDK_DISABLED").lower() == "true"


def span_exporters(default: str = "otlp") -> list[Callable[[], SpanExporter]]:
    """What makes the exporters that OTEL_TRACES_EXPORTER names; `default` if it is not set."""
    return _exporters("traces", default)


def metric_exporters(default: str = "otlp") -> list[Callable[[], MetricExporter]]:
    """What makes the exporters that OTEL_METRICS_EXPORTER names; `default` if it is not set."""
    return _exporters("metrics", default)


def log_exporters(default: str = "otlp") -> list[Callable[[], LogRecordExporter]]:
    """What makes the exporters that OTEL_LOGS_EXPORTER names; `default` if it is not set."""
    return _exporters("logs", default)


def are_events_printed(default: str) -> bool:
    """Whether OTEL_LOGS_EXPORTER names the console; `default` if it is not set."""
    return "console" in _names("logs", default)


def metric_interval(default: float = 60.0) -> float:
    """OTEL_METRIC_EXPORT_INTERVAL, in seconds."""
    return _seconds("OTEL_METRIC_EXPORT_INTERVAL", default)


def metric_timeout() -> float:
    """OTEL_METRIC_EXPORT_TIMEOUT, in seconds."""
    return _seconds("OTEL_METRIC_EXPORT_TIMEOUT", 30.0)


def config_file() -> str:
    """OTEL_CONFIG_FILE; "" if there is none."""
    return _value("OTEL_CONFIG_FILE")


def metrics_port() -> int | None:
    """GLASSCACHE_METRICS_PORT, for the page that Prometheus reads; None: no such page."""
    value = _value("GLASSCACHE_METRICS_PORT")
    if value and not (value.isascii() and value.isdigit() and 0 < int(value) <= 65_535):
        raise ConfigurationError(f"GLASSCACHE_METRICS_PORT={value!r}: give a number from 1 to 65535, such as 9464")
    return int(value) if value else None


def metrics_host() -> str:
    """GLASSCACHE_METRICS_HOST: the address that this page is on."""
    return _value("GLASSCACHE_METRICS_HOST") or "127.0.0.1"


def metrics_token() -> str | None:
    """GLASSCACHE_METRICS_TOKEN, without which nobody gets this page; None: everybody who can connect does."""
    return _value("GLASSCACHE_METRICS_TOKEN") or None


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


def _exporters(signal: Signal, default: str) -> list[Callable[[], Any]]:
    names = _names(signal, default)
    return [] if names == ["none"] else [partial(_exporter, signal, name, _variable(signal)) for name in names]


def _names(signal: Signal, default: str) -> list[str]:
    return [name.strip() for name in (_value(_variable(signal)) or default).split(",")]


def _variable(signal: Signal) -> str:
    return f"OTEL_{signal.upper()}_EXPORTER"


def _exporter(signal: Signal, name: str, variable: str) -> Any:
    if name == "console":
        return _CONSOLE[signal]()
    if name != "otlp":
        hint = "; for Prometheus set GLASSCACHE_METRICS_PORT" if name == "prometheus" else ""
        raise ConfigurationError(f"{variable}={name!r}: give otlp, console, both (otlp,console), or none{hint}")
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
