"""What the loads of one engine share: the table of flights, the tiers, the invalidations, the tasks that run behind.

Decides which running loads an invalidation concerns, and how everything ends. A store that cannot answer is a miss
and is told; nothing here may fail a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine, Iterable
from random import Random

from cachetools import TTLCache

from glasscache._entry import Entry, Key
from glasscache._events import Invalidation, Source, TierCall
from glasscache._flight import Flight
from glasscache._gate import KeyGates
from glasscache._markers import Markers
from glasscache._wait import Commons
from glasscache.errors import LoadStoppedError
from glasscache.interfaces import NearStore, Store

_UNCACHEABLE_FOR = 10.0  # seconds that a key is remembered as "each its own" (hit-for-miss)
_UNCACHEABLE_KEYS = 10_000
_LAST_WORD = 1.0  # seconds that cancelled loads have to end, when everything ends


def variant_tag(key: Key) -> str:
    """The tag that all variants of a key carry, and that its invalidation is remembered under."""
    return f"\0{key.hex()}"


def _may_carry(flight: Flight, tag: str) -> bool:
    """Whether the answer of a running load carries the tag; before its head is known, any may."""
    head = flight.head
    return head is None or head.terms is None or tag in head.terms.tags


class State:
    """What the runs of one engine share."""

    def __init__(self, near: NearStore, far: Store, commons: Commons, random: Random, *, has_far: bool) -> None:
        self.near = near
        self.far = far
        self.commons = commons
        self.has_far = has_far
        self.random = random
        self.markers = Markers()
        self.flights: dict[Key, Flight] = {}
        """Flights that take followers."""
        self.running: dict[Flight, Key] = {}
        """Every load under way, shared or not, and the key that was asked for, whatever the variant."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.slots = KeyGates(commons.limits.max_parallel_loads, commons.limits.load_timeout)
        """The turns of those who load for themselves."""
        self.uncacheable: TTLCache[Key, bool] = TTLCache(_UNCACHEABLE_KEYS, _UNCACHEABLE_FOR, commons.clock.now)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sweeper: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None

    def settle(self) -> None:
        """One cache belongs to one event loop at a time: what a closed one left would never end."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self.tasks.difference_update([task for task in self.tasks if task.get_loop().is_closed()])
            for flight in [flight for flight in self.running if flight.loop.is_closed()]:
                flight.bury()

    def has_room(self, flight: Flight | None) -> bool:
        """Whether one more may follow the flight, or (None) lead a new one."""
        limits = self.commons.limits
        if flight is None:
            return len(self.running) < limits.max_flights
        return len(flight.readers) < limits.max_waiters and flight.loop is asyncio.get_running_loop()

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run something behind; `drain` waits for it."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def keep_near(self, key: Key, entry: Entry) -> None:
        """Store in the near tier, and see to it that it leaves again when it is dead."""
        self.near.put(key, entry)
        loop = asyncio.get_running_loop()
        if self._sweeper is None or self._sweeper[0] is not loop:
            self._sweep_in(loop, entry.dead_from - self.commons.clock.now())

    def _stop_sweeping(self) -> None:
        """No timer is left behind."""
        if self._sweeper is not None:
            self._sweeper[1].cancel()
            self._sweeper = None

    def _sweep_in(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        # at most every second, at least every half minute: a later entry may die before the one this timer was set for
        self._sweeper = loop, loop.call_later(min(max(seconds, 1.0), 30.0), self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sweeper = None
        now = self.commons.clock.now()
        due = self.near.sweep(now)
        if due is not None:
            self._sweep_in(loop, due - now)

    async def fetch_far(self, key: Key, asked: Key) -> Entry | None:
        """The far tier's answer; None if it has none, or cannot answer. `asked`: the key, whatever the variant.

        What was told invalid may still be there, or come in late: only its number says so.
        """
        call = TierCall(tier=self.far.name, operation="get")
        entry: Entry | None = None
        with self.commons.telemetry.span(call):
            call.begun = self.commons.clock.now()
            try:
                entry = await self.far.get(key)
            except Exception as error:
                call.error = error
            call.found = entry is not None
            call.ended = self.commons.clock.now()
        return None if entry is None or self.markers.is_dead(entry, variant_tag(asked)) else entry

    async def keep_far(self, key: Key, entry: Entry) -> None:
        """Store in the far tier."""
        ttl = entry.dead_from - self.commons.clock.now()
        call = TierCall(tier=self.far.name, operation="set", size=entry.size, ttl=ttl)
        await self._tell(call, self.far.set(key, entry))

    async def _drop_far(self, key: Key) -> None:
        """Remove from the far tier."""
        await self._tell(TierCall(tier=self.far.name, operation="delete"), self.far.delete(key))

    async def _tell(self, call: TierCall, work: Awaitable[None]) -> None:
        with self.commons.telemetry.span(call):
            call.begun = self.commons.clock.now()
            try:
                await work
            except Exception as error:
                call.error = error
            call.ended = self.commons.clock.now()

    # --- removal and the end ----------------------------------------------------------------------------------------

    async def invalidate(self, key: Key | None, tag: str | None, everything: bool, source: Source) -> int:
        """Remove on demand; how many entries left the near tier. Loads under way are not stored."""
        work = Invalidation(source=source)
        with self.commons.telemetry.span(work):
            if key is not None:
                work.count += self.near.drop(key) + self._drop_tag(variant_tag(key))
                self._void(flight for flight, asked in self.running.items() if asked == key)
            if tag is not None:
                work.count += self._drop_tag(tag)
                self._void(flight for flight in self.running if _may_carry(flight, tag))
            if everything:
                self.markers.mark_all()
                work.count += self.near.clear()
                self._void(self.running)
            if key is not None and self.has_far:
                await self._drop_far(key)
        return work.count

    def _drop_tag(self, tag: str) -> int:
        self.markers.mark_tag(tag)
        return self.near.drop_tag(tag)

    def _void(self, flights: Iterable[Flight]) -> None:
        for flight in tuple(flights):
            flight.void = True
            self.unlist(flight)

    def unlist(self, flight: Flight) -> None:
        """Out of the table: later requests start anew."""
        for key in (flight.key, flight.variant):
            if key is not None and self.flights.get(key) is flight:
                del self.flights[key]

    async def drain(self) -> None:
        """Let running loads end, for at most `Limits.drain` seconds; then stop them."""
        self.settle()
        if self.tasks:
            await asyncio.wait(tuple(self.tasks), timeout=self.commons.limits.drain)
        for flight in tuple(self.running):
            flight.stop(LoadStoppedError("the application is shutting down"))
        left = tuple(self.tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_LAST_WORD)
        self._stop_sweeping()

    async def aclose(self) -> None:
        """Drain, then close the stores."""
        await self.drain()
        await self.near.aclose()
        await self.far.aclose()
