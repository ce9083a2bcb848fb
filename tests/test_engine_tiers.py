"""The engine's tiers, variants, removals, event loops and end."""

from __future__ import annotations

import asyncio
import gc
import logging
from typing import Any

import pytest

from glasscache._ask import Answer
from glasscache._entry import Entry
from glasscache._events import Invalidation, Removed, TierCall
from glasscache._far_run import open_run
from glasscache._lookups import Lookups
from glasscache._requests import Requests
from glasscache.errors import LoadStoppedError, RecursiveLoadError
from glasscache.policy import Limits, Policy, Share, make_marker
from glasscache.stores._null import NullNear
from glasscache.stores.memory import MemoryStore
from glasscache.testing import FlakyStore, entry
from tests.flights.rig import FarStore, answer, counted, events, loads, make, run, together, told, waits
from tests.flights.site import Load, Site
from tests.support.seeded_loop import SeededLoop, World

# --- the far tier ---------------------------------------------------------------------------------------------------


def test_what_the_far_tier_has_is_a_hit_of_that_tier_for_all_who_waited_and_promoted() -> None:
    async def scenario(world: World) -> None:
        far = FarStore()
        site = make(world, far=far)
        await site.request()
        await site.rest_of_loads()
        site.engine.near.clear()
        found = await together(site, 3)
        assert [(one.result, one.tier) for one in found] == [("hit", "far")] * 3
        assert site.stored() is far.peek(b"k")
        assert (await site.request()).tier == "memory"
        assert sum(site.loads.values()) == 1
        assert counted(site) == {("miss", "origin"): 1, ("hit", "far"): 3, ("hit", "memory"): 1}
        assert [wait.outcome for wait in waits(site)] == ["served", "served"]
        calls = [(work.operation, work.found) for work in told(site).ended if isinstance(work, TierCall)]
        assert calls == [("get", False), ("set", None), ("get", True)]
        await site.rest()

    run(scenario)


def test_a_far_tier_that_cannot_answer_is_a_miss_and_told() -> None:
    async def scenario(world: World) -> None:
        far = FlakyStore(FarStore())
        far.fail()
        site = make(world, far=far)
        assert (await site.request()).result == "miss"
        await site.rest_of_loads()
        await site.engine.invalidate(key=b"k")
        calls = [(work.operation, type(work.error).__name__) for work in told(site).ended if isinstance(work, TierCall)]
        assert calls == [("get", "StoreError"), ("set", "StoreError"), ("delete", "StoreError")]
        await site.rest()

    run(scenario)


def test_what_is_dead_or_invalidated_in_the_far_tier_is_a_miss() -> None:
    async def scenario(world: World) -> None:
        far = FlakyStore(FarStore())
        site = make(world, far=far)
        await far.set(b"k", entry(fresh_until=-1.0, settled_until=-1.0))
        assert (await site.request()).result == "miss"
        await site.rest_of_loads()
        far.fail("delete")
        await site.engine.invalidate(key=b"k")
        assert await far.get(b"k") is not None
        assert (await site.request()).result == "miss"
        await site.rest()

    run(scenario)


def test_what_is_invalidated_while_the_far_tier_looks_for_it_is_loaded_anew() -> None:
    async def scenario(world: World) -> None:
        far = FlakyStore(FarStore())
        site = make(world, far=far, limits=Limits(far_timeout=10.0))
        await site.request()
        await site.rest_of_loads()
        site.engine.near.clear()
        gate = asyncio.Event()
        far.hold(gate, "get")
        request = world.spawn(site.request())
        await asyncio.sleep(1)
        await site.engine.invalidate(tag="tag:k")
        gate.set()
        assert (await request).result == "miss"
        assert site.stored() is not None, "its origin was asked after the invalidation"
        await site.rest()

    run(scenario)


def test_a_load_stopped_while_the_far_tier_is_asked_never_asks_the_origin() -> None:
    async def scenario(world: World) -> None:
        far = FlakyStore(FarStore())
        gate = asyncio.Event()
        far.hold(gate, "get")
        site = make(world, far=far, limits=Limits(finish_abandoned=False, far_timeout=10.0))
        request = world.spawn(site.request())
        await asyncio.sleep(1)
        request.cancel()
        await asyncio.wait([request])
        gate.set()
        await site.rest_of_loads()
        assert not site.loads
        await site.rest()

    run(scenario)


