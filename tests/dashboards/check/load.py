"""The scripted load: whatever a dashboard or an alert is there for happens once, on real processes and in real time.

Decides the script; the first part of it is a good day, which the alert on a fall of the hit ratio compares with.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from itertools import count
from random import Random
from typing import NamedTuple

import httpx

from tests.dashboards.check.backends import Backends, Site

POPULAR = 12
GOOD_DAY = 12.0  # seconds
TAIL = 6.0  # seconds after the last event, so that it is exported, scraped and within a rate
_PATIENCE = 300.0  # seconds; one crowd waits for all of the load


class Spans(NamedTuple):
    """When things happened, in seconds since the epoch."""

    began: float
    good_until: float
    ended: float


class Load:
    """A client for each process, and what it does."""

    def __init__(self, world: Backends, clients: dict[str, httpx.AsyncClient]) -> None:
        self._world = world
        self._clients = clients
        self._random = Random(7)
        self._new = count()

    async def get(self, site: str, path: str, **headers: str) -> None:
        with suppress(httpx.HTTPError):
            await self._clients[site].get(path, headers=headers)

    async def everywhere(self, path: str, each: int = 1) -> None:
        await asyncio.gather(*(self.get(site, path) for site in "ABC" for _ in range(each)))

    async def good_day(self) -> None:
        """A few questions, asked again and again."""
        until = time.monotonic() + GOOD_DAY
        while time.monotonic() < until:
            await self.everywhere(f"/answer?q={self._random.randrange(POPULAR)}", each=2)
            await asyncio.sleep(0.1)

    async def readers(self) -> None:
        """All the time from then on: popular searches that go stale, and some that only one asks."""
        while True:
            await self.everywhere(f"/search?q={self._random.randrange(POPULAR)}", each=3)
            await self.everywhere(f"/answer?q=once-{next(self._new)}")
            await asyncio.sleep(0.15)

    async def strangers(self) -> None:
        """More different questions than there is room for."""
        for _ in range(12):
            await asyncio.gather(
                *(self.get(site, f"/search?q=new-{next(self._new)}") for site in "ABC" for _ in range(20))
            )
            await asyncio.sleep(0.25)

    async def crowds(self) -> None:
        """Everybody asks the same, on all machines: waits of more than a second, some longer than allowed."""
        for seconds in (1.4, 1.4, 3.5, 3.5):
            await self.everywhere(f"/report?q=crowd-{next(self._new)}&seconds={seconds}", each=12)

    async def failures(self) -> None:
        """Loads that fail, answers that cannot be kept or asked for, a stale answer that stands in."""
        for number in range(6):
            await self.everywhere(f"/broken?q={number}")
            await self.everywhere(f"/huge?q={number}")
            await self.everywhere(f"/flaky?q={number % 2}")
            await self.everywhere(f"/mine?q={number}")
            for site in "ABC":
                await self.get(site, "/answer?q=0", authorization="Bearer somebody")
                await self.get(site, "/answer?q=0", range="bytes=0-1")
            await asyncio.sleep(0.5)

    async def corrections(self) -> None:
        """Things are told invalid; one machine stands still meanwhile, and hears it late."""
        for number in range(4):
            still = self._world.sites["B"].process.popen
            if number == 2:
                still.send_signal(signal.SIGSTOP)
            with suppress(httpx.HTTPError):
                await self._clients["A"].post("/forget?tag=docs")
                await self._clients["A"].post(f"/forget?q={number}")
            await asyncio.sleep(1.6)
            still.send_signal(signal.SIGCONT)

    async def outage(self) -> None:
        """The server that all share is gone for some seconds."""
        await asyncio.to_thread(self._world.redis.kill)
        await asyncio.sleep(5)
        await asyncio.to_thread(self._world.redis.start)
        await asyncio.sleep(4)

    async def stuck(self) -> None:
        """On one process, nothing is ever answered."""
        await asyncio.gather(*(self.get("D", "/report?q=stuck&seconds=600") for _ in range(6)))


async def run(world: Backends, tell: Callable[[str], None]) -> Spans:
    """Run the script."""
    async with AsyncExitStack() as stack:
        clients = {site.name: await stack.enter_async_context(_client(site)) for site in world.sites.values()}
        load = Load(world, clients)
        began = time.time()  # noqa: TID251 - what the backends store is dated by the wall clock
        background = [asyncio.create_task(load.stuck())]
        try:
            await _told(tell, "a good day", load.good_day)
            good_until = time.time()  # noqa: TID251
            background.append(asyncio.create_task(load.readers()))
            for part in (load.strangers, load.crowds, load.failures, load.corrections, load.outage):
                await _told(tell, part.__name__, part)
            await asyncio.sleep(TAIL)
        finally:
            for task in background:
                task.cancel()
            await asyncio.gather(*background, return_exceptions=True)
        return Spans(began, good_until, time.time())  # noqa: TID251


async def _told(tell: Callable[[str], None], name: str, part: Callable[[], Awaitable[None]]) -> None:
    begun = time.monotonic()
    await part()
    tell(f"  {name}: {time.monotonic() - begun:.0f} s")


def _client(site: Site) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=300, max_keepalive_connections=0)
    return httpx.AsyncClient(base_url=site.process.url, timeout=_PATIENCE, trust_env=False, limits=limits)
