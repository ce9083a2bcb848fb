"""The way of a request: lookup -> judge -> join or lead a load -> answer.

A fresh hit in the near tier can be found by a front without it (`near.peek`), at the cost of a dictionary lookup. A
miss with nothing to decide takes a short way (`_lead_at_once`); `_answer` decides all the rest, and could decide that,
too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine

from glasscache._ask import Answer, Ask
from glasscache._events import Acquired, Result, StaleReason, Trigger
from glasscache._far_run import NotLoadedError, open_run
from glasscache._flight import Flight
from glasscache._gate import no_slot
from glasscache._glance import Glance
from glasscache._inside import awaiting, forbid_recursion, loading
from glasscache._lookups import Lookups
from glasscache._reader import ARRIVING, Reader, ReaderGone, Sight, copy_of
from glasscache._run import Run
from glasscache._state import State
from glasscache._stream import one_turn
from glasscache._tally import Tally
from glasscache.errors import LoadStoppedError, LoadTimeoutError

_IMMEDIATE, _CONTENDED, _LATE = (
    Acquired(scope="process", result="immediate"),
    Acquired(scope="process", result="contended"),
    Acquired(scope="process", result="timeout"),
)

_MISS: tuple[Result, str] = ("miss", "origin")

_PLAY, _TIMEOUT = Sight.PLAY, Sight.TIMEOUT  # until Python 3.12 a name of an Enum costs a call

_MAX_TURNS = 8  # a request whose flights keep turning out to be somebody else's loads for itself


class Requests:
    """One cache's requests."""

    def __init__(self, state: State, lookups: Lookups, tally: Tally) -> None:
        self._state = state
        self._lookups = lookups
        self._tally = tally
        self._flights = state.flights
        self._slots = state.slots
        self._limits = state.commons.limits
        self._clock = state.commons.clock
        self._telemetry = state.commons.telemetry

    def answer(self, ask: Ask) -> Coroutine[object, object, Answer]:
        """The answer to one request. Raises what the origin raised, if nothing stored can stand in."""
        state = self._state
        loop = state.settle()
        if (
            ask.is_missing
            and not (state.has_far or ask.at in state.flights or loading.get())
            and not (state.uncacheable and ask.at in state.uncacheable)
            and len(state.running) < self._limits.max_flights
        ):
            return self._lead_at_once(ask, loop)
        return self._answer(ask, self._clock.now())

    async def _lead_at_once(self, ask: Ask, loop: asyncio.AbstractEventLoop) -> Answer:
        """The short way of a miss, where there is nothing to decide. What its load does without waiting it has done
        after one turn of the loop: if that is all of it, it needs no reader; what comes later is the long way's.
        """
        run = Run(self._state, ask, "miss", loop)
        run.readers[ARRIVING] = None
        if run.start():
            self._telemetry.emit(_IMMEDIATE)
        try:
            await one_turn()
        except BaseException:
            run.left(ARRIVING)
            raise
        finally:
            if not run.ended:
                run.grow_up()
        entry, head = run.entry, run.head
        if entry is None or head is None or head.own_headers is not head.headers:
            reader = run.seat()
            ask.joined(reader)
            return await self._answer(ask, run.begun, reader)
        run.left(ARRIVING)
        ask.counters.others[_MISS] += 1
        return Answer(result="miss", tier="origin", entry=entry)

    async def _answer(self, ask: Ask, begun: float, reader: Reader | None = None) -> Answer:
        """Look, and load or join a load, until there is an answer. `reader`: of a load that is led already."""
        answer, turns = None, 0
        try:
            if reader is not None:
                ask.is_missing = False
                answer = await self._read(ask, reader)
            while answer is None:
                if not ask.is_missing:
                    answer = self._lookups.look(ask)
                ask.is_missing = False
                if answer is None:
                    answer = await self._board(ask, turns)
                    turns += 1
        except Exception as error:
            if not isinstance(error, ReaderGone):
                self._tally.failed(ask, error, begun)
            raise
        finally:
            if ask.waiting is not None:
                ask.end_wait("cancelled" if answer is None else "served")
        self._tally.answered(ask, answer, begun)
        return answer

    def _board(self, ask: Ask, turns: int) -> Awaitable[Answer | None]:
        """Join the flight that there is, lead one, or load alone; None: look again."""
        if turns == _MAX_TURNS:
            return self._alone(ask, None)
        state, flight, inside = self._state, self._flights.get(ask.at), loading.get()
        if inside:
            forbid_recursion(ask.at, None if flight is None else flight.chain, inside)
        if state.uncacheable and ask.at in state.uncacheable:
            return self._alone(ask, "uncacheable")
        if not state.has_room(flight or state.glances.get(ask.at)):
            return self._alone(ask, "overload")
        if flight is not None:
            ask.glanced = None
            ask.end_wait("holder_failed")
            return self._read(ask, self._join(ask, flight, leader=False))
        if state.has_far and (glance := self._lookups.glance(ask)) is not None:
            return self._look_far(ask, glance)
        return self._read(ask, self._lead(ask))

    async def _look_far(self, ask: Ask, glance: Glance) -> Answer | None:
        """What a far tier has: nobody loads yet, so that this is no wait for another's load. None: look again."""
        if not glance.ended:
            reader = glance.reader()
            try:
                await reader
            finally:
                glance.readers.pop(reader, None)
        return self._lookups.glanced(ask, glance)

    def _lead(self, ask: Ask) -> Reader:
        self._telemetry.emit(_IMMEDIATE if ask.waiting is None else _CONTENDED)
        ask.end_wait("promoted")
        run = open_run(self._state, ask, "miss" if ask.confirmable() is None else "revalidate")
        reader = self._join(ask, run, leader=True)
        run.start()
        return reader

    def _join(self, ask: Ask, flight: Flight, *, leader: bool) -> Reader:
        reader = flight.join(leader=leader, group=ask.counters.name)
        ask.joined(reader)
        return reader

    async def _read(self, ask: Ask, reader: Reader) -> Answer | None:
        """Wait until it is clear what a reader may do; None: look again."""
        answer: Answer | None = None
        try:
            sight = await self._sight(ask, reader)
            ask.stand_in = ask.stand_in or reader.stream.stand_in
            if sight is _TIMEOUT and not ask.can_stand_in(self._clock.now()):
                self._telemetry.emit(_LATE)
                reader.wait_over("timeout")
                reader.leave()
                return await self._alone(ask, None)
            answer = self._settle(ask, reader, sight)
            return answer
        finally:
            if answer is None or answer.reader is None:
                reader.leave()

    def _sight(self, ask: Ask, reader: Reader, *, to_the_end: bool = False) -> Awaitable[Sight]:
        """Wait as long as this request is meant to; meanwhile it stands in the graph of who waits for whom."""
        waits_on = to_the_end or (reader.leader and ask.policy.soft_timeout is None)
        sight = reader.sight(None) if waits_on else self._patiently(ask, reader)
        inside = loading.get()
        return awaiting(reader.stream.chain, sight, inside) if inside else sight

    async def _patiently(self, ask: Ask, reader: Reader) -> Sight:
        """A leader, or who can neither stand in nor load, waits to the end; a follower for `wait_timeout`."""
        soft, wait = ask.policy.soft_timeout, None if reader.leader else self._limits.wait_timeout
        if soft is not None and (wait is None or soft < wait):
            sight = await reader.sight(soft)
            if sight is not Sight.TIMEOUT or self._can_stand_in(ask, reader):
                return sight
            wait = None if wait is None else wait - soft
        if wait is not None:
            sight = await reader.sight(wait)
            if sight is not Sight.TIMEOUT or self._can_stand_in(ask, reader) or not self._slots.is_full(ask.at):
                return sight
        return await reader.sight(None)

    def _can_stand_in(self, ask: Ask, reader: Reader) -> bool:
        ask.stand_in = ask.stand_in or reader.stream.stand_in
        return ask.can_stand_in(self._clock.now())

    def _settle(self, ask: Ask, reader: Reader, sight: Sight) -> Answer | None:
        """What a reader's sight means for its request; None: look again."""
        if sight is _PLAY:
            return self._play(ask, reader)
        match sight:
            case Sight.FOUND:
                return self._found(ask, reader)
            case Sight.TIMEOUT:
                return self._stand_in(ask, reader, "wait_timeout")
            case Sight.FAILED:
                return self._failed(ask, reader)
            case Sight.GONE:
                raise ReaderGone
        if sight is Sight.REFUSED:
            ask.generation = 1
        ask.go_round(reader)
        return None

    def _found(self, ask: Ask, reader: Reader) -> Answer | None:
        entry = reader.stream.entry
        assert entry is not None
        if entry.vary:
            ask.select(entry)
            ask.go_round(reader)
            return None
        reader.wait_over("served")
        answer = self._lookups.judge(ask, entry, reader.stream.tier)
        if answer is not None and answer.result == "hit" and reader.stream.collapsed:
            answer.result = "collapsed"
        return answer

    def _play(self, ask: Ask, reader: Reader) -> Answer | None:
        flight = reader.stream
        if flight.marker is not None and not reader.leader:
            ask.select(flight.marker)
            if ask.at != flight.variant:
                ask.go_round(reader)
                return None
        assert flight.head is not None
        if flight.head.status >= 500 and ask.can_stand_in(self._clock.now()):
            return self._stand_in(ask, reader, "error")
        led: Result = "revalidated" if flight.confirmed else "miss"
        return Answer(result=led if reader.leader else "collapsed", tier="origin", reader=reader)

    def _failed(self, ask: Ask, reader: Reader) -> Answer | None:
        error = reader.stream.error
        assert error is not None
        if ask.can_stand_in(self._clock.now(), unreachable=isinstance(error, OSError)):
            return self._stand_in(ask, reader, "error")
        if reader.leader:
            raise error
        reader.wait_over("holder_failed")
        if isinstance(error, NotLoadedError):
            return None
        if isinstance(error, LoadStoppedError) and not reader.stream.stopping and not ask.generation:
            ask.generation = 1  # the origin never had its say: one of those who waited leads again
            return None
        raise copy_of(error) from error

    def _stand_in(self, ask: Ask, reader: Reader, reason: StaleReason) -> Answer:
        assert ask.stand_in is not None
        reader.wait_over("stale_served")
        tier = self._state.near.name if ask.stand_in is not reader.stream.stand_in else self._state.far.name
        return self._lookups.stale(ask.stand_in, tier, reason)

    async def _alone(self, ask: Ask, bypass: str | None) -> Answer:
        """Load for this request alone; if it queues, at most `max_parallel_loads` at once for its key."""
        try:
            leave = await self._slots.enter(ask.at) if ask.queues else no_slot
        except TimeoutError:
            return self._never_entered(ask)
        answer = self._lookups.look(ask)  # its turn may have come late: somebody else's answer may be there
        if answer is not None:
            leave()
            ask.end_wait("served")
            return answer
        ask.end_wait("acquired")
        trigger: Trigger = "miss" if ask.confirmable() is None else "revalidate"
        run = Run(self._state, ask, trigger, self._state.settle(), shared=False)
        run.when_over(leave)
        run.grow_up()
        reader = self._join(ask, run, leader=True)
        run.start()
        try:
            answer = self._settle(ask, reader, await self._sight(ask, reader, to_the_end=True))
            assert answer is not None  # a leader without a far tier plays, or fails
            if bypass and answer.reader:
                answer.result, answer.tier, answer.bypass = "bypass", "none", bypass
            return answer
        finally:
            if answer is None or answer.reader is None:
                reader.leave()

    def _never_entered(self, ask: Ask) -> Answer:
        if ask.stand_in is not None and ask.can_stand_in(self._clock.now()):
            ask.end_wait("stale_served")
            return self._lookups.stale(ask.stand_in, self._state.near.name, "wait_timeout")
        ask.end_wait("timeout")
        raise LoadTimeoutError(f"no turn for this key within {self._limits.load_timeout:g} s (load_timeout)")