def test_without_a_near_tier_the_far_one_answers() -> None:
    async def scenario(world: World) -> None:
        site = make(world, far=FarStore(), near=NullNear())
        await site.request()
        await site.rest_of_loads()
        assert (await site.request()).tier == "far"
        assert next(iter(site.engine.gauges())).tier == "none"
        await site.rest()

    run(scenario)


def test_a_far_answer_that_dies_on_its_way_is_loaded_anew() -> None:
    async def scenario(world: World) -> None:
        far = FarStore()
        site = make(world, far=far, near=NullNear())
        far.put(b"k", entry(b"k v0 load0 0/1;", fresh_until=10.0, settled_until=10.0))
        ask, tally = site.ask(b"k"), site.engine.tally
        requests = Requests(site.state, Lookups(site.state, tally), tally)
        await asyncio.sleep(9)
        reader = requests._lead(ask)
        sight = await reader.sight(None)
        await asyncio.sleep(2)
        assert requests._settle(ask, reader, sight) is None
        reader.leave()
        await site.rest()

    run(scenario)


# --- variants -------------------------------------------------------------------------------------------------------


def speaking(site: Site, language: bytes, *more: bytes) -> Any:
    """A request of a client that speaks this language."""

    def variant(marker: Entry) -> bytes:
        values = {b"accept-language": language, b"accept": more[0] if more else b""}
        return b"|".join((b"k", marker.chunks[0], *(values[name] for name in marker.vary)))

    return site.request(b"k", language.decode(), variant=variant)


_BY_LANGUAGE = (b"accept-language",)


def test_followers_of_the_same_variant_share_it_and_others_load_theirs() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE))
        found = await asyncio.gather(*(speaking(site, who) for who in (b"en", b"de", b"en", b"de")))
        assert [one.result for one in found] == ["miss", "miss", "collapsed", "collapsed"]
        assert (await speaking(site, b"de")).result == "hit"
        assert sum(site.loads.values()) == 2
        await site.rest()

    run(scenario)


def test_a_variant_found_in_the_far_tier_is_looked_for_under_its_marker() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE), far=FarStore())
        await speaking(site, b"en")
        await site.rest_of_loads()
        site.engine.near.clear()
        assert [one.tier for one in await asyncio.gather(*(speaking(site, b"en") for _ in range(2)))] == ["far", "far"]
        assert sum(site.loads.values()) == 1
        await site.rest()

    run(scenario)


def test_more_names_in_vary_make_a_new_marker_that_knows_the_old_names_too() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE if load.number == 0 else (b"accept",)))
        await speaking(site, b"en")
        old = site.stored()
        await speaking(site, b"de")
        new = site.stored()
        assert old is not None
        assert new is not None
        assert new.vary == (b"accept", b"accept-language")
        assert new.chunks != old.chunks
        await site.rest()

    run(scenario)


def test_a_marker_lives_as_long_as_its_variants_and_comes_back_with_them() -> None:
    async def scenario(world: World) -> None:
        policy = Policy(ttl=1000.0, early_refresh=0.0)
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE), policy=policy)
        await speaking(site, b"en")
        marker = site.stored()
        assert marker is not None
        assert marker.dead_from == 2.0 + 1000.0
        request = world.spawn(speaking(site, b"de"))
        await asyncio.sleep(1)
        site.engine.near.drop(b"k", "evicted")
        await request
        assert (await speaking(site, b"de")).result == "hit"
        assert (await speaking(site, b"en")).result == "hit"
        await site.rest()

    run(scenario)


@pytest.mark.parametrize("near", [None, NullNear()], ids=["memory", "none"])
def test_a_variant_that_lives_shorter_does_not_shorten_the_life_of_the_marker(near: NullNear | None) -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE), far=FarStore(), near=near)
        await speaking(site, b"en")
        await site.rest_of_loads()
        long, site.policy = site.policy, Policy(ttl=5.0, early_refresh=0.0)
        await speaking(site, b"de")
        await site.rest_of_loads()
        site.policy = long
        await asyncio.sleep(10)
        assert (await speaking(site, b"en")).result == "hit"
        assert sum(site.loads.values()) == 2
        await site.rest()

    run(scenario)


