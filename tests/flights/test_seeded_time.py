"""Time, removal and bounds, under thousands of schedules, with requests cancelled at any of their steps.

After every seed: each survivor had a right answer (see `site.py`), no load ran that was not due, nothing is left.
"""

from __future__ import annotations

import asyncio

import pytest

from glasscache.errors import LoadStoppedError, LoadTimeoutError, ReaderCutError
from glasscache.policy import Limits, Policy
from glasscache.stores.memory import MemoryStore
from glasscache.testing import FlakyStore
from tests.flights.site import Load, OriginError, Site, prove
from tests.support.seeded_loop import World

pytestmark = [pytest.mark.seeded, pytest.mark.no_cover]


async def invalidate(site: Site, what: str) -> None:
    """The knowledge changes, and the cache is told."""
    site.version += 1
    version = site.version
    await site.engine.invalidate(
        key=b"k" if what == "key" else None, tag="tag:k" if what == "tag" else None, everything=what == "all"
    )
    site.invalidated = max(site.invalidated, version)


class Moody(FlakyStore):
    """A far store that takes its time, and fails now and then."""

    def __init__(self, world: World, *, errors: float = 0.2) -> None:
        super().__init__(MemoryStore())
        self._world = world
        self._errors = errors

    async def _pass(self, operation: str) -> None:
        random = self._world.random
        await asyncio.sleep(random.choice((0.0, 0.0, 0.01, 0.03)))
        if random.random() < self._errors:
            self.fail(operation)
        else:
            self.heal()
        await super()._pass(operation)

    async def aclose(self) -> None:
        """Nobody waits for that."""
        await self.store.aclose()


@pytest.mark.parametrize("tiers", ["near", "near and far"])
def test_nobody_who_comes_after_an_invalidation_gets_what_was_loaded_before(tiers: str) -> None:
    async def scenario(world: World) -> None:
        site = Site(world, far=Moody(world) if tiers != "near" else None)
        crowd = site.crowd(3, after=0.08)
        for _ in range(2):
            await site.pause(0.04)
            await invalidate(site, world.random.choice(("key", "tag", "all")))
            crowd += site.crowd(1, after=0.03)
        await site.survivors(crowd)
        await site.rest_of_loads()
        await site.request(who="last")
        assert site.loads[b"k"] <= 3 + (tiers != "near") * 3  # what the far tier lost is loaded anew
        await site.rest()

    prove(scenario)


def test_a_far_tier_that_is_slow_and_fails_now_and_then_fails_nobody() -> None:
    async def scenario(world: World) -> None:
        far = Moody(world)
        site = Site(world, far=far)
        await site.survivors(site.crowd(4, b"a", b"b"))
        await site.rest_of_loads()
        assert max(site.loads.values(), default=0) <= 1
        site.engine.near.clear()
        loads = site.loads.copy()
        await site.survivors(site.crowd(4, b"a", b"b"))
        assert all(site.loads[key] <= loads[key] + 1 for key in site.loads)
        await site.rest()

    prove(scenario)


_PIECES = tuple(bytes([65 + number]) * 100_000 for number in range(7))


def test_an_answer_that_outgrows_its_buffer_is_paced_by_its_readers_and_cuts_those_who_hold_up_others() -> None:
    async def origin(load: Load) -> None:
        await load.site.pause()
        load.begin()
        for piece in _PIECES:
            await load.flight.write(piece)
            assert load.site.engine.commons.held_bytes <= 2 * (256 * 1024 + len(piece)) * max(1, len(load.site.active))
            await load.site.pause()
        load.flight.finish()

    async def scenario(world: World) -> None:
        site = Site(world, origin=origin, limits=Limits(max_entry_bytes=250_000, reader_timeout=5.0))

        async def read(who: str, nap: float) -> None:
            answer = await site.engine.answer(site.ask(b"k", who))
            assert answer.reader is not None, "it is too large to be stored"
            try:
                for piece in _PIECES:
                    assert await answer.reader.next() is piece
                    await asyncio.sleep(nap)
                assert await answer.reader.next() is None
            finally:
                answer.reader.leave()

        naps = [0.0, 0.1, 0.1, world.random.choice((0.0, 11.0))]
        tasks = [world.spawn(read(f"r{i}", nap), victim=True) for i, nap in enumerate(naps)]
        await asyncio.wait(tasks)
        for nap, task in zip(naps, tasks, strict=True):
            if not task.cancelled() and task.exception() is not None:
                assert nap == 11.0, "a reader was cut that held up nobody"
                assert isinstance(task.exception(), ReaderCutError)
        assert site.loads[b"k"] <= 1
        assert site.stored() is None
        await site.rest()

    prove(scenario)


