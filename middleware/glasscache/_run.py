"""One run of one load: gate -> origin -> store -> tell. What asks a far tier before is in `_far_run.py`.

A run is a flight that knows how it is loaded: it decides what of it is stored and where, takes it out of the table, and
closes its span. It must never wait for a reader, and nothing here may fail a request.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import Context, copy_context
from dataclasses import replace

from glasscache._ask import Ask
from glasscache._coherence import variant_tag
from glasscache._entry import Entry, Key
from glasscache._events import Load, Revalidation, Trigger
from glasscache._flight import Flight
from glasscache._inside import loading
from glasscache._state import State
from glasscache._stream import Head
from glasscache.errors import LoadStoppedError
from glasscache.policy import Share, make_entry, make_marker

log = logging.getLogger("glasscache")

_ALL = Share.ALL  # until Python 3.12 a name of an Enum costs a call


class Run(Flight):
    """One load of one request's origin."""

    __slots__ = (
        *("_ask", "_confirmation", "_confirming", "_is_direct", "_origin_begun", "_releases"),
        *("_shared", "_span", "_state", "begun", "trigger"),
    )

    def __init__(
        self, state: State, ask: Ask, trigger: Trigger, loop: asyncio.AbstractEventLoop, *, shared: bool = True
    ) -> None:
        commons, at = state.commons, ask.at
        super().__init__(at, commons, loop, state.coherence.markers.number, ask.generation)
        self._state = state
        self._ask = ask
        self._shared = shared
        self._is_direct: bool = ask.stale is None and not ask.gate.is_bounded
        """Whether nothing comes before its origin."""
        self.begun = self._origin_begun = commons.clock.now()
        self._confirmation: Revalidation | None = None
        self._releases: tuple[Callable[[], None], ...] = ()
        self._span: AbstractContextManager[object] | None = None
        """Around the load, if anybody hears of it."""
        self.trigger: Trigger = trigger
        state.running[self] = ask.key
        if shared:
            state.flights[at] = self

    def start(self) -> bool:
        """Begin; whether anybody hears of it. Its span is open before its task exists: a follower may link to it at
        once.
        """
        telemetry = self._commons.telemetry
        if not telemetry.hears():
            self._begin_task(None)
            return False
        context = copy_context()
        self._span = telemetry.span(self.work)
        context.run(self._span.__enter__)
        self._begin_task(context)
        return True

    def _begin_task(self, context: Context | None) -> None:
        """In a copy of the current context, or in this one."""
        self.task = task = self.loop.create_task(self._run(), name="glasscache load", context=context)
        self._state.tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._state.tasks.discard(task)
        if not self.ended:  # cancelled, perhaps before its first step
            self.fail(LoadStoppedError("the load was cancelled"))
        if self._releases:
            self._release()
        self._part()

    def _part(self) -> None:
        """The request has its reader, and the reader this: the garbage collector would otherwise find every load."""
        del self._ask

    def when_over(self, release: Callable[[], None]) -> None:
        """Call this when the load is over: its answer is whole, or its origin has ended."""
        self._releases += (release,)

    async def _run(self) -> None:
        # nobody waits for a refresh, so a load inside of it may ask for what the refresh was set off by
        inside = () if self.trigger == "refresh" else loading.get()
        loading.set((*inside, self.chain))
        try:
            if self._is_direct or await self._reaches_origin():
                await self._ask.load(self)
                if not self.ended:
                    self.fail(LoadStoppedError("the origin returned before it had answered"))
        except Exception as error:
            if self.ended and not self.stopping:
                log.exception("the origin failed after its answer was complete", exc_info=error)
            self.fail(error)
        finally:  # at once, instead of in a step of the loop's own
            task = self.task
            # else it began eagerly (Python 3.12), and ended before anybody knew its task
            if task is not None and task.remove_done_callback(self._task_done):  # pragma: no branch
                self._task_done(task)

    async def _reaches_origin(self) -> bool:
        """Wait for its turn; whether the origin is to be asked."""
        if self._ask.gate.is_bounded:
            self.when_over(await self._ask.gate.enter())
            self.note_progress()
        if self.ended:  # stopped while it waited for its turn
            return False
        self._begin_origin()
        return True

    def _begin_origin(self) -> None:
        """The origin is asked from here on."""
        self._origin_begun = self._commons.clock.now()
        self.number = self._state.coherence.markers.number
        self.stale = self._ask.confirmable()
        if self.stale is not None and self._span is not None:
            self._confirmation = Revalidation(group=self._ask.counters.name)
            self._confirming = self._commons.telemetry.span(self._confirmation)
            self._confirming.__enter__()

    # --- as a flight ------------------------------------------------------------------------------------------------

    def _record(self) -> Load:
        ask, behind = self._ask, self.trigger == "refresh"
        cause = self._commons.telemetry.current() if behind else None
        return Load(
            group=ask.counters.name, key=self.key, trigger=self.trigger, text=ask.text, cause=cause, begun=self.begun
        )

    def _headed(self, head: Head) -> None:
        """Remember what the head says about others: uncacheable, or which headers select."""
        uncacheable, share = self._state.uncacheable, self.share
        if share is not _ALL:
            if head.reason:
                self._tell_unstored(head.reason)
            if share is Share.NONE:
                uncacheable.add(self.key)
        elif uncacheable:
            uncacheable.pop(self.key, None)
        if head.vary and share in (Share.ALL, Share.WHEN_COMPLETE):
            self._open_variants(head.vary)

    def _open_variants(self, names: tuple[bytes, ...]) -> None:
        marker = self._ask.marker
        if marker is None or not set(names) <= set(marker.vary):
            # a new salt: no variant that was kept under fewer names can be found any more
            known = marker.vary if marker is not None else ()
            marker = make_marker(
                tuple(sorted({*names, *known})),
                secrets.token_bytes(16),
                now=self._commons.clock.now(),
                lifetime=self._commons.limits.load_timeout,
                number=self.number,
            )
            if self.share is _ALL and not self.void and self._may_keep():
                self._keep_near(self._ask.key, marker)
        self.marker = marker
        self.variant = self._ask.variant(marker)
        if self._shared and not self.void:
            self._state.flights.setdefault(self.variant, self)

    def _not_kept(self, reason: str) -> None:
        if self.share is _ALL:  # else that has been told
            self._tell_unstored(reason)

    def _tell_unstored(self, reason: str) -> None:
        self._ask.unstored(reason)
        if self._span is not None:
            self.work.unstored = reason

    def _complete(self) -> Entry | None:
        """Store the answer, if it may be: near at once, far behind."""
        head, ask, state = self.head, self._ask, self._state
        if head is None or head.terms is None or self.share is not _ALL or self.buffer.paced:
            return None
        if self.void or not self._may_keep():
            return None
        now = self._commons.clock.now()
        if head.status >= 500 and ask.can_stand_in(now):
            return None  # an error does not take the place of what stands in for it
        terms = head.terms
        if ask.marker is not None or self.marker is not None:
            terms = replace(terms, tags=tuple(dict.fromkeys((*terms.tags, variant_tag(ask.key)))))
        entry = make_entry(  # in order: with names it takes twice as long
            self.buffer.chunks,
            head.status,
            head.headers,
            terms,
            ask.policy,
            self._origin_begun,
            now,
            state.random.random(),
            self.number,
            self.stale.cost if self.stale is not None and self.confirmed else None,
        )
        coherence = state.coherence
        if entry.number < coherence.markers.number and entry.number < coherence.dead_below(entry, ask.key):
            return None  # under a tag that came after the head
        self._keep(self.variant or self.key, entry)
        if self.marker is not None:
            self._keep_marker(self.marker, entry)
        return entry

    def _keep_marker(self, marker: Entry, variant: Entry) -> None:
        """The marker must be there for as long as the variants that it leads to, unless there is a newer one. One that
        this load has opened is only near yet.
        """
        asked, until, found = self._ask.key, variant.dead_from, self._ask.marker
        kept = self._state.near.peek(asked)
        if kept is not None and kept.vary:
            is_told = marker is found or not self._state.has_far
            if kept.chunks != marker.chunks or (kept.dead_from >= until and is_told):
                return
            until = max(until, kept.dead_from)
        elif found is not None and found.chunks == marker.chunks:  # not near, or no more
            until = max(until, found.dead_from)
        lifetime, number = until - variant.born, variant.number
        self._keep(
            asked, make_marker(marker.vary, marker.chunks[0], now=variant.born, lifetime=lifetime, number=number)
        )

    def _may_keep(self) -> bool:
        """Whether what is loaded may be stored: not beside machines that share a tier, where nobody else loads it."""
        return self._shared or not self._state.is_shared

    def _keep_near(self, key: Key, entry: Entry) -> Entry:
        return self._state.keep_near(key, entry)

    def _keep(self, key: Key, entry: Entry) -> None:
        self._state.keep_near(key, entry)

    def _goes_on_unread(self) -> bool:
        """See Flight. What began for nobody does not end with whoever came to read it."""
        return self.trigger in ("refresh", "warm") or super()._goes_on_unread()

    def _closed(self) -> None:
        """Out of the table: later requests start anew."""
        flights, variant = self._state.flights, self.variant
        if flights.get(self.key) is self:
            del flights[self.key]
        if variant is not None and flights.get(variant) is self:
            del flights[variant]

    def _voided(self) -> None:
        self._closed()

    def _landed(self) -> None:
        """The load is over: give back what it held, and close its span."""
        self._state.running.pop(self, None)  # gone in the child of a fork
        if self._work is not None:
            self._complete_record(self._work)
        if self._releases and not self.stopping:  # else the origin may still be at work
            self._release()

    def _complete_record(self, work: Load) -> None:
        work.ended, work.error, work.queue_length = self._commons.clock.now(), self.error, self.waits
        if self._confirmation is not None:
            self._confirmation.confirmed = self.confirmed
            self._confirming.__exit__(None if self.error is None else type(self.error), self.error, None)
        self._close_span(work)

    def _close_span(self, work: Load) -> None:
        if self._span is not None:
            self._span.__exit__(None, None, None)

    def _gone(self) -> None:
        """A stopped origin had its time to end: it holds up nobody any more."""
        self._release()

    def _release(self) -> None:
        releases, self._releases = self._releases, ()
        for release in reversed(releases):
            release()
