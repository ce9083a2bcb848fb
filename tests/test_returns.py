"""A lease of which the grant, the commit or the release got lost is given back when the server answers again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore, _returns
from glasscache._clock import SystemClock
from glasscache._entry import Entry
from glasscache._guard import Guard
from glasscache._lease import Claim, Lease, Lookup
from glasscache.errors import StoreError, UnstorableError
from glasscache.testing import SharedServer, entry
from tests.flights import rig
from tests.flights.site import LoopClock
from tests.support.chaos_proxy import ChaosProxy, Faults
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess
from tests.support.seeded_loop import World

pytestmark = pytest.mark.usefixtures("no_leaks")

KEY = b"k"
SECRET = "a secret that all machines of this test share"


class Two:
    """Two machines, the first one with a guard; it holds the lease."""

    def __init__(self, world: World) -> None:
        clock = LoopClock(world.loop)
        self.world = world
        self.server = SharedServer(clock)
        self.store, self.other = self.server.store("one"), self.server.store("two")
        self.guard = Guard(self.store, clock=clock, budget=0.25, random=Random(1))
        self.lease = Lease(token=0, seconds=0.0)

    async def lose(self, operation: Awaitable[object], name: str, error: type[StoreError] = StoreError) -> None:
        """The operation fails, and then all is well again."""
        self.server.fail(name)
        with pytest.raises(error):
            await operation
        self.server.heal()

    @property
    def is_held(self) -> bool:
        return self.server.slot(KEY).held is not None


def two(scenario: Callable[[Two], Awaitable[None]]) -> None:
    async def with_lease(world: World) -> None:
        machines = Two(world)
        lease = (await machines.guard.look(KEY, Claim(reclaims=True))).lease
        assert lease is not None
        machines.lease = lease
        await scenario(machines)
        await machines.guard.aclose()

    rig.run(with_lease)


@pytest.mark.parametrize("operation", ["commit", "release"])
def test_a_lost_lease_is_given_back_and_who_waits_is_woken(operation: str) -> None:
    async def scenario(machines: Two) -> None:
        guard, lease = machines.guard, machines.lease
        bell = machines.other.listen(KEY)
        assert (await machines.other.look(KEY, Claim())).holder is not None
        lost = guard.commit(KEY, lease, entry()) if operation == "commit" else guard.release(KEY, lease, refuse_for=9.0)
        await machines.lose(lost, operation)
        assert await bell.rung(1.0)
        bell.close()
        assert not machines.is_held
        assert (await machines.other.look(KEY, Claim())).refused is (operation == "release")

    two(scenario)


def test_a_lease_that_came_too_late_and_whose_release_got_lost_is_given_back_as_well() -> None:
    async def scenario(machines: Two) -> None:
        look = machines.store.look

        async def late(key: bytes, claim: Claim) -> Lookup:
            await asyncio.sleep(0.5)
            machines.server.fail("release")
            return await look(key, claim)

        machines.store.look = late  # type: ignore[method-assign]
        await machines.guard.release(KEY, machines.lease)
        with pytest.raises(StoreError):
            await machines.guard.look(KEY, Claim())
        await asyncio.sleep(0.5)
        assert machines.is_held
        machines.server.heal()
        await asyncio.sleep(1.0)
        assert not machines.is_held

    two(scenario)


def test_who_holds_the_key_by_then_is_not_disturbed() -> None:
    async def scenario(machines: Two) -> None:
        await machines.lose(machines.guard.release(KEY, machines.lease), "release")
        newer = (await machines.store.look(KEY, Claim(reclaims=True))).lease
        assert newer is not None
        await asyncio.sleep(1.0)
        assert machines.server.calls["release"] == 2
        assert machines.is_held
        assert await machines.store.renew(KEY, newer)

    two(scenario)


def test_a_server_that_stays_away_is_asked_ever_more_seldom_and_not_after_the_lease_has_run_out() -> None:
    async def scenario(machines: Two) -> None:
        machines.server.fail("release")
        with pytest.raises(StoreError):
            await machines.guard.release(KEY, machines.lease)
        await asyncio.sleep(30.0)
        assert 4 <= machines.server.calls["release"] <= 8
        assert not machines.guard._returns._tasks

    two(scenario)


def test_an_end_leaves_the_rest_to_time() -> None:
    async def scenario(machines: Two) -> None:
        await machines.lose(machines.guard.release(KEY, machines.lease), "release")
        await machines.guard.aclose()
        await asyncio.sleep(1.0)
        assert machines.server.calls["release"] == 1

    two(scenario)


def test_what_has_no_end_what_is_given_back_already_and_what_is_one_too_many_is_not_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(machines: Two) -> None:
        guard, returns = machines.guard, machines.guard._returns
        await machines.lose(guard.release(KEY, Lease(token=0, seconds=math.inf)), "release")

        async def too_large(*_: object) -> None:
            raise UnstorableError("no")

        machines.store.commit = too_large  # type: ignore[assignment, method-assign]
        await machines.lose(guard.commit(KEY, machines.lease, entry()), "", UnstorableError)
        assert not returns._tasks
        monkeypatch.setattr(_returns, "_MOST", 1)
        for _ in range(2):
            await machines.lose(guard.release(KEY, machines.lease), "release")
        await machines.lose(guard.look(KEY, Claim(reclaims=True)), "look")
        assert len(returns._tasks) == 1

    two(scenario)


async def lose_grant(machines: Two, claim: Claim) -> None:
    """The server grants the lease, and its answer gets lost."""
    look = machines.store.look

    async def deaf(key: bytes, claim: Claim) -> Lookup:
        await look(key, claim)
        raise StoreError("connection reset")

    await machines.guard.release(KEY, machines.lease)
    machines.store.look = deaf  # type: ignore[method-assign]
    with pytest.raises(StoreError, match="reset"):
        await machines.guard.look(KEY, claim)
    machines.store.look = look  # type: ignore[method-assign]


def test_a_lease_whose_grant_got_lost_is_given_back_and_who_waits_is_woken() -> None:
    async def scenario(machines: Two) -> None:
        await lose_grant(machines, Claim(reclaims=True))
        bell = machines.other.listen(KEY)
        assert (await machines.other.look(KEY, Claim())).holder is not None
        assert await bell.rung(1.0)
        bell.close()
        assert (await machines.other.look(KEY, Claim())).lease is not None
        await asyncio.sleep(2.0)
        assert machines.is_held, "what is another's stays"
        assert not machines.guard._returns._tasks
        assert not machines.guard._returns._claims

    two(scenario)


def test_a_later_claim_of_the_same_machine_has_it_for_good() -> None:
    async def scenario(machines: Two) -> None:
        await lose_grant(machines, Claim(reclaims=True))
        lease = (await machines.guard.look(KEY, Claim(reclaims=True))).lease
        assert lease is not None
        await asyncio.sleep(1.0)
        assert machines.is_held
        assert await machines.guard.renew(KEY, lease)
        await lose_grant(machines, Claim(reclaims=True))  # while another is lost: one of them is enough
        await lose_grant(machines, Claim(reclaims=True))
        assert len(machines.guard._returns._claims) == 1
        await asyncio.sleep(1.0)
        assert not machines.is_held

    two(scenario)


def test_where_the_machine_held_the_lease_or_the_server_has_an_answer_nothing_is_given_back() -> None:
    async def scenario(machines: Two) -> None:
        await lose_grant(machines, Claim())
        assert not machines.guard._returns._tasks
        await machines.store.delete(KEY)
        await lose_grant(machines, Claim(reclaims=True))
        await machines.other.set(KEY, live(machines))
        machines.server.calls.clear()
        await asyncio.sleep(1.0)
        assert machines.server.calls == {"look": 1}

    two(scenario)


def live(machines: Two) -> Entry:
    now = machines.world.loop.time()
    return entry(born=now, fresh_until=now + 300.0, settled_until=now + 300.0)


def test_a_grant_that_got_lost_at_a_real_server_holds_up_no_other_machine(tmp_path: Path) -> None:
    """Its lease would last longer than the test has patience."""

    async def scenario(server: RedisProcess) -> None:
        async with ChaosProxy(server.port) as proxy:
            one, other = (
                RedisStore.from_url(f"redis://127.0.0.1:{port}", lease_seconds=10 * PATIENCE, **UNHURRIED)
                for port in (proxy.port, server.port)
            )
            guard = Guard(one, clock=SystemClock(), budget=PATIENCE, random=Random(1))
            assert (await guard.look(b"another", Claim())).lease is not None  # so that it claims at once
            proxy.faults = Faults(drops_replies=True)
            lost = asyncio.create_task(guard.look(KEY, Claim(reclaims=True)))
            while not server.do("EXISTS", f"glasscache:{{{KEY.hex()}}}:l"):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
            bell = other.listen(KEY)
            assert (await other.look(KEY, Claim())).holder is not None
            proxy.cut()
            proxy.heal()
            with pytest.raises(StoreError):
                await lost
            while (await other.look(KEY, Claim())).lease is None:
                await bell.rung(0.1)
            bell.close()
            await guard.aclose()
            await other.aclose()

    with RedisProcess(tmp_path) as server:

        async def in_time() -> None:
            async with asyncio.timeout(PATIENCE):
                await scenario(server)

        asyncio.run(in_time())


def test_a_machine_that_was_cut_off_when_its_load_ended_holds_up_no_other(tmp_path: Path) -> None:
    """At a real server. The lease would last longer than the test has patience."""

    async def scenario(server: RedisProcess) -> None:
        began, go_on = asyncio.Event(), asyncio.Event()

        async def slow() -> str:
            began.set()
            await go_on.wait()
            return "one"

        async def soon() -> str:
            return "two"

        async with ChaosProxy(server.port) as proxy:
            one, other = (
                Cache(
                    TieredStore(
                        [
                            MemoryStore(),
                            RedisStore.from_url(f"redis://127.0.0.1:{port}", lease_seconds=10 * PATIENCE, **UNHURRIED),
                        ]
                    ),
                    limits=Limits(far_timeout=10.0, wait_timeout=10 * PATIENCE),
                    key_secret=SECRET,
                )
                for port in (proxy.port, server.port)
            )
            first = asyncio.create_task(one.get_or_load("q", slow))
            await began.wait()
            second = asyncio.create_task(other.get_or_load("q", soon))
            while other._engine.abroad != (1, 0):  # noqa: ASYNC110 - a wait on another machine tells nobody
                await asyncio.sleep(0.01)
            proxy.cut()
            go_on.set()
            assert await first == "one"
            while not one._guards[-1]._returns._tasks:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            assert not second.done()
            proxy.heal()
            assert await second == "two"
            await one.aclose()
            await other.aclose()

    with RedisProcess(tmp_path) as server:

        async def in_time() -> None:
            async with asyncio.timeout(PATIENCE):
                await scenario(server)

        asyncio.run(in_time())
