"""Stores that keep nothing: what the engine holds where no tier is set up, so that it never has to ask.

Must never keep, count or tell anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from glasscache._events import Cause, TierGauge

if TYPE_CHECKING:
    from glasscache._entry import Entry, Key
    from glasscache.interfaces import RemovalHook


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

    def sweep(self, now: float) -> float | None:
        """Nothing will ever die."""
        return None

    def gauge(self) -> TierGauge:
        """Empty, and not bounded."""
        return TierGauge(self.name, 0, 0, 0, 0)

    def watch(self, hook: RemovalHook) -> None:
        """There will be no removal to tell."""
