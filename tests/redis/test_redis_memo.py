"""The same bytes under the same key are opened once: and nobody can tell, but for the time that it takes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from glasscache import Cache
from glasscache._entry import Entry
from glasscache._lease import Claim
from glasscache.errors import StoreError
from glasscache.policy import Limits, Policy
from glasscache.stores._envelope import Envelope
from glasscache.stores._redis_glance import GlanceCall, Glances
from glasscache.stores._redis_memo import _CLOSE, _PER_KEY, Memo
from glasscache.stores._redis_values import Values
from glasscache.stores.redis import RedisStore
from glasscache.testing import entry
from tests.support.patience import PATIENCE
from tests.support.redis_process import ADMIN, UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")

KEY = b"k" * 16
ROOM = 1024**2
TIMES = ("born", "fresh_until", "settled_until", "dead_from")
SECRETS = ["a secret that is for tests only, 0123"]


# --- as long as nothing is done to it ---------------------------------------------------------------------------------


def test_a_key_that_was_asked_for_once_keeps_nothing_else() -> None:
    memo, found = Memo(ROOM), entry()
    memo.opened(KEY, b"value", found)
    assert memo.known(KEY, b"value", 300_000, 1000.0) is None
    memo.opened(KEY, b"value", found)
    assert memo.known(KEY, b"value", 300_000, 1000.0) is found
    assert memo.known(b"another", b"value", 300_000, 1000.0) is None
    assert memo.known(KEY, b"other bytes", 300_000, 1000.0) is None


@pytest.mark.parametrize(
    ("left", "now", "is_same"),
    [
        (300_000, 1000.0, True),
        (299_000, 1001.0, True),
        (299_999, 1000.0, False),  # a server that lets it live for less than was thought
        (300_040, 1000.0, True),
        (300_060, 1000.0, False),  # written anew, with the same bytes
        (300, 1299.7, True),
        (0, 1300.0, False),
    ],
)
def test_it_is_the_same_as_long_as_it_ends_when_the_server_says(left: int, now: float, is_same: bool) -> None:
    memo, found = Memo(ROOM), entry()
    for _ in range(2):
        memo.opened(KEY, b"value", found)
    assert (memo.known(KEY, b"value", left, now) is found) is is_same


def test_what_its_keeper_doubts_is_opened_anew() -> None:
    memo, found = Memo(ROOM), entry()
    for _ in range(2):
        memo.opened(KEY, b"value", found)
    found.doubt(1001.0)
    assert memo.known(KEY, b"value", 300_000, 1000.0) is None


def test_it_never_holds_more_than_it_may_and_keeps_what_is_asked_for_all_along() -> None:
    memo, hot = Memo(ROOM), entry(b"hot")
    for _ in range(2):
        memo.opened(KEY, b"value", hot)
    for number in range(10 * ROOM // _PER_KEY):
        key, found = b"%d" % (number // 2), entry(bytes(number % 3000))
        memo.opened(key, bytes(300), found)
        assert memo.known(KEY, b"value", 300_000, 1000.0) is hot
        if not number % 100:
            held = [*memo._young.values(), *memo._old.values()]
            weight = sum(len(known[0]) + known[1].size for known in held if known is not None)
            assert weight + _PER_KEY * len(held) <= ROOM


@pytest.mark.parametrize("room", [0, 3000, 2 * (_PER_KEY + 4000)])
def test_what_is_larger_than_half_of_it_is_not_kept(room: int) -> None:
    memo, found = Memo(room), entry(bytes(5000))
    for _ in range(3):
        memo.opened(KEY, b"value", found)
        assert memo.known(KEY, b"value", 300_000, 1000.0) is None


# --- whatever is done to it: a model of a server, whose time and answers take as long as they like --------------------


@dataclass
class Server:
    """One key on a server. Times in milliseconds of its own clock."""

    now: int = 1_000_000
    value: bytes | None = None
    ends: float = -1.0
    writers: Values = field(init=False)

    def __post_init__(self) -> None:
        self.writers = Values(Envelope(), lambda: self.now / 1000, math.inf, Memo(0))

    def write(self, body: bytes, ttl: int, cost: float, **windows: float) -> None:
        now = self.now / 1000
        until = now + ttl / 1000
        made = entry(body, born=now, fresh_until=until, settled_until=until - cost, cost=cost, number=3, **windows)
        packed = self.writers.pack(KEY, made)
        if packed is not None:
            self.value, self.ends = packed[0], self.now + int(packed[1])

    @property
    def left(self) -> int:
        """As PTTL has it."""
        if self.value is not None and self.now >= self.ends:
            self.value = None
        return -2 if self.value is None else -1 if self.ends == math.inf else int(self.ends - self.now)


WRITES = st.tuples(
    st.just("write"),
    st.sampled_from([b"one", b"two"]),
    st.sampled_from([100, 1000, 5000, 60_000]),
    st.sampled_from([0.0, 0.5]),
    st.sampled_from([0.0, 3.0]),
    st.sampled_from([0.0, 3.0]),
)
STEPS = st.one_of(
    WRITES,
    st.tuples(st.just("live_for"), st.sampled_from([1, 20, 60, 900, 5000, 61_000, math.inf])),
    st.tuples(st.just("live_for"), st.integers(1, 5000)),
    st.tuples(st.just("delete")),
    st.tuples(st.just("garble")),
    st.tuples(st.just("doubt")),
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 30, 49, 51, 400, 2000])),
    *[st.tuples(st.just("ask"), st.sampled_from([0, 0, 1, 3, 55]))] * 4,
)


class Pair:
    """One that remembers, and one that does not."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.hits = 0
        self.last: Entry | None = None
        self.asked = 0.0
        self._glances = [
            Glances(b"p:{", Values(Envelope(), self.now, math.inf, Memo(room)), self.now, lambda opening: None)
            for room in (ROOM, 0)
        ]

    def now(self) -> float:
        return self.asked

    def write(self, body: bytes, ttl: int, cost: float, swr: float, sie: float) -> None:
        self.server.write(body, ttl, cost, stale_while_revalidate=swr, stale_if_error=sie)

    def live_for(self, milliseconds: float) -> None:
        """Said by somebody else; or they have written the same bytes anew."""
        if self.server.left != -2:
            self.server.ends = self.server.now + milliseconds

    def delete(self) -> None:
        self.server.value = None

    def garble(self) -> None:
        if (value := self.server.value) is not None:
            self.server.value = value[:-1] + bytes([value[-1] ^ 1])

    def doubt(self) -> None:
        if self.last is not None:
            self.last.doubt(self.server.now / 1000)

    def wait(self, milliseconds: int) -> None:
        self.server.now += milliseconds

    def ask(self, delay: int) -> None:
        """Both at the same time; the server has the question after so many milliseconds."""
        server = self.server
        told: list[Entry | StoreError | None] = []
        self.asked = server.now / 1000
        server.now += delay
        for glances in self._glances:
            glance = GlanceCall(glances, KEY, told.append)
            left = server.left
            assert glance.hear([left, server.value], 0, lambda call, error: call.fail(error)) == 2
        found, plain = told
        if plain is None:
            assert found is None
            return
        assert isinstance(found, Entry)
        assert isinstance(plain, Entry)
        agree(found, plain)
        assert found.dead_from <= server.ends / 1000 + 1e-6
        assert found.doubted is None
        self.hits += found is self.last
        self.last = found


