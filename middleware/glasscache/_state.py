"""What the loads of one engine share: the table of flights, the tiers, the invalidations, the tasks that run behind.

Decides which running loads an invalidation concerns, and how everything ends. A store that cannot answer is a miss
and is told; nothing here may fail a request.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Coroutine, Iterable
from contextlib import suppress
from contextvars import Context
from random import Random
from typing import TypeVar

from msgspec import Struct

from glasscache._coherence import Coherence, key_of, variant_tag
from glasscache._counters import Counters
from glasscache._entry import Entry, Key, sendable
from glasscache._events import Invalidation, Source, TierCall
from glasscache._flight import Flight
from glasscache._gate import KeyGates
from glasscache._glance import Glance
from glasscache._lately import Lately
from glasscache._null import NullBackplane
from glasscache._wait import Commons
from glasscache.errors import ConfigurationError, LoadStoppedError
from glasscache.interfaces import Backplane, LeaseStore, NearStore
from glasscache.policy import shorten
from glasscache.stores._null import NullLeases, NullNear, beside

_log = logging.getLogger("glasscache")

UNCACHEABLE_FOR = 10.0  # seconds that a key is remembered as "each its own" (hit-for-miss)
_UNCACHEABLE_KEYS = 10_000
_TELL_AGAIN = 1.0  # seconds until the others are told again what could not be told, up to twice as long
_SHUTDOWN = "the application is shutting down"
_LAST_WORD = 1.0  # seconds that cancelled loads have to end, when everything ends


T = TypeVar("T")


def _may_carry(flight: Flight, tag: str) -> bool:
    """Whether the answer of a running load carries the tag; before its head is known, any may."""
    head = flight.head
    return head is None or head.terms is None or tag in head.terms.tags


class Tiers(Struct, kw_only=True, frozen=True, eq=False):
    """Where one cache keeps answers, and who is told of its invalidations; None: there is none."""

    near: NearStore | None = None
    near_max_ttl: float = math.inf
    """Seconds of freshness that an answer may have in it."""
    far: LeaseStore | None = None
    """All tiers outside of this process, as one."""
    backplane: Backplane | None = None
    """Between the machines that share the far tier: its leases then decide what may be stored."""


class State:
    """What the runs of one engine share."""

    def __init__(self, tiers: Tiers, commons: Commons, random: Random) -> None:
        self.near: NearStore = NullNear() if tiers.near is None else tiers.near
        self.far: LeaseStore = NullLeases() if tiers.far is None else tiers.far
        self.ask_far, self.glanced, self._drop_copy = beside(self.far)
        self.commons = commons
        self.counters = Counters()
        self.has_far: bool = tiers.far is not None
        self.random = random
        self.is_shared: bool = tiers.backplane is not None
        """Whether machines share the far tier."""
        backplane = NullBackplane() if tiers.backplane is None else tiers.backplane
        self.coherence = Coherence(backplane, self, commons, alone=not self.is_shared, tier=self.far.name)
        self.leases = 0
        """Leases of the shared tier that are held, now."""
        self.leased: dict[Key, object] = {}
        """Who holds the lease of a key here, or gives it back: any other in this machine's name was left behind."""
        self.coherence.when_restored = self._catch_up_behind
        self.coherence.when_untold = self._tell_again_soon
        self._near_max_ttl = tiers.near_max_ttl
        self.flights: dict[Key, Flight] = {}
        """Flights that take followers."""
        self.glances: dict[Key, Glance] = {}
        """What the far tier is asked now, before there is a flight."""
        self.running: dict[Flight, Key] = {}
        """Every load under way, shared or not, and the key that was asked for, whatever the variant."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.warmers: set[asyncio.Task[None]] = set()
        """What loads ahead of all requests: it ends before anything else does."""
        self.slots = KeyGates(commons.limits.max_parallel_loads, commons.limits.load_timeout)
        """The turns of those who load for themselves."""
        self.uncacheable = Lately(_UNCACHEABLE_KEYS, UNCACHEABLE_FOR, commons.clock)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_warned = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._teller: tuple[asyncio.AbstractEventLoop, asyncio.TimerHandle] | None = None

    def forked(self) -> None:
        """In the child of a fork: what was under way goes on in the parent, which holds the leases."""
        self.leases = 0
        for under_way in (self.leased, self.flights, self.glances, self.running, self.tasks, self.warmers):
            under_way.clear()

    def settle(self) -> asyncio.AbstractEventLoop:
        """The running loop. One cache belongs to one at a time: what a closed one left would never end. Where another
        one is still at work with the far tier, the cache stays its own (see `is_elsewhere`).
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise ConfigurationError(
                "loads need an event loop of asyncio or uvloop, and none is running: run the server on one, not on trio"
            ) from None
        if loop is not self._loop and not self.is_elsewhere():
            self._loop, self._sweeper = loop, None
            self.glances.clear()
            for tasks in (self.tasks, self.warmers):
                tasks.difference_update([task for task in tasks if task.get_loop().is_closed()])
            for flight in [flight for flight in self.running if flight.loop.is_closed()]:
                flight.bury()
            if self.is_shared:
                self.spawn(self._listen(), Context())  # nobody's: the request that starts it ends long before
        return loop

    def is_elsewhere(self) -> bool:
        """Whether the far tier, and who waits for it, belong to an event loop that runs in another thread;
        this one then loads for itself.
        """
        home = self._loop
        if not self.has_far or home is None or home is asyncio.get_running_loop() or not home.is_running():
            return False
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "one cache is used by two event loops at a time: the second one gets what is in memory, and loads the "
                "rest for itself; give each thread a Cache of its own, or load in the thread of the first"
            )
        return True

    async def _listen(self) -> None:
        with self.commons.telemetry.hushed():
            await self.coherence.backplane.start(self.coherence)

    def has_room(self, joined: Flight | Glance | None) -> bool:
        """Whether one more may wait for this, or (None) begin another one."""
        limits, loop = self.commons.limits, asyncio.get_running_loop()
        if joined is not None:
            return len(joined.readers) < limits.max_waiters and joined.loop is loop
        is_here = loop is self._loop or not self.is_elsewhere()
        return is_here and len(self.running) + len(self.glances) < limits.max_flights

    def spawn(self, work: Coroutine[object, object, None], context: Context | None = None) -> asyncio.Task[None]:
        """Run something behind; `drain` waits for it. It tells its own failures: any other is a fault of ours, which
        asyncio logs (the tasks of `_tasks.py` have somebody who may look at theirs).
        """
        task = asyncio.get_running_loop().create_task(work, context=context)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def keep_near(self, key: Key, entry: Entry, *, is_known: bool = True) -> Entry:
        """Store in the near tier, and see to it that it leaves again when it is dead; what was stored.

        `is_known`: the far tier answered for it; even so it is doubted while invalidations may go unheard.
        """
        if self._near_max_ttl < math.inf:
            entry = shorten(entry, self._near_max_ttl, self.commons.clock.now())
        if not is_known or (self.is_shared and not self.coherence.in_step):
            entry.doubt(self.commons.clock.now())
        self.near.put(key, entry)
        if self._sweeper is None:
            self._sweep_in(entry.dead_from - self.commons.clock.now())
        return entry

    def _stop_timers(self) -> None:
        """None is left behind."""
        for timer in (self._sweeper, self._teller and self._teller[1]):
            if timer is not None:
                timer.cancel()
        self._sweeper = self._teller = None
        self.commons.rest()

    def _sweep_in(self, seconds: float) -> None:
        # at most every second, at least every half minute: a later entry may die before the one this timer was set for
        self._sweeper = asyncio.get_running_loop().call_later(min(max(seconds, 1.0), 30.0), self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self.commons.clock.now()
        due = self.near.sweep(now)
        if due is not None:
            self._sweep_in(due - now)

    async def tell(self, call: TierCall, work: Awaitable[T]) -> T | None:
        """Await an operation of the far tier, and tell how it went; None if it failed, as `call.error` says."""
        with self.commons.telemetry.span(call):
            call.begun = self.commons.clock.now()
            try:
                return await work
            except Exception as error:
                call.error = error
                return None
            finally:
                call.ended = self.commons.clock.now()

    def storing(self, entry: Entry) -> TierCall:
        """The record of storing it in the far tier."""
        ttl = entry.dead_from - self.commons.clock.now()
        return TierCall(tier=self.far.name, operation="set", size=entry.size, ttl=ttl)

    async def tell_replaced(self, key: Key) -> None:
        """The other machines may keep an older answer near."""
        call = TierCall(tier=self.far.name, operation="publish")
        await self.tell(call, self.coherence.backplane.tell_replaced(key))

    # --- removal and the end ----------------------------------------------------------------------------------------

    async def invalidate(self, key: Key | None, tag: str | None, everything: bool, source: Source) -> int:
        """Remove on demand; how many entries left the near tier. Loads under way are not stored."""
        work = Invalidation(source=source)
        tags: tuple[str, ...] = () if tag is None else (sendable(tag),)
        if key is not None:
            tags += (variant_tag(key),)
        with self.commons.telemetry.span(work):
            if self.is_elsewhere():
                work.count = self.coherence.invalidate_here(tags, everything=everything)
                return work.count
            ref = self.commons.telemetry.current() if self.is_shared else None
            work.count = await self.coherence.invalidate(tags, everything=everything, source=ref)
            if key is not None and self.has_far:
                await self.tell(TierCall(tier=self.far.name, operation="delete"), self.far.delete(key))
        return work.count

    # --- what an invalidation reaches here, told here or elsewhere (`Reach`) ----------------------------------------

    def forget(self, tags: Iterable[str], *, everything: bool) -> int:
        """Out of the near tier, and out of the table of flights; how many entries there were."""
        count = 0
        if everything:
            count += self.near.clear()
            self._void(self.running)
        for tag in tags:
            count += self.near.drop_tag(tag)
            key = key_of(tag)
            if key is None:
                self._void(flight for flight in self.running if _may_carry(flight, tag))
            else:
                count += self.near.drop(key)
                self._void(flight for flight, asked in self.running.items() if asked == key)
        return count

    def forget_replaced(self, key: Key) -> None:
        """Another machine has a newer answer."""
        self.near.drop(key, "replaced")
        self._outdate(key)
        if self._drop_copy is not None:
            self.spawn(self._drop_copy(key))

    def has_replaced(self, key: Key, kept: Entry) -> None:
        """This machine has stored its own answer far. Where `kept` has left near meanwhile (told late that an older one
        was replaced), what is there now was read before that; so may be what is being asked for.
        """
        if isinstance(self.near, NullNear):
            return  # nothing that is older stays there
        if self.near.peek(key) is not kept:
            self.near.drop(key, "replaced")
        self._outdate(key)

    def _outdate(self, key: Key) -> None:
        """What is being asked of the far tier now may be older than what it has."""
        if (flight := self.flights.get(key)) is not None:
            flight.outdate()
        if (glance := self.glances.get(key)) is not None:
            glance.is_outdated = True

    def doubt(self) -> None:
        """Everything in the near tier may have been told invalid."""
        self.near.doubt(self.commons.clock.now())

    def _catch_up_behind(self) -> None:
        self.spawn(self._try_to_catch_up())

    def _tell_again_soon(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is not None and self.is_elsewhere():
            with suppress(RuntimeError):  # it has just been closed: told at the next occasion
                self._loop.call_soon_threadsafe(self._tell_again)
        elif self._teller is None or self._teller[0] is not loop:
            pause = _TELL_AGAIN * (1 + self.random.random())
            self._teller = loop, loop.call_later(pause, self._tell_again)

    def _tell_again(self) -> None:
        self._teller = None
        if self.coherence.has_untold:
            self._catch_up_behind()

    async def _try_to_catch_up(self) -> None:
        with self.commons.telemetry.hushed():
            await self.tell(TierCall(tier=self.far.name, operation="get"), self.coherence.catch_up())

    def _void(self, flights: Iterable[Flight]) -> None:
        for flight in tuple(flights):
            flight.make_void()

    async def drain(self) -> None:
        """Let running loads end, for at most `Limits.drain` seconds; then stop them."""
        loop = self.settle()
        for warmer in self.warmers:
            warmer.cancel()
        left, until = self._under_way(), loop.time() + self.commons.limits.drain
        while left:  # who finds nothing in a far tier begins a load
            await asyncio.wait(left, timeout=max(until - loop.time(), 0.0))
            left = self._under_way() if loop.time() < until else []
        for glance in tuple(self.glances.values()):
            glance.told(LoadStoppedError(_SHUTDOWN))
        for flight in tuple(self.running):
            flight.stop(LoadStoppedError(_SHUTDOWN))
        for task in self.tasks:
            task.cancel()
        if self.tasks:
            await asyncio.wait(tuple(self.tasks), timeout=_LAST_WORD)
        self._stop_timers()

    def _under_way(self) -> list[asyncio.Future[None]]:
        return [*self.tasks, *(reader for glance in self.glances.values() for reader in glance.readers)]

    async def aclose(self) -> None:
        """Drain, then close the stores."""
        if self.coherence.has_untold:
            self._catch_up_behind()  # the last occasion
        await self.drain()
        self._loop = None  # used again, it starts anew
        await self.coherence.backplane.aclose()
        await self.near.aclose()
        await self.far.aclose()
