"""Leases of which something got lost: given back again and again, until they have run out by themselves.

Decides how often, and for how many at once. Other machines would otherwise wait for what nobody loads any more. Each
is given back by its token: who holds the key by then, under another one, is not disturbed. Where the answer to a claim
got lost, nobody knows the token of what it was granted, if anything: the claim is made once more, which gets hold of a
lease in the name of this machine, unless a later claim of this machine has done so.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from contextvars import Context
from functools import partial
from random import Random

from glasscache._entry import Key
from glasscache._lease import Claim, Lease
from glasscache._tasks import Tasks
from glasscache.errors import StoreError

_FIRST_PAUSE = 0.1
_MOST = 1000
"""That are given back at once: where a server has failed so often, time is as good."""
_LASTS = 30.0
"""Seconds that a lease of which nobody knows anything may last."""


class Returns:
    """`release` gives a lease back, `recall` what a claim may have been granted; StoreError: it could not be told."""

    def __init__(
        self,
        release: Callable[[Key, Lease, float], Awaitable[object]],
        recall: Callable[[Key, Claim], Awaitable[object]],
        random: Random,
    ) -> None:
        self._release = release
        self._recall = recall
        self._random = random
        self._tasks = Tasks()
        self._claims: dict[Key, asyncio.Task[None]] = {}

    def add(self, key: Key, lease: Lease, refuse_for: float) -> None:
        """Give this one back; `refuse_for`: see `LeaseStore.release`."""
        if lease.seconds < math.inf and len(self._tasks) < _MOST:
            self._try(partial(self._release, key, lease, refuse_for), lease.seconds)

    def claimed(self, key: Key) -> None:
        """This machine claims the key: whatever a lost claim was granted is that claim's, or ended."""
        if (task := self._claims.pop(key, None)) is not None:
            task.cancel()

    def lost(self, key: Key, claim: Claim) -> None:
        """Give back what this claim may have been granted."""
        if len(self._tasks) < _MOST:
            self.claimed(key)
            self._claims[key] = task = self._try(partial(self._recall, key, claim), _LASTS)
            task.add_done_callback(lambda _: self._claims.get(key) is task and self._claims.pop(key))

    def _try(self, give_back: Callable[[], Awaitable[object]], seconds: float) -> asyncio.Task[None]:
        return self._tasks.start(self._again(give_back, seconds), Context())  # no request's

    async def _again(self, give_back: Callable[[], Awaitable[object]], seconds: float) -> None:
        pause, waited = _FIRST_PAUSE * (0.5 + self._random.random()), 0.0
        while waited < seconds:
            await asyncio.sleep(pause)
            waited += pause
            pause *= 2
            try:
                await give_back()
            except StoreError:
                continue
            return

    async def aclose(self) -> None:
        """Leave the rest to time."""
        tasks = self._tasks.here()
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
