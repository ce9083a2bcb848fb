"""The right to load: what one run has to do with the tier that machines share, before, during and after its load.

Decides whether a stored answer will do, whether to load or to wait for another machine that loads, and whether what is
loaded may be stored. Never runs an origin. A shared tier that cannot answer is no reason to wait, or to fail: the load
then goes ahead, and what comes of it is kept near, under doubt.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from dataclasses import replace
from typing import Literal

from glasscache._abroad import Abroad
from glasscache._ask import Ask
from glasscache._entry import Entry
from glasscache._events import Acquired, Load, Release, TierCall
from glasscache._flight import Flight
from glasscache._lease import Claim, Lease, Lookup
from glasscache._state import State
from glasscache.errors import StoreError

_MAX_LOOKS = 64  # for a key that is told invalid again and again
_FIRST_RENEWAL = 1 / 3  # of a lease
_NEVER_FRESH_ENOUGH = 1e9  # seconds: for a request that wants its origin's own word
_FRESHER = 0.05  # seconds: an entry of another machine is worth having if it lives this much longer


class Right:
    """Of a run that asks a far tier first. A tier that grants no leases grants every one."""

    is_known = True
    """Whether the shared tier has answered; otherwise what is stored near is under doubt."""
    idle = ""
    """Why a run that nobody waits for has no use: `refreshed` (another machine does), `uncacheable`, `wait_timeout`."""
    is_outdated = False
    """Whether another machine has told of a newer answer since the far tier was asked."""
    tier = "origin"
    """Where the answer comes from."""

    def __init__(self, state: State, ask: Ask, work: Load, fresh_for: float) -> None:
        self._state = state
        self._commons = state.commons
        self._at = ask.at
        self._asked = ask.key
        self._work = work
        self._refreshes = work.trigger == "refresh"
        self._warms = work.trigger == "warm"
        self.insists = ask.wish is not None and not self._warms
        """Whether its request wants the origin's own word."""
        self._takes_stale = ask.wish is None and not self._refreshes
        self._fresh_for = fresh_for
        self._newer_than = 0
        glanced, ask.glanced = ask.glanced, None
        self._begun = glanced.begun if glanced is not None and glanced.found is None else None
        """When the first lookup began: with the glance, if that has found nothing."""
        self._is_cut_off = glanced is not None and isinstance(glanced.found, StoreError)
        self._lease: Lease | None = None
        self._since = self._good_until = 0.0
        self._renewal: asyncio.TimerHandle | None = None

    @property
    def keeps(self) -> bool:
        """Whether what is loaded may be stored: under a lease, or near if nobody can be asked for one."""
        return self._lease is not None or not self.is_known

    @property
    def holds(self) -> bool:
        """Whether there is a lease to give back."""
        return self._lease is not None

    # --- before the load --------------------------------------------------------------------------------------------

    async def seek(self, flight: Flight) -> Entry | None:
        """An entry that answers; None: load, unless the run is `idle`. A stale one may stand in meanwhile."""
        bell = self._state.far.listen(self._at)
        waiting = Abroad(self._state, self._at, self._work, bell)
        try:
            if self._is_cut_off:
                return self._cut_off(waiting)
            for _ in range(_MAX_LOOKS):
                # a refresh that turns out to be needless leaves no span: nor may a client leave one below it
                look = await (self._look_hushed() if self._refreshes or waiting.has_waited else self._look())
                if look is None:
                    return self._cut_off(waiting)
                flight.stand_in = look.entry
                self._lend(look)
                if look.holder is None or self._refreshes:
                    flight.collapsed = waiting.has_waited
                    return self._decide(look, waiting)
                if not await waiting.wait(look.holder):
                    break
            self._told_acquired("timeout")
            self.idle = "wait_timeout" if self._warms else ""
            return None
        finally:
            waiting.leave()
            bell.close()

    def _lend(self, look: Lookup) -> None:
        """While it warms, requests are answered with what is stale, as they would be without it."""
        if self._warms and look.entry is not None and not (look.is_answer or self.is_outdated):
            self._state.keep_near(self._at, look.entry)

    async def _look_hushed(self) -> Lookup | None:
        with self._commons.telemetry.hushed():
            return await self._look()

    async def _look(self) -> Lookup | None:
        """One lookup that counts: what it found is not dead. None: the tier could not answer."""
        coherence = self._state.coherence
        while True:
            call = TierCall(tier=self._state.far.name, operation="get")
            self.is_outdated = False
            look = await self._state.tell(call, self._look_in_time(call))
            if look is None or look.entry is None:
                return look
            if self.is_outdated and look.is_answer:
                continue
            needed = coherence.dead_below(look.entry, self._asked)
            if look.entry.number >= needed:
                return look
            if look.lease or look.holder or look.refused:
                return replace(look, entry=None)
            self._newer_than = needed

    def _claim(self) -> Claim:
        coherence, fresh_for = self._state.coherence, self._fresh_for
        return Claim(
            ref=self._work.ref or self._commons.telemetry.current(),
            refreshes=not self._takes_stale,
            fresh_for=_NEVER_FRESH_ENOUGH if self.insists else fresh_for and fresh_for + _FRESHER,
            waits=not self._refreshes,
            number=coherence.given,
            newer_than=max(self._newer_than, coherence.markers.everything),
            reclaims=self._at not in self._state.leased,
        )

    async def _look_in_time(self, call: TierCall) -> Lookup:
        coherence, now, far = self._state.coherence, self._commons.clock.now, self._state.far
        if self._begun is not None:  # what is left of the time
            call.begun, self._begun = self._begun, None
            async with asyncio.timeout(max(call.begun + self._commons.limits.far_timeout - now(), 0.0)):
                look = await far.look(self._at, self._claim())
        else:
            look = await far.look(self._at, self._claim())  # within the time, or not at all: see _guard.py
        ends = call.begun + self._commons.limits.far_timeout
        call.found, call.tier = look.entry is not None, look.tier or call.tier
        if coherence.in_step:
            return look
        try:  # after the lookup: what was told invalid before it is known then
            async with asyncio.timeout(max(ends - now(), 0.0)):
                await coherence.catch_up()
        except Exception:
            if look.lease is None:
                raise
            look = replace(look, entry=None)  # nobody knows whether it may stand in
        except asyncio.CancelledError:
            if look.lease is not None:
                self._state.spawn(self._put_back(look.lease))
            raise
        return look

    async def _put_back(self, lease: Lease) -> None:
        await self._release(lease, 0.0)

    def _cut_off(self, waiting: Abroad) -> Entry | None:
        """Without the far tier: from what is left."""
        if not self._state.is_shared:
            self._hold(Lease(token=0, seconds=math.inf))
            return None
        waiting.over("error")
        self._told_acquired("error")
        self.is_known = False
        now = self._commons.clock.now()
        entry = self._state.near.peek(self._at)
        if entry is None or entry.doubted is None:
            return None
        if now < min(entry.dead_from, entry.doubted + self._commons.limits.suspect_ttl):
            self.tier = self._state.near.name
            self._state.counters.doubted += 1
            return entry
        self._state.near.drop(self._at, "expired")
        return None

    def _decide(self, look: Lookup, waiting: Abroad) -> Entry | None:
        if look.lease is not None:
            self._told_acquired("contended" if waiting.has_waited else "immediate")
            waiting.over("acquired")
            self._hold(look.lease)
        elif look.is_answer:
            waiting.over("served")
            self.tier = look.tier or self._state.far.name
            return look.entry
        else:  # nothing will be stored, or a refresh is under way elsewhere
            waiting.over("holder_failed")
            self.idle = "refreshed" if self._refreshes else "uncacheable" if self._warms else ""
        self._drop_doubted()
        return None

    def _drop_doubted(self) -> None:
        """The tier that knows has no such entry: it was told invalid, or is past its time."""
        entry = self._state.near.peek(self._at)
        if entry is not None and entry.doubted is not None and not self._refreshes:
            self._state.near.drop(self._at)

    def _told_acquired(self, result: Literal["immediate", "contended", "timeout", "error"]) -> None:
        if self._state.is_shared:
            self._commons.telemetry.emit(Acquired(scope="cluster", result=result))

    # --- during the load --------------------------------------------------------------------------------------------

    def _hold(self, lease: Lease) -> None:
        self._lease = lease
        self._state.leased[self._at] = self
        self._work.fencing_token = lease.token
        self._since = self._commons.clock.now()
        self._state.leases += self._state.is_shared
        self._good(lease)

    def _good(self, lease: Lease) -> None:
        self._good_until = self._commons.clock.now() + lease.seconds
        if self._state.is_shared:
            loop = asyncio.get_running_loop()
            self._renewal = loop.call_later(lease.seconds * _FIRST_RENEWAL, self._renew, lease)

    def _renew(self, lease: Lease) -> None:
        self._state.spawn(self._try_to_renew(lease))

    async def _try_to_renew(self, lease: Lease) -> None:
        call = TierCall(tier=self._state.far.name, operation="lease")
        with self._commons.telemetry.hushed():
            renewed = await self._state.tell(call, self._state.far.renew(self._at, lease))
        if self._lease is not lease:
            return  # given back meanwhile
        if renewed:
            self._good(lease)
        elif call.error is None:
            self._lose("lost")
        elif self._commons.clock.now() >= self._good_until:
            self._lose("expired")
        else:
            loop = asyncio.get_running_loop()
            self._renewal = loop.call_later(lease.seconds * _FIRST_RENEWAL / 2, self._renew, lease)

    def _lose(self, how: Release) -> None:
        self._let_go()
        self._is_given_back()
        self._work.release = how

    def _let_go(self) -> Lease:
        lease, self._lease = self._lease, None
        assert lease is not None
        if self._renewal is not None:
            self._renewal.cancel()
        self._work.held = self._commons.clock.now() - self._since
        self._state.leases -= self._state.is_shared
        return lease

    def _is_given_back(self) -> None:
        if self._state.leased.get(self._at) is self:
            del self._state.leased[self._at]

    # --- after the load ---------------------------------------------------------------------------------------------

    def give_back(self, entry: Entry | None, *, refuse_for: float = 0.0) -> Coroutine[object, object, bool]:
        """Commit the answer, or release the lease without one."""
        lease = self._let_go()
        return self._giving_back(self._release(lease, refuse_for) if entry is None else self._commit(lease, entry))

    async def _giving_back(self, work: Coroutine[object, object, bool]) -> bool:
        try:
            return await work
        finally:
            self._is_given_back()

    async def _release(self, lease: Lease, refuse_for: float) -> bool:
        call, far = TierCall(tier=self._state.far.name, operation="lease"), self._state.far
        waiters = await self._state.tell(call, far.release(self._at, lease, refuse_for=refuse_for))
        self._work.remote_waiters.extend(waiters or ())
        return True

    async def _commit(self, lease: Lease, entry: Entry) -> bool:
        call = self._state.storing(entry)
        waiters = await self._state.tell(call, self._state.far.commit(self._at, lease, entry))
        self._work.remote_waiters.extend(waiters or ())
        if waiters is None and call.error is None:
            self._work.release = "lost"
            return False
        return True