def test_a_stale_answer_is_served_while_one_load_refreshes_it_behind() -> None:
    async def scenario(world: World) -> None:
        site = Site(world, policy=Policy(ttl=10.0, stale_while_revalidate=50.0, early_refresh=0.0))
        await site.request(who="first")
        await asyncio.sleep(11)
        answers = await site.survivors(site.crowd(5))
        await site.rest_of_loads()
        assert site.loads[b"k"] <= 2
        assert {answer.result for answer in answers} <= {"stale", "hit"}
        if answers:
            assert (await site.request(who="last")).result == "hit"
            assert site.loads[b"k"] == 2
        await site.rest()

    prove(scenario)


def test_a_failing_load_is_stood_in_for_by_a_stale_answer() -> None:
    async def origin(load: Load) -> None:
        if load.number:
            await load.site.pause(0.3)
            if load.site.random.random() < 0.5:
                raise OriginError(code=1)
        await load.answer()

    async def scenario(world: World) -> None:
        policy = Policy(ttl=10.0, stale_if_error=100.0, soft_timeout=0.1, early_refresh=0.0)
        site = Site(world, policy=policy, origin=origin)
        await site.request(who="first")
        await asyncio.sleep(11)
        for answer in await site.survivors(site.crowd(5, after=0.2)):
            assert answer.result in ("miss", "collapsed", "hit", "stale")
        await site.rest()

    prove(scenario)


def test_followers_who_waited_too_long_load_for_themselves_but_never_too_many_at_once() -> None:
    async def origin(load: Load) -> None:
        if load.number == 0:
            await asyncio.sleep(30.0)
        await load.answer()

    async def scenario(world: World) -> None:
        limits = Limits(wait_timeout=1.0, max_parallel_loads=2)
        site = Site(world, limits=limits, origin=origin)
        await site.survivors(site.crowd(6, after=0.01))
        assert site.most_active <= 1 + 2
        assert site.loads[b"k"] <= 1 + 2, "those who wait for a turn take what the first one stored"
        await site.rest()

    prove(scenario)


def test_a_hung_origin_is_given_up_and_everyone_told() -> None:
    async def origin(load: Load) -> None:
        await load.site.pause()
        if load.site.random.random() < 0.5:
            load.begin()
            await load.site.pause()
        await asyncio.Event().wait()

    async def scenario(world: World) -> None:
        site = Site(world, origin=origin, limits=Limits(load_timeout=5.0))
        errors = await site.losers(site.crowd(4, after=0.5))
        for error in errors:
            cause = error.__cause__ if isinstance(error, ReaderCutError) else error
            assert isinstance(cause, LoadTimeoutError)
        assert len({id(error) for error in errors}) == len(errors)
        assert site.loads[b"k"] <= 1
        assert world.loop.time() < 7.0
        await site.rest()

    prove(scenario)


def test_no_more_loads_run_at_once_than_the_rule_allows() -> None:
    async def scenario(world: World) -> None:
        site = Site(world, max_loads=1, limits=Limits(finish_abandoned=False))
        await site.survivors(site.crowd(6, b"a", b"b", b"c"))
        assert site.most_active <= 1
        await site.rest()

    prove(scenario)


def test_a_shutdown_lets_loads_end_and_stops_what_does_not() -> None:
    async def origin(load: Load) -> None:
        if load.key == b"hung":
            await asyncio.Event().wait()
        await load.answer()

    async def scenario(world: World) -> None:
        site = Site(world, origin=origin, limits=Limits(drain=2.0))
        crowd = site.crowd(4, b"k", b"hung", after=0.0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # everyone has asked
        await site.pause()
        await site.engine.drain()
        assert world.loop.time() < 4.0
        await asyncio.wait(crowd)
        for task in crowd:
            error = None if task.cancelled() else task.exception()
            assert error is None or isinstance(error, LoadStoppedError)
        site.check_rest()
        await site.engine.aclose()

    prove(scenario)