def test_a_newer_marker_is_left_alone() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE))
        await speaking(site, b"en")
        newer = make_marker(_BY_LANGUAGE, b"salt", now=0.0, lifetime=5.0, number=0)
        request = world.spawn(speaking(site, b"de"))
        await asyncio.sleep(1)
        site.engine.near.put(b"k", newer)
        await request
        assert site.stored() is newer
        await site.rest()

    run(scenario)


def test_a_marker_that_is_dead_selects_nothing() -> None:
    async def scenario(world: World) -> None:
        site = make(world)
        site.engine.near.put(b"k", make_marker(_BY_LANGUAGE, b"salt", now=0.0, lifetime=5.0, number=0))
        await asyncio.sleep(6)
        assert (await speaking(site, b"en")).result == "miss"
        stored = site.stored()
        assert stored is not None
        assert not stored.vary
        await site.rest()

    run(scenario)


def test_invalidating_a_key_takes_all_its_variants_along() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE))
        await asyncio.gather(speaking(site, b"en"), speaking(site, b"de"))
        loading = world.spawn(speaking(site, b"fr"))
        await asyncio.sleep(0.5)
        assert await site.engine.invalidate(key=b"k") == 3
        assert (await loading).result == "miss"
        assert (await speaking(site, b"fr")).result == "miss"
        assert sum(site.loads.values()) == 4
        await site.rest()

    run(scenario)


def test_a_load_told_invalid_before_its_head_opens_no_variants() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE))
        loading = [world.spawn(speaking(site, who)) for who in (b"en", b"en", b"de")]
        await asyncio.sleep(0.5)
        await site.engine.invalidate(everything=True)
        assert [(await task).result for task in loading] == ["miss", "collapsed", "miss"]
        assert site.stored() is not None  # that of the second load, which began after
        await site.rest()

    run(scenario)


# --- peek -----------------------------------------------------------------------------------------------------------


def test_peek_finds_what_is_fresh_and_loads_nothing() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: answer(load, vary=_BY_LANGUAGE), policy=Policy(ttl=10.0))

        def peek() -> Answer | None:
            return site.engine.peek(site.ask(b"k", variant=lambda marker: b"k|%b|en" % marker.chunks[0]))

        assert peek() is None
        await speaking(site, b"en")
        found = peek()
        assert found is not None
        assert found.result == "hit"
        await asyncio.sleep(11)
        assert peek() is None
        assert counted(site)["hit", "memory"] == 1
        await site.rest()

    run(scenario)


# --- removal --------------------------------------------------------------------------------------------------------


def test_removals_are_counted_with_their_cause_and_a_sample_is_told() -> None:
    async def scenario(world: World) -> None:
        site = make(world, near=MemoryStore(max_entries=1))
        for number in range(18):
            await site.request(b"%d" % number)
        await site.engine.invalidate(everything=True)
        assert site.engine.counters.removals == {("memory", "evicted"): 17, ("memory", "invalidated"): 1}
        assert [(event.tier, event.cause) for event in events(site, Removed)] == [("memory", "evicted")] * 2
        assert events(site, Removed)[0].age == pytest.approx(2.0, abs=0.1)
        assert [work.count for work in told(site).ended if isinstance(work, Invalidation)] == [1]
        await site.rest()

    run(scenario)


def test_what_is_dead_leaves_without_being_asked_for() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=Policy(ttl=10.0, early_refresh=0.0))
        await site.request(b"a")
        await site.request(b"b")
        await asyncio.sleep(15)
        assert next(iter(site.engine.gauges())).entries == 0
        assert site.engine.counters.removals == {("memory", "expired"): 2}
        await site.rest()

    run(scenario)


