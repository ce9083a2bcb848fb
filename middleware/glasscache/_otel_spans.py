"""The spans around work, and what is measured when the work is over.

Decides which spans exist, what they carry, how they are linked, and which histograms lead to them by
exemplars. Must never read a clock: durations come with the work, timestamps are the SDK's own.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import INVALID_SPAN, SpanKind, set_span_in_context

from glasscache import _otel_names as names
from glasscache._events import Invalidation, Load, Revalidation, SpanRef, TierCall, Wait
from glasscache._otel_metrics import bounded_group
from glasscache._otel_sections import (
    CurrentSection,
    Section,
    context_of,
    error_attributes,
    ids_of,
    is_hushed,
    links_to,
    shown,
)

if TYPE_CHECKING:
    from glasscache._otel_names import LogEvent


def name_route(span: Any, method: str, route: str) -> None:
    """Name a server span by its route, as its framework would have if its router had been asked."""
    attributes = getattr(span, "attributes", None)
    if attributes is not None and names.HTTP_ROUTE not in attributes and span.kind is SpanKind.SERVER:
        span.update_name(f"{method} {route}")
        span.set_attribute(names.HTTP_ROUTE, route)


class LoadSection(Section[Load]):
    """`cache.load`. Entered in a context that is the load's alone; the origin's spans become its children."""

    def begin(self) -> None:
        work = self.work
        # A refresh outlives the request that set it off: a new trace, without that request's baggage.
        parent = get_current() if work.cause is None else Context()
        attributes: dict[str, str | int | float] = {
            names.GROUP: work.group,
            names.LOAD_TRIGGER: work.trigger,
            **shown(work.text),
        }
        work.ref = self.open(names.LOAD, attributes, links_to(work.cause, names.LINK_REFRESH), parent)
        attach(set_span_in_context(self.span, parent))  # never detached: the context ends with the load
        work.named()

    def finish(self, error: BaseException | None) -> None:
        work, span = self.work, self.span
        error = work.error if work.error is not None else error
        self._measure(error)
        span.set_attribute(names.LOCK_WAITER_COUNT, work.queue_length)
        if work.fencing_token:
            span.set_attribute(names.FENCING_TOKEN, work.fencing_token)
        if work.unstored:
            span.set_attribute(names.UNSTORED_REASON, work.unstored)
        local, remote = work.waiters[: names.MAX_WAITER_LINKS], work.remote_waiters[: names.MAX_WAITER_LINKS]
        for waiter in (*local, *remote):
            span.add_link(context_of(waiter), {names.LINK_TYPE: names.LINK_WAITER})
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

    def log(self) -> None:
        """Log if the lease was lost while its holder still loaded."""
        if self.work.release != "released":
            with self.out.quiet:
                self._log_lost()

    def _log_lost(self) -> None:
        work = self.work
        lost: dict[str, object] = {
            names.NAME: self.out.name,
            names.GROUP: work.group,
            names.KEY_HASH: self.out.label(work.key),
            names.LOCK_SCOPE: "cluster",
            names.LOCK_HOLD: work.held,
            names.LOCK_RELEASE: work.release,
            names.QUEUE_LENGTH: len(work.remote_waiters),
            names.FENCING_TOKEN: work.fencing_token,
        }
        self.out.log.tell(names.LOST, lost | ids_of(work.ref))

    def close(self) -> None:
        """End the span at the time when the load was over; who waited on other machines is known only later."""
        self.span.end(time.time_ns() - int(self.work.told_after * 1e9))


class WaitSection(Section[Wait]):
    """`cache.lock.wait`. Child of the request's span, never current itself; linked to the load waited for.

    Who waits for a load that itself waits for another machine waits for that one. A sampler is to see the link: so
    while nobody knows who will load, the span does not begin. It does, backdated, when that is known (at the first
    waits, which are also shown while they last), or else when the wait ends.
    """

    _linked: SpanRef | None = None
    _parent: Context = Context()

    def begin(self) -> None:
        self._parent, unnamed = get_current(), self.work.holder.unnamed
        if unnamed is None or self._holder().ref is not None:
            self._open()
            return
        self.begun = time.time_ns()
        if len(unnamed) < names.MAX_WAITER_LINKS:
            unnamed.append(self._open_late)

    def _open_late(self) -> None:
        with self.out.quiet:
            self._open()
            if self.work.ref is not None:
                self.work.holder.waiters.append(self.work.ref)

    def _open(self) -> None:
        holder = self._holder()
        attributes: dict[str, str | int | float] = {
            names.GROUP: self.work.group,
            names.LOCK_SCOPE: self.work.scope,
            names.QUEUE_POSITION: self.work.position,
            **shown(self.work.holder.text),
        }
        self._linked = holder.ref
        if holder.ref is not None:
            attributes |= {**ids_of(holder.ref), names.HOLDER_SAMPLED: holder.ref.sampled}
        links = links_to(holder.ref, names.LINK_HOLDER)
        self.work.ref = self.open(names.WAIT, attributes, links, self._parent)

    def _holder(self) -> Load:
        """Who loads, as far as it is known now."""
        holder = self.work.holder
        return holder if holder.waits_for is None else holder.waits_for

    def _link_late(self, holder: Load) -> None:
        if holder.ref is not None and holder.ref != self._linked:
            self.span.add_link(context_of(holder.ref), {names.LINK_TYPE: names.LINK_HOLDER})
            self.span.set_attributes({**ids_of(holder.ref), names.HOLDER_SAMPLED: holder.ref.sampled})

    def finish(self, error: BaseException | None) -> None:
        work, out = self.work, self.out
        waited, holder = work.ended - work.begun, self._holder()
        if self.context is None:
            self._open()
            if self._open_late in (unnamed := work.holder.unnamed or []):
                unnamed.remove(self._open_late)
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
        if holder.fencing_token:  # names one load of a trace that may hold several
            self.span.set_attribute(names.FENCING_TOKEN, holder.fencing_token)

    def log(self) -> None:
        """Log a wait that was long, and one that was given up."""
        work = self.work
        waited = work.ended - work.begun
        if waited > self.out.contention_threshold:
            with self.out.quiet:
                self._log(names.CONTENTION, waited)
        if work.outcome == "timeout":
            with self.out.quiet:
                self._log(names.TIMEOUT, waited)

    def _queue_length(self) -> int:
        """At the release; for a wait that ended before: as far as it saw the queue itself."""
        return self.work.holder.queue_length or self.work.position

    def _log(self, event: LogEvent, waited: float) -> None:
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
        self.out.log.tell(event, attributes | ids_of(holder.ref))


class TierSection(CurrentSection[TierCall]):
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
        # A refresh that finds its answer, or no server, never loads: its trace is not told, no exemplar leads there.
        is_told = work.found is False or not is_hushed()
        context = self.context if is_told else set_span_in_context(INVALID_SPAN)
        self.out.record(names.TIER_OPERATION_DURATION, work.ended - work.begun, attributes, context)
        self.tell_error(error)


class InvalidationSection(CurrentSection[Invalidation]):
    """`cache.invalidate`, and how many entries it removed."""

    def begin(self) -> None:
        told = {names.INVALIDATION_SOURCE: self.work.source}
        self.open(names.INVALIDATE, {**told}, links_to(self.work.cause, names.LINK_INVALIDATION), get_current())

    def finish(self, error: BaseException | None) -> None:
        work = self.work
        if work.lag is not None:
            self.out.record(names.INVALIDATION_LAG, work.lag, {}, self.context)
        self.out.add(names.INVALIDATIONS, work.count, {names.INVALIDATION_SOURCE: work.source})
        self.span.set_attribute(names.INVALIDATION_COUNT, work.count)
        self.tell_error(error)


class RevalidationSection(Section[Revalidation]):
    """`cache.revalidate`: the origin is asked whether what is stored still holds. Entered in the load's own context."""

    def begin(self) -> None:
        self.open(names.REVALIDATE, {names.GROUP: self.work.group}, [], get_current())
        attach(set_span_in_context(self.span))  # never detached: as in `LoadSection`

    def finish(self, error: BaseException | None) -> None:
        if error is None:
            self.span.set_attribute(names.RESULT, "revalidated" if self.work.confirmed else "miss")
        self.tell_error(error)
