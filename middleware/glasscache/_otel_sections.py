"""What all sections around work share: where telemetry goes out, how a span opens and ends, what it says of an error.

Decides that an error is told by its type alone, and how a span is linked to. Must never raise: all that `__enter__` and
`__exit__` do runs inside `Quiet`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from msgspec import Struct
from opentelemetry import metrics, trace
from opentelemetry.context import Context, attach, detach, get_value, set_value
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    Span,
    SpanContext,
    StatusCode,
    TraceFlags,
    Tracer,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from glasscache import _otel_names as names
from glasscache._events import SpanRef, Work
from glasscache.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from glasscache._otel_log import EventLog, Quiet
    from glasscache._otel_metrics import Attributes, Instruments
    from glasscache._otel_names import Metric

_SUPPRESS = "suppress_instrumentation"  # what `opentelemetry.instrumentation.utils.is_instrumentation_enabled` asks for

W = TypeVar("W", bound=Work)


def ref_of(span: Span) -> SpanRef | None:
    """Enough of the span to link to it; None if there is nothing to link to."""
    found = span.get_span_context()
    return SpanRef(found.trace_id, found.span_id, found.trace_flags.sampled) if found.is_valid else None


def error_attributes(error: BaseException | None) -> Attributes:
    """`error.type`, if there is an error: the exception's full class name; of a StoreError that of its cause."""
    if error is None:
        return {}
    kind = type((error.__cause__ or error) if isinstance(error, StoreError) else error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return {names.ERROR_TYPE: f"{module}{kind.__qualname__}"}


def context_of(ref: SpanRef) -> SpanContext:
    """A span's identity as OpenTelemetry's API wants it for a link."""
    flags = TraceFlags(TraceFlags.SAMPLED if ref.sampled else TraceFlags.DEFAULT)
    return SpanContext(ref.trace_id, ref.span_id, is_remote=False, trace_flags=flags)


def links_to(ref: SpanRef | None, kind: str) -> list[Link]:
    """One link of this `cache.link.type`, or none."""
    return [] if ref is None else [Link(context_of(ref), {names.LINK_TYPE: kind})]


def shown(text: str) -> dict[str, str]:
    """What was asked, in clear text, where that is opted for."""
    return {names.KEY: text} if text else {}


def ids_of(holder: SpanRef | None) -> dict[str, str]:
    """The holder as attributes, since some backends drop links."""
    if holder is None:
        return {}
    return {
        names.HOLDER_TRACE_ID: format_trace_id(holder.trace_id),
        names.HOLDER_SPAN_ID: format_span_id(holder.span_id),
    }


_TRACER, _METER = "_TRACER_PROVIDER", "_METER_PROVIDER"
_tracing: dict[str, object] = trace.get_tracer_provider.__globals__
_measuring: dict[str, object] = metrics.get_meter_provider.__globals__
IS_KNOWN: bool = _TRACER in _tracing and _METER in _measuring
"""Whether this release of the API names its global providers as we know them."""


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where the telemetry of one cache goes out. `contention_threshold` in seconds. `by_default`: to the global
    providers, and these can be looked at.
    """

    name: str
    label: Callable[[bytes], str]
    contention_threshold: float
    tracer: Tracer
    instruments: Instruments
    log: EventLog
    quiet: Quiet
    by_default: bool

    def hears(self) -> bool:
        """Whether anybody gets spans and measurements: with OpenTelemetry's API alone nobody does.

        There it has no global providers, besides the proxies that stand in for them: what `get_tracer_provider` and
        `get_meter_provider` look at before they look at the environment, which would take longer than a quarter of
        what a load does.
        """
        return not self.by_default or _tracing[_TRACER] is not None or _measuring[_METER] is not None

    def record(self, metric: Metric, value: float, attributes: Attributes, context: Context | None = None) -> None:
        """Measure once; `context` holds the span that an exemplar leads to (None: the current one)."""
        with self.quiet:
            self.instruments.record(metric, value, {names.NAME: self.name, **attributes}, context)

    def add(self, metric: Metric, amount: int, attributes: Attributes) -> None:
        """Add to a counter."""
        with self.quiet:
            self.instruments.add(metric, amount, {names.NAME: self.name, **attributes})


class Section(Struct, Generic[W], eq=False):
    """Around one piece of work: `begin` before it, `finish` when its record is complete."""

    out: Outlet
    work: W
    is_heard: bool
    """Whether anybody gets its span and its measurements."""
    begun: int | None = None
    """When the span began, if before it was opened: nanoseconds of Unix time."""
    span: Span = INVALID_SPAN
    context: Context | None = None

    def __enter__(self) -> None:
        if self.is_heard:
            with self.out.quiet:
                self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_heard:
            with self.out.quiet:
                try:
                    self.finish(error)
                finally:
                    self.close()
        self.log()

    def log(self) -> None:
        """Write a log record if how it went is worth one, heard or not."""

    def begin(self) -> None:
        """Open the span."""

    def finish(self, error: BaseException | None) -> None:
        """Tell what happened; `error` is what left the `with` block."""

    def close(self) -> None:
        """End the span."""
        self.span.end()

    def open(
        self, name: str, attributes: dict[str, str | int | float], links: list[Link], parent: Context
    ) -> SpanRef | None:
        """Start the span under `parent`."""
        self.span = self.out.tracer.start_span(name, parent, attributes=attributes, links=links, start_time=self.begun)
        self.context = set_span_in_context(self.span, parent)
        return ref_of(self.span)

    def tell_error(self, error: BaseException | None) -> None:
        """Set the error on the span.

        Only its type: an exception's words may quote what was asked, and nothing of that may leave the process.
        Work that was cancelled did not do what it was begun for, but nothing is wrong with who did it: its status
        stays unset.
        """
        self.span.set_attributes(error_attributes(error))
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self.span.set_status(StatusCode.ERROR)


def is_hushed() -> bool:
    """Whether instrumentation is switched off in the current context."""
    return bool(get_value(_SUPPRESS))


class Hush:
    """`with` it, instrumentation is switched off in the current context."""

    def __init__(self, quiet: Quiet) -> None:
        self._quiet = quiet
        self._tokens: list[Token[Context]] = []

    def __enter__(self) -> None:
        with self._quiet:
            self._tokens.append(attach(set_value(_SUPPRESS, value=True)))

    def __exit__(self, *error: object) -> None:
        with self._quiet:
            while self._tokens:
                detach(self._tokens.pop())


class CurrentSection(Section[W]):
    """A section whose span is the current one while it lasts: spans of clients become its children."""

    token: Token[Context] | None = None

    def open(
        self, name: str, attributes: dict[str, str | int | float], links: list[Link], parent: Context
    ) -> SpanRef | None:
        ref = super().open(name, attributes, links, parent)
        self.token = attach(set_span_in_context(self.span, parent))
        return ref

    def close(self) -> None:
        if self.token is not None:
            detach(self.token)
        super().close()
