"""Stores that keep nothing, and what a store need not have: what the engine holds in their place, so that it never has
to ask.

Must never keep, count or tell anything.
"""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from glasscache._events import Cause, SpanRef, TierGauge
from glasscache._lease import Claim, Lease, Lookup

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from glasscache._entry import Entry, Key
    from glasscache.interfaces import RemovalHook, Store, Told


def _never(key: Key, then: Told) -> bool:
    """The glance of a store that has none."""
    return False


class Beside(NamedTuple):
    """What a store may have beside (see `interfaces.Glancing`)."""

    glance: Callable[[Key, Told], bool]
    glanced: str
    """Which tier a glance asks."""
    drop_copy: Callable[[Key], Coroutine[Any, Any, None]] | None
    """Where the store keeps copies on this machine: removes one of them."""


def beside(store: Store) -> Beside:
    """What this one has."""
    return Beside(
        getattr(store, "glance", _never), getattr(store, "glanced", store.name), getattr(store, "drop_copy", None)
    )


class NullStore:
    """A far tier that is always empty."""

    name = "none"

    async def get(self, key: Key) -> Entry | None:
        """A miss."""
        return None

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep nothing."""

    async def delete(self, key: Key) -> None:
        """There is nothing to delete."""

    async def aclose(self) -> None:
        """There is nothing to release."""


class NullLeases(NullStore):
    """A far tier that is always empty, and lets everybody load."""

    async def look(self, key: Key, claim: Claim) -> Lookup:
        """Nothing: load."""
        return Lookup(lease=Lease(token=0, seconds=math.inf))

    async def renew(self, key: Key, lease: Lease) -> bool:
        """As long as you like."""
        return True

    async def commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...]:
        """Keep nothing; nobody waited."""
        return ()

    async def release(self, key: Key, lease: Lease, *, refuse_for: float = 0.0) -> tuple[SpanRef, ...]:
        """Nobody waited."""
        return ()

    def listen(self, key: Key) -> NullBell:
        """A bell that never rings."""
        return NullBell()


class NullMiddle:
    """Of where nothing outlives the process."""

    def stand_between(self) -> None:
        """Nothing is kept anyway."""

    async def recall(self) -> tuple[str, int]:
        """There are no entries."""
        return "", 0

    async def belong(self, life: str) -> None:
        """There are none."""

    def distrust(self) -> bool:
        """There is nothing to distrust."""
        return False

    def put_last(self, key: Key) -> int:
        """There are no copies."""
        return 0

    def spare(self, key: Key, copy: int) -> None:
        """Nor any to be removed."""


class NullBell:
    """Never rings."""

    async def rung(self, seconds: float) -> bool:
        """Wait in vain."""
        await asyncio.sleep(seconds)
        return False

    def close(self) -> None:
        """There is nothing to close."""


class NullNear(NullStore):
    """A near tier that is always empty. It refuses without telling: nobody wanted anything kept here."""

    def peek(self, key: Key) -> Entry | None:
        """A miss."""
        return None

    def put(self, key: Key, entry: Entry) -> bool:
        """Refused."""
        return False

    def drop(self, key: Key, cause: Cause = "invalidated") -> bool:
        """It was not there."""
        return False

    def drop_tag(self, tag: str) -> int:
        """None were there."""
        return 0

    def clear(self) -> int:
        """None were there."""
        return 0

    def doubt(self, now: float) -> None:
        """There is nothing to doubt."""

    def sweep(self, now: float) -> float | None:
        """Nothing will ever die."""
        return None

    def gauge(self) -> TierGauge:
        """Empty, and not bounded."""
        return TierGauge(self.name, 0, 0, 0, 0)

    def watch(self, hook: RemovalHook) -> None:
        """There will be no removal to tell."""