def agree(found: Entry, plain: Entry) -> None:
    """All but the times is alike, and those are a little sooner."""
    for name in Entry.FIELDS:
        if name not in TIMES:
            assert getattr(found, name) == getattr(plain, name)
    shifts = [getattr(plain, name) - getattr(found, name) for name in TIMES]
    assert all(-1e-6 <= shift <= _CLOSE + 1e-6 for shift in shifts)
    assert max(shifts) - min(shifts) < 1e-6


def do(pair: Pair, step: tuple[Any, ...]) -> None:
    what, *how = step
    getattr(pair, what)(*how)


@settings(max_examples=600)
@given(first=WRITES, steps=st.lists(STEPS, min_size=5, max_size=40))
def test_with_a_memo_and_without_the_same_is_told(first: tuple[Any, ...], steps: list[tuple[Any, ...]]) -> None:
    pair = Pair(Server())
    for step in (first, *steps):
        do(pair, step)


def test_in_such_a_sequence_the_memo_is_of_use() -> None:
    pair = Pair(Server())
    do(pair, ("write", b"one", 5000, 0.0, 0.0, 0.0))
    for _ in range(10):
        do(pair, ("wait", 30))
        do(pair, ("ask", 0))
    assert pair.hits == 8, "all but the first two"


# --- at a real server -------------------------------------------------------------------------------------------------


