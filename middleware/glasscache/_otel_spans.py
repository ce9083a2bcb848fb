"""The spans around work, and what is measured when the work is over.

Decides which spans exist, what they carry, how they are linked, and which histograms lead to them by
exemplars. Must never read a clock (durations come with the work, timestamps are the SDK's own), and never
raise: all that `__enter__` and `__exit__` do runs inside `Quiet`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from opentelemetry.context import Context, attach, detach, get_current
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
from glasscache._events import Invalidation, Load, SpanRef, TierCall, Wait
from glasscache._otel_metrics import bounded_group

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from glasscache._otel_log import EventLog, Quiet
    from glasscache._otel_metrics import Attributes, Instruments
    from glasscache._otel_names import Metric

W = TypeVar("W", bound="Load | Wait | TierCall | Invalidation")


def ref_of(span: Span) -> SpanRef | None:
    """Enough of the span to link to it; None if there is nothing to link to."""
    found = span.get_span_context()
    return SpanRef(found.trace_id, found.span_id, found.trace_flags.sampled) if found.is_valid else None


def error_attributes(error: BaseException | None) -> Attributes:
    """`error.type`, and only if there is an error: the exception's full class name."""
    if error is None:
        return {}
    kind = type(error)
    module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return {names.ERROR_TYPE: f"{module}{kind.__qualname__}"}


def _context_of(ref: SpanRef) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if ref.sampled else TraceFlags.DEFAULT)
    return SpanContext(ref.trace_id, ref.span_id, is_remote=False, trace_flags=flags)


def _links(ref: SpanRef | None, kind: str) -> list[Link]:
    return [] if ref is None else [Link(_context_of(ref), {names.LINK_TYPE: kind})]


def _described(holder: SpanRef) -> dict[str, str | int | float]:
    """The holder again as attributes, since some backends drop links."""
    return {
        names.HOLDER_TRACE_ID: format_trace_id(holder.trace_id),
        names.HOLDER_SPAN_ID: format_span_id(holder.span_id),
        names.HOLDER_SAMPLED: holder.sampled,
    }


@dataclass(frozen=True, slots=True)
class Outlet:
    """Where the telemetry of one cache goes out. `contention_threshold` in seconds."""

    name: str
    label: Callable[[bytes], str]
    contention_threshold: float
    tracer: Tracer
    instruments: Instruments
    log: EventLog
    quiet: Quiet

    def record(self, metric: Metric, value: float, attributes: Attributes, context: Context | None = None) -> None:
        """Measure once; `context` holds the span that an exemplar leads to (None: the current one)."""
        with self.quiet:
            self.instruments.record(metric, value, {names.NAME: self.name, **attributes}, context)

    def add(self, metric: Metric, amount: int, attributes: Attributes) -> None:
        """Count."""
        with self.quiet:
            self.instruments.add(metric, amount, {names.NAME: self.name, **attributes})


class Section(ABC, Generic[W]):
    """Around one piece of work: `begin` before it, `finish` when its record is complete."""

    def __init__(self, out: Outlet, work: W) -> None:
        self.out = out
        self.work = work
        self.span: Span = INVALID_SPAN
        self.context: Context | None = None

    def __enter__(self) -> None:
        with self.out.quiet:
            self.begin()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self.out.quiet:
            try:
                self.finish(error)
            finally:
                self.close()

    @abstractmethod
    def begin(self) -> None:
        """Open the span."""

    @abstractmethod
    def finish(self, error: BaseException | None) -> None:
        """Tell what happened; `error` is what left the `with` block."""

    def close(self) -> None:
        """End the span."""
        self.span.end()

    def open(
        self, name: str, attributes: dict[str, str | int | float], links: list[Link], parent: Context
    ) -> SpanRef | None:
        """Start the span under `parent`."""
        self.span = self.out.tracer.start_span(name, parent, attributes=attributes, links=links)
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


class LoadSection(Section[Load]):
    """`cache.load`. Entered in a context that is the load's alone; the origin's spans become its children."""

    def begin(self) -> None:
        work = self.work
        # A refresh outlives the request that set it off: a new trace, without that request's baggage.
        parent = get_current() if work.cause is None else Context()
        attributes: dict[str, str | int | float] = {names.GROUP: work.group, names.LOAD_TRIGGER: work.trigger}
        work.ref = self.open(names.LOAD, attributes, _links(work.cause, names.LINK_REFRESH), parent)
        attach(set_span_in_context(self.span, parent))  # never detached: the context ends with the load

    def finish(self, error: BaseException | None) -> None:
        work, span = self.work, self.span
        error = work.error if work.error is not None else error
        self._measure(error)
        span.set_attribute(names.LOCK_WAITER_COUNT, work.queue_length)
        if work.fencing_token:
            span.set_attribute(names.FENCING_TOKEN, work.fencing_token)
        local, remote = work.waiters[: names.MAX_WAITER_LINKS], work.remote_waiters[: names.MAX_WAITER_LINKS]
        for waiter in (*local, *remote):
            span.add_link(_context_of(waiter), {names.LINK_TYPE: names.LINK_WAITER})
        self.tell_error(error)

    def _measure(self, error: BaseException | None) -> None:
        work, record, context = self.work, self.out.record, self.context
        group, lasted = {names.GROUP: bounded_group(work.group)}, work.ended - work.begun
        trigger = {names.LOAD_TRIGGER: work.trigger}
        record(names.LOAD_DURATION, lasted, {**group, **trigger, **error_attributes(error)}, context)
        scope = {names.LOCK_SCOPE: "process"}
        record(names.LOCK_HOLD_DURATION, lasted, {**group, **scope, names.LOCK_RELEASE: "released"}, context)
        record(names.LOCK_QUEUE_LENGTH, work.queue_length, scope, context)
        if work.fencing_token:
            scope = {names.LOCK_SCOPE: "cluster"}
            record(names.LOCK_HOLD_DURATION, work.held, {**group, **scope, names.LOCK_RELEASE: work.release}, context)
            record(names.LOCK_QUEUE_LENGTH, len(work.remote_waiters), scope, context)
            if work.release != "released":
                lost: dict[str, object] = {
                    names.NAME: self.out.name,
                    names.GROUP: work.group,
                    names.KEY_HASH: self.out.label(work.key),
                    names.LOCK_RELEASE: work.release,
                }
                self.out.log.tell(logging.ERROR, names.LOST, "lost the right to load while loading", lost)

    def close(self) -> None:
        """It ends with the load, although who waited on other machines is known only later."""
        self.span.end(time.time_ns() - int(self.work.told_after * 1e9))


