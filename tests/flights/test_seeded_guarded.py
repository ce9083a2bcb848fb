"""Machines behind their guards, before a server whose answers and messages take time on their way, which fails, keeps
silent, or is heard no more, under thousands of schedules.

Requests, warmings, replacements and invalidations come in any order, and each of their callers may leave at any step.
Nobody gets what was told invalid, or replaced, before the request began and its machine had heard of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import pytest

from glasscache._ask import unwanted
from glasscache._entry import Entry, Key
from glasscache._events import SpanRef
from glasscache._guard import Guard
from glasscache._lease import Claim, Lookup
from glasscache.errors import StoreError
from glasscache.interfaces import Listener, Told
from glasscache.policy import Limits, Policy
from glasscache.testing import SharedServer
from glasscache.testing._shared import SharedBackplane, SharedStore
from tests.flights.site import LoopClock, Site
from tests.flights.test_seeded_machines import Machines
from tests.support.seeded_loop import Chaos, World, explore, seed_count

pytestmark = [pytest.mark.seeded, pytest.mark.no_cover]

KEY = b"k"
BUDGET = 0.25
LAG = 0.05
"""Seconds that a message takes at most."""
REST = 6.0
"""Seconds after which a lease that could not be given back has run out."""


def prove(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """A seed of these is as long as four of others."""
    explored = explore(scenario, range(seed_count() // 4), chaos=Chaos(horizon=48))
    assert explored.cancellations > 0


class SlowServer(SharedServer):
    """What it is asked, and what it answers, takes time on its way: while it is silent, longer than anybody waits."""

    def __init__(self, world: World) -> None:
        super().__init__(LoopClock(world.loop))
        self.random = world.random
        self.is_silent = False
        self.glances = self.random.random() < 0.8
        self._last: dict[str, float] = {}

    def trip(self) -> float:
        """Seconds of one way."""
        choice = self.random.random()
        if self.is_silent and choice < 0.5:
            return choice * 6 * BUDGET
        return 0.0 if choice < 0.3 else choice * 0.02

    async def enter(self, operation: str) -> None:
        self.calls[operation] += 1
        await asyncio.sleep(self.trip())
        self.check(operation)

    def tell_others(self, machine: str, tell: Callable[[Listener], None]) -> None:
        loop = asyncio.get_running_loop()
        for name, backplane in self.backplanes.items():
            if name != machine and backplane.hears:  # each hears in order
                at = max(self._last.get(name, 0.0), loop.time() + self.random.random() * LAG)
                self._last[name] = at + 1e-9
                loop.call_at(at, backplane.pass_on, tell)


class SlowStore(SharedStore):
    def __init__(self, server: SlowServer, machine: str) -> None:
        super().__init__(server, machine)
        self._slow = server

    async def look(self, key: Key, claim: Claim) -> Lookup:
        found = await super().look(key, claim)
        await asyncio.sleep(self._slow.trip())
        return found

    def glance(self, key: Key, then: Told) -> bool:
        if not self._slow.glances or self._slow.random.random() < 0.2:
            return False
        loop = asyncio.get_running_loop()

        def back(found: Entry | StoreError | None) -> None:
            loop.call_later(self._slow.trip(), then, found)

        loop.call_later(self._slow.trip(), self._glance, key, back)
        return True


class SlowBackplane(SharedBackplane):
    def __init__(self, server: SlowServer, machine: str) -> None:
        super().__init__(server, machine)
        self._slow = server

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        """Its caller's cancellation does not reach it."""
        work = asyncio.ensure_future(super().mark(tags, everything=everything, seen=seen, source=source))
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        number = await asyncio.shield(work)
        await asyncio.sleep(self._slow.trip())
        return number