def at(
    server: RedisProcess, scenario: Callable[[RedisStore, RedisStore, Redis], Awaitable[None]], **options: Any
) -> None:
    """One store that remembers, and one that does not."""

    async def with_stores() -> None:
        url, options_of_all = f"redis://127.0.0.1:{server.port}", {"prefix": "memo", **UNHURRIED, **options}
        one, plain = (RedisStore.from_url(url, memo_bytes=room, **options_of_all) for room in (ROOM, 0))
        async with Redis(port=server.port, **ADMIN) as redis, asyncio.timeout(PATIENCE):
            await scenario(one, plain, redis)
        await one.aclose()
        await plain.aclose()

    asyncio.run(with_stores())


async def glance(store: RedisStore, key: bytes = KEY) -> Entry | StoreError | None:
    """What is told, once it is known that the server is near."""
    answer: asyncio.Future[Entry | StoreError | None] = asyncio.get_running_loop().create_future()
    while not store.glance(key, answer.set_result):
        await store.set(b"there" * 3, live(store))
        await store.look(b"there" * 3, Claim())
    return await answer


async def same(store: RedisStore) -> Entry:
    """The same object twice in a row: it was not opened anew. A busy machine may take a while until then."""
    before = None
    while True:
        found = await glance(store)
        assert isinstance(found, Entry)
        if found is before:
            return found
        before = found


def live(store: RedisStore, seconds: float = 300.0, body: bytes = b"knowledge", **changes: Any) -> Entry:
    now = store._now()
    return entry(body, **{"born": now, "fresh_until": now + seconds, "settled_until": now + seconds} | changes)


def name_of(key: bytes) -> str:
    return f"memo:{{{key.hex()}}}:e"


@pytest.mark.parametrize("secrets", [[], SECRETS])
def test_what_was_opened_is_given_again_to_glances_and_lookups(server: RedisProcess, secrets: list[str]) -> None:
    async def scenario(one: RedisStore, plain: RedisStore, redis: Redis) -> None:
        await one.set(KEY, live(one))
        found = await same(one)
        assert found.body == b"knowledge"
        while (await one.look(KEY, Claim())).entry is not found:  # it was opened anew: the machine is busy
            found = await same(one)
        assert (await one.look(KEY, Claim(newer_than=1))).entry is None, "told invalid since"
        assert await glance(plain) is not await glance(plain)

    at(server, scenario, secrets=secrets)


def test_what_is_put_in_its_place_is_told_at_once(server: RedisProcess) -> None:
    async def scenario(one: RedisStore, plain: RedisStore, redis: Redis) -> None:
        await one.set(KEY, live(one))
        await same(one)
        await plain.set(KEY, live(plain, body=b"news"))
        found = await glance(one)
        assert isinstance(found, Entry)
        assert found.body == b"news"
        await redis.pexpire(name_of(KEY), 100_000)
        found = await glance(one)
        assert isinstance(found, Entry)
        assert found.dead_from < one._now() + 100.0
        await redis.persist(name_of(KEY))
        assert await glance(one) is None, "nothing of ours has no end"
        await plain.delete(KEY)
        assert await glance(one) is None

    at(server, scenario)


