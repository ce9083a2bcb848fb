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
from dataclasses import dataclass, field, replace

from glasscache._entry import Entry, Key
from glasscache._events import GroupCounters, Load, Result, StaleReason, Trigger, WaitOutcome
from glasscache._flight import Flight
from glasscache._gate import Gate
from glasscache._state import State, variant_tag
from glasscache._stream import Chain, Reader
from glasscache._wait import Waiting
from glasscache.errors import LoadStoppedError, RecursiveLoadError
from glasscache.policy import Policy, Share, Verdict, judge, make_entry, make_marker, may_stand_in

log = logging.getLogger("glasscache")

loading: ContextVar[tuple[Chain, ...]] = ContextVar("glasscache_loading", default=())
"""The loads that we are inside of, outermost first."""


def forbid_recursion(key: Key, flight: Flight | None) -> None:
    """RecursiveLoadError if a load that we are inside of would wait for itself."""
    inside = loading.get()
    if inside and (any(chain.key == key for chain in inside) or (flight and flight.chain.leads_to(inside))):
        raise RecursiveLoadError("a load asked for the key that it is itself loading: it would wait for ever")


@dataclass(slots=True, kw_only=True, eq=False)
class Ask:
    """What one request wants: the key, the terms, and how to load it."""

    key: Key
    counters: GroupCounters
    policy: Policy
    load: Callable[[Flight], Awaitable[None]]
    """Runs the origin and feeds the flight; may go on after the flight has ended."""
    variant: Callable[[Entry], Key] = lambda marker: marker.chunks[0]
    """The key of this request's variant under a marker."""
    gate: Gate = field(default_factory=Gate)
    joined: Callable[[Reader], None] = lambda reader: None
    """Told every time this request joins a flight."""
    queues: bool = True
    """Whether a load of its own, where none can be shared, waits for its turn (`Limits.max_parallel_loads`)."""
    at: Key = b""
    """Where the answer is looked for: `key`, or its variant once the marker is known."""
    marker: Entry | None = None
    stand_in: Entry | None = None
    """A stale answer that may be served if the load fails or takes too long."""
    generation: int = 0
    waiting: Waiting | None = None
    """A wait that goes on although its flight is over."""

    def __post_init__(self) -> None:
        self.at = self.key

    def select(self, marker: Entry) -> None:
        """Look under this marker from now on."""
        self.marker = marker
        self.at = self.variant(marker)

    def can_stand_in(self, now: float) -> bool:
        """Whether there is a stale answer that may be served."""
        return may_stand_in(self.stand_in, now)

    def go_round(self, reader: Reader) -> None:
        """The request will look again; its wait goes on."""
        self.waiting, reader.waiting = reader.waiting, None

    def end_wait(self, outcome: WaitOutcome) -> None:
        """The wait that went on, if any, is over."""
        if self.waiting is not None:
            self.waiting.over(outcome)
            self.waiting = None


@dataclass(slots=True, kw_only=True, eq=False)
class Answer:
    """How a request is answered: from `entry`, or by reading `reader` (which the caller must leave)."""

    result: Result
    tier: str
    entry: Entry | None = None
    reader: Reader | None = None
    detail: StaleReason | None = None
    bypass: str | None = None


