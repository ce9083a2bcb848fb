"""Machines that share a tier, under thousands of schedules, with requests cancelled at any of their steps.

After every seed: each survivor had a right answer (see `site.py`), there was one load where one was due, no machine
holds a lease or waits, and nothing is left.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache.testing import SharedServer
from tests.flights.site import LoopClock, Site, prove
from tests.support.seeded_loop import World

pytestmark = [pytest.mark.seeded, pytest.mark.no_cover]

SETTLED = 0.1  # virtual seconds: every message has arrived


class Machines:
    """Sites before one server."""

    def __init__(self, world: World, count: int = 3) -> None:
        self.world = world
        self.server = SharedServer(LoopClock(world.loop))
        self.server.glances = world.random.random() < 0.5
        names = [f"m{number}" for number in range(count)]
        self.sites = [Site(world, far=self.server.store(name), backplane=self.server.backplane(name)) for name in names]

    async def settle(self) -> None:
        """All of them hear."""
        for site in self.sites:
            site.state.settle()
        await asyncio.sleep(SETTLED)

    def crowd(self, each: int, *keys: bytes, victims: bool = True) -> list[asyncio.Task[Any]]:
        """Requests that come to all machines."""
        return [task for site in self.sites for task in site.crowd(each, *keys, victims=victims)]

    async def survivors(self, tasks: list[asyncio.Task[Any]]) -> list[Any]:
        """What those answered that were not cancelled."""
        return await self.sites[0].survivors(tasks)

    async def invalidate(self, site: Site) -> None:
        """One machine tells the next version; itself it knows at once, the others when they have heard."""
        version = site.version + 1
        for each in self.sites:
            each.version = version
        how = self.world.random.choice(({"key": b"k"}, {"tag": "tag:k"}, {"everything": True}))
        await site.engine.invalidate(**how)
        site.invalidated = max(site.invalidated, version)
        await asyncio.sleep(SETTLED)
        for each in self.sites:
            each.invalidated = max(each.invalidated, version)

    @property
    def loads(self) -> int:
        """Of all machines."""
        return sum(site.loads.total() for site in self.sites)

    async def rest(self) -> None:
        """Nothing is left anywhere."""
        for _ in range(3):
            for site in self.sites:
                await site.rest_of_loads()
            await asyncio.sleep(SETTLED)
        for site in self.sites:
            site.check_rest()
            assert site.engine.abroad == (0, 0)
        assert [key for key in self.server.slots if self.server.slot(key).held] == [], "a lease that nobody gave back"
        for site in self.sites:
            await site.engine.aclose()


def test_a_crowd_over_three_machines_is_answered_by_one_load() -> None:
    async def scenario(world: World) -> None:
        machines = Machines(world)
        await machines.settle()
        answers = await machines.survivors(machines.crowd(3))
        await machines.rest()
        assert machines.loads == 1 or not (answers or machines.loads)

    prove(scenario)


def test_machines_that_have_just_begun_to_hear_share_as_well() -> None:
    async def scenario(world: World) -> None:
        machines = Machines(world)
        await machines.survivors(machines.crowd(3, b"a", b"b"))
        await machines.rest()
        assert max((sum(site.loads[key] for site in machines.sites) for key in (b"a", b"b")), default=0) <= 1

    prove(scenario)


def test_nobody_gets_what_was_told_invalid_before_the_request_began_on_whichever_machine() -> None:
    async def scenario(world: World) -> None:
        machines = Machines(world)
        await machines.settle()
        crowds = machines.crowd(3)
        for _ in range(2):
            await machines.sites[0].pause(0.05)
            await machines.invalidate(world.random.choice(machines.sites))
            crowds += machines.crowd(2)
        await machines.survivors(crowds)
        for site in machines.sites:
            await site.request(who="last")
        await machines.rest()

    prove(scenario)


def test_a_server_that_fails_now_and_then_costs_loads_and_no_answer() -> None:
    async def scenario(world: World) -> None:
        machines = Machines(world)
        await machines.settle()
        crowds = machines.crowd(3)
        for _ in range(2):
            await machines.sites[0].pause(0.05)
            machines.server.fail(world.random.choice(("look", "commit", "release", "renew", "read", "mark", "all")))
            crowds += machines.crowd(1)
            await machines.sites[0].pause(0.05)
            machines.server.heal()
        await machines.survivors(crowds)
        for site in machines.sites:
            await site.rest_of_loads()
        await asyncio.sleep(machines.server.lease_seconds)  # of what could not be given back
        await machines.rest()

    prove(scenario)


def test_what_cannot_be_told_holds_at_once_where_it_was_said_and_everywhere_when_it_is_told() -> None:
    async def scenario(world: World) -> None:
        machines, chance = Machines(world), world.random.random
        await machines.settle()
        crowds, version = machines.crowd(1), 0
        for _ in range(4):
            await machines.sites[0].pause(0.05)
            if chance() < 0.6:
                machines.server.fail(world.random.choice(("mark", "mark", "read", "look", "commit", "delete")))
            site, version = world.random.choice(machines.sites), version + 1
            for each in machines.sites:
                each.version = version
            how = world.random.choice(({"key": b"k"}, {"tag": "tag:k"}, {"tag": "tag:k"}, {"everything": True}))
            await site.engine.invalidate(**how)
            site.invalidated = max(site.invalidated, version)
            crowds += machines.crowd(1)
            if chance() < 0.6:
                machines.server.heal()
        machines.server.heal()
        await machines.survivors(crowds)
        await asyncio.sleep(machines.server.lease_seconds)  # of what could not be given back; all is told meanwhile
        for site in machines.sites:
            site.invalidated = version
        await machines.survivors(machines.crowd(2))
        await machines.rest()

    prove(scenario)
