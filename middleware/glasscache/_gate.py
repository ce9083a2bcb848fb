"""How many loads may run at once: for one rule, or for one key whose loads cannot be shared.

A gate also knows the origin's own word (429 or 503 with Retry-After). While it is paused it holds back refreshes
and every load for which something stale can stand in. A miss with nothing to stand in still goes to the origin: no
request fails because the cache refused to ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from glasscache._entry import Key


class _Slots(asyncio.Semaphore):
    """The slots of a gate, in one event loop: what a closed loop held is lost with it."""

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self.loop = asyncio.get_running_loop()
        self.users = 0

    async def enter(self) -> None:
        self.users += 1
        try:
            await self.acquire()
        except BaseException:
            self.users -= 1
            raise

    def leave(self) -> None:
        self.users -= 1
        if not self.loop.is_closed():
            self.release()


def no_slot() -> None:
    """How to leave a gate without a limit: there is nothing to give back."""


class Gate:
    """At most `limit` loads at once, 1 or more; None: any number."""

    __slots__ = ("_limit", "_slots", "is_bounded", "paused_until")

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self.is_bounded: bool = limit is not None
        """Whether anybody ever waits here."""
        self._slots: _Slots | None = None
        self.paused_until: float = 0.0

    @property
    def users(self) -> int:
        """Loads that are inside, and those that wait for a slot."""
        return 0 if self._slots is None else self._slots.users

    @property
    def is_full(self) -> bool:
        """Whether the next load would have to wait."""
        slots = self._slots
        return slots is not None and slots.loop is asyncio.get_running_loop() and slots.locked()

    async def enter(self) -> Callable[[], None]:
        """Wait for a slot; what comes back gives it back, and must be called once."""
        if self._limit is None:
            return no_slot
        if self._slots is None or self._slots.loop is not asyncio.get_running_loop():
            self._slots = _Slots(self._limit)
        slots = self._slots
        await slots.enter()
        return slots.leave

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

    def __len__(self) -> int:
        """Keys of which a load is inside or waits."""
        return len(self._gates)

    def is_full(self, key: Key) -> bool:
        """Whether the next load of this key would have to wait."""
        gate = self._gates.get(key)
        return gate is not None and gate.is_full

    async def enter(self, key: Key) -> Callable[[], None]:
        """As at a `Gate`; TimeoutError if there was no slot for `timeout` seconds."""
        gate = self._gates.setdefault(key, Gate(self._limit))
        try:
            async with asyncio.timeout(self._timeout):
                leave = await gate.enter()
        finally:
            self._forget(key, gate)
        return partial(self._leave, key, gate, leave)

    def _leave(self, key: Key, gate: Gate, leave: Callable[[], None]) -> None:
        leave()
        self._forget(key, gate)

    def _forget(self, key: Key, gate: Gate) -> None:
        if not gate.users:
            self._gates.pop(key, None)