def test_what_somebody_has_moved_to_another_key_is_not_believed(server: RedisProcess) -> None:
    async def scenario(one: RedisStore, plain: RedisStore, redis: Redis) -> None:
        other = b"o" * 16
        for key, body in ((KEY, b"of one"), (other, b"of another")):
            await one.set(key, live(one, body=body))
            for _ in range(3):
                found = await glance(one, key)
                assert isinstance(found, Entry)
                assert found.body == body
        await redis.copy(name_of(KEY), name_of(other), replace=True)
        assert await glance(one, other) is None
        assert (await one.look(other, Claim())).entry is None
        assert one.rejected == {"key": 1}

    at(server, scenario)


def test_what_another_machine_tells_invalid_by_its_tag_is_loaded_anew(server: RedisProcess) -> None:
    async def scenario() -> None:
        url, key = f"redis://127.0.0.1:{server.port}", "for tests only, 0123456789 0123456"
        here, there = (
            Cache(
                RedisStore.from_url(url, prefix="memo-tags", **UNHURRIED),
                key_secret=key,
                policy=Policy(ttl=300.0),
                limits=Limits(far_timeout=10.0),
            )
            for _ in range(2)
        )
        loads = 0

        async def load() -> str:
            nonlocal loads
            loads += 1
            return f"load {loads}"

        async def value(cache: Cache) -> str:
            return await cache.get_or_load("q", load, tags=("doc:7",))

        for _ in range(5):
            assert {await value(cache) for cache in (here, there)} == {"load 1"}
        await here.invalidate(tag="doc:7")
        assert await value(here) == "load 2"
        while await value(there) == "load 1":  # noqa: ASYNC110 - until it has heard
            await asyncio.sleep(0.01)
        for _ in range(5):
            assert {await value(cache) for cache in (there, here)} == {"load 2"}
        await here.aclose()
        await there.aclose()

    async def in_time() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    asyncio.run(in_time())


async def happen(store: RedisStore, redis: Redis, random: Random) -> None:
    """One of all that may happen to a value."""
    name = name_of(KEY)
    value: Any = await redis.get(name)
    if value is not None and random.random() < 0.5:
        garbled = value[:-1] + bytes([value[-1] ^ 1])
        await redis.set(name, random.choice([value, value, garbled]), px=random.choice([30_000, 500_000]))
        return
    match random.randrange(4):
        case 0 | 1:
            body, window = random.choice([b"one", b"two"]), random.choice([0.0, 30.0])
            await store.set(KEY, live(store, random.choice([60.0, 300.0]), body, stale_while_revalidate=window))
        case 2:
            await (redis.persist(name) if random.random() < 0.5 else redis.delete(name))
        case 3:
            await redis.pexpire(name, random.choice([20_000, 400_000]))


@pytest.mark.parametrize("seed", range(3))
def test_after_whatever_happens_to_it_a_store_with_a_memo_agrees_with_one_without(
    server: RedisProcess, seed: int
) -> None:
    async def scenario(one: RedisStore, plain: RedisStore, redis: Redis) -> None:
        random = Random(seed)
        for _ in range(60):
            await happen(plain, redis, random)
            for _ in range(random.randrange(1, 4)):
                found, wanted = await glance(one), await glance(plain)
                lives = await redis.pttl(name_of(KEY)) / 1000
                if wanted is None:
                    assert found is None
                    continue
                assert isinstance(found, Entry)
                assert isinstance(wanted, Entry)
                assert (found.body, found.number) == (wanted.body, wanted.number)
                assert found.dead_from <= one._now() + lives + 0.002

    at(server, scenario)
