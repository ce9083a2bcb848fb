"""Several stores as one: the nearest that has the answer gives it, and every nearer one gets a copy.

Decides the order, what is promoted, and how long a tier may keep anything. A tier that cannot answer is skipped; what
it is told is told to the others all the same.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from glasscache._entry import Entry, Key
from glasscache._events import SpanRef
from glasscache._far_tiers import FarTiers
from glasscache._lease import Claim, Lease, Lookup
from glasscache.errors import ConfigurationError, StoreError
from glasscache.interfaces import Backplane, Bell, Clock, LeaseStore, Middle, NearStore, Store, Told
from glasscache.policy import answers, shorten
from glasscache.stores._null import NullBell, NullStore, beside

_FOR_EVER = Lease(token=0, seconds=math.inf)


class Unleased:
    """A store that knows no leases, as one that grants every one."""

    def __init__(self, store: Store, *, clock: Clock) -> None:
        self.store = store
        self._now = clock.now

    @property
    def name(self) -> str:
        """That of the store."""
        return self.store.name

    async def get(self, key: Key) -> Entry | None:
        """The entry under `key`, or None."""
        return await self.store.get(key)

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry."""
        await self.store.set(key, entry)

    async def delete(self, key: Key) -> None:
        """Remove the entry."""
        await self.store.delete(key)

    async def aclose(self) -> None:
        """Close the store."""
        await self.store.aclose()

    async def look(self, key: Key, claim: Claim) -> Lookup:
        """The entry if it answers, else the lease, and beside it an entry that may stand in."""
        entry = await self.store.get(key)
        if entry is None or entry.number < claim.newer_than:
            return Lookup(lease=_FOR_EVER)
        return Lookup(entry=entry, lease=None if answers(entry, claim, self._now()) else _FOR_EVER)

    async def renew(self, key: Key, lease: Lease) -> bool:
        """For ever is long enough."""
        return True

    async def commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...]:
        """Keep the entry; nobody waits."""
        await self.store.set(key, entry)
        return ()

    async def release(self, key: Key, lease: Lease, *, refuse_for: float = 0.0) -> tuple[SpanRef, ...]:
        """Nobody waits."""
        return ()

    def listen(self, key: Key) -> Bell:
        """It never rings."""
        return NullBell()


def _leased(store: Store, clock: Clock) -> LeaseStore:
    return store if isinstance(store, LeaseStore) else Unleased(store, clock=clock)


def _unguarded(store: LeaseStore) -> LeaseStore:
    return store


