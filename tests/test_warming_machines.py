"""Machines that warm at once: in virtual time, and over a real server."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from glasscache._lease import Claim, Lookup
from glasscache._warming import Warmth
from glasscache.asgi import CacheMiddleware, Rule, WarmRequest
from glasscache.policy import Limits, Policy, Share
from tests.asgi.site import respond
from tests.asgi.test_warming import HERE, TEAMS
from tests.flights.rig import answer, counted, loads, waits
from tests.flights.site import Load, Site
from tests.support.asgi import Client, Receive, Scope, Send
from tests.support.redis_process import RedisProcess
from tests.test_cache_redis import machines
from tests.test_machines import Fleet, fleet

LOADED, FRESH = Warmth("loaded"), Warmth("fresh")


def warmed(site: Site) -> list[str]:
    """How its loads of the origin were told."""
    return [work.trigger for work in loads(site) if work.ended]


def test_of_machines_that_warm_at_once_one_loads_and_all_have_it_near() -> None:
    async def scenario(machines: Fleet, *sites: Site) -> None:
        warming = [machines.world.spawn(site.engine.warm(site.ask(b"k"))) for site in sites]
        await asyncio.sleep(0.5)
        assert [site.engine.abroad for site in sites] == [(0, 1), (0, 0), (0, 0)]
        found = await asyncio.gather(*warming)
        assert found == [LOADED, FRESH, FRESH]
        assert machines.loads == 1
        assert [warmed(site) for site in sites] == [["warm"], [], []]
        assert not any(waits(site) for site in sites), "nobody has waited who asked"
        assert not any(counted(site) for site in sites)
        assert all(site.stored() is not None for site in sites)

    fleet(3, scenario)


def test_who_asks_while_its_machine_warms_waits_for_the_machine_that_loads() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        warming = [machines.world.spawn(site.engine.warm(site.ask(b"k"))) for site in (one, two)]
        await asyncio.sleep(0.5)
        answers = await asyncio.gather(one.request(), two.request())
        assert [(found.result, found.tier) for found in answers] == [("collapsed", "origin"), ("collapsed", "shared")]
        assert [wait.scope for site in (one, two) for wait in waits(site)] == ["process", "cluster"]
        assert await asyncio.gather(*warming) == [LOADED, FRESH]
        assert machines.loads == 1

    fleet(2, scenario)


def test_what_another_machine_has_is_promoted_and_what_is_stale_there_is_loaded() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        assert await two.engine.warm(two.ask(b"k")) == FRESH
        assert two.stored() is not None
        await asyncio.sleep(15)
        two.engine.near.clear()
        assert await two.engine.warm(two.ask(b"k")) == LOADED
        await machines.rest_of_loads()
        assert await one.engine.warm(one.ask(b"k")) == FRESH
        assert (machines.loads, warmed(one), warmed(two)) == (2, ["miss"], ["warm"])

    fleet(2, scenario, policy=Policy(ttl=10, stale_while_revalidate=60))


def test_while_a_machine_warms_what_is_stale_elsewhere_its_requests_get_that_at_once() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        await asyncio.sleep(15)
        warming = machines.world.spawn(two.engine.warm(two.ask(b"k")))
        await asyncio.sleep(0.5)
        found = await two.request()
        assert (found.result, found.tier) == ("stale", "memory")
        assert await warming == LOADED
        assert ((await two.request()).result, machines.loads) == ("hit", 2)

    fleet(2, scenario, policy=Policy(ttl=10, stale_while_revalidate=60))


def test_what_is_told_replaced_before_it_could_be_lent_is_not_put_back() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await two.request()
        await machines.rest_of_loads()
        await asyncio.sleep(15)
        look, looks = one.state.far.look, list[bytes]()

        async def late(key: bytes, claim: Claim) -> Lookup:
            looks.append(key)
            found = await look(key, claim)
            await asyncio.sleep(5)
            return found

        one.state.far.look = late  # type: ignore[method-assign]
        other = machines.world.spawn(two.engine.warm(two.ask(b"k")))
        await asyncio.sleep(0.5)
        warming = machines.world.spawn(one.engine.warm(one.ask(b"k")))
        assert await other == LOADED
        while len(looks) < 2:  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.1)
        assert one.stored() is None
        assert await warming == FRESH

    fleet(2, scenario, policy=Policy(ttl=10, stale_while_revalidate=60))


def test_what_is_told_invalid_by_a_mark_that_is_on_its_way_is_loaded_anew() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        backplane: Any = one.state.coherence.backplane
        mark = backplane.mark

        async def late(*what: Any, **how: Any) -> int:
            number: int = await mark(*what, **how)
            await asyncio.sleep(3)
            return number

        backplane.mark = late
        warming = machines.world.spawn(one.engine.warm(one.ask(b"k")))
        await asyncio.sleep(0.5)
        telling = machines.world.spawn(one.engine.invalidate(tag="tag:k"))
        assert await warming == LOADED
        await telling

    fleet(2, scenario)


def test_a_load_that_nobody_asked_for_goes_on_though_one_who_came_to_read_it_has_left() -> None:
    async def scenario(machines: Fleet, one: Site) -> None:
        warming = machines.world.spawn(one.engine.warm(one.ask(b"k")))
        await asyncio.sleep(0.5)
        leaving = machines.world.spawn(one.request())
        await asyncio.sleep(0.1)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert await warming == LOADED

    fleet(1, scenario, limits=Limits(finish_abandoned=False))


def test_what_a_machine_has_found_to_be_each_ones_own_is_not_loaded_by_the_others() -> None:
    async def private(load: Load) -> None:
        await answer(load, Share.NONE)

    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await one.request()
        await machines.rest_of_loads()
        assert await two.engine.warm(two.ask(b"k")) == Warmth("not_stored", "uncacheable")
        assert (machines.loads, warmed(two)) == (1, [])
        assert (await two.request()).result == "miss"

    fleet(2, scenario, origin=private)


def test_a_request_that_has_joined_what_turns_out_needless_loads_for_itself() -> None:
    async def private(load: Load) -> None:
        await answer(load, Share.NONE)

    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        warming = machines.world.spawn(two.engine.warm(two.ask(b"k")))
        await asyncio.sleep(0.25)
        joined = await two.request()
        assert joined.result in ("miss", "bypass")
        assert await warming == Warmth("not_stored", "uncacheable")
        await first

    fleet(2, scenario, origin=private)


def test_a_machine_that_holds_others_up_for_too_long_is_not_helped_by_a_load_that_nobody_may_store() -> None:
    async def slow(load: Load) -> None:
        await asyncio.sleep(10)
        await answer(load)

    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        first = machines.world.spawn(one.request())
        await asyncio.sleep(0.5)
        assert await two.engine.warm(two.ask(b"k")) == Warmth("not_stored", "wait_timeout")
        await first
        assert machines.loads == 1

    fleet(2, scenario, origin=slow, limits=Limits(wait_timeout=3.0))


def test_without_the_shared_tier_each_machine_warms_itself() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        machines.server.fail()
        assert await asyncio.gather(*(site.engine.warm(site.ask(b"k")) for site in (one, two))) == [LOADED, LOADED]
        machines.server.heal()
        assert machines.loads == 2

    fleet(2, scenario)


def test_a_lost_lease_is_told_as_what_keeps_it_from_being_stored() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        warming = machines.world.spawn(one.engine.warm(one.ask(b"k")))
        await asyncio.sleep(0.5)
        machines.server.slots[b"k"].held = None
        assert await warming == Warmth("not_stored", "lease_lost")

    async def slow(load: Load) -> None:
        await asyncio.sleep(10)
        await answer(load)

    fleet(2, scenario, origin=slow)


# --- a real server --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_leaks")
def test_two_machines_with_one_server_that_warm_the_same_list_load_each_question_once(server: RedisProcess) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        asked.append((scope["path"], headers.get(b"accept-language"), headers.get(b"x-team")))
        await asyncio.sleep(0.01)
        vary = [(b"vary", b"accept-language")] if scope["path"].startswith("/languages") else []
        if scope["path"] == "/pages/private":
            vary = [(b"cache-control", b"private")]
        await respond(send, b"%r" % (asked[-1],), headers=vary)

    asked: list[tuple[str, bytes | None, bytes | None]] = []
    requests: list[str | WarmRequest] = [
        *(f"/pages/{number}" for number in range(20)),
        *(WarmRequest(url="/languages/1", headers=[("Accept-Language", name)]) for name in ("en", "de", "fr")),
        *(WarmRequest(url="/teams/1", headers=[("X-Team", name)], tenant=name) for name in ("a", "b")),
    ]
    rules = [Rule("/pages/*", ttl=600), Rule("/languages/*", ttl=600), TEAMS]

    async def scenario() -> None:
        async with machines(f"redis://127.0.0.1:{server.port}", 2, "warm") as caches:
            fronts = [CacheMiddleware(app, cache=cache, rules=rules) for cache in caches]
            found = await asyncio.gather(*(front.warm([*requests, "/pages/private"], **HERE) for front in fronts))
            loads, before = Counter(asked), len(asked)
            assert 1 <= loads.pop(("/pages/private", None, None)) <= 2
            assert set(loads.values()) == {1}
            assert len(loads) == len(requests)
            assert sum(one.loaded for one in found) == sum(one.fresh + one.loaded for one in found) / 2
            for front in fronts:
                for number in range(20):
                    response = await Client(front).request("GET", f"/pages/{number}")
                    assert (response.cache_status or "").startswith("glasscache; hit; ttl=")
            assert len(asked) == before

    asyncio.run(scenario())