def test_what_is_dead_when_it_is_asked_for_is_removed_as_expired() -> None:
    async def scenario(world: World) -> None:
        site = make(world, policy=Policy(ttl=0.5, early_refresh=0.0))
        await site.request()
        await asyncio.sleep(0.6)
        assert (await site.request()).result == "miss"
        assert site.engine.counters.removals == {("memory", "expired"): 1}
        await site.rest()

    run(scenario)


def test_a_tag_that_came_after_the_head_counts() -> None:
    async def origin(load: Load) -> None:
        load.begin()
        head = load.flight.head
        assert head is not None
        assert head.terms is not None
        for chunk in load.body:
            await load.flight.write(chunk)
        await asyncio.sleep(1)
        terms = type(head.terms)(ttl=100.0, tags=("late",))
        load.flight.head = type(head)(status=200, headers=(), share=Share.ALL, terms=terms)
        load.flight.finish()

    async def scenario(world: World) -> None:
        site = make(world, origin=origin)
        request = world.spawn(site.request())
        await asyncio.sleep(0.5)
        await site.engine.invalidate(tag="late")
        await request
        assert site.stored() is None
        await site.rest()

    run(scenario)


def test_a_load_whose_tags_are_known_is_kept_when_another_tag_goes() -> None:
    async def scenario(world: World) -> None:
        site = make(world)
        request = world.spawn(site.request())
        await asyncio.sleep(1.5)
        await site.engine.invalidate(tag="another")
        await request
        assert site.stored() is not None
        await site.rest()

    run(scenario)


# --- loads inside of loads ------------------------------------------------------------------------------------------


def test_a_load_for_itself_alone_that_asks_for_its_own_key_is_told_so() -> None:
    async def origin(load: Load) -> None:
        await load.site.request(load.key)

    async def scenario(world: World) -> None:
        site = make(world, origin=origin, limits=Limits(max_flights=1))
        site.state.uncacheable.add(b"k")
        with pytest.raises(RecursiveLoadError):
            await site.request()
        assert sum(site.loads.values()) == 1
        await site.rest()

    run(scenario)


def test_a_task_that_outlives_its_load_may_ask_for_the_same_key() -> None:
    async def scenario(world: World) -> None:
        tasks: list[asyncio.Task[Answer]] = []

        async def later() -> Answer:
            await asyncio.sleep(5)
            site.engine.near.clear()
            return await site.request()

        async def origin(load: Load) -> None:
            if not tasks:
                tasks.append(world.spawn(later()))
            await answer(load)

        site = make(world, origin=origin)
        await site.request()
        assert (await tasks[0]).result == "miss"
        await site.rest()

    run(scenario)


# --- the origin's ways to end ---------------------------------------------------------------------------------------


def test_an_origin_that_returns_without_an_answer_is_an_error_after_one_more_try() -> None:
    async def scenario(world: World) -> None:
        site = make(world, origin=lambda load: asyncio.sleep(1))
        found = await asyncio.gather(*(site.request() for _ in range(3)), return_exceptions=True)
        assert [str(error) for error in found] == ["the origin returned before it had answered"] * 3
        assert sum(site.loads.values()) == 2
        await site.rest()

    run(scenario)


def test_an_error_after_the_answer_is_logged_and_fails_nobody(caplog: pytest.LogCaptureFixture) -> None:
    async def origin(load: Load) -> None:
        await answer(load)
        raise ValueError("in the background")

    async def scenario(world: World) -> None:
        site = make(world, origin=origin)
        assert (await site.request()).result == "miss"
        await site.rest()

    with caplog.at_level(logging.ERROR, logger="glasscache"):
        run(scenario)
    assert [record.message for record in caplog.records] == ["the origin failed after its answer was complete"]


