"""Who waits for another machine, and how it is woken: one channel per process, one bell per waiting load.

Decides nothing but which bells a message rings. A message may be lost; who waits looks by itself from time to time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from glasscache._entry import Key
from glasscache.stores._redis_channel import Subscription
from glasscache.stores._redis_clients import Client


class RedisBell:
    """Rings when another machine lets go of a key."""

    def __init__(self, bells: dict[Key, set[RedisBell]], key: Key) -> None:
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


class RedisBells:
    """The bells of one process."""

    def __init__(self, client: Callable[[], Client], channel: str) -> None:
        self._bells: dict[Key, set[RedisBell]] = {}
        self._subscription = Subscription(
            lambda: client().pubsub(),
            (channel.encode(),),
            hear=lambda _channel, key: self._ring(key),
            lost=lambda: None,
            restored=self._ring_all,
        )

    def bell(self, key: Key) -> RedisBell:
        """A new bell."""
        return RedisBell(self._bells, key)

    def start(self) -> None:
        """Hear, from the first time that there is something to wait for."""
        self._subscription.start()

    async def aclose(self) -> None:
        """Hear no more."""
        await self._subscription.aclose()

    def _ring(self, key: Key) -> None:
        for bell in tuple(self._bells.get(key, ())):
            bell.ring()

    def _ring_all(self) -> None:
        """Messages may have been missed: everybody looks."""
        for key in tuple(self._bells):
            self._ring(key)
