"""A lookup in a shared tier that is told instead of awaited: what it spares, and that it decides nothing new."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from random import Random
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from glasscache._ask import unwanted
from glasscache._entry import Entry
from glasscache._events import TierCall
from glasscache._guard import Guard
from glasscache._lease import Claim
from glasscache.errors import LoadStoppedError, StoreError
from glasscache.interfaces import Told
from glasscache.policy import Limits, Policy, Verdict
from glasscache.stores import _redis_glance
from glasscache.stores._null import NullNear
from glasscache.stores._redis_line import Call
from glasscache.stores.redis import RedisStore
from glasscache.testing import ManualClock, entry
from tests.flights.rig import answer, told, waits
from tests.flights.site import Load, Site
from tests.support.patience import PATIENCE
from tests.support.redis_process import ADMIN, UNHURRIED, RedisProcess
from tests.test_machines import Fleet, fleet

pytestmark = pytest.mark.usefixtures("no_leaks")

KEY = b"k" * 16


def fail(call: Call, error: Exception) -> None:
    call.fail(error)


def gets(site: Site) -> list[tuple[bool | None, str, float]]:
    """Lookups as they are told: what they found, what went wrong, how long they took."""
    works = [work for work in told(site).ended if isinstance(work, TierCall) and work.operation == "get"]
    return [(work.found, type(work.error).__name__, work.ended - work.begun) for work in works]


def glancing(scenario: Callable[..., Awaitable[None]], **options: Any) -> None:
    """Two machines without memory, before a server that has an answer and tells it."""

    async def with_answer(machines: Fleet, *sites: Site) -> None:
        await sites[0].request()
        await machines.settle()
        machines.server.glances = True
        machines.server.calls.clear()
        for site in sites:
            told(site).ended.clear()
        await scenario(machines, *sites)

    fleet(2, with_answer, **{"near": NullNear(), **options})


def held(site: Site) -> list[Callable[[], object]]:
    """Glances of this machine from now on: they are answered when they are called."""
    asked: list[Callable[[], object]] = []
    ask = site.state.ask_far

    def hold(key: bytes, then: Told) -> bool:
        asked.append(lambda: ask(key, then))
        return True

    site.state.ask_far = hold
    return asked


def test_a_hit_takes_no_task_and_no_second_question_whoever_leaves() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        leader, other, *followers = [machines.world.spawn(two.request(who=f"{number}")) for number in range(4)]
        await asyncio.sleep(0)
        assert two.engine.holders == 0, "nothing is loaded"
        leader.cancel()
        other.cancel()
        answers = await asyncio.gather(*followers)
        assert {(answer.result, answer.tier) for answer in answers} == {("hit", "shared")}
        assert two.state.tasks == set()
        assert machines.server.calls == {"glance": 1}
        assert gets(two) == [(True, "NoneType", 0.0)]
        assert not waits(two), "for nobody's load"

    glancing(scenario)


def test_who_came_meanwhile_waits_for_the_load_if_there_has_to_be_one() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        answers = await asyncio.gather(*[two.request(b"other", who=f"{number}") for number in range(4)])
        assert [answer.result for answer in answers] == ["miss", *["collapsed"] * 3]
        assert [wait.outcome for wait in waits(two)] == ["served"] * 3
        assert machines.server.calls["glance"] == 1

    glancing(scenario)


@pytest.mark.parametrize("is_late", [False, True])
def test_what_was_asked_before_this_machine_has_stored_its_own_is_not_kept_in_its_place(is_late: bool) -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        far: Any = two.state.far
        commit, go = far.commit, asyncio.Event()

        async def slow(*what: Any) -> Any:
            await go.wait()
            return await commit(*what)

        far.commit = slow
        two.version = 1
        await two.request(wish=unwanted)
        two.state.forget_replaced(b"k")  # an answer before it, told late
        ask, answers = two.state.ask_far, list[Callable[[], object]]()

        def held_back(key: bytes, then: Told) -> bool:
            return ask(key, lambda found: answers.append(partial(then, found)))

        two.state.ask_far = held_back
        old = machines.world.spawn(two.request())
        await asyncio.sleep(0.1)
        [told] = answers
        if not is_late:
            told()
            assert (await old).tier == "shared"
        go.set()
        await machines.rest_of_loads()
        two.state.ask_far, two.invalidated = ask, 1
        if is_late:
            told()
            await old
        await two.request()

    glancing(scenario, near=None)


def test_who_would_take_a_stale_answer_soon_does_not_begin_with_a_wait_for_the_shared_tier() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        await two.request()
        await asyncio.sleep(1000)
        asked = held(two)

        async def never(key: bytes, claim: Claim) -> Any:
            await asyncio.get_running_loop().create_future()

        two.state.far.look = never  # type: ignore[method-assign]
        begun = machines.world.loop.time()
        answer = await two.request()
        assert (answer.result, answer.detail, asked) == ("stale", "wait_timeout", [])
        assert machines.world.loop.time() - begun == pytest.approx(0.2)

    glancing(scenario, near=None, policy=Policy(ttl=500.0, stale_if_error=5000.0, soft_timeout=0.2))


def test_no_more_may_look_on_than_may_wait_and_who_leaves_makes_room() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        asked = held(two)
        leader, leaving = (machines.world.spawn(two.request(who=who)) for who in ("leader", "leaving"))
        await asyncio.sleep(0)
        assert (await two.request(who="too many")).bypass == "overload"
        leaving.cancel()
        await asyncio.wait([leaving])
        last = machines.world.spawn(two.request(who="last"))
        await asyncio.sleep(0)
        asked[0]()
        answers = await asyncio.gather(leader, last)
        assert [(answer.result, answer.tier) for answer in answers] == [("hit", "shared")] * 2
        assert two.loads.total() == 1

    glancing(scenario, limits=Limits(max_waiters=2))


def test_who_looks_on_finds_the_variant_that_is_its_own() -> None:
    async def by_language(load: Load) -> None:
        await answer(load, vary=(b"accept-language",))

    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        answers = await asyncio.gather(*[two.request(who=f"{number}") for number in range(3)])
        assert [(answer.result, answer.tier) for answer in answers] == [("hit", "shared")] * 3

    glancing(scenario, origin=by_language, near=None)


def test_who_looks_on_and_wants_the_origins_own_word_gets_it() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        first = two.request()
        second = two.request(wish=lambda *_: Verdict.UNWANTED)
        assert [answer.result for answer in await asyncio.gather(first, second)] == ["hit", "miss"]
        assert two.loads.total() == 1

    glancing(scenario)


def test_where_it_finds_nothing_one_lookup_is_told_and_the_lease_is_had() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        answer = await two.request(b"other")
        await machines.rest_of_loads()
        assert answer.result == "miss"
        assert {name: machines.server.calls[name] for name in ("glance", "look", "commit")} == {
            "glance": 1,
            "look": 1,
            "commit": 1,
        }
        assert gets(two) == [(False, "NoneType", 0.0)]

    glancing(scenario)


def test_a_server_that_cannot_answer_is_not_asked_twice() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        machines.server.fail("glance")
        assert (await two.request()).result == "miss"
        assert machines.server.calls["look"] == 0
        assert gets(two) == [(None, "StoreError", 0.0)]

    glancing(scenario)


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_what_was_told_invalid_is_loaded_anew(when: str) -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        machines.server.fail("delete")  # only its marker says that it is dead
        if when == "before":
            await one.engine.invalidate(key=b"k")
            await machines.settle()
            request = machines.world.spawn(two.request())
        else:
            asked = held(two)
            request = machines.world.spawn(two.request())
            await asyncio.sleep(0)
            await one.engine.invalidate(key=b"k")
            await asyncio.sleep(0.1)
            asked[0]()
        assert (await request).result == "miss"
        assert two.loads.total() == 1

    glancing(scenario)


def test_out_of_step_nothing_is_glanced_at_nor_believed() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        request = machines.world.spawn(two.request())
        await asyncio.sleep(0)
        machines.server.backplanes["m1"].cut()
        assert (await request).tier == "shared"
        assert (await two.request()).tier == "shared"
        assert machines.server.calls["glance"] == 1
        assert machines.server.calls["look"] == 2

    glancing(scenario)


def test_a_question_that_everybody_has_left_before_there_was_a_load_leads_to_none() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        asked = held(two)
        request = machines.world.spawn(two.request(b"other"))
        await asyncio.sleep(0)
        request.cancel()
        await asyncio.wait([request])
        asked[0]()
        await machines.rest_of_loads()
        assert two.loads.total() == 0
        assert two.state.glances == {}

    glancing(scenario)


def test_an_end_waits_for_who_only_asks_the_shared_tier() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        asked = held(two)
        requests = [machines.world.spawn(two.request(key)) for key in (b"k", b"other")]
        await asyncio.sleep(0)
        end = machines.world.spawn(two.engine.drain())
        await asyncio.sleep(0.1)
        assert not end.done()
        asked[0]()
        assert (await requests[0]).tier == "shared"
        with pytest.raises(LoadStoppedError):  # whose answer never comes
            await requests[1]
        await end
        asked[1]()  # or too late for anybody
        assert two.loads.total() == 0

    glancing(scenario)


def test_a_crowd_has_one_answer_and_is_woken_in_groups() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        asked = held(two)
        crowd = [machines.world.spawn(two.request(who=f"{number}")) for number in range(150)]
        await asyncio.sleep(0)
        asked[0]()
        await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
        assert not crowd[149].done()
        assert {(answer.result, answer.tier) for answer in await asyncio.gather(*crowd)} == {("hit", "shared")}
        assert machines.server.calls == {"glance": 1}

    glancing(scenario)


def test_what_is_told_at_once_needs_no_waiting() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        found = machines.server.slots[b"k"].entry

        def at_once(key: bytes, then: Told) -> bool:
            then(found)
            return True

        two.state.ask_far = at_once
        assert (await two.request()).entry is found

    glancing(scenario)


def test_what_is_replaced_just_after_it_was_found_is_not_kept_near() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        asked: list[Told] = []

        def hold(key: bytes, then: Told) -> bool:
            asked.append(then)
            return True

        two.state.ask_far = hold
        request = machines.world.spawn(two.request())
        await asyncio.sleep(0)
        asked[0](machines.server.slots[b"k"].entry)
        two.state.forget_replaced(b"k")  # before the request goes on
        assert (await request).tier == "shared"
        assert two.stored() is None

    glancing(scenario, near=None)


def test_a_memory_that_fails_fails_the_request_and_holds_up_nobody() -> None:
    class Failing(NullNear):
        def put(self, key: bytes, entry: Entry) -> bool:
            raise ValueError("no")

    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        two.state.near = Failing()
        for failed in await asyncio.gather(two.request(), two.request(), return_exceptions=True):
            assert isinstance(failed, ValueError)

    glancing(scenario)


# --- within a budget --------------------------------------------------------------------------------------------------


class Slow:
    """A store whose glances are answered when the test says so."""

    name = "slow"

    def __init__(self) -> None:
        self.asked: list[Told] = []

    def glance(self, key: bytes, then: Told) -> bool:
        self.asked.append(then)
        return True


def test_an_answer_that_does_not_come_in_time_is_an_error_and_later_it_is_nobodys() -> None:
    async def scenario() -> None:
        store: Slow = Slow()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        guard = Guard(store, clock=ManualClock(), budget=0.01, random=Random(1))  # type: ignore[arg-type]
        assert guard.glance(KEY, answer.set_result)
        async with asyncio.timeout(PATIENCE):
            error = await answer
        store.asked[0](entry())  # a second answer would be an error
        assert isinstance(error.__cause__, TimeoutError)
        assert guard.state == "degraded"

    asyncio.run(scenario())


def test_a_store_that_is_left_alone_is_not_glanced_at() -> None:
    async def scenario() -> None:
        store: Slow = Slow()
        answers: list[object] = []
        guard = Guard(store, clock=ManualClock(), budget=5.0, random=Random(1))  # type: ignore[arg-type]
        while guard.glance(KEY, answers.append):
            store.asked[-1](StoreError("no"))
        assert guard.state == "open"
        assert len(answers) == len(store.asked) == 5
        guard._sweep.rest()

    asyncio.run(scenario())


def test_a_store_that_answers_at_once_needs_no_deadline() -> None:
    async def scenario() -> None:
        answers: list[object] = []
        store: Slow = Slow()

        def at_once(key: bytes, then: Told) -> bool:
            then(None)
            return True

        store.glance = at_once  # type: ignore[method-assign]
        guard = Guard(store, clock=ManualClock(), budget=5.0, random=Random(1))  # type: ignore[arg-type]
        assert guard.glance(KEY, answers.append)
        assert answers == [None]
        assert not guard._sweep._due

    asyncio.run(scenario())


def test_the_lookup_that_follows_has_the_rest_of_the_time() -> None:
    async def scenario(machines: Fleet, one: Site, two: Site) -> None:
        async def never(key: bytes, claim: Claim) -> Any:
            await asyncio.get_running_loop().create_future()

        def late(key: bytes, then: Told) -> bool:
            machines.world.loop.call_later(0.4, then, None)
            return True

        two.state.ask_far = late
        two.state.far.look = never  # type: ignore[method-assign]
        begun = machines.world.loop.time()
        assert (await two.request()).result == "miss"
        assert gets(two) == [(None, "TimeoutError", 1.0)]
        assert machines.world.loop.time() - begun == 3.0, "a second of it, and two of the load's own"

    glancing(scenario, limits=Limits(far_timeout=1.0))


# --- at a real server -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as process:
        yield process


async def glance(store: RedisStore, key: bytes = KEY) -> Entry | StoreError | None:
    """What is told, once it is known that the server is near."""
    answer: asyncio.Future[Entry | StoreError | None] = asyncio.get_running_loop().create_future()
    async with asyncio.timeout(PATIENCE):
        while not store.glance(key, answer.set_result):
            await store.set(b"there" * 3, live(store))
            await store.look(b"there" * 3, Claim())
        return await answer


def live(store: RedisStore, seconds: float = 300.0, body: bytes = b"knowledge", **options: float) -> Entry:
    now = store._now()
    times = {"born": now - 400.0, "fresh_until": now + seconds, "settled_until": now + seconds}
    return entry(body, **times, **options)


def at(server: RedisProcess, scenario: Callable[[RedisStore, Redis], Awaitable[None]]) -> None:
    async def with_store() -> None:
        store = RedisStore.from_url(f"redis://127.0.0.1:{server.port}", prefix="glance", **UNHURRIED)
        async with Redis(port=server.port, **ADMIN) as redis:
            async with asyncio.timeout(PATIENCE):
                await scenario(store, redis)
            await redis.flushall()
        await store.aclose()

    asyncio.run(with_store())


NAME = f"glance:{{{KEY.hex()}}}:e"


@pytest.mark.parametrize("size", [9, 300_000])
def test_it_tells_an_entry_of_any_size(server: RedisProcess, size: int) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        body = os.urandom(size)
        await store.set(KEY, live(store, body=body))
        found = await glance(store)
        assert isinstance(found, Entry)
        assert found.body == body
        assert 200 < found.fresh_until - store._now() <= 300

    at(server, scenario)


@pytest.mark.parametrize("prefix", ["100%", "%b", "6b6b"])
def test_a_prefix_may_look_like_anything(server: RedisProcess, prefix: str) -> None:
    async def scenario(_: RedisStore, redis: Redis) -> None:
        store = RedisStore.from_url(f"redis://127.0.0.1:{server.port}", prefix=prefix, **UNHURRIED)
        for key in (KEY, b"k", b"", b"%b"):
            await store.set(key, live(store, body=b"of " + key))
        for key in (KEY, b"k", b"", b"%b"):
            found = await glance(store, key)
            assert isinstance(found, Entry)
            assert found.body == b"of " + key
        await store.aclose()

    at(server, scenario)


def test_what_is_not_there_or_no_answer_is_left_to_a_lookup_and_the_next_one_begins_with_that(
    server: RedisProcess,
) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        assert await glance(store) is None
        assert not store.glance(KEY, lambda found: None), "most lookups fare as the one before"
        for stale in ({"stale_while_revalidate": 50.0}, {"stale_if_error": 50.0}):
            await store.set(KEY, live(store, -10.0, b"knowledge", **stale))
            assert isinstance(await glance(store), Entry) is ("stale_while_revalidate" in stale)

    at(server, scenario)


@pytest.mark.parametrize("size", [10, 300_000])
def test_bytes_that_are_no_entry_are_left_to_a_lookup_which_removes_them(server: RedisProcess, size: int) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        await redis.set(NAME, b"0 0 0\n" + bytes(size), px=60_000)
        assert await glance(store) is None
        assert (await store.look(KEY, Claim())).lease is not None
        assert store.rejected == {"foreign": 1}
        assert not await redis.exists(NAME)

    at(server, scenario)


def test_what_is_of_another_type_is_left_to_a_lookup_which_removes_it(server: RedisProcess) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        await redis.sadd(NAME, "a set")
        assert await glance(store) is None
        assert (await store.look(KEY, Claim())).lease is not None
        assert not await redis.exists(NAME)

    at(server, scenario)


def test_an_answer_that_means_nothing_is_an_error(server: RedisProcess) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        answers: list[object] = []
        call = _redis_glance.GlanceCall(store._glances, KEY, answers.append)
        assert call.hear([b"no number", b"a value"], 0, fail) == 2
        call.fail(ValueError("and later another one"))
        (error,) = answers
        assert str(error) == "an answer that means nothing: b'no number', b'a value'"
        assert isinstance(error, StoreError)

    at(server, scenario)


def test_those_that_went_together_are_told_one_by_one_as_their_answers_come(server: RedisProcess) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        glances = store._glances
        told: list[tuple[int, Any]] = []

        def tell(number: int, found: Entry | StoreError | None) -> None:
            told.append((number, found))

        call = _redis_glance.GlanceCall(glances, b"0", partial(tell, 0))
        call.lookups.extend((b"%d" % number, partial(tell, number)) for number in range(1, 5))
        packed = [glances.values.pack(b"%d" % number, live(store, body=b"%d" % number)) for number in range(5)]
        values = [pack[0] for pack in packed if pack is not None]
        wrong = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")
        answers = [1000, values[0], 1000, wrong, 1000, values[2], 1000]
        assert call.hear(answers, 0, fail) == 6, "the value of the last time is still to come"
        assert call.hear(answers, 6, fail) == 6
        assert [(number, getattr(found, "body", found)) for number, found in told] == [(0, b"0"), (1, None), (2, b"2")]
        assert not call.is_told
        call.fail(ValueError("cut off"))
        assert [str(error) for _, error in told[3:]] == ["ValueError: cut off"] * 2
        assert told[3][1] is not told[4][1], "each may be raised by another request"
        assert call.hear([1000, values[3]], 0, fail) == 0, "it waits for nothing more"

    at(server, scenario)


def test_of_many_at_once_each_is_told_what_its_own_key_has(server: RedisProcess) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        keys = [b"%d" % number for number in range(200)]
        for key in keys:
            if not key.endswith(b"7") and key != b"11":
                await store.set(key, live(store, body=key))
        await redis.sadd(f"glance:{{{b'11'.hex()}}}:e", "a set")
        await glance(store, b"0")
        told: dict[bytes, Entry | StoreError | None] = {}
        done = asyncio.Event()

        def tell(key: bytes, found: Entry | StoreError | None) -> None:
            assert key not in told
            told[key] = found
            if len(told) == len(keys):
                done.set()

        for key in keys:
            assert store.glance(key, partial(tell, key))
        await done.wait()
        for key, found in told.items():
            assert getattr(found, "body", found) == (None if key.endswith(b"7") or key == b"11" else key)

    at(server, scenario)


def test_closed_while_a_large_entry_is_opened_it_says_so(server: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        await store.set(KEY, live(store, body=os.urandom(300_000)))
        assert isinstance(await glance(store), Entry)
        opened = asyncio.Event()

        async def in_thread(*work: Any) -> None:
            opened.set()
            await asyncio.get_running_loop().create_future()

        with monkeypatch.context() as patched:
            patched.setattr(asyncio, "to_thread", in_thread)
            asked = asyncio.ensure_future(glance(store))
            await opened.wait()
            await store._large.aclose(0.0)
            assert str(await asked) == "closed while the operation was under way"

    at(server, scenario)


def test_a_lookup_whose_caller_has_left_disturbs_nobody(server: RedisProcess) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        await store.set(KEY, live(store))
        assert isinstance(await glance(store), Entry)
        gone, stays = (asyncio.ensure_future(store.look(KEY, Claim())) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        found = (await stays).entry
        assert gone.cancelled()
        assert found is not None
        assert found.body == b"knowledge"

    at(server, scenario)


def test_a_lookup_under_way_when_all_ends_says_so(server: RedisProcess) -> None:
    async def scenario(store: RedisStore, redis: Redis) -> None:
        await store.set(KEY, live(store))
        assert isinstance(await glance(store), Entry)
        server.signal(signal.SIGSTOP)  # else it may have answered before
        try:
            asked = asyncio.ensure_future(store.look(KEY, Claim()))
            await asyncio.sleep(0)
            await store._batches.aclose(0.0)
            with pytest.raises(StoreError, match="closed while the operation was under way"):
                await asked
        finally:
            server.signal(signal.SIGCONT)

    at(server, scenario)
