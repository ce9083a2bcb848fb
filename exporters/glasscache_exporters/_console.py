"""Spans, metrics and events as short lines for a developer's terminal.

Decides how a line reads: one for each span that ended, for each series that changed since the last time, and for each
event. Nothing to be parsed: that is what OTLP is for.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, NumberDataPoint
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import INVALID_SPAN_CONTEXT, StatusCode

from glasscache.otel import names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from opentelemetry.sdk._logs import ReadableLogRecord
    from opentelemetry.sdk.metrics.export import Metric, MetricsData
    from opentelemetry.sdk.trace import ReadableSpan

_LONGEST = 180  # characters of a line
_SHORT = 8  # hexadecimal digits of an id: enough to find its other lines
_ID = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")


class SpanLines(SpanExporter):
    """Prints a line for each span that has ended."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Print them."""
        _print(_span(span) for span in spans)
        return SpanExportResult.SUCCESS


class EventLines(LogRecordExporter):
    """Prints a line for each event."""

    def export(self, batch: Sequence[ReadableLogRecord]) -> LogRecordExportResult:
        """Print them."""
        _print(_event(each) for each in batch)
        return LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Do nothing: what was exported is printed."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Do nothing: what was exported is printed."""
        return True


class MetricLines(MetricExporter):
    """Prints a line for each series that has changed since the last collection."""

    def __init__(self) -> None:
        super().__init__()
        self._last: dict[tuple[str, str], tuple[float, float]] = {}

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **_: Any) -> MetricExportResult:
        """Print them."""
        scopes = [scope for resource in metrics_data.resource_metrics for scope in resource.scope_metrics]
        _print(line for scope in scopes for metric in scope.metrics for line in self._changed(metric))
        return MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **_: Any) -> None:
        """Do nothing: what was exported is printed."""

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Do nothing: what was exported is printed."""
        return True

    def _changed(self, metric: Metric) -> Iterable[str]:
        for point in metric.data.data_points:
            series = metric.name, _pairs(point.attributes)
            now, total = (point.value, None) if isinstance(point, NumberDataPoint) else (point.count, point.sum)
            before, total_before = self._last.get(series, (0, 0))
            self._last[series] = now, total or 0
            if now != before:
                mean = (
                    "" if total is None else f", mean {_amount((total - total_before) / (now - before), metric.unit)}"
                )
                change = f"{_figure(now)} ({'+' if now > before else ''}{_figure(now - before)})"
                yield f"{_clock(point.time_unix_nano)}  metric  {series[0]}  {change}{mean}  {series[1]}".rstrip()


def _span(span: ReadableSpan) -> str:
    began, ended = span.start_time or 0, span.end_time or 0
    about = span.get_span_context() or INVALID_SPAN_CONTEXT
    ids = f"trace {_short(about.trace_id, 32)} span {_short(about.span_id, 16)}"
    words = [_clock(ended), "span  ", f"{_amount((ended - began) / 1e9, 's'):>8}", span.name, ids]
    for link in span.links:
        kind = (link.attributes or {}).get("cache.link.type", "link")
        words.append(f"-> {kind} {_short(link.context.span_id, 16)}")
    if span.status.status_code is StatusCode.ERROR:
        words.append(f"ERROR {span.status.description or ''}".rstrip())
    return "  ".join([*words, _pairs(span.attributes)])


def _event(each: ReadableLogRecord) -> str:
    record = each.log_record
    attributes = {key: value for key, value in (record.attributes or {}).items() if key != names.EVENT_NAME}
    trace = f"trace {_short(record.trace_id, 32)}" if record.trace_id else ""
    words = [record.severity_text, record.event_name, str(record.body), trace, _pairs(attributes)]
    return "  ".join([_clock(record.timestamp or 0), "event ", *filter(None, words)])


def _short(number: int, digits: int) -> str:
    return f"{number:0{digits}x}"[:_SHORT]


def _pairs(attributes: Mapping[str, Any] | None) -> str:
    """Without the prefix that nearly all of ours have."""
    return " ".join(f"{key.removeprefix('cache.')}={_figure(value)}" for key, value in (attributes or {}).items())


def _figure(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text[:_SHORT] if _ID.fullmatch(text) else text


def _amount(value: float, unit: str | None) -> str:
    if unit != "s":
        return f"{value:.4g} {unit or ''}".rstrip()
    for scale, name in ((1, "s"), (1e-3, "ms")):
        if abs(value) >= scale:
            return f"{value / scale:.4g} {name}"
    return f"{value / 1e-6:.4g} us"


def _clock(nanoseconds: int) -> str:
    moment = datetime.fromtimestamp(nanoseconds / 1e9, tz=UTC).astimezone()
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1_000:03d}"


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        plain = " ".join(line.splitlines())
        sys.stdout.write((plain if len(plain) <= _LONGEST else f"{plain[: _LONGEST - 1]}…") + "\n")
    sys.stdout.flush()
