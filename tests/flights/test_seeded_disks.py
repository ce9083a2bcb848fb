"""Processes of two machines, each with a disk between memory and the tier that all share, under thousands of schedules.

Whatever is replaced, told invalid, held up, lost from memory or cancelled: nobody gets an answer that was told invalid,
or replaced, before the request began and everybody had heard of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from glasscache._ask import unwanted
from glasscache._entry import Entry, Key
from glasscache._guard import Guard
from glasscache._lease import Claim, Lookup
from glasscache._tiers import TieredStore
from glasscache.errors import StoreError
from glasscache.interfaces import LeaseStore
from glasscache.stores.memory import MemoryStore
from glasscache.testing import SharedServer
from glasscache.testing._shared import SharedStore
from tests.flights.site import LoopClock, Site, prove
from tests.flights.test_seeded_machines import SETTLED, Machines
from tests.support.seeded_loop import World

pytestmark = [pytest.mark.seeded, pytest.mark.no_cover]


async def pause(random: Random) -> None:
    """Some turns of the event loop, or up to 0.01 seconds."""
    choice = random.random()
    if choice < 0.7:
        for _ in range(int(choice * 5)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep((choice - 0.7) / 30)


class Disk:
    """That of one machine: what is asked of it takes time on its way there, and back."""

    name = "disk"
    is_local = True

    def __init__(self, random: Random) -> None:
        self.random = random
        self.kept: dict[Key, Entry] = {}
        self.failing: set[str] = set()

    async def _enter(self, operation: str) -> None:
        await pause(self.random)
        if operation in self.failing:
            raise StoreError(f"{operation} was told to fail")

    async def get(self, key: Key) -> Entry | None:
        await self._enter("get")
        found = self.kept.get(key)
        await pause(self.random)
        return None if found is None else found.but()

    async def set(self, key: Key, entry: Entry) -> None:
        await self._enter("set")
        self.kept[key] = entry.but()
        await pause(self.random)

    async def delete(self, key: Key) -> None:
        await self._enter("delete")
        self.kept.pop(key, None)
        await pause(self.random)

    async def aclose(self) -> None:
        """It stays."""


class SlowStore(SharedStore):
    """Its answers take time on their way, too."""

    def __init__(self, server: SharedServer, machine: str, random: Random) -> None:
        super().__init__(server, machine)
        self._random = random

    async def look(self, key: Key, claim: Claim) -> Lookup:
        await pause(self._random)
        found = await super().look(key, claim)
        await pause(self._random)
        return found


class Processes(Machines):
    """Two on each of two machines."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.clock = LoopClock(world.loop)
        self.server = SharedServer(self.clock)
        self.disks = [Disk(world.random) for _ in range(2)]
        self.sites = [self.process(number) for number in range(4)]

    def process(self, number: int) -> Site:
        name, random = f"m{number}", self.world.random
        store = self.server.stores[name] = SlowStore(self.server, name, random)
        guard = partial(Guard, clock=self.clock, budget=5.0, random=Random(number))
        far = TieredStore([self.disks[number % 2], store]).far(self.clock, guard)
        assert far is not None
        guarded: LeaseStore = guard(far)
        near = MemoryStore(max_entries=2)
        return Site(self.world, near=near, far=guarded, backplane=self.server.backplane(name))

    async def replace(self) -> None:
        """One process loads the next version, although there is an answer."""
        site = self.world.random.choice(self.sites)
        version = site.version + 1
        for each in self.sites:
            each.version = version
        await site.request(who="replaces", wish=unwanted)
        await site.rest_of_loads()
        await asyncio.sleep(SETTLED)
        kept = self.server.slot(b"k").entry
        if kept is not None:  # or it joined an older load, which nothing is the matter with
            stored = int(kept.chunks[0].split(b" ")[1][1:])
            for each in self.sites:
                each.invalidated = max(each.invalidated, stored)

    def forget(self) -> None:
        """Memory has had no room, nor has a disk, perhaps."""
        for site in self.sites:
            site.engine.near.clear()
        if self.world.random.random() < 0.5:
            self.world.random.choice(self.disks).kept.clear()

    def trouble(self) -> None:
        """With a disk."""
        for disk in self.disks:
            disk.failing = {self.world.random.choice(("get", "set", "delete"))}

    def any_trouble(self) -> Callable[[], None]:
        """With the disks, the server, or one process that hears nothing; what ends it."""
        choose = self.world.random.choice
        what = choose(("disks", "server", "deaf"))
        if what == "disks":
            self.trouble()
            return self.heal
        if what == "server":
            self.server.fail(choose(("look", "commit", "mark", "read", "delete", "all")))
            return self.server.heal
        deaf = choose([*self.server.backplanes.values()])
        deaf.cut()
        return deaf.join

    def heal(self) -> None:
        """The disks are well."""
        for disk in self.disks:
            disk.failing.clear()


def test_nobody_gets_what_was_replaced_or_told_invalid_before_the_request_began_from_whichever_tier() -> None:
    async def scenario(world: World) -> None:
        machines, random = Processes(world), world.random
        await machines.settle()
        crowds = machines.crowd(1)
        for _ in range(3):
            await machines.sites[0].pause(0.05)
            if random.random() < 0.3:
                machines.trouble()
            if random.random() < 0.7:
                await machines.replace()
            else:
                await machines.invalidate(random.choice(machines.sites))
            if random.random() < 0.7:
                machines.forget()
            crowds += machines.crowd(1)
            machines.heal()
        await machines.survivors(crowds)
        await asyncio.sleep(2.0)  # what passes over a disk for a while does no more
        for site in machines.sites:
            site.engine.near.clear()
            await site.request(who="last")
        await machines.rest()

    prove(scenario)


def test_what_was_told_invalid_in_any_trouble_is_served_by_nobody_when_it_is_over() -> None:
    async def scenario(world: World) -> None:
        machines, random = Processes(world), world.random
        await machines.settle()
        crowds = machines.crowd(1)
        await asyncio.wait(crowds)
        for version in (1, 2):
            await machines.sites[0].pause(0.05)
            end, teller = machines.any_trouble(), random.choice(machines.sites)
            for site in machines.sites:
                site.version = version
            await teller.engine.invalidate(**random.choice(({"key": b"k"}, {"tag": "tag:k"}, {"everything": True})))
            teller.invalidated = version
            if random.random() < 0.5:
                machines.forget()
            crowds += machines.crowd(1)
            await machines.sites[0].pause(0.05)
            end()
            await asyncio.sleep(10.0)  # what could not be told or removed has been, and no breaker is open
            for site in machines.sites:
                site.invalidated = version
            crowds += machines.crowd(1)
        await machines.survivors(crowds)
        await asyncio.sleep(machines.server.lease_seconds)  # of what could not be given back
        await machines.rest()

    prove(scenario)
