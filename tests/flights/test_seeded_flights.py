"""Who loads and who shares, under thousands of schedules, with requests cancelled at any of their steps.

After every seed: each survivor had a right answer (see `site.py`), no load ran that was not due, nothing is left.
"""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache._entry import Entry
from glasscache.errors import LoadStoppedError, ReaderCutError
from glasscache.policy import Limits, Share
from tests.flights.site import Load, OriginError, Site, prove
from tests.support.seeded_loop import World

pytestmark = [pytest.mark.seeded, pytest.mark.no_cover]


def test_a_crowd_on_one_key_is_answered_by_one_load() -> None:
    async def scenario(world: World) -> None:
        site = Site(world)
        answers = await site.survivors(site.crowd(5))
        assert site.loads[b"k"] == 1 or not (answers or site.loads)
        await site.rest()

    prove(scenario)


def test_a_crowd_over_several_keys_is_answered_by_one_load_for_each() -> None:
    async def scenario(world: World) -> None:
        site = Site(world)
        await site.survivors(site.crowd(6, b"a", b"b", b"c"))
        assert max(site.loads.values(), default=0) <= 1
        await site.rest()

    prove(scenario)


def test_a_leader_cancelled_at_any_step_costs_its_followers_nothing() -> None:
    async def scenario(world: World) -> None:
        site = Site(world)
        leader = world.spawn(site.request(who="leader"), victim=True)
        await asyncio.sleep(0)
        followers = site.crowd(3, after=0.01, victims=False)
        assert len(await site.survivors(followers)) == 3
        await asyncio.wait([leader])
        assert site.loads[b"k"] == 1
        await site.rest()

    prove(scenario)


def test_a_load_that_everyone_left_finishes_or_is_stopped_as_configured() -> None:
    async def scenario(world: World) -> None:
        finish_abandoned = world.random.random() < 0.5
        site = Site(world, limits=Limits(finish_abandoned=finish_abandoned))
        crowd = site.crowd(3, after=0.01)
        await site.pause()
        for task in crowd:
            task.cancel()
        await asyncio.wait(crowd)
        led = site.loads[b"k"]
        if led and site.stored() is None and site.random.random() < 0.5:
            await site.request(who="late")  # joins the load that nobody else reads, or leads anew
        await site.rest_of_loads()
        assert site.loads[b"k"] <= led + (not finish_abandoned)
        if led and finish_abandoned:
            assert site.stored() is not None
        await site.request(who="last")
        await site.rest()

    prove(scenario)


def test_an_error_is_shared_by_those_who_waited_each_with_a_copy_of_its_own() -> None:
    async def origin(load: Load) -> None:
        if load.number:
            await load.answer()
            return
        when = load.site.random.randrange(3)
        await load.site.pause()
        if when:
            load.begin()
            await load.site.pause()
        if when > 1:
            await load.flight.write(load.body[0])
            await load.site.pause()
        raise OriginError(code=7)

    async def scenario(world: World) -> None:
        site = Site(world, origin=origin)
        errors = await site.losers(site.crowd(4, after=0.0))
        assert len({id(error) for error in errors}) == len(errors)
        for error in errors:  # who had begun to pass the answer on was cut
            cause = error.__cause__ if isinstance(error, ReaderCutError) else error
            assert isinstance(cause, OriginError)
            assert cause.code == 7
        assert site.loads[b"k"] <= 1
        await site.request(who="next")
        await site.rest()

    prove(scenario)


def test_an_origin_that_is_cancelled_has_one_successor() -> None:
    async def origin(load: Load) -> None:
        await load.site.pause()
        if load.number < load.site.troubles:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        await load.answer()

    async def scenario(world: World) -> None:
        site = Site(world, origin=origin)
        site.troubles = world.random.choice((1, 9))
        tasks = site.crowd(4, after=0.0)
        await asyncio.wait(tasks)
        errors = [error for task in tasks if not task.cancelled() and (error := task.exception())]
        assert all(isinstance(error, LoadStoppedError) for error in errors)
        if site.troubles == 1:
            assert len(errors) <= 1  # the leader's own
        else:
            assert not site.served
        assert site.loads[b"k"] <= 2
        await site.rest()

    prove(scenario)


def test_private_answers_are_loaded_for_each_and_never_too_many_at_once() -> None:
    async def scenario(world: World) -> None:
        site = Site(world, origin=lambda load: load.answer(Share.NONE), limits=Limits(max_parallel_loads=2))
        await site.survivors(site.crowd(6))
        assert len({load for _, load in site.served}) == len(site.served)
        assert site.most_active <= 1 + 2  # the load that showed it, and those who then load for themselves
        assert site.stored() is None
        await site.rest()

    prove(scenario)


def test_an_answer_that_is_the_leaders_alone_is_loaded_once_more_for_the_rest() -> None:
    async def scenario(world: World) -> None:
        site = Site(world, origin=lambda load: load.answer(Share.LEADER, status=404))
        await site.survivors(site.crowd(5, after=0.0))
        assert site.loads[b"k"] <= 2
        assert site.stored() is None
        await site.rest()

    prove(scenario)


def test_of_two_variants_each_is_loaded_once_for_three_kinds_of_clients() -> None:
    languages = {"r0": b"en", "r1": b"de", "r2": b"en", "r3": b"de", "r4": b"en", "r5": b"de"}

    async def scenario(world: World) -> None:
        site = Site(world, origin=lambda load: load.answer(vary=(b"accept-language",)))

        def variant(who: str, marker: Entry) -> bytes:
            assert marker.vary == (b"accept-language",)
            return b"k" + marker.chunks[0] + languages[who]

        def request(who: str) -> Any:
            return site.request(b"k", who, after=0.05, variant=lambda marker: variant(who, marker))

        await site.survivors([world.spawn(request(who), victim=True) for who in languages])
        assert site.loads[b"k"] <= 2
        spoken = {(languages[who], load) for who, load in site.served}
        assert len(spoken) == len({load for _, load in spoken}), "one load answered in two languages"
        assert len(spoken) == len({language for language, _ in spoken}), "two loads answered in one language"
        await site.rest()

    prove(scenario)
