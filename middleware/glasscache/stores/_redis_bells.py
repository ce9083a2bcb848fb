"""The bells of one process, rung by Redis: over one channel of its own.

Decides nothing but when it is listened to.
"""

from __future__ import annotations

from collections.abc import Callable

from glasscache.stores._bells import Bells
from glasscache.stores._redis_channel import Subscription
from glasscache.stores._redis_clients import Client


class RedisBells(Bells):
    """The bells of one process."""

    def __init__(self, client: Callable[[], Client], channel: str) -> None:
        super().__init__()
        self._subscription = Subscription(
            lambda: client().pubsub(),
            (channel.encode(),),
            hear=lambda _channel, key: self.ring(key),
            lost=lambda: None,
            restored=self.ring_all,
        )

    def start(self) -> None:
        """Hear, from the first time that there is something to wait for."""
        self._subscription.start()

    async def aclose(self) -> None:
        """Hear no more."""
        await self._subscription.aclose()