class Guarded(Machines):
    """Three of them."""

    server: SlowServer

    def __init__(self, world: World, policy: Policy | None = None) -> None:
        self.world = world
        self.server = SlowServer(world)
        self.backplanes = [SlowBackplane(self.server, f"m{number}") for number in range(3)]
        self.sites = []
        for number, backplane in enumerate(self.backplanes):
            name = f"m{number}"
            store = self.server.stores[name] = SlowStore(self.server, name)
            self.server.backplanes[name] = backplane
            far = Guard(store, clock=LoopClock(world.loop), budget=BUDGET, random=Random(number))
            limits = Limits(far_timeout=BUDGET)
            self.sites.append(Site(world, far=far, backplane=backplane, limits=limits, policy=policy))
        self.tasks: list[asyncio.Task[Any]] = []

    def do(self, work: Coroutine[Any, Any, object], *, victim: bool = True) -> None:
        """Its caller may leave."""
        self.tasks.append(self.world.spawn(work, victim=victim))

    def next_version(self) -> int:
        """What loads bring from now on."""
        version = self.sites[0].version + 1
        for site in self.sites:
            site.version = version
        return version

    def learn(self, version: int) -> None:
        """All have heard that nothing older is right."""
        for site in self.sites:
            site.invalidated = max(site.invalidated, version)

    async def tell(self, site: Site) -> None:
        """One tells what is stored invalid; itself it knows at once, whether or not it hears that all know."""
        version = self.next_version()
        how = self.world.random.choice(({"key": KEY}, {"tag": "tag:k"}, {"everything": True}))
        try:
            await site.engine.invalidate(**how)
        finally:
            site.invalidated = max(site.invalidated, version)
        if not site.state.coherence.has_untold:
            await asyncio.sleep(2 * LAG)
            self.learn(version)

    async def replace(self, site: Site) -> None:
        """One loads anew, although there may be an answer."""
        self.next_version()
        await site.request(who="replaces", wish=unwanted)

    async def hear_what_there_is(self) -> None:
        """What the server has now is what all have heard of soon, if nothing goes wrong."""
        slot = self.server.slots.get(KEY)
        if slot is not None and slot.entry is not None:
            version = int(slot.entry.body.split(b" ")[1][1:])
            for site in self.sites:
                await site.rest_of_loads()  # which tell the others
            await asyncio.sleep(2 * LAG)
            self.learn(version)

    async def happen(self, *what: Callable[[Site], object]) -> None:
        """Some of these, one after the other, and requests meanwhile."""
        chance = self.world.random
        await self.settle()
        for _ in range(8):
            self.tasks += self.crowd(1)
            await self.sites[0].pause(0.3)
            chance.choice(what)(chance.choice(self.sites))
            if chance.random() < 0.3:
                chance.choice(self.sites).engine.near.clear()

    async def be_well_again(self) -> None:
        """Whatever was wrong: all are answered, and nothing is left."""
        self.server.heal()
        self.server.is_silent = False
        for backplane in self.backplanes:
            backplane.join()
        await self.survivors(self.tasks)
        await asyncio.sleep(2 * REST)
        await self.survivors(self.crowd(2))
        await self.rest()

    async def settle(self) -> None:
        for site in self.sites:
            site.state.settle()
        await asyncio.sleep(0.5)

    async def rest(self) -> None:
        for _ in range(3):
            for site in self.sites:
                await site.rest_of_loads()
            await asyncio.sleep(REST)
        assert not any(site.state.glances or site.state.leased for site in self.sites)
        await super().rest()


def test_nobody_gets_what_was_replaced_or_told_invalid_by_whoever_has_left_meanwhile() -> None:
    async def scenario(world: World) -> None:
        machines = Guarded(world)

        def look_on(_: Site) -> None:
            machines.do(machines.hear_what_there_is(), victim=False)

        await machines.happen(
            look_on,
            look_on,
            lambda site: machines.do(machines.replace(site)),
            lambda site: machines.do(machines.replace(site)),
            lambda site: machines.do(machines.tell(site)),
            lambda site: machines.do(site.engine.warm(site.ask(KEY))),
        )
        await machines.be_well_again()

    prove(scenario)


@pytest.mark.parametrize("trouble", ["server", "messages"])
def test_nor_while_the_server_is_in_trouble_or_is_not_heard(trouble: str) -> None:
    async def scenario(world: World) -> None:
        stale = Policy(ttl=0.3, stale_while_revalidate=0.5, stale_if_error=5.0, early_refresh=0.0)
        machines = Guarded(world, stale if world.random.random() < 0.5 else None)
        server, chance = machines.server, world.random

        def fail(site: Site) -> None:
            if trouble == "messages":
                machines.backplanes[machines.sites.index(site)].cut()
            elif chance.random() < 0.5:
                server.fail(chance.choice(("look", "glance", "commit", "release", "mark", "all")))
            else:
                server.is_silent = True

        def heal(site: Site) -> None:
            server.heal()
            server.is_silent = False
            machines.backplanes[machines.sites.index(site)].join()

        await machines.happen(
            fail,
            heal,
            lambda site: machines.do(machines.tell(site)),
            lambda site: machines.do(machines.tell(site)),
            lambda site: machines.do(machines.replace(site)),
            lambda site: machines.do(site.engine.warm(site.ask(KEY))),
        )
        await machines.be_well_again()

    prove(scenario)
