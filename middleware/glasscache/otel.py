"""Telemetry -> OpenTelemetry: the public door to all that glasscache tells.

Decides what becomes a span, an attribute or a measurement; the names are in `_otel_names.py`, known here too.
Depends on opentelemetry-api only. Must never raise, never block, never flush or shut a provider down, and do
nothing for a hit beyond four attributes on a span that is recording anyway.
"""

from __future__ import annotations

import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace
from opentelemetry.context import Context, get_current
from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, NoOpTracerProvider, get_current_span

from glasscache import _otel_names as names
from glasscache._clock import SystemClock
from glasscache._events import (
    Acquired,
    Answered,
    Event,
    Invalidation,
    Load,
    LookedUp,
    Outcome,
    Pressed,
    Revalidation,
    ServedStale,
    SpanRef,
    TierCall,
    TierChanged,
    Wait,
    Work,
)
from glasscache._otel_log import EventLog, Quiet
from glasscache._otel_metrics import Instruments, release_of
from glasscache._otel_names import EVENTS, LINKS, METRICS, SERVER, SERVER_HIT, SPANS, LogEvent, Metric
from glasscache._otel_sections import IS_KNOWN, Hush, Outlet, error_attributes, ref_of
from glasscache._otel_spans import (
    InvalidationSection,
    LoadSection,
    RevalidationSection,
    TierSection,
    WaitSection,
    name_route,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Tracer, TracerProvider

    from glasscache.interfaces import Clock, Observable

__all__ = [
    "EVENTS",
    "LINKS",
    "METRICS",
    "SERVER",
    "SERVER_HIT",
    "SPANS",
    "LogEvent",
    "Metric",
    "OtelTelemetry",
    "names",
]

_SYSTEM_CLOCK = SystemClock()
_SECTIONS: dict[type[Work], Callable[[Outlet, Any, bool], AbstractContextManager[object]]] = {
    Load: LoadSection,
    Wait: WaitSection,
    TierCall: TierSection,
    Revalidation: RevalidationSection,
    Invalidation: InvalidationSection,
}
_CURRENT_SPAN = next(iter(trace.set_span_in_context(INVALID_SPAN, Context())))
"""The name under which a context has its span: the API does not tell it."""
_runtime = getattr(context, "_RUNTIME_CONTEXT", None)
_variable = getattr(_runtime, "_current_context", None)
_current_context: Callable[[], Context] = (
    _variable.get if type(_runtime) is ContextVarsRuntimeContext and type(_variable) is ContextVar else get_current
)
"""What `get_current` comes to by two calls more: a hit asks for nothing else."""


class OtelTelemetry:
    """Tells one cache's doings to OpenTelemetry.

    `name` is its `cache.name`; `label` turns a key into its `cache.key_hash`. Without providers the global
    ones are used, even if they are set up later. A wait of more than `contention_threshold` seconds is
    logged. `clock` limits log records to one a second for each event. Never raises: failures are logged
    once a second.
    """

    def __init__(
        self,
        *,
        name: str,
        label: Callable[[bytes], str],
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        contention_threshold: float = 1.0,
        clock: Clock = _SYSTEM_CLOCK,
    ) -> None:
        log = EventLog(clock)
        quiet = self._quiet = Quiet(log)
        self._name = name
        self._label = label
        self._out = Outlet(
            name=name,
            label=label,
            contention_threshold=contention_threshold,
            tracer=_tracer(tracer_provider, quiet),
            instruments=_instruments(meter_provider, quiet),
            log=log,
            quiet=quiet,
            by_default=tracer_provider is None and meter_provider is None and IS_KNOWN,
        )
        self.hears: Callable[[], bool] = self._out.hears
        """Whether anybody gets spans and measurements: with OpenTelemetry's API alone nobody does."""

    def observe(self, source: Observable) -> None:
        """Read this cache's integers at every collection. Held weakly."""
        with self._quiet:
            self._out.instruments.observe(source)

    def span(self, work: Work) -> AbstractContextManager[object]:
        """Around the work; reads its record when the work is over. See `interfaces.Telemetry`."""
        return _SECTIONS[type(work)](self._out, work, self._out.hears())

    def emit(self, event: Event) -> None:
        """Measure or count what happened, in the current context (where an exemplar leads to); log some of it."""
        if self._out.hears():
            self._measure(event)
        elif type(event) is TierChanged:  # to ask isinstance() of a record costs as much as a call
            self._tell_change(event)
        elif type(event) is Pressed:
            self._tell_pressure(event)

    def _measure(self, event: Event) -> None:
        out = self._out
        match event:
            case Answered():
                answered = {names.RESULT: event.result, **error_attributes(event.error)}
                out.record(names.REQUEST_DURATION, event.duration, answered)
            case Acquired():
                asked: dict[str, str] = {names.LOCK_SCOPE: event.scope, names.LOCK_RESULT: event.result}
                out.add(names.LOCK_ACQUISITIONS, 1, asked)
            case ServedStale():
                out.record(names.STALE_AGE, event.age, {names.STALE_REASON: event.reason})
            case TierChanged():
                self._tell_change(event)
            case Pressed():
                self._tell_pressure(event)
            case LookedUp():
                self._tell_hit(event)
            case _:
                removed = {names.TIER: event.tier, names.EVICTION_REASON: event.cause}
                out.record(names.EVICTION_AGE, event.age, removed)

    def _tell_change(self, event: TierChanged) -> None:
        attributes: dict[str, object] = {
            names.NAME: self._name,
            names.TIER: event.tier,
            names.TIER_STATE: event.state,
            **error_attributes(event.error),
        }
        with self._quiet:
            self._out.log.tell(names.RECOVERED if event.state == "ok" else names.DEGRADED, attributes, event.error)

    def _tell_hit(self, event: LookedUp) -> None:
        """A span that is over: it begins when the answer was asked for."""
        found: dict[str, str | int] = {
            names.GROUP: event.group,
            names.TIER: event.tier,
            names.ITEM_SIZE: event.size,
        }
        with self._quiet:
            begun = time.time_ns() - int(event.seconds * 1e9)
            self._out.tracer.start_span(names.LOOKUP, attributes=found, start_time=begun).end()

    def _tell_pressure(self, event: Pressed) -> None:
        gauge = event.gauge
        limits = {names.ENTRIES_LIMIT: gauge.entry_limit, names.BYTES_LIMIT: gauge.size_limit}
        attributes: dict[str, object] = {
            names.NAME: self._name,
            names.TIER: gauge.tier,
            names.EVICTION_RATE: event.rate,
            names.ENTRIES: gauge.entries,
            names.BYTES: gauge.size,
            **{name: limit for name, limit in limits.items() if limit},
        }
        with self._quiet:
            self._out.log.tell(names.PRESSURE, attributes)

    @property
    def annotates(self) -> bool:
        """Whether the current (server) span is recording."""
        try:  # as in `on_hit`
            span: Any = _current_context().get(_CURRENT_SPAN)
            return span is not None and bool(span.is_recording())
        except Exception as error:
            with self._quiet:
                raise error
            return False

    def on_hit(self, group: str, key: bytes) -> bool:
        """Set the four attributes of a hit on the current span, if it is recording: whether it is."""
        try:  # an untouched `try` is free, `with` is not; to ask the API for the span takes twice as long
            span: Any = _current_context().get(_CURRENT_SPAN)
            if span is not None and type(span) is not NonRecordingSpan and span.is_recording():
                span.set_attributes(
                    {names.RESULT: "hit", names.TIER: "memory", names.GROUP: group, names.KEY_HASH: self._label(key)}
                )
                return True
        except Exception as error:
            with self._quiet:
                raise error
        return False

    def annotate(self, outcome: Outcome) -> None:
        """Set the outcome on the current span; of a hit only four attributes."""
        with self._quiet:
            get_current_span().set_attributes(self._described(outcome))

    def name_route(self, method: str, route: str) -> None:
        """Give the current span its name and `http.route`, if it is a server's and has none."""
        with self._quiet:
            name_route(get_current_span(), method, route)

    def current(self) -> SpanRef | None:
        """The current span, to be linked to; None outside of any trace."""
        with self._quiet:
            return ref_of(get_current_span())
        return None

    def hushed(self) -> AbstractContextManager[object]:
        """The switch that all instrumentation of OpenTelemetry looks at."""
        return Hush(self._quiet)

    def _described(self, outcome: Outcome) -> dict[str, str | float]:
        attributes: dict[str, str | float] = {
            names.RESULT: outcome.result,
            names.TIER: outcome.tier,
            names.GROUP: outcome.group,
        }
        if outcome.key is not None:
            attributes[names.KEY_HASH] = self._label(outcome.key)
        if outcome.text:
            attributes[names.KEY] = outcome.text
        if outcome.result != "hit":
            attributes[names.NAME] = self._name
            if outcome.age is not None:
                attributes[names.AGE] = outcome.age
            if outcome.ttl is not None:
                attributes[names.TTL] = outcome.ttl
            if outcome.bypass is not None:
                attributes[names.BYPASS_REASON] = outcome.bypass
        return attributes


def _tracer(provider: TracerProvider | None, quiet: Quiet) -> Tracer:
    with quiet:
        return trace.get_tracer(names.SCOPE, release_of("glasscache"), provider)
    return NoOpTracerProvider().get_tracer(names.SCOPE)


def _instruments(provider: MeterProvider | None, quiet: Quiet) -> Instruments:
    with quiet:
        return Instruments.of(provider)
    return Instruments.of(NoOpMeterProvider())