class TieredStore:
    """`stores`, the nearest first: a `MemoryStore` (or another `NearStore`) can only be the first.

    `max_ttl`: seconds of freshness that a tier may give an answer, by the name of the tier: in the memory of a cache
    since it came there (the next tier is asked again then), elsewhere since its age was 0. What is promoted keeps the
    lifetime that is left of it. Reading asks the tiers in turn; writing and removing reaches all of them. Raises
    ConfigurationError for tiers that cannot work together.
    """

    def __init__(self, stores: Sequence[Store], *, max_ttl: Mapping[str, float] | None = None) -> None:
        self.stores: tuple[Store, ...] = _checked(stores)
        self._max_ttl = dict(max_ttl or {})
        names = [store.name for store in self.stores]
        if not names:
            raise ConfigurationError("TieredStore([]): give at least one store")
        if len(set(names)) < len(names):
            raise ConfigurationError(f"TieredStore({names}): each tier needs a name of its own")
        if any(isinstance(store, NearStore) for store in self.stores[1:]):
            raise ConfigurationError(f"TieredStore({names}): a store in memory can only be the first")
        _introduce(self.stores)
        alone = self.stores[0] if len(names) == 1 else NullStore()
        self._glance: Callable[[Key, Told], bool] = beside(alone).glance
        for name, ttl in self._max_ttl.items():
            if name not in names:
                raise ConfigurationError(f"TieredStore(max_ttl={{{name!r}: ...}}): there are {', '.join(names)}")
            if not 0 < ttl < math.inf:
                raise ConfigurationError(
                    f"TieredStore(max_ttl={{{name!r}: {ttl!r}}}): give a number of seconds above 0"
                )

    @property
    def name(self) -> str:
        """That of the last tier: what it has is the most."""
        return self.stores[-1].name

    @property
    def near(self) -> NearStore | None:
        """The tier in memory, if there is one."""
        first = self.stores[0]
        return first if isinstance(first, NearStore) else None

    @property
    def backplane(self) -> Backplane | None:
        """That of a tier which machines share, if there is one."""
        for store in reversed(self.stores):
            backplane = getattr(store, "backplane", None)
            if isinstance(backplane, Backplane):
                return backplane
        return None

    def far(self, clock: Clock, guard: Callable[[LeaseStore], Store] = _unguarded) -> LeaseStore | None:
        """The others as one, by the clock of the cache; None: there are none. `guard`: of what has copies."""
        stores = self.stores if self.near is None else self.stores[1:]
        if not stores:
            return None
        *nearer, last = stores
        leased = _leased(last, clock)
        ttls = {store.name: self.max_ttl(store) for store in nearer if store.name in self._max_ttl}
        if not nearer and last.name not in self._max_ttl:
            return leased
        guarded = [guard(_leased(store, clock)) for store in nearer]
        between = TieredStore(guarded, max_ttl=ttls) if guarded else NullStore()
        return FarTiers(between, leased, clock=clock, max_ttl=self.max_ttl(last))

    def max_ttl(self, store: Store) -> float:
        """Seconds of freshness that this tier may give."""
        return self._max_ttl.get(store.name, math.inf)

    def glance(self, key: Key, then: Told) -> bool:
        """That of the tier, if there is only one."""
        return self._glance(key, then)

    async def get(self, key: Key) -> Entry | None:
        """The entry of the nearest tier that has it. StoreError if none has, and one could not answer."""
        errors = []
        for number, store in enumerate(self.stores):
            try:
                entry = await store.get(key)
            except StoreError as error:
                errors.append(error)
                continue
            if entry is not None:
                await self._set(self.stores[:number], key, entry)
                return entry
        _raise(errors)
        return None

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry in every tier. StoreError, after all were told, if one could not."""
        _raise(await self._set(self.stores, key, entry))

    async def delete(self, key: Key) -> None:
        """Remove the entry from every tier. StoreError, after all were told, if one could not."""
        _raise(await self._each(self.stores, lambda store: store.delete(key)))

    async def aclose(self) -> None:
        """Close every tier."""
        _raise(await self._each(self.stores, lambda store: store.aclose()))

    async def _set(self, stores: Iterable[Store], key: Key, entry: Entry) -> list[StoreError]:
        return await self._each(stores, lambda store: store.set(key, shorten(entry, self.max_ttl(store), entry.born)))

    async def _each(self, stores: Iterable[Store], tell: Callable[[Store], Awaitable[None]]) -> list[StoreError]:
        errors = []
        for store in stores:
            try:
                await tell(store)
            except StoreError as error:
                errors.append(error)
        return errors


def _checked(stores: Any) -> tuple[Store, ...]:
    if not isinstance(stores, Iterable):
        raise ConfigurationError(f"TieredStore({stores!r}): give a list of stores, the nearest first")
    found = tuple(stores)
    for store in found:
        if isinstance(store, type) or not isinstance(store, Store):
            raise ConfigurationError(
                f"{store!r} is no store: give MemoryStore(...), RedisStore.from_url(...), or a TieredStore of both"
            )
    return found


def _introduce(stores: tuple[Store, ...]) -> None:
    """To the tier that machines share what outlives a process before it. ConfigurationError for a machine's own tier
    behind one that machines share: others would not hear of what is told invalid.
    """
    *nearer, last = stores
    if getattr(last, "is_local", False) and any(hasattr(store, "backplane") for store in nearer):
        raise ConfigurationError(
            f"TieredStore({[store.name for store in stores]}): {last.name} is this machine's alone: put it before "
            "the tier that machines share"
        )
    backplane: Any = getattr(last, "backplane", None)
    for store in nearer:
        if isinstance(store, Middle) and hasattr(backplane, "middle"):
            backplane.middle = store
            store.stand_between()


def _raise(errors: list[StoreError]) -> None:
    if errors:
        raise errors[0]
