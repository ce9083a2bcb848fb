"""Tiers outside of this process as one that grants leases: the last one does, the nearer ones have copies.

Decides who is asked first, and which copies are taken and kept: none that is older than what the last tier had when the
lookup began, as far as this process can know (see `_copies.py`). What the last tier has is answered at once, and its
copy written behind the answer. What is wrong with a copy must never fail anything, or hold it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial

from glasscache._copies import Asking, Copies
from glasscache._entry import Entry, Key
from glasscache._events import SpanRef
from glasscache._lease import Claim, Lease, Lookup
from glasscache._tasks import Tasks
from glasscache.errors import StoreError
from glasscache.interfaces import Bell, Clock, LeaseStore, Store, Told
from glasscache.policy import answers, shorten
from glasscache.stores._null import NullStore, beside

_MOST_BEHIND = 100
"""Copies that are written at once. Where a nearer tier cannot keep up with the last one, the others are not made."""


class FarTiers:
    """`nearer`: where copies are. `max_ttl`: seconds of freshness that the last tier may give."""

    def __init__(self, nearer: Store, last: LeaseStore, *, clock: Clock, max_ttl: float) -> None:
        self._nearer = nearer
        self._last = last
        self._now = clock.now
        self._max_ttl = max_ttl
        self._copies = Copies(clock)
        self._behind = Tasks()
        """Copies that are being written."""
        self._most_behind = 0 if isinstance(nearer, NullStore) else _MOST_BEHIND
        self._glance: Callable[[Key, Told], bool] = beside(nearer).glance
        self.glanced: str = nearer.name
        """Which tier a glance asks."""

    @property
    def name(self) -> str:
        """That of the last tier."""
        return self._last.name

    async def get(self, key: Key) -> Entry | None:
        """The entry of the nearest tier that has it."""
        with Asking(self._copies, key) as asking:
            return await self._found(asking) or await self._last.get(key)

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry in every tier."""
        with self._copies.change(key):
            await self._changed(key, self._nearer.set(key, entry))
            await self._last.set(key, shorten(entry, self._max_ttl, entry.born))

    async def delete(self, key: Key) -> None:
        """Remove the entry from every tier, the last one first: nothing is promoted from there any more."""
        with self._copies.change(key):
            try:
                await self._last.delete(key)
            finally:
                await self._changed(key, self._nearer.delete(key))

    async def aclose(self) -> None:
        """Close every tier. The last one first: it then answers nothing any more that would be copied."""
        await self._last.aclose()
        if behind := self._behind.here():
            await asyncio.wait(behind)
        await self._nearer.aclose()

    async def look(self, key: Key, claim: Claim) -> Lookup:
        """The entry of the nearest tier whose entry answers, or what the last one says."""
        with Asking(self._copies, key) as asking:
            entry = await self._found(asking)
            if entry is not None and entry.number >= claim.newer_than and answers(entry, claim, self._now()):
                return Lookup(entry=entry, tier=self._nearer.name)
            look = await self._last.look(key, claim)
            if look.is_answer and look.entry is not None and asking.is_sound():
                self._copy_behind(key, look.entry)
            return look

    def glance(self, key: Key, then: Told) -> bool:
        """The copy alone, of the nearest tier."""
        asking = Asking(self._copies, key)
        if not asking.trusts():
            return False

        def told(found: Entry | StoreError | None) -> None:
            asking.end()
            then(found if isinstance(found, Entry) and asking.trusts() else None)

        asking.begin()
        if self._glance(key, told):
            return True
        asking.end()
        return False

    def drop_copy(self, key: Key) -> Coroutine[object, object, None]:
        """Another machine has put a newer answer into the last tier: from now on no lookup takes the copy."""
        self._copies.dropped(key)
        return self._drop(key)

    async def _drop(self, key: Key) -> None:
        with self._copies.change(key):
            await self._changed(key, self._nearer.delete(key))

    async def renew(self, key: Key, lease: Lease) -> bool:
        """Hold the lease for longer."""
        return await self._last.renew(key, lease)

    async def commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...] | None:
        """Keep the entry in every tier, if the last one takes it, and give the lease back."""
        with self._copies.change(key):
            try:
                told = await self._last.commit(key, lease, shorten(entry, self._max_ttl, entry.born))
            except StoreError:
                self._copies.may_be_old(key)  # nobody knows whether it was kept
                raise
            if told is not None:
                await self._changed(key, self._nearer.set(key, entry))
        return told

    async def release(self, key: Key, lease: Lease, *, refuse_for: float = 0.0) -> tuple[SpanRef, ...]:
        """Give the lease back."""
        return await self._last.release(key, lease, refuse_for=refuse_for)

    def listen(self, key: Key) -> Bell:
        """A bell for this key."""
        return self._last.listen(key)

    # --- copies -----------------------------------------------------------------------------------------------------

    async def _found(self, asking: Asking) -> Entry | None:
        if not asking.trusts():
            return None
        try:
            entry = await self._nearer.get(asking.key)
        except StoreError:
            return None
        return entry if asking.trusts() else None

    def _copy_behind(self, key: Key, entry: Entry) -> None:
        """Write it while its lookup is answered."""
        if len(self._behind) < self._most_behind or len(self._behind.here()) < self._most_behind:
            copying = Asking(self._copies, key, copies=True)
            copying.begin()
            self._behind.start(self._copy(copying, entry)).add_done_callback(partial(self._copied, copying))

    async def _copy(self, copying: Asking, entry: Entry) -> None:
        if copying.is_sound():
            await self._changed(copying.key, self._nearer.set(copying.key, entry))
            if not copying.is_sound():  # whoever has changed it meanwhile may have come first
                await self._drop(copying.key)

    def _copied(self, copying: Asking, task: asyncio.Task[None]) -> None:
        copying.end()
        if task.cancelled() or task.exception() is not None:  # nobody knows what was written
            self._copies.may_be_old(copying.key)

    async def _changed(self, key: Key, change: Awaitable[None]) -> None:
        """Overwrite the copy, or remove it."""
        try:
            await change
        except StoreError:
            self._copies.may_be_old(key)
        else:
            self._copies.is_new(key)