class Run:
    """One load: the flight's owner (see `FlightOwner`)."""

    __slots__ = ("_ask", "_asks_far", "_at", "_origin_begun", "_releases", "_shared", "_span", "_state", "flight")

    def __init__(self, state: State, ask: Ask, trigger: Trigger, *, shared: bool = True) -> None:
        self._state = state
        self._ask = ask
        self._at = ask.at
        self._shared = shared
        self._asks_far = state.has_far and shared and trigger != "refresh"
        self._releases: list[Callable[[], None]] = []
        commons = state.commons
        behind = trigger == "refresh"
        cause = commons.telemetry.current() if behind else None
        work = Load(group=ask.counters.name, key=ask.at, trigger=trigger, cause=cause)
        work.begun = self._origin_begun = commons.clock.now()
        context = copy_context()
        self._span = commons.telemetry.span(work)
        context.run(self._span.__enter__)  # open before the task exists: a follower may link to it at once
        self.flight = flight = Flight(
            ask.at, work, self, commons, number=state.markers.number, generation=ask.generation
        )
        flight.context = context
        # nobody waits for a refresh, so a load inside of it may ask for what the refresh was set off by
        context.run(loading.set, (flight.chain,) if behind else (*loading.get(), flight.chain))
        state.running[flight] = ask.key
        if shared:
            state.flights[ask.at] = flight
        flight.task = task = flight.loop.create_task(self._run(), context=context)
        state.tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._state.tasks.discard(task)
        self.flight.fail(LoadStoppedError("the load was cancelled"))  # perhaps before its first step
        self._release()

    def when_over(self, release: Callable[[], None]) -> None:
        """Call this when the load is over: its answer is whole, or its origin has ended."""
        self._releases.append(release)

    async def _run(self) -> None:
        flight = self.flight
        try:
            if not (self._asks_far and await self._find_far()):
                await self._ask_origin()
        except Exception as error:
            if flight.ended and not flight.stopping:
                log.exception("the origin failed after its answer was complete", exc_info=error)
            flight.fail(error)

    async def _ask_origin(self) -> None:
        self._releases.append(await self._ask.gate.enter())
        if self.flight.ended:  # stopped while it waited for its turn
            return
        self._origin_begun = self._state.commons.clock.now()
        await self._ask.load(self.flight)
        self.flight.fail(LoadStoppedError("the origin returned before it had answered"))

    async def _find_far(self) -> bool:
        flight, state = self.flight, self._state
        entry = await state.fetch_far(self._at, self._ask.key)
        if entry is None or flight.ended:
            return flight.ended
        now = state.commons.clock.now()
        verdict = judge(entry, now, beta=0.0, chance=1.0)
        if verdict is Verdict.DEAD:
            return False
        if verdict is Verdict.STAND_IN:
            flight.stand_in = entry
            return False
        if not flight.void:
            state.keep_near(self._at, entry)
        flight.found(entry, state.far.name)
        return True

    # --- as the flight's owner --------------------------------------------------------------------------------------

    def headed(self, flight: Flight) -> None:
        """Remember what the head says about others: uncacheable, or which headers select."""
        assert flight.head is not None
        uncacheable = self._state.uncacheable
        if flight.share is Share.NONE:
            uncacheable[self._at] = True
        elif flight.share is Share.ALL and uncacheable:
            uncacheable.pop(self._at, None)
        if flight.head.vary and flight.share in (Share.ALL, Share.WHEN_COMPLETE):
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
            if flight.share is Share.ALL and not flight.void:
                self._keep(self._ask.key, marker)
        flight.marker = marker
        flight.variant = self._ask.variant(marker)
        if self._shared and not flight.void:
            self._state.flights.setdefault(flight.variant, flight)

    def complete(self, flight: Flight) -> Entry | None:
        """Store the answer, if it may be: near at once, far behind."""
        head, state = flight.head, self._state
        if head is None or head.terms is None or flight.share is not Share.ALL or flight.buffer.paced or flight.void:
            return None
        terms = head.terms
        if self._ask.marker is not None or flight.marker is not None:
            terms = replace(terms, tags=(*terms.tags, variant_tag(self._ask.key)))
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
        )
        if state.markers.is_dead(entry, variant_tag(self._ask.key)):  # under a tag that came after the head
            return None
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
        self._state.keep_near(key, entry)
        if self._state.has_far:
            self._state.spawn(self._state.keep_far(key, entry))

    def closed(self, flight: Flight) -> None:
        """Out of the table."""
        self._state.unlist(flight)

    def landed(self, flight: Flight) -> None:
        """The load is over: close its span, give back what it held."""
        del self._state.running[flight]
        work = flight.work
        work.ended = self._state.commons.clock.now()
        work.error = flight.error
        self._span.__exit__(None, None, None)
        if not flight.stopping:  # else the origin may still be at work
            self._release()

    def gone(self, flight: Flight) -> None:
        """A stopped origin had its time to end: it holds up nobody any more."""
        self._release()

    def _release(self) -> None:
        while self._releases:
            self._releases.pop()()
