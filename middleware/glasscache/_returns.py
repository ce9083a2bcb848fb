"""Leases whose commit or release got lost: given back again and again, until they have run out by themselves.

Decides how often, and for how many at once. Other machines would otherwise wait for what nobody loads any more. Each is
given back by its token: who holds the key by then, under another one, is not disturbed.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import Context
from random import Random

from glasscache._entry import Key
from glasscache._lease import Lease
from glasscache.errors import StoreError

_FIRST_PAUSE = 0.1
_MOST = 1000
"""That are given back at once: where a server has failed so often, time is as good."""


class Returns:
    """`release`: gives a lease back; StoreError: it could not be told."""

    def __init__(self, release: Callable[[Key, Lease, float], Awaitable[object]], random: Random) -> None:
        self._release = release
        self._random = random
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, key: Key, lease: Lease, refuse_for: float) -> None:
        """Give this one back; `refuse_for`: see `LeaseStore.release`."""
        if lease.seconds < math.inf and len(self._tasks) < _MOST:
            again = self._give_back(key, lease, refuse_for)
            task = asyncio.get_running_loop().create_task(again, context=Context())  # no request's
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _give_back(self, key: Key, lease: Lease, refuse_for: float) -> None:
        pause, waited = _FIRST_PAUSE * (0.5 + self._random.random()), 0.0
        while waited < lease.seconds:
            await asyncio.sleep(pause)
            waited += pause
            pause *= 2
            try:
                await self._release(key, lease, refuse_for)
            except StoreError:
                continue
            return

    async def aclose(self) -> None:
        """Leave the rest to time."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