class WaitSection(Section[Wait]):
    """`cache.lock.wait`. Child of the request's span, never current itself; linked to the load waited for.

    Who waits for a load that itself waits for another machine waits for that one. If nobody knows yet who will load,
    the link is added at the end.
    """

    _linked: SpanRef | None = None

    def begin(self) -> None:
        holder = self._holder()
        attributes: dict[str, str | int | float] = {
            names.LOCK_SCOPE: self.work.scope,
            names.QUEUE_POSITION: self.work.position,
        }
        self._linked = holder.ref
        if holder.ref is not None:
            attributes |= _described(holder.ref)
        self.work.ref = self.open(names.WAIT, attributes, _links(holder.ref, names.LINK_HOLDER), get_current())

    def _holder(self) -> Load:
        """Who loads, as far as it is known now."""
        holder = self.work.holder
        return holder if holder.waits_for is None else holder.waits_for

    def _link_late(self, holder: Load) -> None:
        if holder.ref is not None and holder.ref != self._linked:
            self.span.add_link(_context_of(holder.ref), {names.LINK_TYPE: names.LINK_HOLDER})
            self.span.set_attributes(_described(holder.ref))

    def finish(self, error: BaseException | None) -> None:
        work, out = self.work, self.out
        waited, holder = work.ended - work.begun, self._holder()
        self._link_late(holder)
        attributes = {
            names.GROUP: bounded_group(work.group),
            names.LOCK_SCOPE: work.scope,
            names.LOCK_OUTCOME: work.outcome,
        }
        out.record(names.LOCK_WAIT_DURATION, waited, attributes, self.context)
        self.span.set_attributes(
            {
                names.LOCK_SCOPE: work.scope,
                names.LOCK_OUTCOME: work.outcome,
                names.QUEUE_LENGTH: self._queue_length(),
                names.HOLDER_ELAPSED: max(work.begun - holder.begun, 0.0),
            }
        )
        if holder.machine:
            self.span.set_attribute(names.HOLDER_ID, holder.machine)
        if waited > out.contention_threshold:
            self._log(logging.WARNING, names.CONTENTION, "waited long for another request's load", waited)
        if work.outcome == "timeout":
            self._log(logging.ERROR, names.TIMEOUT, "gave up waiting for another request's load", waited)

    def _queue_length(self) -> int:
        """At the release; for a wait that ended before: as far as it saw the queue itself."""
        return self.work.holder.queue_length or self.work.position

    def _log(self, level: int, name: str, message: str, waited: float) -> None:
        work, holder = self.work, self._holder()
        attributes: dict[str, object] = {
            names.NAME: self.out.name,
            names.GROUP: work.group,
            names.KEY_HASH: self.out.label(work.key),
            names.LOCK_SCOPE: work.scope,
            names.LOCK_WAIT: waited,
            names.QUEUE_LENGTH: self._queue_length(),
        }
        if holder.machine:
            attributes[names.HOLDER_ID] = holder.machine
        if holder.ref is not None:
            attributes[names.HOLDER_TRACE_ID] = format_trace_id(holder.ref.trace_id)
            attributes[names.HOLDER_SPAN_ID] = format_span_id(holder.ref.span_id)
        self.out.log.tell(level, name, message, attributes)


class _CurrentSection(Section[W]):
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


class TierSection(_CurrentSection[TierCall]):
    """Every awaited operation is measured; a write has a span, `cache.store`."""

    def begin(self) -> None:
        work = self.work
        if work.operation == "set":
            written: dict[str, str | int | float] = {
                names.TIER: work.tier,
                names.ITEM_SIZE: work.size,
                names.TTL: work.ttl,
            }
            self.open(names.STORE, written, [], get_current())

    def finish(self, error: BaseException | None) -> None:
        work = self.work
        error = work.error if work.error is not None else error
        attributes = {names.TIER: work.tier, names.OPERATION: work.operation, **error_attributes(error)}
        if work.found is not None:
            attributes[names.RESULT] = "hit" if work.found else "miss"
        self.out.record(names.TIER_OPERATION_DURATION, work.ended - work.begun, attributes, self.context)
        self.tell_error(error)


class InvalidationSection(_CurrentSection[Invalidation]):
    """`cache.invalidate`, and how many entries it removed."""

    def begin(self) -> None:
        told = {names.INVALIDATION_SOURCE: self.work.source}
        self.open(names.INVALIDATE, {**told}, _links(self.work.cause, names.LINK_INVALIDATION), get_current())

    def finish(self, error: BaseException | None) -> None:
        work = self.work
        if work.lag is not None:
            self.out.record(names.INVALIDATION_LAG, work.lag, {}, self.context)
        self.out.add(names.INVALIDATIONS, work.count, {names.INVALIDATION_SOURCE: work.source})
        self.span.set_attribute(names.INVALIDATION_COUNT, work.count)
        self.tell_error(error)
