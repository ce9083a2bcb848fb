"""Who waits for another machine, and whom a message wakes: one bell per waiting load.

Decides nothing but which bells ring. A message may be lost; who waits looks by itself from time to time.
"""

from __future__ import annotations

import asyncio

from glasscache._entry import Key


class KeyBell:
    """Rings when another machine lets go of a key."""

    def __init__(self, bells: dict[Key, set[KeyBell]], key: Key) -> None:
        self._bells = bells
        self._key = key
        self._has_rung = False
        self._waiting: asyncio.Future[None] | None = None
        bells.setdefault(key, set()).add(self)

    async def rung(self, seconds: float) -> bool:
        """Wait until it rings, or rang since it was last asked; False after `seconds`."""
        if not self._has_rung:
            self._waiting = asyncio.get_running_loop().create_future()
            try:
                await asyncio.wait((self._waiting,), timeout=seconds)
            finally:
                self._waiting = None
        rung, self._has_rung = self._has_rung, False
        return rung

    def ring(self) -> None:
        """Wake who waits."""
        self._has_rung = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """Listen no more."""
        others = self._bells.get(self._key)
        if others is not None:
            others.discard(self)
            if not others:
                del self._bells[self._key]


class Bells:
    """The bells of one process."""

    def __init__(self) -> None:
        self._bells: dict[Key, set[KeyBell]] = {}

    def __bool__(self) -> bool:
        return bool(self._bells)

    def bell(self, key: Key) -> KeyBell:
        """A new bell."""
        return KeyBell(self._bells, key)

    def ring(self, key: Key) -> None:
        """All that hang at this key."""
        for bell in tuple(self._bells.get(key, ())):
            bell.ring()

    def ring_all(self) -> None:
        """Messages may have been missed: everybody looks."""
        for key in tuple(self._bells):
            self.ring(key)
