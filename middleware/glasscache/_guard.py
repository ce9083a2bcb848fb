"""A far store that cannot hold anybody up: every answer within a budget, and none asked for while it is ill.

Decides how a store that was left alone (see `_breaker.py`) is asked again: by one probe at a time, which no request
waits for. A removal that could not be carried out is kept, and made up for before anything else is asked.
Operations run in tasks of their own, and are never cancelled: their callers only stop waiting.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import replace
from functools import partial
from random import Random
from typing import Any, TypeVar

from glasscache._breaker import Breaker
from glasscache._entry import Entry, Key
from glasscache._events import SpanRef, TierState
from glasscache._lease import Claim, Lease, Lookup
from glasscache._returns import Returns
from glasscache._sweep import Sweep
from glasscache._tasks import Tasks
from glasscache.errors import StoreError, UnstorableError
from glasscache.interfaces import Bell, Clock, LeaseStore, Told
from glasscache.stores._null import beside

T = TypeVar("T")

_MAX_REMOVALS = 10_000
_MAKE_UP_PAUSE = 4.0  # seconds from one try to the next
_NO_KEY: Key = bytes(16)
"""Asked for, or removed, by a probe; what it finds does not matter."""


def _nobody(state: TierState, error: BaseException | None) -> None:
    """Told of changes, where nobody else is."""


class _InTime:
    """One glance: `then` is told its answer, or that none came in time, whichever is first."""

    __slots__ = ("_guard", "then")

    def __init__(self, guard: Guard, then: Told) -> None:
        self._guard = guard
        self.then: Told | None = then
        """None: it has been told."""

    def done(self) -> bool:
        """As of a future."""
        return self.then is None

    def set_exception(self, error: StoreError) -> None:
        """As of a future."""
        self.told(error)

    def told(self, found: Entry | StoreError | None) -> None:
        """Its answer has come."""
        then, self.then = self.then, None
        if then is None:
            return
        guard, error = self._guard, found if isinstance(found, StoreError) else None
        guard._sweep.end(self)
        if error is not None or guard.glanced == guard.name:  # else a copy has answered, and the store was not asked
            guard._judge(error)
        then(found)


class Guard:
    """`store`, within `budget` seconds an operation, or not at all. Itself a LeaseStore.

    `has_copies`: it is of use only while it can be written, so that is what a probe tries: what takes copies no more
    would hold up each request that brings one. `told`: called with the new state whenever it changes, and with the
    error that made it worse.
    """

    def __init__(
        self, store: LeaseStore, *, clock: Clock, budget: float, random: Random, has_copies: bool = False
    ) -> None:
        self.store = store
        self._has_copies = has_copies
        self.name: str = store.name
        self.told: Callable[[TierState, BaseException | None], None] = _nobody
        self._budget = budget
        self._now = clock.now
        self._breaker = Breaker(clock.now, random)
        self._glance, self.glanced, self.drop_copy = beside(store)
        self._sweep = Sweep["asyncio.Future[Any] | _InTime"](budget, self._no_answer)
        self._returns = Returns(self._release, self._recall, random)
        self._tasks = Tasks()
        self._behind: asyncio.Task[None] | None = None
        """A probe, or removals that are made up for: one at a time."""
        self._removals: OrderedDict[Key, None] = OrderedDict()
        self._make_up_at = 0.0

    @property
    def state(self) -> TierState:
        """How the store is."""
        return self._breaker.state

    async def get(self, key: Key) -> Entry | None:
        """The entry under `key`, or None."""
        return await self._ask(self.store.get(key))

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry."""
        await self._ask(self.store.set(key, entry))
        self._removals.pop(key, None)

    async def delete(self, key: Key) -> None:
        """Remove the entry; if that cannot be done now, as soon as it can."""
        try:
            await self._ask(self.store.delete(key))
        except BaseException:  # not before: what is under way would be made up for, too
            self._make_up_for(key)
            raise
        self._removals.pop(key, None)

    def _make_up_for(self, key: Key) -> None:
        self._removals[key] = None
        self._removals.move_to_end(key)
        if len(self._removals) > _MAX_REMOVALS:  # its marker (see _markers.py) still says that it is dead
            self._removals.popitem(last=False)

    async def look(self, key: Key, claim: Claim) -> Lookup:
        """The entry, or the lease, or who holds it. A lease that comes too late, or not at all, is given back."""
        return await self._ask(self._look(key, claim), partial(self._too_late, key))

    async def _look(self, key: Key, claim: Claim) -> Lookup:
        self._returns.claimed(key)
        try:
            return await self.store.look(key, claim)
        except StoreError:
            if claim.reclaims:  # else this machine holds one already
                self._returns.lost(key, claim)
            raise

    def _too_late(self, key: Key, look: Lookup) -> None:
        if look.lease is not None:
            self._tasks.start(self._put_back(key, look.lease))

    async def _recall(self, key: Key, claim: Claim) -> None:
        """Claim once more, and give back what is then had."""
        again = self.store.look(key, replace(claim, waits=False))
        if (lease := (await self._ask(again, partial(self._too_late, key))).lease) is not None:
            await self._put_back(key, lease)

    async def _put_back(self, key: Key, lease: Lease) -> None:
        try:
            await self.store.release(key, lease)
        except StoreError:
            self._returns.add(key, lease, 0.0)

    def glance(self, key: Key, then: Told) -> bool:
        """The entry alone, told within the budget; False: `look`."""
        if self._breaker.is_open:
            return False
        glance = _InTime(self, then)
        if not self._glance(key, glance.told):
            return False
        if glance.then is not None:
            self._sweep.begin(glance)
        return True

    async def renew(self, key: Key, lease: Lease) -> bool:
        """Hold the lease for longer."""
        return await self._ask(self.store.renew(key, lease))

    async def commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...] | None:
        """Keep the entry and give the lease back; if that gets lost, give it back without."""
        try:
            told = await self._ask(self.store.commit(key, lease, entry))
        except StoreError as error:
            if not isinstance(error, UnstorableError):  # given back already
                self._returns.add(key, lease, 0.0)
            raise
        if told is not None:
            self._removals.pop(key, None)
        return told

    async def release(self, key: Key, lease: Lease, *, refuse_for: float = 0.0) -> tuple[SpanRef, ...]:
        """Give the lease back; if that gets lost, again."""
        try:
            return await self._release(key, lease, refuse_for)
        except StoreError:
            self._returns.add(key, lease, refuse_for)
            raise

    async def _release(self, key: Key, lease: Lease, refuse_for: float) -> tuple[SpanRef, ...]:
        return await self._ask(self.store.release(key, lease, refuse_for=refuse_for))

    def listen(self, key: Key) -> Bell:
        """A bell for this key."""
        return self.store.listen(key)

    async def aclose(self) -> None:
        """Wait for what is under way, then close the store."""
        await self._returns.aclose()
        if self._tasks:
            await asyncio.wait(tuple(self._tasks), timeout=self._budget)
        self._sweep.rest()
        await self.store.aclose()

    # --- asking -----------------------------------------------------------------------------------------------------

    async def _ask(self, operation: Coroutine[Any, Any, T], too_late: Callable[[T], None] | None = None) -> T:
        if self._breaker.is_open:
            operation.close()
            self._probe_if_due()
            raise StoreError(f"{self.name} does not answer: it is left alone for a while")
        try:
            answer = await self._in_time(operation, too_late)
        except Exception as error:
            self._judge(error)
            raise
        if not (isinstance(answer, Lookup) and answer.tier):  # else a copy has answered, and the store was not asked
            self._judge(None)
        return answer

    async def _in_time(self, operation: Coroutine[Any, Any, T], too_late: Callable[[T], None] | None = None) -> T:
        """What the operation returns; StoreError after the budget. Whoever left before it came is told too late."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._tasks.start(self._carry_out(operation, answer, too_late))
        self._sweep.begin(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            if not answer.cancelled() and answer.exception() is None and too_late is not None:
                too_late(answer.result())  # it came in the same moment
            raise
        finally:
            self._sweep.end(answer)

    async def _carry_out(
        self, operation: Coroutine[Any, Any, T], answer: asyncio.Future[T], too_late: Callable[[T], None] | None
    ) -> None:
        try:
            found = await operation
        except BaseException as error:
            if not answer.done():
                answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            if not answer.done():
                answer.set_result(found)
            elif too_late is not None:
                too_late(found)

    def _no_answer(self, answer: asyncio.Future[Any] | _InTime) -> None:
        if not answer.done():
            error = StoreError(f"no answer within {self._budget:g} s")
            error.__cause__ = TimeoutError()
            answer.set_exception(error)

    def _judge(self, error: BaseException | None) -> None:
        breaker = self._breaker
        if error is None and breaker.is_calm:
            if self._removals:
                self._make_up_if_due()
            return
        before = breaker.state
        if error is None or isinstance(error, UnstorableError):
            breaker.succeeded()
            self._make_up_if_due()
        else:
            breaker.failed()
        self._tell(before, error)

    def _tell(self, before: TierState, error: BaseException | None) -> None:
        if self._breaker.state != before:
            self.told(self._breaker.state, error)

    # --- asking again -----------------------------------------------------------------------------------------------

    @property
    def _is_idle(self) -> bool:
        behind = self._behind
        return behind is None or behind.done() or behind.get_loop() is not asyncio.get_running_loop()  # left behind

    def _probe_if_due(self) -> None:
        if self._breaker.is_due and self._is_idle:
            self._behind = self._tasks.start(self._try_again())

    def _make_up_if_due(self) -> None:
        """Not every removal that fails is part of an outage, after which it would be made up for."""
        if self._removals and not self._breaker.is_open and self._is_idle and self._now() >= self._make_up_at:
            self._make_up_at = self._now() + _MAKE_UP_PAUSE
            self._behind = self._tasks.start(self._make_up())

    async def _make_up(self) -> None:
        while self._removals:
            key = next(iter(self._removals))
            await self._in_time(self.store.delete(key))
            self._removals.pop(key, None)

    async def _try_again(self) -> None:
        try:
            probe: Coroutine[Any, Any, object]
            probe = self.store.delete(_NO_KEY) if self._has_copies else self.store.get(_NO_KEY)
            await self._in_time(probe)
            await self._make_up()
        except Exception:
            self._breaker.open()
        else:
            before = self._breaker.state
            self._breaker.close()
            self._tell(before, None)