def test_a_stopped_origin_sees_an_oserror_and_may_fail_of_it_in_silence(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(world: World) -> None:
        site = make(world, limits=Limits(finish_abandoned=False))
        request = world.spawn(site.request())
        await asyncio.sleep(1.5)
        request.cancel()
        await asyncio.wait([request])
        await site.rest()
        (load,) = loads(site)
        assert str(load.error) == "nobody reads this answer any more"

    run(scenario)
    assert not caplog.records


def test_a_load_cancelled_before_its_first_step_is_over() -> None:
    async def scenario(world: World) -> None:
        site = make(world)
        load = open_run(site.state, site.ask(b"k"), "miss")
        load.start()
        assert load.task is not None
        load.task.cancel()
        await site.rest_of_loads()
        assert isinstance(load.error, LoadStoppedError)
        assert not site.loads
        await site.rest()

    run(scenario)


def test_a_load_stopped_while_it_waits_for_its_turn_never_asks_the_origin() -> None:
    async def scenario(world: World) -> None:
        site = make(world, max_loads=1, limits=Limits(finish_abandoned=False))
        first, second = world.spawn(site.request(b"a")), world.spawn(site.request(b"b"))
        await asyncio.sleep(1.5)
        second.cancel()
        await first
        await site.rest_of_loads()
        assert site.loads == {b"a": 1}
        await site.rest()

    run(scenario)


def test_an_origin_that_does_not_notice_keeps_its_slot_for_a_second_and_is_cancelled() -> None:
    async def origin(load: Load) -> None:
        if load.key == b"a":
            await asyncio.Event().wait()
        await answer(load)

    async def scenario(world: World) -> None:
        site = make(world, origin=origin, max_loads=1, limits=Limits(finish_abandoned=False))
        first = world.spawn(site.request(b"a"))
        await asyncio.sleep(0.5)
        first.cancel()
        await site.request(b"b")
        assert loads(site)[0].ended == 0.5
        assert loads(site)[1].ended == 0.5 + 1.0 + 2.0
        await site.rest()

    run(scenario)


def test_a_drain_does_not_wait_for_an_origin_that_refuses_to_end() -> None:
    async def origin(load: Load) -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(20)
            except asyncio.CancelledError:
                continue

    async def scenario(world: World) -> None:
        site = make(world, origin=origin)
        request = world.spawn(site.request())
        await asyncio.sleep(1)
        await site.engine.drain()
        assert world.loop.time() == 1.0 + 5.0 + 1.0
        with pytest.raises(LoadStoppedError, match="shutting down"):
            await request
        await site.rest()

    run(scenario)


# --- event loops ----------------------------------------------------------------------------------------------------


def test_what_a_closed_loop_left_behind_holds_up_nobody() -> None:
    sites: list[Site] = []
    held: list[Any] = []

    async def ahead(site: Site) -> None:
        await site.engine.warm_all([b"w"], lambda key: site.engine.warm(site.ask(key)), 1)

    async def begin(world: World) -> None:
        site = make(world, max_loads=1, origin=answer, limits=Limits(max_parallel_loads=1))
        sites.append(site)
        site.state.uncacheable.add(b"x")
        held.extend(world.spawn(site.request(key)) for key in (b"k", b"k", b"l", b"x", b"x"))
        held.append(world.spawn(ahead(site)))
        await asyncio.sleep(1.5)
        assert site.engine.holders == 4
        assert site.engine.waiters == 1
        assert site.gate.is_full

    first = SeededLoop(0, order="fifo")
    world = World(first, 0)
    task = first.create_task(begin(world))
    first.run_until_complete(task)
    first.close()
    (site,) = sites

    async def go_on() -> None:
        site.origin = Load.answer
        assert not site.gate.is_full
        assert (await site.request()).result == "miss"
        assert site.engine.holders == site.engine.waiters == site.engine.commons.held_bytes == 0
        await site.engine.aclose()

    asyncio.run(go_on())
    assert {str(work.error) for work in loads(site)[:4]} == {"the event loop was closed under the load"}
    for task in [*held, *first.pending()]:  # asyncio would complain of them when they are collected
        task._log_destroy_pending = False
        task.get_coro().close()
    held.clear()
    gc.collect()


def test_a_flight_of_another_loop_that_still_runs_is_not_joined() -> None:
    async def scenario(world: World) -> None:
        site = make(world)
        other = SeededLoop(1)
        request = world.spawn(site.request())
        await asyncio.sleep(0.5)
        (flight,) = site.state.flights.values()
        assert site.state.has_room(flight)
        flight.loop = other
        assert not site.state.has_room(flight)
        flight.loop = world.loop
        other.close()
        await request
        await site.rest()

    run(scenario)
