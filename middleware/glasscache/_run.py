"""One run of one load: far tier -> gate -> origin -> store -> tell.

A run owns its flight: it decides what of it is stored and where, takes it out of the table, and closes its span. It
must never wait for a reader, and nothing here may fail a request: a store that cannot answer is a miss.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from contextvars import ContextVar, copy_context
from dataclasses import replace

from glasscache._ask import Ask
from glasscache._backplane import variant_tag
from glasscache._entry import Entry, Key
from glasscache._events import Load, Revalidation, Trigger
from glasscache._flight import Flight
from glasscache._right import Right, SharedRight
from glasscache._state import UNCACHEABLE_FOR, State
from glasscache._stream import Chain
from glasscache.errors import LoadStoppedError, RecursiveLoadError, StoreError
from glasscache.policy import Share, Verdict, make_entry, make_marker

log = logging.getLogger("glasscache")

loading: ContextVar[tuple[Chain, ...]] = ContextVar("glasscache_loading", default=())
"""The loads that we are inside of, outermost first."""


def forbid_recursion(key: Key, flight: Flight | None, inside: tuple[Chain, ...]) -> None:
    """RecursiveLoadError if a load that we are inside of would wait for itself."""
    if any(chain.key == key for chain in inside) or (flight and flight.chain.leads_to(inside)):
        raise RecursiveLoadError(
            "a load asked for the key that it is itself loading: it would wait for ever "
            "(of a request: is the middleware there twice, with one cache?)"
        )


_ALL = Share.ALL  # until Python 3.12 a name of an Enum costs a call

_ALONE, _SHARED_BY_OTHERS = Right(keeps=True), Right(keeps=False)
"""Of who asks no other tier, where none is shared, or one is."""


class Run:
    """One load: the flight's owner (see `FlightOwner`)."""

    __slots__ = (
        *("_ask", "_at", "_back", "_confirmation", "_confirming", "_context", "_is_open", "_origin_begun"),
        *("_releases", "_right", "_shared", "_span", "_state", "_writes", "flight"),
    )

    def __init__(
        self, state: State, ask: Ask, trigger: Trigger, *, shared: bool = True, fresh_for: float = 0.0
    ) -> None:
        self._state = state
        self._ask = ask
        self._at = at = ask.at
        self._shared = shared
        self._releases: tuple[Callable[[], None], ...] = ()
        self._back: asyncio.Task[None] | None = None
        self._confirmation: Revalidation | None = None
        commons = state.commons
        behind = trigger == "refresh"
        cause = commons.telemetry.current() if behind else None
        self._origin_begun = begun = commons.clock.now()
        work = Load(group=ask.counters.name, key=at, trigger=trigger, text=ask.text, cause=cause, begun=begun)
        asks = state.has_far and shared
        context = copy_context()
        self._span = span = commons.telemetry.span(work)
        number = state.coherence.markers.number
        self.flight = flight = Flight(at, work, self, commons, number, ask.generation)
        # Open before the task exists: a follower may link to it at once. Of a refresh it is a root of its own, known
        # before anybody knows who will load: it is what other machines link to.
        self._is_open = behind or not asks
        if self._is_open:
            context.run(span.__enter__)
        if asks:
            flight.is_loading = False
            self._writes: dict[Key, tuple[Entry, Entry]] = {}
            """Where a lease is held: what is to be stored far, and how it was stored near."""
            self._right: Right = SharedRight(state, at, ask.key, work, fresh_for, insists=ask.wish is not None)
        else:
            self._right = _SHARED_BY_OTHERS if state.is_shared else _ALONE
        state.running[flight] = ask.key
        if shared:
            state.flights[at] = flight
        self._context = context
        if not (asks and self._right.glance(self._glanced)):
            self._start()

    def _start(self) -> None:
        flight, state = self.flight, self._state
        flight.task = task = flight.loop.create_task(self._run(), name="glasscache load", context=self._context)
        state.tasks.add(task)
        task.add_done_callback(self._task_done)

    def _glanced(self, found: Entry | StoreError | None) -> None:
        """The far tier has answered at once, in nobody's context. It may be that no load is needed, and so no task."""
        flight = self.flight
        try:
            is_over = flight.ended or self._context.run(self._takes, found)
        except Exception as error:
            flight.fail(error)
            is_over = True
        if is_over:
            flight.part()
        else:
            self._start()
            flight.found_nothing()

    def _takes(self, found: Entry | StoreError | None) -> bool:
        entry = self._right.glanced(found)
        return entry is not None and self._answers(entry)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        flight = self.flight
        self._state.tasks.discard(task)
        if not flight.ended:  # cancelled, perhaps before its first step
            flight.fail(LoadStoppedError("the load was cancelled"))
        if self._releases:
            self._release()
        flight.part()

    def when_over(self, release: Callable[[], None]) -> None:
        """Call this when the load is over: its answer is whole, or its origin has ended."""
        self._releases += (release,)

    async def _run(self) -> None:
        flight = self.flight
        # nobody waits for a refresh, so a load inside of it may ask for what the refresh was set off by
        inside = () if flight.work.trigger == "refresh" else loading.get()
        loading.set((*inside, flight.chain))
        try:
            if self._right.asks and await self._find():
                return
            if self._ask.gate.is_bounded:
                self.when_over(await self._ask.gate.enter())
                flight.note_progress()
            if not flight.ended:  # stopped while it waited for its turn
                self._begin_origin()
                await self._ask.load(flight)
                if not flight.ended:
                    flight.fail(LoadStoppedError("the origin returned before it had answered"))
        except Exception as error:
            if flight.ended and not flight.stopping:
                log.exception("the origin failed after its answer was complete", exc_info=error)
            flight.fail(error)
        finally:  # at once, instead of in a step of the loop's own
            task = flight.task
            # else it began eagerly (Python 3.12), and ended before anybody knew its task
            if task is not None and task.remove_done_callback(self._task_done):  # pragma: no branch
                self._task_done(task)

    def _begin_origin(self) -> None:
        """The origin is asked from here on."""
        flight, state = self.flight, self._state
        self._origin_begun = begun = state.commons.clock.now()
        flight.number = state.coherence.markers.number
        flight.stale = stale = self._ask.confirmable()
        if self._right.asks:
            flight.is_loading = True
            flight.note_progress()
            flight.work.begun = begun
            if stale is not None and flight.work.trigger == "miss":
                flight.work.trigger = "revalidate"
            if not self._is_open:
                self._is_open = True
                self._span.__enter__()
        if stale is not None:
            self._confirmation = Revalidation(group=flight.work.group)
            self._confirming = state.commons.telemetry.span(self._confirmation)
            self._confirming.__enter__()

    async def _find(self) -> bool:
        """Whether a far tier has answered, or there is nothing left to do."""
        flight, right = self.flight, self._right
        entry = await right.seek(flight)
        self._ask.stale = flight.stand_in or self._ask.stale
        if self._ask.wish is not None:
            flight.stand_in = None  # its request wants the origin's own word
        if flight.ended:  # stopped meanwhile
            self._give_back()
            return True
        if entry is None and right.is_idle:
            flight.fail(LoadStoppedError("another machine refreshes this answer"))
            return True
        return entry is not None and self._answers(entry)

    def _answers(self, entry: Entry) -> bool:
        """Whether what a far tier has is the answer, or may only stand in for one."""
        flight, right, state = self.flight, self._right, self._state
        verdict = self._ask.judge(entry, state.commons.clock.now(), beta=0.0, chance=1.0)
        if verdict in (Verdict.STAND_IN, Verdict.UNWANTED, Verdict.DEAD):
            flight.stand_in = entry
            return False
        if not flight.void and right.tier == state.far.name:
            state.keep_near(self._at, entry)
        flight.found(entry, right.tier)
        return True

    # --- as the flight's owner --------------------------------------------------------------------------------------

    def headed(self, flight: Flight) -> None:
        """Remember what the head says about others: uncacheable, or which headers select."""
        assert flight.head is not None
        uncacheable, share = self._state.uncacheable, flight.share
        if share is not _ALL:
            self._give_back(refuse_for=UNCACHEABLE_FOR if share is Share.NONE else 0.0)
            if share is Share.NONE:
                uncacheable.add(self._at)
        elif uncacheable:
            uncacheable.pop(self._at, None)
        if flight.head.vary and share in (Share.ALL, Share.WHEN_COMPLETE):
            self._open_variants(flight, flight.head.vary)

    def _open_variants(self, flight: Flight, names: tuple[bytes, ...]) -> None:
        marker = self._ask.marker
        if marker is None or not set(names) <= set(marker.vary):
            # a new salt: no variant that was kept under fewer names can be found any more
            known = marker.vary if marker is not None else ()
            marker = make_marker(
                tuple(sorted({*names, *known})),
                secrets.token_bytes(16),
                now=self._state.commons.clock.now(),
                lifetime=self._state.commons.limits.load_timeout,
                number=flight.number,
            )
            if flight.share is Share.ALL and not flight.void and self._right.keeps:
                self._state.keep_near(self._ask.key, marker, is_known=self._right.is_known)
        flight.marker = marker
        flight.variant = self._ask.variant(marker)
        if self._shared and not flight.void:
            self._state.flights.setdefault(flight.variant, flight)

    def complete(self, flight: Flight) -> Entry | None:
        """Store the answer, if it may be: near at once, far behind."""
        head, state = flight.head, self._state
        if head is None or head.terms is None or flight.share is not _ALL or flight.buffer.paced:
            return None
        if flight.void or not self._right.keeps:
            return None
        if head.status >= 500 and self._ask.can_stand_in(state.commons.clock.now()):
            return None  # an error does not take the place of what stands in for it
        terms = head.terms
        if self._ask.marker is not None or flight.marker is not None:
            terms = replace(terms, tags=tuple(dict.fromkeys((*terms.tags, variant_tag(self._ask.key)))))
        entry = make_entry(
            chunks=tuple(flight.buffer.chunks),
            status=head.status,
            headers=head.headers,
            terms=terms,
            policy=self._ask.policy,
            begun=self._origin_begun,
            now=state.commons.clock.now(),
            chance=state.random.random(),
            number=flight.number,
            saves=flight.stale.cost if flight.stale is not None and flight.confirmed else None,
        )
        markers = state.coherence.markers
        if entry.number < markers.number and entry.number < state.coherence.dead_below(entry, self._ask.key):
            return None  # under a tag that came after the head
        self._keep(flight.variant or self._at, entry)
        if flight.marker is not None:
            self._keep_marker(flight.marker, entry)
        return entry

    def _keep_marker(self, marker: Entry, variant: Entry) -> None:
        """The marker must be there for as long as the variant that it leads to, unless there is a newer one."""
        kept = self._state.near.peek(self._ask.key)
        if kept is None or not kept.vary or (kept.chunks == marker.chunks and kept.dead_from < variant.dead_from):
            lifetime = variant.dead_from - variant.born
            longer = make_marker(
                marker.vary, marker.chunks[0], now=variant.born, lifetime=lifetime, number=variant.number
            )
            self._keep(self._ask.key, longer)

    def _keep(self, key: Key, entry: Entry) -> None:
        kept = self._state.keep_near(key, entry, is_known=self._right.is_known)
        if self._right.asks and self._right.holds:
            self._writes[key] = (entry, kept)

    def closed(self, flight: Flight) -> None:
        """Out of the table."""
        self._state.unlist(flight)
        if not flight.ended:  # too large to be stored
            self._give_back(refuse_for=UNCACHEABLE_FOR)

    def voided(self, flight: Flight) -> None:
        """Told invalid: whoever waits on another machine need not wait for this."""
        self._state.unlist(flight)
        self._give_back()

    def landed(self, flight: Flight) -> None:
        """The load is over: give back what it held, and close its span when its waiters are known."""
        self._state.running.pop(flight, None)  # gone in the child of a fork
        work = flight.work
        work.ended, work.error = self._state.commons.clock.now(), flight.error
        if self._confirmation is not None:
            self._close_confirmation(self._confirmation)
        if self._right.asks:
            self._give_back()
        if self._back is None:
            self._close_span()
        else:
            self._back.add_done_callback(lambda _: self._close_span())
        if self._releases and not flight.stopping:  # else the origin may still be at work
            self._release()

    def _close_confirmation(self, work: Revalidation) -> None:
        """The conditional request has its answer."""
        error, work.confirmed = self.flight.error, self.flight.confirmed
        self._confirming.__exit__(None if error is None else type(error), error, None)

    def _close_span(self) -> None:
        flight = self.flight
        if flight.is_loading:  # otherwise there was no load: a span that is not ended is not told
            if self._back is not None:
                flight.work.told_after = self._state.commons.clock.now() - flight.work.ended
            self._span.__exit__(None, None, None)

    def _give_back(self, *, refuse_for: float = 0.0) -> None:
        """The lease, if there is one: with what was stored near, or with nothing."""
        if self._right.holds:
            leased = self._writes.pop(self._at, None)
            back = self._right.give_back(leased[0] if leased else None, refuse_for=refuse_for)
            self._back = self._state.spawn(self._settle_far(back, leased))

    async def _settle_far(self, back: Awaitable[bool], leased: tuple[Entry, Entry] | None) -> None:
        state = self._state
        for key, (entry, _) in self._writes.items():  # a variant before the marker that leads to it
            await state.tell(state.storing(entry), state.far.set(key, entry))
        if not await back:
            if leased is not None and state.near.peek(self._at) is leased[1]:
                state.near.drop(self._at)
        elif leased is not None and state.is_shared:
            await state.tell_replaced(self._at)

    def gone(self, flight: Flight) -> None:
        """A stopped origin had its time to end: it holds up nobody any more."""
        self._release()

    def _release(self) -> None:
        releases, self._releases = self._releases, ()
        for release in reversed(releases):
            release()
