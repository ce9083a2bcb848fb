"""Many machines in virtual time: one load among them, waits, lost leases, invalidations, a shared tier that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest

from glasscache._coherence import variant_tag
from glasscache._events import Acquired, Invalidation, SpanRef, TierCall
from glasscache._events import Load as LoadWork
from glasscache._lease import Claim, Lookup, Mark
from glasscache._lookups import Lookups
from glasscache._values import whole
from glasscache.errors import LoadStoppedError, StoreError
from glasscache.policy import Limits, Policy, Share
from glasscache.stores._null import NullNear
from glasscache.testing import SharedServer, entry
from tests.flights.rig import answer, counted, events, loads, make, run, told, waits
from tests.flights.site import Load, LoopClock, Site
from tests.support.seeded_loop import World

if TYPE_CHECKING:
    pass


class Fleet:
    """Machines that share one server."""

    def __init__(self, world: World, count: int = 2, **options: Any) -> None:
        self.world = world
        self.server = SharedServer(LoopClock(world.loop))
        self.sites = [
            make(world, far=self.server.store(name), backplane=self.server.backplane(name), **options)
            for name in (f"m{number}" for number in range(count))
        ]
        for number, site in enumerate(self.sites, start=1000):
            told(site).current_span = SpanRef(number, number, sampled=True)

    async def settle(self) -> None:
        """Until all hear, and nothing runs."""
        for site in self.sites:
            site.state.settle()
        await self.rest_of_loads()

    async def rest_of_loads(self) -> None:
        """Let everything end that runs behind."""
        for _ in range(10):
            await asyncio.sleep(0)
            for site in self.sites:
                await site.rest_of_loads()

    async def rest(self) -> None:
        """Nothing is left anywhere."""
        await self.rest_of_loads()
        for site in self.sites:
            assert site.engine.abroad == (0, 0)
            await site.rest()

    @property
    def loads(self) -> int:
        """Of all machines."""
        return sum(sum(site.loads.values()) for site in self.sites)


def failing(*, after: float = 0) -> Callable[[Load], Awaitable[None]]:
    """An origin that fails after so many seconds."""

    async def origin(load: Load) -> None:
        await asyncio.sleep(after)
        raise ValueError("no")

    return origin


def fleet(count: int, scenario: Callable[..., Awaitable[None]], **options: Any) -> None:
    """Run the scenario with a fleet that is in step."""

    async def with_fleet(world: World) -> None:
        machines = Fleet(world, count, **options)
        await machines.settle()
        await scenario(machines, *machines.sites)
        await machines.rest()

    run(with_fleet)


def acquired(site: Site) -> list[str]:
    return [event.result for event in events(site, Acquired) if event.scope == "cluster"]


# --- one load for all -------------------------------------------------------------------------------------------------


def test_one_machine_loads_and_the_others_wait_for_it() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site, three: Site) -> None:
        crowds = [machines.world.spawn(site.request(who=f"{i}")) for site in (one, two, three) for i in range(3)]
        await asyncio.sleep(0.5)
        assert [site.engine.abroad for site in (one, two, three)] == [(0, 1), (1, 0), (1, 0)]
        answers = await asyncio.gather(*crowds)
        assert machines.loads == 1
        assert [(a.result, a.tier) for a in answers] == [
            ("miss", "origin"),
            *[("collapsed", "origin")] * 2,
            *[("collapsed", "shared")] * 6,
        ]
        assert counted(two) == {("collapsed", "shared"): 3}
        assert [acquired(site) for site in (one, two, three)] == [["immediate"], [], []]
        for site in (two, three):
            assert [(wait.scope, wait.outcome) for wait in waits(site)] == [("cluster", "served")] * 3
            assert not any(work.ref for work in loads(site)), "who did not load has no span of a load"
            assert site.stored() is not None
        assert [wait.scope for wait in waits(one)] == ["process"] * 2
        assert (await two.request()).tier == "memory"

    fleet(3, scenario)


def test_who_waits_is_linked_to_who_loads_and_the_other_way_round() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        await asyncio.gather(first, two.request())
        await machines.rest_of_loads()
        (load,) = (work for work in loads(one) if work.ended)
        (wait,) = waits(two)
        assert load.fencing_token
        assert load.remote_waiters == [told(two).current_span]
        assert load.release == "released"
        assert load.held == pytest.approx(2.0, abs=0.1)
        assert (wait.holder.machine, wait.holder.fencing_token) == ("m0", load.fencing_token)
        assert wait.holder.ref == told(one).current_span
        assert wait.position == 1
        assert wait.begun - wait.holder.begun == pytest.approx(0.5, abs=0.1)

    fleet(2, scenario)


def test_nobody_asks_more_than_once_a_second_while_it_waits() -> None:
    async def slow(load: Load) -> None:
        await asyncio.sleep(20)
        await answer(load)

    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await asyncio.gather(one.request(), two.request())
        assert machines.loads == 1
        assert 15 <= machines.server.calls["look"] <= 24
        assert 10 <= machines.server.calls["renew"] <= 14

    fleet(2, scenario, origin=slow)


def test_a_load_that_fails_is_taken_over_by_who_waited() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        one.origin = failing(after=2)
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        second = await two.request()
        with pytest.raises(ValueError, match="no"):
            await first
        assert (second.result, second.tier) == ("miss", "origin")
        assert acquired(two) == ["contended"]
        assert [wait.outcome for wait in waits(two)] == ["acquired"]

    fleet(2, scenario)


def test_after_two_machines_that_failed_a_third_loads_without_a_lease_and_stores_nothing() -> None:
    async def scenario(machines: Fleet, *sites: Site) -> None:
        for site in sites[:3]:
            site.origin = failing(after=1)
        asked = [machines.world.spawn(site.request()) for site in sites]
        results = await asyncio.gather(*asked, return_exceptions=True)
        assert [type(result).__name__ for result in results] == ["ValueError"] * 3 + ["Answer"]
        assert acquired(sites[3])[-1] in ("timeout", "contended")

    fleet(4, scenario)


def test_who_has_waited_long_enough_loads_for_itself_and_stores_nothing() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        one.origin = slow
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        second = await two.request()
        assert second.result == "miss"
        assert two.stored() is None
        assert acquired(two) == ["timeout"]
        assert [wait.outcome for wait in waits(two)] == ["timeout"]
        await first
        assert machines.loads == 2

    async def slow(load: Load) -> None:
        await asyncio.sleep(30)
        await answer(load)

    fleet(2, scenario, limits=Limits(wait_timeout=5.0))


def test_a_stale_answer_of_the_shared_tier_stands_in_for_who_waits() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        two.engine.near.clear()
        one.origin = slow
        await asyncio.sleep(1001)
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.1)
        found = await two.request()
        assert (found.result, found.tier, found.detail) == ("stale", "shared", "wait_timeout")
        await first

    async def slow(load: Load) -> None:
        await asyncio.sleep(30)
        await answer(load)

    policy = Policy(ttl=1000.0, early_refresh=0.0, stale_if_error=5000.0, soft_timeout=2.0)
    fleet(2, scenario, policy=policy)


# --- leases that are lost ---------------------------------------------------------------------------------------------


def test_a_machine_that_stands_still_is_succeeded_and_its_late_answer_stored_nowhere() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        one.origin = slow
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.1)
        machines.server.fail("renew")  # as if it had been stopped
        began = machines.world.loop.time()
        second = await two.request()
        assert second.result == "miss"
        assert machines.world.loop.time() - began <= 5 + 1 + 2 + 0.1, "the lease, a second, and the load itself"
        await first
        await machines.rest_of_loads()
        assert one.stored() is None
        assert machines.loads == 2
        assert [load.release for load in loads(one) if load.fencing_token] == ["expired"]

    async def slow(load: Load) -> None:
        await asyncio.sleep(20)
        await answer(load)

    fleet(2, scenario)


def test_a_lease_that_turns_out_lost_at_the_end_takes_the_answer_back() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(1.9)
        machines.server.slots[b"k"].held = None  # as after a failover that lost it
        assert (await first).result == "miss"
        await machines.rest_of_loads()
        assert one.stored() is None
        assert [load.release for load in loads(one) if load.fencing_token] == ["lost"]

    fleet(1, scenario)


def test_what_is_newer_than_an_answer_that_turns_out_lost_stays() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        store, newer = machines.server.stores["m0"], entry(b"newer", fresh_until=900.0)

        async def lost(*_: object) -> None:
            one.engine.near.put(b"k", newer)

        store.commit = lost  # type: ignore[method-assign, assignment]
        await one.request()
        await machines.rest_of_loads()
        assert one.stored() is newer

    fleet(1, scenario)


def test_a_lease_that_turns_out_lost_at_a_renewal_is_not_committed() -> None:
    async def slow(load: Load) -> None:
        await asyncio.sleep(3)
        await answer(load)

    async def scenario(machines: Fleet, one: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        machines.server.slots[b"k"].held = None
        await first
        await machines.rest_of_loads()
        assert one.stored() is None
        assert machines.server.calls["commit"] == 0
        assert [load.release for load in loads(one) if load.fencing_token] == ["lost"]

    fleet(1, scenario, origin=slow)


def test_a_renewal_that_cannot_be_told_is_tried_again() -> None:
    async def slow(load: Load) -> None:
        await asyncio.sleep(4)
        await answer(load)

    async def scenario(machines: Fleet, one: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        machines.server.fail("renew")
        await asyncio.sleep(1.5)
        machines.server.heal()
        await first
        await machines.rest_of_loads()
        assert one.stored() is not None
        assert machines.server.slots[b"k"].entry is not None

    fleet(1, scenario, origin=slow)


def test_a_renewal_under_way_when_the_load_ends_changes_nothing() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        asked = one.ask(b"k")
        first = machines.world.spawn(one.engine.answer(asked))
        await asyncio.sleep(1.5)
        gate = asyncio.Event()
        store, renew = machines.server.stores["m0"], machines.server.stores["m0"].renew

        async def late(*args: Any) -> bool:
            await gate.wait()
            return await renew(*args)

        store.renew = late  # type: ignore[method-assign, assignment]
        got = await first
        await one.read(got)
        gate.set()
        await machines.rest_of_loads()
        assert one.stored() is not None

    fleet(1, scenario)


def test_what_is_not_to_be_stored_is_told_at_once_and_each_loads_for_itself() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        second = await two.request()
        assert (await first).result == second.result == "miss"
        assert machines.world.loop.time() < 10
        assert [wait.outcome for wait in waits(two)] == ["holder_failed"]
        third = await two.request()
        assert third.bypass == "uncacheable"
        assert machines.server.slots[b"k"].refused_until > machines.world.loop.time()

    fleet(2, scenario, origin=lambda load: answer(load, Share.NONE))


def test_an_answer_too_large_to_be_stored_is_told_when_it_is_clear() -> None:
    async def large(load: Load) -> None:
        load.begin()
        await load.flight.write(bytes(200))
        await asyncio.sleep(5)
        load.flight.finish()

    async def scenario(machines: Fleet, one: Site) -> None:
        ask = one.ask(b"k")
        got = await one.engine.answer(ask)
        assert got.reader is not None
        await asyncio.sleep(1)
        assert machines.server.slots[b"k"].refused_until > machines.world.loop.time()
        await whole(got.reader)

    fleet(1, scenario, origin=large, limits=Limits(max_entry_bytes=100))


@pytest.mark.parametrize("ttl", [1000.0, 30.0], ids=["long", "shorter than a load may take"])
def test_variants_are_stored_before_the_marker_that_leads_to_them(ttl: float) -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        second = await two.request()
        assert (await first).result == "miss"
        assert (second.result, second.tier) in {("hit", "shared"), ("collapsed", "shared")}
        assert machines.loads == 1

    policy = Policy(ttl=ttl, early_refresh=0.0)
    fleet(2, scenario, origin=lambda load: answer(load, vary=(b"accept-language",)), policy=policy)


# --- refreshes --------------------------------------------------------------------------------------------------------


def test_of_all_machines_one_refreshes() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await two.request()
        await asyncio.sleep(1005)
        found = [await site.request() for site in (one, two)]
        assert [a.result for a in found] == ["stale", "stale"]
        await machines.rest_of_loads()
        assert machines.loads == 2
        assert two.stored() is None, "told that there is a new answer"
        found = [await site.request() for site in (one, two)]
        assert [(a.result, a.tier) for a in found] == [("hit", "memory"), ("hit", "shared")]

    fleet(2, scenario, policy=Policy(ttl=1000.0, early_refresh=0.0, stale_while_revalidate=500.0))


def test_who_waits_for_a_refresh_is_linked_to_the_trace_of_the_refresh_and_not_of_who_set_it_off() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await asyncio.sleep(11)  # stale
        assert (await one.request()).result == "stale"
        await asyncio.sleep(0.5)
        await two.engine.invalidate(key=b"other")
        machines.server.slots[b"k"].entry = None
        two.engine.near.clear()
        await two.request()
        await machines.rest_of_loads()
        refresh = next(work for work in loads(one) if work.trigger == "refresh")
        (wait,) = waits(two)
        assert refresh.ref is not None
        assert refresh.cause == told(one).current_span
        assert wait.holder.ref == refresh.ref != refresh.cause

    fleet(2, scenario, policy=Policy(ttl=10, stale_while_revalidate=60))


def test_a_refresh_that_another_machine_does_already_is_not_told_as_a_load_nor_is_what_it_asked() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        heard: list[tuple[str, str, bool]] = []
        listen_to(machines.server.stores["m1"], "two", told(two), heard)
        for site in (one, two):
            await site.request()
        await machines.rest_of_loads()
        await asyncio.sleep(11)
        for site in (one, two):
            assert (await site.request()).result == "stale"
        await machines.rest_of_loads()
        ended = [[w.trigger for w in told(site).ended if isinstance(w, LoadWork)] for site in (one, two)]
        assert ended == [["miss", "refresh"], []]
        assert [hushed for name, operation, hushed in heard if (name, operation) == ("two", "look")] == [False, True]

    fleet(2, scenario, policy=Policy(ttl=10, stale_while_revalidate=60))


def test_while_a_machine_waits_and_while_it_renews_clients_of_the_server_are_hushed() -> None:
    async def slow(load: Load) -> None:
        await asyncio.sleep(20)
        await answer(load)

    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        heard: list[tuple[str, str, bool]] = []
        for name, site in (("one", one), ("two", two)):
            listen_to(machines.server.stores[f"m{['one', 'two'].index(name)}"], name, told(site), heard)
        await asyncio.gather(one.request(), two.request())
        looks = [hushed for name, operation, hushed in heard if (name, operation) == ("two", "look")]
        assert looks[0] is False, "the first one belongs to the request"
        assert len(looks) > 10
        assert all(looks[1:])
        assert {hushed for _, operation, hushed in heard if operation == "renew"} == {True}
        assert {hushed for name, operation, hushed in heard if operation == "commit"} == {False}

    fleet(2, scenario, origin=slow)


def listen_to(store: Any, name: str, telemetry: Any, heard: list[tuple[str, str, bool]]) -> None:
    """Note which operations are asked for, and whether under a hush."""

    def note(operation: str, run: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **options: Any) -> Any:
            heard.append((name, operation, telemetry.is_hushed))
            return run(*arguments, **options)

        return noted

    for operation in ("look", "renew", "commit"):
        setattr(store, operation, note(operation, getattr(store, operation)))


def test_who_joins_a_refresh_that_another_machine_does_waits_for_that_one() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await two.request()
        one.origin = slow
        await asyncio.sleep(1099.9)
        assert (await one.request()).result == "stale"
        await asyncio.sleep(0)
        gate = asyncio.Event()
        store, look = machines.server.stores["m1"], machines.server.stores["m1"].look

        async def late(key: bytes, claim: Claim) -> Lookup:
            if claim.refreshes:
                await gate.wait()
            return await look(key, claim)

        store.look = late  # type: ignore[method-assign]
        assert (await two.request()).result == "stale"
        await asyncio.sleep(0.15)
        follower = machines.world.spawn(two.request())
        await asyncio.sleep(0)
        gate.set()
        found = await follower
        assert (found.result, found.tier) == ("collapsed", "shared")
        assert machines.loads == 2

    async def slow(load: Load) -> None:
        await asyncio.sleep(3)
        await answer(load)

    policy = Policy(ttl=1000.0, early_refresh=0.0, stale_while_revalidate=100.0)
    fleet(2, scenario, policy=policy, limits=Limits(far_timeout=5.0))


def test_an_early_refresh_takes_what_another_machine_has_refreshed() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        newer = machines.world.loop.time() + 5000
        fresh = entry(b"k v0 load0 0/1;", born=0.0, fresh_until=newer, settled_until=newer)
        await machines.server.stores["m0"].set(b"k", fresh)
        stored = one.stored()
        assert stored is not None
        Lookups(one.state, one.engine.tally).refresh(one.ask(b"k"), stored.fresh_until - machines.world.loop.time())
        await machines.rest_of_loads()
        assert machines.loads == 1
        assert one.stored() is not stored

    fleet(1, scenario)


# --- invalidation -----------------------------------------------------------------------------------------------------


def test_an_invalidation_reaches_the_memory_of_all_machines() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await two.request()
        assert await one.engine.invalidate(tag="tag:k") == 1
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert two.stored() is None
        (told_two,) = (work for work in told(two).ended if isinstance(work, Invalidation))
        assert (told_two.source, told_two.count, told_two.cause) == ("backplane", 1, told(one).current_span)
        assert (await two.request()).result == "miss", "what the shared tier still has is dead"
        assert machines.loads == 2

    fleet(2, scenario)


@pytest.mark.parametrize("what", ["key", "tag", "everything"])
def test_a_request_after_an_invalidation_never_gets_the_old_load_wherever_it_runs(what: str) -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        arguments: dict[str, Any] = {"key": b"k"} if what == "key" else {"tag": "tag:k"} if what == "tag" else {}
        await two.engine.invalidate(**arguments, everything=what == "everything")
        for site in machines.sites:
            site.version = site.invalidated = 1
        found = await two.request()
        assert found.result == "miss"
        await first
        await machines.rest_of_loads()
        assert machines.loads == 2
        kept = machines.server.slots[b"k"].entry
        assert kept is not None
        assert kept.body.startswith(b"k v1")
        assert one.stored() is None or one.stored().body.startswith(b"k v1")  # type: ignore[union-attr]

    fleet(2, scenario)


def test_markers_keep_an_entry_dead_that_could_not_be_deleted() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        machines.server.fail("delete")
        await one.engine.invalidate(key=b"k")
        machines.server.heal()
        assert machines.server.slots[b"k"].entry is not None
        for site in (two, one):
            assert (await site.request()).result == ("miss" if site is two else "hit")

    fleet(2, scenario)


def test_what_could_not_be_told_is_told_later_and_holds_here_at_once() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await two.request()
        machines.server.fail("mark")
        await one.engine.invalidate(tag="tag:k")
        steps = [one.state.coherence.in_step]
        one.version = one.invalidated = 1
        machines.server.heal()
        assert (await one.request()).result == "miss"
        await machines.rest_of_loads()
        steps.append(one.state.coherence.in_step)
        assert steps == [False, True]
        assert two.stored() is None
        assert machines.server.marks.tags == {"tag:k": 2}, "above what this machine had given itself"
        errors = [type(w.error) for w in told(one).ended if isinstance(w, TierCall) and w.operation == "publish"]
        assert StoreError in errors

    fleet(2, scenario)


def test_an_invalidation_holds_on_this_machine_too_if_its_caller_leaves_before_it_is_answered() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        backplane: Any = one.state.coherence.backplane
        mark = backplane.mark

        async def late(*what: Any, **how: Any) -> int:
            number: int = await mark(*what, **how)
            await asyncio.sleep(60)
            return number

        backplane.mark = late
        leaving = machines.world.spawn(one.engine.invalidate(tag="tag:k"))
        await asyncio.sleep(0.5)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert leaving.cancelled()
        backplane.mark = mark
        for site in (one, two):
            site.version = site.invalidated = 1
        assert (await one.request()).result == "miss", "the shared tier still has what was told invalid"
        await machines.rest_of_loads()
        assert one.state.coherence.in_step
        assert (await two.request()).result == "hit"

    fleet(2, scenario)


def test_what_was_loaded_before_an_invalidation_could_be_told_is_no_newer_than_what_another_machine_tells() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        machines.server.fail("mark")
        await one.engine.invalidate(tag="tag:k")
        await one.request()  # committed: all but the telling works
        machines.server.heal()
        await two.engine.invalidate(tag="tag:k")
        for site in (one, two):
            site.version = site.invalidated = 1
        for site in (two, one):
            await site.request()  # which looks at the version that it gets

    fleet(2, scenario)


def test_what_another_machine_tells_is_news_though_this_one_has_given_itself_that_number() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        machines.server.fail("mark")
        await one.engine.invalidate(tag="tag:k")
        old = asyncio.ensure_future(one.request())
        await asyncio.sleep(0.5)  # its load has begun
        machines.server.heal()
        await two.engine.invalidate(tag="tag:k")
        one.version = two.version = one.invalidated = two.invalidated = 1
        await asyncio.sleep(0.1)  # heard, and what could not be told is not told yet
        assert one.state.coherence.has_untold
        assert (await one.request()).result == "miss", "that load is none to join any more"
        assert (await old).result == "miss"

    fleet(2, scenario)


@pytest.mark.parametrize("heard_after", [0.2, 1.2])
def test_what_another_machine_tells_is_heard_though_this_one_tells_the_same_or_has_just_told_it(
    heard_after: float,
) -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        machines.server.fail("mark")
        await one.engine.invalidate(tag="tag:k")
        old = asyncio.ensure_future(one.request())
        await asyncio.sleep(0.5)  # its load has begun
        machines.server.heal()
        backplane: Any = one.state.coherence.backplane
        mark, hear, messages = backplane.mark, backplane.pass_on, list[Any]()

        async def slow(*what: Any, **how: Any) -> int:
            number: int = await mark(*what, **how)
            await asyncio.sleep(1)
            return number

        backplane.mark, backplane.pass_on = slow, messages.append
        await two.engine.invalidate(tag="tag:k")
        one.version = two.version = 1
        telling = machines.world.spawn(one.state.coherence.catch_up())
        await asyncio.sleep(heard_after)
        assert telling.done() == (heard_after > 1)
        assert one.state.coherence.in_step == telling.done()
        for message in messages:
            hear(message)
        backplane.pass_on = hear
        one.invalidated = two.invalidated = 1
        assert (await one.request()).result == "miss", "that load is none to join any more"
        await asyncio.gather(old, telling)

    fleet(2, scenario)


def test_what_could_not_be_told_while_something_else_is_told_is_told_after_it() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await two.request()
        await machines.rest_of_loads()
        backplane: Any = one.state.coherence.backplane
        mark = backplane.mark

        async def slow(*what: Any, **how: Any) -> int:
            await asyncio.sleep(1)
            number: int = await mark(*what, **how)
            return number

        machines.server.fail("mark")
        await one.engine.invalidate(tag="other")
        machines.server.heal()
        backplane.mark = slow
        telling = machines.world.spawn(one.state.coherence.catch_up())
        await asyncio.sleep(0.5)
        backplane.mark = mark
        machines.server.fail("mark")
        await one.engine.invalidate(everything=True)
        machines.server.heal()
        await telling
        assert one.state.coherence.has_untold
        await machines.rest_of_loads()
        await asyncio.sleep(3)
        assert two.stored() is None
        assert not one.state.coherence.has_untold

    fleet(2, scenario)


def test_what_could_not_be_told_is_told_later_even_if_nobody_asks_for_anything() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await two.request()
        await machines.rest_of_loads()
        machines.server.fail("mark")
        await one.engine.invalidate(tag="tag:k")
        await asyncio.sleep(5)
        assert two.stored() is not None
        assert 3 <= machines.server.calls["mark"] <= 6, "about once a second or two"
        machines.server.heal()
        await asyncio.sleep(2)
        await machines.rest_of_loads()
        assert two.stored() is None
        assert one.state.coherence.in_step
        told_so_far = machines.server.calls["mark"]
        await asyncio.sleep(10)
        assert machines.server.calls["mark"] == told_so_far

    fleet(2, scenario)


def test_what_could_not_be_told_is_told_at_the_latest_when_its_machine_ends() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await two.request()
        await machines.rest_of_loads()
        machines.server.fail("mark")
        await one.engine.invalidate(everything=True)
        machines.server.heal()
        await one.engine.aclose()
        await machines.rest_of_loads()
        assert two.stored() is None
        assert machines.server.marks.everything

    fleet(2, scenario)


def test_what_a_lookup_has_told_meanwhile_is_not_told_twice() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        machines.server.fail("mark")
        await one.engine.invalidate(tag="tag:k")
        machines.server.heal()
        await one.request()
        await asyncio.sleep(5)
        assert machines.server.calls["mark"] == 2

    fleet(1, scenario)


def test_too_much_that_could_not_be_told_is_told_as_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasscache._coherence._MAX_UNTOLD", 2)

    async def scenario(machines: Fleet, one: Site) -> None:
        machines.server.fail("mark")
        for tag in ("a", "b", "c"):
            await one.engine.invalidate(tag=tag)
        with pytest.raises(StoreError):
            await one.state.coherence.catch_up()
        machines.server.heal()
        await one.state.coherence.catch_up()
        assert machines.server.marks.everything == machines.server.marks.number == 4

    fleet(1, scenario)


def test_a_machine_that_was_cut_off_serves_nothing_that_it_missed_to_hear_of() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await two.request()
        cut = machines.server.backplanes["m1"]
        cut.cut()
        await one.engine.invalidate(tag="tag:k")
        for site in machines.sites:
            site.version = site.invalidated = 1
        assert (await two.request()).result == "miss", "checked with the shared tier, and its markers read"
        await machines.rest_of_loads()
        assert (await two.request()).tier == "shared", "checked each time, as long as messages go missing"
        cut.join()
        await machines.rest_of_loads()
        assert [(await two.request()).tier for _ in range(2)] == ["shared", "memory"]

    fleet(2, scenario)


def test_while_nobody_can_be_asked_what_is_under_doubt_is_served_for_half_a_minute() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        machines.server.fail()
        machines.server.backplanes["m0"].cut()
        found = await one.request()
        assert (found.result, found.tier) == ("hit", "memory")
        assert one.engine.counters.doubted == 1
        assert one.engine.peek(one.ask(b"k")) is None
        await asyncio.sleep(31)
        assert (await one.request()).result == "miss"
        await asyncio.sleep(20)
        assert (await one.request()).tier == "memory", "what was loaded meanwhile has half a minute of its own"
        await asyncio.sleep(20)
        assert (await one.request()).result == "miss"
        assert acquired(one)[-1] == "error"

    fleet(1, scenario)


def test_a_doubted_answer_that_may_only_stand_in_does_so_when_the_load_fails() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await asyncio.sleep(999)
        machines.server.fail()
        machines.server.backplanes["m0"].cut()
        await asyncio.sleep(5)

        one.origin = failing()
        found = await one.request()
        assert (found.result, found.detail) == ("stale", "error")

    fleet(1, scenario, policy=Policy(ttl=1000.0, early_refresh=0.0, stale_if_error=500.0))


def test_variants_under_doubt_are_checked_too() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        machines.server.backplanes["m0"].cut()
        machines.server.backplanes["m0"].join()
        await machines.rest_of_loads()
        found = await one.request()
        assert (found.result, found.tier) == ("hit", "shared")
        assert (await one.request()).tier == "memory"
        assert machines.loads == 1

    fleet(1, scenario, origin=lambda load: answer(load, vary=(b"accept-language",)))


def test_a_stand_in_whose_markers_cannot_be_read_does_not_stand_in() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        one.engine.near.clear()
        await asyncio.sleep(1001)
        machines.server.backplanes["m0"].cut()
        machines.server.fail("read")

        one.origin = failing()
        with pytest.raises(ValueError, match="no"):
            await one.request()

    fleet(1, scenario, policy=Policy(ttl=1000.0, early_refresh=0.0, stale_if_error=500.0))


def test_an_entry_whose_markers_cannot_be_read_is_no_answer() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        one.engine.near.clear()
        machines.server.backplanes["m0"].cut()
        machines.server.fail("read")
        assert (await one.request()).result == "miss"
        machines.server.heal()

    fleet(1, scenario)


def test_a_stale_answer_that_was_told_invalid_does_not_stand_in() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await asyncio.sleep(1001)
        await one.engine.invalidate(tag="tag:k")

        one.origin = failing()
        with pytest.raises(ValueError, match="no"):
            await one.request()

    fleet(1, scenario, policy=Policy(ttl=1000.0, early_refresh=0.0, stale_if_error=500.0))


def test_what_the_shared_tier_has_no_more_is_not_served_from_memory_under_doubt() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        machines.server.slots.clear()
        machines.server.backplanes["m0"].cut()
        machines.server.backplanes["m0"].join()
        await machines.rest_of_loads()
        assert (await one.request()).result == "miss"

    fleet(1, scenario)


def test_everything_that_was_missed_is_made_up_for() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await two.request()
        machines.server.backplanes["m1"].cut()
        await one.engine.invalidate(everything=True)
        machines.server.backplanes["m1"].join()
        await machines.rest_of_loads()
        assert two.stored() is None
        assert two.state.coherence.in_step

    fleet(2, scenario)


def test_what_is_heard_before_all_was_read_counts_as_unread() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.engine.invalidate(tag="a")
        machines.server.fail("read")
        machines.server.backplanes["m1"].cut()
        await one.engine.invalidate(tag="b")
        machines.server.backplanes["m1"].join()
        await one.engine.invalidate(tag="c")
        await machines.rest_of_loads()
        steps = [two.state.coherence.in_step]
        machines.server.heal()
        await two.state.coherence.catch_up()
        steps.append(two.state.coherence.in_step)
        assert steps == [False, True]
        assert two.state.coherence.dead_below(entry(tags=("b",)), b"k") == 2

    fleet(2, scenario)


def test_a_gap_while_it_was_read_leaves_more_to_read() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        backplane, coherence = machines.server.backplanes["m0"], one.state.coherence
        read = backplane.read
        backplane.cut()

        async def interrupted(since: int) -> Any:
            backplane.join()
            backplane.read = read  # type: ignore[method-assign]
            return await read(since)

        backplane.read = interrupted  # type: ignore[method-assign]
        await coherence.catch_up()
        await machines.rest_of_loads()
        assert coherence.in_step

    fleet(1, scenario)


def test_messages_that_are_no_news_change_nothing() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.engine.invalidate(tag="a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        before = len(told(two).works)
        two.state.coherence.marked(Mark(number=1, tags=("a",)), 0.0, None)
        assert len(told(two).works) == before
        two.state.coherence.marked(Mark(number=2, tags=(variant_tag(b"k"), "\0odd")), 0.0, None)

    fleet(2, scenario)


# --- ends -------------------------------------------------------------------------------------------------------------


def test_without_memory_everything_comes_from_the_shared_tier() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        assert [(await site.request()).tier for site in (one, two)] == ["shared", "shared"]

    fleet(2, scenario, near=NullNear())


def test_a_load_that_is_stopped_while_it_waits_for_another_machine_gives_back_what_it_gets() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        gate = asyncio.Event()
        store, look = machines.server.stores["m0"], machines.server.stores["m0"].look

        async def late(key: bytes, claim: Claim) -> Lookup:
            await gate.wait()
            return await look(key, claim)

        store.look = late  # type: ignore[method-assign]
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        (flight,) = one.state.running
        flight.stop(LoadStoppedError("over"))
        gate.set()
        with pytest.raises(LoadStoppedError):
            await first
        await machines.rest_of_loads()
        assert machines.server.slots[b"k"].held is None

    fleet(1, scenario, limits=Limits(far_timeout=5.0))


@pytest.mark.parametrize("place", ["in step", "out of step", "out of step, stored"])
def test_a_load_that_is_cancelled_at_any_of_its_steps_leaves_no_lease(place: str) -> None:
    steps: list[bool] = []

    async def scenario(machines: Fleet, one: Site) -> None:
        if "stored" in place:
            await one.request()
            await machines.rest_of_loads()
            one.engine.near.clear()
        if "out" in place:
            machines.server.backplanes["m0"].cut()
        first = machines.world.spawn(one.request())
        for _ in range(len(steps)):
            await asyncio.sleep(0)
        steps.append(bool(one.state.running))
        for flight in one.state.running:
            assert flight.task is not None
            flight.task.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await machines.rest_of_loads()
        slot = machines.server.slots.get(b"k")
        assert slot is None or slot.held is None, f"after {len(steps)} steps"

    while len(steps) < 30:
        fleet(1, scenario)
    assert any(steps)


@pytest.mark.parametrize("operation", ["look", "commit", "release"])
def test_a_lease_that_was_left_behind_by_a_lost_call_holds_up_nobody_on_its_machine(operation: str) -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        if operation == "look":  # done there, but its answer never came
            store, look = machines.server.stores["m0"], machines.server.stores["m0"].look

            async def lost(key: bytes, claim: Claim) -> Lookup:
                store.look = look  # type: ignore[method-assign]
                await look(key, claim)
                raise StoreError("the connection was reset")

            store.look = lost  # type: ignore[method-assign]
        else:
            machines.server.fail(operation)
        await one.request()
        await machines.rest_of_loads()
        machines.server.heal()
        left = machines.server.slots[b"k"].held
        assert left is not None
        one.engine.near.clear()
        began = machines.world.loop.time()
        assert (await one.request()).result == "miss"
        assert machines.world.loop.time() - began < 2.5, "the load itself"
        await machines.rest_of_loads()
        assert machines.server.slots[b"k"].held is None
        assert not waits(one)
        assert not one.state.leased

    async def not_stored(load: Load) -> None:
        await answer(load, share=Share.LEADER)

    fleet(1, scenario, **({"origin": not_stored} if operation == "release" else {}))


def test_a_lease_that_is_held_here_is_not_taken_for_one_left_behind() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        one.state.flights.clear()  # as one that takes no more followers
        second = await one.request()
        assert (second.result, second.tier) == ("collapsed", "shared")
        assert (await first).result == "miss"
        assert machines.loads == 1

    fleet(1, scenario)


def test_a_load_whose_lease_is_lost_ends_without_that_of_the_next_one() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        one.state.flights.clear()
        machines.server.slots[b"k"].held = None  # as after a failover that lost it
        second = machines.world.spawn(one.request())
        await first
        await asyncio.sleep(0.25)  # its end is told to the server, too
        assert b"k" in one.state.leased, "by the second one, which goes on"
        assert (await second).result == "miss"
        await machines.rest_of_loads()
        assert not one.state.leased
        assert machines.server.slots[b"k"].entry is not None

    fleet(1, scenario)


def test_a_key_that_is_told_invalid_again_and_again_is_loaded_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("glasscache._right._MAX_LOOKS", 3)

    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        second = machines.world.spawn(two.request())
        for _ in range(5):
            await asyncio.sleep(0.1)
            for bell in tuple(machines.server.stores["m1"].bells.get(b"k", ())):
                bell.ring()
        assert (await second).result == "miss"
        assert acquired(two) == ["timeout"]
        await first

    fleet(2, scenario)


def test_used_again_after_its_end_a_cache_hears_again() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        await one.engine.aclose()
        assert not one.state.coherence.in_step
        await one.request()
        await machines.rest_of_loads()
        assert one.state.coherence.in_step

    fleet(1, scenario)
