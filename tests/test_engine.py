"""The way of a request, step by step: what is answered, what is counted, what is told."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import pytest

from glasscache._events import Acquired, Answered, ServedStale
from glasscache._reader import ReaderGone
from glasscache.errors import LoadStoppedError, LoadTimeoutError
from glasscache.policy import Limits, Policy, Share
from tests.flights.rig import FarStore, answer, counted, events, loads, make, run, together, told, waits
from tests.flights.site import Load, OriginError
from tests.support.seeded_loop import World

# --- outcomes -------------------------------------------------------------------------------------------------------


def test_a_load_is_a_miss_those_who_wait_are_collapsed_and_those_who_come_later_are_hits() -> None:
    async def scenario(world: World) -> None:
        site = make(world)
        assert [found.result for found in await together(site, 3)] == ["miss", "collapsed", "collapsed"]
        assert (await site.request()).tier == "memory"
        assert counted(site) == {("miss", "origin"): 1, ("collapsed", "origin"): 2, ("hit", "memory"): 1}
        group = site.engine.counters.group("site")
        stored = site.stored()
        assert stored is not None
        assert stored.cost == 2.0
        assert group.saved_seconds == 3 * 2.0
        assert group.saved_bytes == 3 * stored.size
        assert group.misses_timed == 1
        assert sorted(event.result for event in events(site, Answered)) == ["collapsed", "collapsed", "miss"]
        assert [event.result for event in events(site, Acquired)] == ["immediate"]
        await site.rest()

    run(scenario)


def test_a_follower_that_joins_late_sees_the_body_from_byte_0_and_has_not_waited() -> None:
    async def origin(load: Load) -> None:
        load.begin()
        for chunk in load.body:
            await load.flight.write(chunk)
        await asyncio.sleep(5)
        load.flight.finish()

    async def scenario(world: World) -> None:
        site = make(world, origin=origin)
        leader = world.spawn(site.request())
        await asyncio.sleep(1)
        late = await site.request()
        assert late.result == "collapsed"
        assert waits(site) == []
        await leader
        await site.rest()

    run(scenario)


@pytest.mark.parametrize("is_in_time", [True, False])
def test_the_load_of_a_leader_that_is_cancelled_in_its_first_turn_ends_or_is_stopped_in_time(is_in_time: bool) -> None:
    async def origin(load: Load) -> None:
        await asyncio.sleep(3)
        await answer(load)

    async def scenario(world: World) -> None:
        site = make(world, origin=origin, limits=Limits(load_timeout=9.0 if is_in_time else 2.0))
        leader = world.spawn(site.request())
        await asyncio.sleep(0)
        assert site.engine.holders == 1
        leader.cancel()
        await asyncio.wait([leader])
        await site.rest_of_loads()
        (load,) = loads(site)
        assert leader.cancelled()
        assert (site.stored() is not None, load.error is None) == (is_in_time, is_in_time)
        await site.rest()

    run(scenario)


def test_an_error_is_counted_once_for_each_request_and_told() -> None:
    async def origin(load: Load) -> None:
        await asyncio.sleep(1)
        raise OriginError(code=3)

    async def scenario(world: World) -> None:
        site = make(world, origin=origin)
        first, second = await asyncio.gather(site.request(), site.request(), return_exceptions=True)
        assert isinstance(first, OriginError)
        assert isinstance(second, OriginError)
        assert (first is second, second.__cause__ is first, second.code) == (False, True, 3)
        assert counted(site) == {("error", "none"): 2}
        assert [event.error for event in events(site, Answered)] == [first, second]
        assert [wait.outcome for wait in waits(site)] == ["holder_failed"]
        assert loads(site)[0].error is first
        await site.rest()

    run(scenario)


class StubbornError(Exception):
    """Its copy is something else."""

    def __copy__(self) -> str:
        return "not an error"


class PlainError(Exception):
    """An error as most are."""


class PickyError(Exception):
    """It is made in its own way alone, and keeps what it knows in its own place."""

    __slots__ = ("__code",)

    def __new__(cls, *, code: int) -> Self:
        return super().__new__(cls)

    def __init__(self, *, code: int) -> None:
        super().__init__("picky")
        self.__code = code

    def __str__(self) -> str:
        return f"picky, code {self.__code}"


@pytest.mark.parametrize(
    ("raised", "shared"),
    [
        (StubbornError("no"), LoadStoppedError),
        (PlainError("x"), PlainError),
        (PickyError(code=7), PickyError),
        (FileNotFoundError(2, "No such file", "x"), FileNotFoundError),
    ],
)
def test_a_waiter_gets_the_error_of_the_load_or_one_that_names_it(raised: Exception, shared: type[Exception]) -> None:
    async def origin(load: Load) -> None:
        await asyncio.sleep(1)
        raise raised

    async def scenario(world: World) -> None:
        site = make(world, origin=origin)
        first, second = await asyncio.gather(site.request(), site.request(), return_exceptions=True)
        assert first is raised
        assert isinstance(second, shared)
        assert second is not raised
        assert str(raised) in str(second)
        await site.rest()

    run(scenario)


def test_private_answers_are_remembered_as_uncacheable_for_ten_seconds() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, Share.NONE))
        assert [found.result for found in await together(site, 3)] == ["miss", "bypass", "bypass"]
        assert (await site.request()).bypass == "uncacheable"
        assert [wait.outcome for wait in waits(site)] == ["acquired", "acquired"]
        assert site.engine.counters.bypasses == {"uncacheable": 3}
        assert counted(site) == {("miss", "origin"): 1, ("bypass", "none"): 3}
        await asyncio.sleep(10)
        assert (await site.request()).result == "miss"
        await site.rest()

    run(scenario)


def test_the_first_answer_that_may_be_shared_ends_the_memory_of_private_ones() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, Share.NONE if load.number == 0 else Share.ALL))
        await site.request()
        assert (await site.request()).result == "bypass"
        assert (await site.request()).result == "hit"
        assert len(site.state.uncacheable) == 0
        await site.rest()

    run(scenario)


def test_who_waits_for_a_turn_of_its_own_takes_what_was_stored_meanwhile() -> None:
    async def scenario(world: World) -> None:
        limits = Limits(max_parallel_loads=1)
        site = make(world, limits=limits, origin=lambda load: answer(load, Share.ALL if load.number else Share.NONE))
        assert [found.result for found in await together(site, 4)] == ["miss", "bypass", "hit", "hit"]
        assert sum(site.loads.values()) == 2
        assert [wait.outcome for wait in waits(site)] == ["acquired", "served", "served"]
        await site.rest()

    run(scenario)


def test_more_waiters_than_allowed_load_for_themselves() -> None:
    async def scenario(world: World) -> None:
        site = make(world, limits=Limits(max_waiters=2))
        assert [found.bypass for found in await together(site, 3)] == [None, None, "overload"]
        assert sum(site.loads.values()) == 2
        await site.rest()

    run(scenario)


def test_more_flights_than_allowed_are_nobodys_to_join() -> None:
    async def scenario(world: World) -> None:
        site = make(world, limits=Limits(max_flights=1))
        found = await asyncio.gather(site.request(b"a"), site.request(b"b"), site.request(b"a"))
        assert [(one.result, one.bypass) for one in found] == [
            ("miss", None),
            ("bypass", "overload"),
            ("collapsed", None),
        ]
        await site.rest()

    run(scenario)


def test_a_request_whose_flights_keep_being_somebody_elses_loads_for_itself() -> None:
    async def scenario(world: World) -> None:
        # too large to be kept until it is complete, so it is always its leader's alone
        site = make(world, origin=lambda load: answer(load, Share.LEADER, status=404), limits=Limits(max_entry_bytes=1))
        assert [(one.result, one.bypass) for one in await together(site, 10)] == [("miss", None)] * 10
        assert world.loop.time() < 8 * 2 + 2.2, "those left over load side by side"
        assert {wait.outcome for wait in waits(site)} == {"promoted", "holder_failed", "acquired"}
        await site.rest()

    run(scenario)


# --- waits and their links ------------------------------------------------------------------------------------------


def test_a_wait_and_its_load_are_linked_both_ways() -> None:
    async def scenario(world: World) -> None:
        site = make(world)
        await together(site, 20)
        (load,) = loads(site)
        assert all(wait.holder is load for wait in waits(site))
        assert sorted(wait.position for wait in waits(site)) == list(range(1, 20))
        refs = [wait.ref for wait in sorted(waits(site), key=lambda wait: wait.position)]
        assert load.waiters == refs[:16]
        assert load.queue_length == 19
        assert {(wait.outcome, wait.begun, wait.ended) for wait in waits(site)} == {("served", 0.0, 2.0)}
        assert (load.begun, load.ended, load.trigger) == (0.0, 2.0, "miss")
        await site.rest()

    run(scenario)


def test_a_follower_of_an_answer_that_is_the_leaders_alone_is_promoted_and_shares_what_it_gets() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, Share.LEADER, status=404))
        assert [found.result for found in await together(site, 3)] == ["miss", "miss", "collapsed"]
        assert [wait.outcome for wait in waits(site)] == ["promoted", "holder_failed", "served"]
        assert [event.result for event in events(site, Acquired)] == ["immediate", "contended"]
        assert site.stored() is None
        await site.rest()

    run(scenario)


def test_a_follower_that_waited_too_long_loads_for_itself() -> None:
    async def origin(load: Load) -> None:
        if load.number == 0:
            await asyncio.sleep(50)
        await answer(load)

    async def scenario(world: World) -> None:
        site = make(world, origin=origin, limits=Limits(wait_timeout=10, max_parallel_loads=1))
        tasks = [world.spawn(site.request()) for _ in range(2)]
        await asyncio.sleep(11)
        tasks += [world.spawn(site.request()) for _ in range(2)]
        assert [(await task).result for task in tasks] == ["miss", "miss", "hit", "hit"]
        assert [(wait.outcome, wait.ended) for wait in waits(site)] == [("timeout", at) for at in (10.0, 21.0, 21.0)]
        assert [event.result for event in events(site, Acquired)] == ["immediate", "timeout", "timeout", "timeout"]
        await site.rest()

    run(scenario)


def test_a_follower_without_a_turn_waits_on_for_the_load_it_follows() -> None:
    async def scenario(world: World) -> None:
        site = make(
            world,
            origin=lambda load: asyncio.sleep(20 * (1 + load.number)),
            limits=Limits(wait_timeout=5, max_parallel_loads=1),
        )
        found = await asyncio.gather(*(site.request() for _ in range(3)), return_exceptions=True)
        assert all(isinstance(error, LoadStoppedError) for error in found)
        assert sorted((wait.outcome, wait.ended) for wait in waits(site)) == [("holder_failed", 20.0), ("timeout", 5.0)]
        await site.rest()

    run(scenario)


def test_a_cancelled_follower_says_so() -> None:
    async def scenario(world: World) -> None:
        site = make(world)
        tasks = [world.spawn(site.request()) for _ in range(2)]
        await asyncio.sleep(0.5)
        assert (site.engine.waiters, site.engine.holders) == (1, 1)
        tasks[1].cancel()
        await asyncio.wait(tasks)
        assert [wait.outcome for wait in waits(site)] == ["cancelled"]
        assert counted(site) == {("miss", "origin"): 1}
        await site.rest()

    run(scenario)


def test_a_client_that_left_while_it_waited_is_neither_answered_nor_counted() -> None:
    async def scenario(world: World) -> None:
        site = make(world)
        joined: list[Any] = []
        leader = world.spawn(site.request())
        await asyncio.sleep(0)
        follower = world.spawn(site.request(joined=joined.append))
        await asyncio.sleep(0.5)
        joined[0].gone()
        with pytest.raises(ReaderGone):
            await follower
        await leader
        assert [wait.outcome for wait in waits(site)] == ["cancelled"]
        assert counted(site) == {("miss", "origin"): 1}
        await site.rest()

    run(scenario)


def test_nobody_waits_for_a_turn_for_longer_than_a_load_may_take() -> None:
    async def origin(load: Load) -> None:
        load.begin(Share.NONE)
        while True:
            await load.flight.write(b"tick")
            await asyncio.sleep(1)

    async def scenario(world: World) -> None:
        site = make(world, origin=origin, limits=Limits(max_parallel_loads=1, load_timeout=5))
        tasks = [world.spawn(site.request(), name=f"r{i}") for i in range(3)]
        with pytest.raises(LoadTimeoutError, match="within 5 s"):
            await tasks[2]
        assert world.loop.time() == 5.0
        assert [wait.outcome for wait in waits(site)] == ["acquired", "timeout"]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await site.rest()

    run(scenario)


# --- stale answers --------------------------------------------------------------------------------------------------

_STALE = Policy(ttl=10.0, stale_while_revalidate=20.0, stale_if_error=100.0, early_refresh=0.0)
_STAND_IN = Policy(ttl=10.0, stale_if_error=100.0, soft_timeout=0.5, early_refresh=0.0)


def test_a_stale_answer_is_served_and_refreshed_behind_with_a_link_to_who_set_it_off() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=_STALE)
        await site.request()
        await asyncio.sleep(15)
        cause = told(site).current_span = loads(site)[0].ref
        assert [(found.result, found.detail) for found in await together(site, 2)] == [("stale", "revalidating")] * 2
        await site.rest_of_loads()
        assert (await site.request()).result == "hit"
        assert [(load.trigger, load.cause) for load in loads(site)] == [("miss", None), ("refresh", cause)]
        assert loads(site)[1].ref != cause
        assert [event.reason for event in events(site, ServedStale)] == ["revalidating"] * 2
        assert [event.age for event in events(site, ServedStale)] == pytest.approx([5.0, 5.0], abs=0.1)
        assert site.engine.counters.group("site").saved_seconds == 3 * 2.0
        await site.rest()

    run(scenario)


def test_a_paused_gate_holds_refreshes_back_and_lets_stale_answers_stand_in() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=_STALE)
        await site.request()
        site.gate.pause(1000.0)
        site.gate.pause(5.0)  # the longer word counts
        await asyncio.sleep(15)
        assert (await site.request()).detail == "revalidating"
        await asyncio.sleep(30)
        assert (await site.request()).detail == "error"
        assert sum(site.loads.values()) == 1
        site.engine.near.clear()
        assert (await site.request()).result == "miss"  # nothing can stand in: no request fails because of a pause
        await site.rest()

    run(scenario)


def test_no_refresh_begins_while_too_many_loads_run() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=_STALE, limits=Limits(max_flights=1))
        await site.request(b"a")
        await asyncio.sleep(15)
        other = world.spawn(site.request(b"b"))
        await asyncio.sleep(0)
        assert (await site.request(b"a")).result == "stale"
        await other
        assert site.loads[b"a"] == 1
        await site.rest()

    run(scenario)


def test_a_costly_answer_is_refreshed_early_by_one_of_many_requests() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=Policy(ttl=100.0, early_refresh=1000.0))
        await site.request()
        await asyncio.sleep(1)
        assert [found.result for found in await together(site, 3)] == ["hit", "hit", "hit"]
        await site.rest_of_loads()
        assert [load.trigger for load in loads(site)] == ["miss", "refresh"]
        await site.rest()

    run(scenario)


def test_jitter_shortens_lifetimes() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=Policy(ttl=100.0, jitter=0.5))
        ends = set()
        for key in (b"a", b"b", b"c"):
            await site.request(key)
            stored = site.stored(key)
            assert stored is not None
            ends.add(stored.fresh_until - stored.born)
        assert len(ends) == 3
        assert 50.0 <= min(ends) <= max(ends) <= 100.0
        await site.rest()

    run(scenario)


def test_a_stale_answer_stands_in_when_the_load_takes_too_long() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=_STAND_IN)
        await site.request()
        await asyncio.sleep(50)
        begun = world.loop.time()
        assert [(found.result, found.detail) for found in await together(site, 2)] == [("stale", "wait_timeout")] * 2
        assert world.loop.time() == begun + 0.5
        assert [wait.outcome for wait in waits(site)] == ["stale_served"]
        await site.rest_of_loads()
        assert (await site.request()).result == "hit"
        await site.rest()

    run(scenario)


def test_a_stale_answer_of_the_far_tier_stands_in_too() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=_STAND_IN, far=FarStore())
        await site.request()
        await site.rest_of_loads()
        await asyncio.sleep(50)
        site.engine.near.clear()
        found = await together(site, 2)
        assert [(one.result, one.tier, one.detail) for one in found] == [("stale", "far", "wait_timeout")] * 2
        await site.rest()

    run(scenario)


def test_without_anything_to_stand_in_a_soft_timeout_changes_nothing() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=_STAND_IN, limits=Limits(wait_timeout=0.4))
        assert [found.result for found in await together(site, 2)] == ["miss", "miss"]
        site.engine.near.clear()
        await site.rest_of_loads()
        await site.rest()

    run(scenario)


@pytest.mark.parametrize("trouble", ["raises", "answers 503"])
def test_a_stale_answer_stands_in_for_a_failed_load(trouble: str) -> None:
    async def origin(load: Load) -> None:
        if load.number == 0:
            await answer(load)
        elif trouble == "raises":
            raise OriginError(code=1)
        else:
            await answer(load, Share.WHEN_COMPLETE, status=503)

    async def scenario(world: World) -> None:
        site = make(world, origin=origin, policy=_STAND_IN.but(soft_timeout=5.0))
        await site.request()
        await asyncio.sleep(50)
        assert [(found.result, found.detail) for found in await together(site, 2)] == [("stale", "error")] * 2
        assert [wait.outcome for wait in waits(site)] == ["stale_served"]
        await site.rest()

    run(scenario)


def test_a_stale_answer_stands_in_for_a_turn_that_never_comes() -> None:
    async def origin(load: Load) -> None:
        if load.number == 0:
            await answer(load)
        elif load.number == 1:
            await answer(load, Share.NONE)
        else:
            await asyncio.Event().wait()

    async def scenario(world: World) -> None:
        site = make(
            world,
            origin=origin,
            limits=Limits(max_parallel_loads=1, load_timeout=3),
            policy=_STAND_IN.but(soft_timeout=100.0),
        )
        await site.request()
        await asyncio.sleep(50)
        found = await together(site, 3)
        assert [one.detail for one in found] == [None, "error", "wait_timeout"]
        assert [wait.outcome for wait in waits(site)] == ["acquired", "stale_served"]
        await site.rest()

    run(scenario)
