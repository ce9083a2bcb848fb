"""How many loads may run at once: for one rule, or for one key whose loads cannot be shared.

A gate also knows the origin's own word (429 or 503 with Retry-After). While it is paused it holds back refreshes
and every load for which something stale can stand in. A miss with nothing to stand in still goes to the origin: no
request fails because the cache refused to ask.
"""

from __future__ import annotations

import asyncio

from glasscache._entry import Key
from glasscache.errors import ConfigurationError


class Gate:
    """At most `limit` loads at once; None: any number."""

    __slots__ = ("_slots", "paused_until", "users")

    def __init__(self, limit: int | None = None) -> None:
        if limit is not None and limit < 1:
            raise ConfigurationError(f"max_loads={limit!r}: give a number of loads of at least 1, or None")
        self._slots = None if limit is None else asyncio.Semaphore(limit)
        self.users: int = 0
        """Loads inside and waiting."""
        self.paused_until: float = 0.0

    @property
    def is_full(self) -> bool:
        """Whether the next load would have to wait."""
        return self._slots is not None and self._slots.locked()

    async def enter(self) -> None:
        """Wait for a slot; `leave` gives it back."""
        if self._slots is not None:
            self.users += 1
            try:
                await self._slots.acquire()
            except BaseException:
                self.users -= 1
                raise

    def leave(self) -> None:
        """Give a slot back."""
        if self._slots is not None:
            self.users -= 1
            self._slots.release()

    def pause(self, until: float) -> None:
        """Load nothing that can be avoided before `until` (seconds of `Clock.now`)."""
        self.paused_until = max(self.paused_until, until)


class KeyGates:
    """A gate for every key whose loads cannot be shared, for as long as somebody uses it."""

    __slots__ = ("_gates", "_limit", "_timeout")

    def __init__(self, limit: int, timeout: float) -> None:
        self._limit = limit
        self._timeout = timeout
        self._gates: dict[Key, Gate] = {}

    def is_full(self, key: Key) -> bool:
        """Whether the next load of this key would have to wait."""
        gate = self._gates.get(key)
        return gate is not None and gate.is_full

    async def enter(self, key: Key) -> bool:
        """Wait for a slot; False if there was none for `timeout` seconds."""
        gate = self._gates.setdefault(key, Gate(self._limit))
        try:
            async with asyncio.timeout(self._timeout):
                await gate.enter()
        except TimeoutError:
            return False
        finally:
            self._forget(key, gate)
        return True

    def leave(self, key: Key) -> None:
        """Give a slot back."""
        gate = self._gates[key]
        gate.leave()
        self._forget(key, gate)

    def _forget(self, key: Key, gate: Gate) -> None:
        if not gate.users:
            self._gates.pop(key, None)
