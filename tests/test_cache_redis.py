"""The public Cache on machines that share a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache._clock import SystemClock
from glasscache.errors import ConfigurationError
from glasscache.interfaces import Clock
from glasscache.settings import RedisSettings, Settings
from glasscache.stats import stats
from glasscache.testing import entry
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")

SECRET = "a secret that all machines of this test share"


@asynccontextmanager
async def machines(url: str, count: int, prefix: str, *, clock: Clock | None = None) -> AsyncIterator[list[Cache]]:
    """Caches as that many machines would have them: memory before the same server."""
    caches = [
        Cache(
            TieredStore([MemoryStore(), RedisStore.from_url(url, prefix=prefix, **UNHURRIED, clock=clock)]),
            limits=Limits(far_timeout=10.0),
            key_secret=SECRET,
            clock=clock,
        )
        for _ in range(count)
    ]
    try:
        yield caches
    finally:
        for cache in caches:
            await cache.aclose()


KEY = bytes(range(16))


class Origin:
    """Counts how often it is asked."""

    loads = 0

    async def __call__(self) -> int:
        self.loads += 1
        return self.loads


async def eventually(wanted: Callable[[], Awaitable[bool]]) -> None:
    """Wait until it is so: messages between machines have their own pace."""
    async with asyncio.timeout(PATIENCE):
        while not await wanted():  # noqa: ASYNC110 - another machine tells nobody here
            await asyncio.sleep(0.001)


def test_a_new_epoch_holds_on_all_machines_and_has_a_higher_number_than_all_before(server: RedisProcess) -> None:
    async def scenario() -> None:
        origin = Origin()
        async with machines(f"redis://127.0.0.1:{server.port}", 2, "epoch") as (one, two):
            assert [await cache.get_or_load("k", origin) for cache in (one, two)] == [1, 1]
            first = await one.bump_epoch()
            assert await one.get_or_load("k", origin) == 2

            async def heard() -> bool:
                return await two.get_or_load("k", origin) == 2

            await eventually(heard)
            assert await two.bump_epoch() > first > 0
            assert origin.loads == 2

    asyncio.run(scenario())


def test_a_refresh_on_one_machine_takes_the_place_of_the_value_on_all(server: RedisProcess) -> None:
    async def scenario() -> None:
        origin = Origin()
        async with machines(f"redis://127.0.0.1:{server.port}", 2, "refresh") as (one, two):
            assert [await cache.get_or_load("k", origin) for cache in (one, two)] == [1, 1]
            assert await one.get_or_load("k", origin, refresh=True) == 2
            assert await one.get_or_load("k", origin) == 2

            async def heard() -> bool:
                return await two.get_or_load("k", origin) == 2

            await eventually(heard)
            assert origin.loads == 2

    asyncio.run(scenario())


def test_a_value_that_store_if_declines_is_kept_nowhere_and_holds_up_no_other_machine(server: RedisProcess) -> None:
    async def scenario() -> None:
        origin = Origin()
        async with machines(f"redis://127.0.0.1:{server.port}", 2, "declined") as caches:
            for number, cache in enumerate((*caches, *caches), 1):
                assert await cache.get_or_load("k", origin, store_if=lambda value: value > 4) == number
            assert await caches[0].get_or_load("k", origin, store_if=lambda value: value > 4) == 5
            assert [await cache.get_or_load("k", origin) for cache in caches] == [5, 5]

    asyncio.run(scenario())


def test_where_nothing_is_cached_no_server_and_no_secret_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLASSCACHE_KEY", "REDIS_URL"):
        monkeypatch.delenv(name, raising=False)

    async def scenario() -> None:
        in_code = Cache(RedisStore.from_url("redis://127.0.0.1:1", prefix="p"), enabled=False)
        for cache in (in_code, Settings.from_env({"CACHE_TYPE": "hybrid", "GLASSCACHE_ENABLED": "no"}).cache()):
            origin = Origin()
            assert [await cache.get_or_load("k", origin), await cache.get_or_load("k", origin)] == [1, 2]
            await cache.aclose()

    asyncio.run(scenario())


def test_machines_need_one_secret_and_are_told_how_to_make_it(
    server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GLASSCACHE_KEY", raising=False)
    store = RedisStore.from_url(f"redis://127.0.0.1:{server.port}", prefix="p")
    with pytest.raises(ConfigurationError, match="set GLASSCACHE_KEY"):
        Cache(store)
    monkeypatch.setenv("GLASSCACHE_KEY", SECRET)
    Cache(store)


def test_a_server_that_is_killed_fails_no_request_and_is_used_again_when_it_is_back(
    server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        origin = Origin()
        async with machines(f"redis://127.0.0.1:{server.port}", 1, "killed") as (cache,):
            assert await cache.get_or_load("before", origin) == 1
            server.kill()
            for number in range(10):
                assert await cache.get_or_load(f"while {number}", origin) == 2 + number
            assert await cache.get_or_load("before", origin) == 1
            assert stats(cache)["tiers"] == {"redis": "open"}
            server.start()

            async def recovered() -> bool:
                await cache.get_or_load(f"probe {origin.loads}", origin)
                return stats(cache)["tiers"] == {"redis": "ok"}

            await eventually(recovered)
            assert stats(cache)["leases"] is not None

    asyncio.run(scenario())


# --- clocks -----------------------------------------------------------------------------------------------------------


class Skewed:
    """A machine whose clocks are all wrong by as much; the monotonic one has no meaning elsewhere anyway."""

    def __init__(self, seconds: float) -> None:
        right = SystemClock()
        self.ahead = seconds
        self.now: Callable[[], float] = lambda: right.now() + self.ahead
        self.wall: Callable[[], float] = lambda: right.wall() + self.ahead


@pytest.mark.parametrize("skew", [3600.0, -3600.0], ids=["an hour ahead", "an hour behind"])
def test_a_machine_whose_clock_is_wrong_serves_nothing_past_its_time_and_makes_nothing_immortal(
    server: RedisProcess, skew: float
) -> None:
    async def scenario() -> None:
        url, prefix = f"redis://127.0.0.1:{server.port}", f"skew{skew}"
        right, wrong = SystemClock(), Skewed(skew)
        stores = [RedisStore.from_url(url, prefix=prefix, **UNHURRIED, clock=clock) for clock in (right, wrong)]
        one, other = stores
        ways: list[tuple[RedisStore, RedisStore, Clock, Clock]] = [
            (one, other, right, wrong),
            (other, one, wrong, right),
        ]
        for writer, reader, written, read in ways:
            now = written.now()
            await writer.set(KEY, entry(born=now - 10.0, fresh_until=now + 60.0, settled_until=now + 50.0))
            found = await reader.get(KEY)
            assert found is not None
            assert 50.0 < found.fresh_until - read.now() <= 60.0
            assert 10.0 <= read.now() - found.born < 20.0
            (name,) = server.do("KEYS", f"{prefix}:*:e")
            assert 50_000 < server.do("PTTL", name) <= 60_000
        for store in stores:
            await store.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("skew", [3600.0, -3600.0], ids=["an hour ahead", "an hour behind"])
def test_an_answer_that_a_wrong_clock_stored_ends_everywhere_when_its_time_is_over(
    server: RedisProcess, skew: float
) -> None:
    async def scenario() -> None:
        origin, clocks = Origin(), (Skewed(skew), Skewed(0.0))
        url, prefix = f"redis://127.0.0.1:{server.port}", f"ends{skew}"

        def pass_time(seconds: float) -> None:
            """Everywhere: the server's clock cannot be handed in, but what it keeps can be made to end earlier."""
            for clock in clocks:
                clock.ahead += seconds
            for name in server.do("KEYS", f"{prefix}:*:e"):
                server.do("PEXPIRE", name, server.do("PTTL", name) - int(seconds * 1000))

        async with (
            machines(url, 1, prefix, clock=clocks[0]) as (wrong,),
            machines(url, 1, prefix, clock=clocks[1]) as (right,),
        ):
            for first, second in ((wrong, right), (right, wrong)):
                key, wanted = f"{origin.loads}", origin.loads + 1
                assert await first.get_or_load(key, origin, ttl=600.0) == wanted
                pass_time(500.0)
                assert await second.get_or_load(key, origin, ttl=600.0) == wanted
                pass_time(100.0)
                again = [await cache.get_or_load(key, origin, ttl=600.0) for cache in (second, first)]
                assert again == [wanted + 1] * 2

    asyncio.run(scenario())


def test_a_value_that_another_release_has_kept_in_another_form_is_replaced_on_all_machines(
    server: RedisProcess,
) -> None:
    async def scenario() -> None:
        async def old() -> str:
            return "seven"

        async def new() -> int:
            return 7

        async def unasked() -> int:
            raise AssertionError("nobody loads what is there")

        async with machines(f"redis://127.0.0.1:{server.port}", 3, "releases") as (one, two, three):
            assert await one.get_or_load("k", old) == "seven"
            assert await two.get_or_load("k", new) == 7
            assert await three.get_or_load("k", unasked) == 7

    asyncio.run(scenario())


@pytest.mark.parametrize("made", ["by settings", "in code"])
def test_the_largest_answer_that_is_allowed_is_shared_too(server: RedisProcess, made: str) -> None:
    size, url = 9 * 1024**2, f"redis://127.0.0.1:{server.port}"  # more than a store takes by default
    limits = Limits(max_entry_bytes=10 * 1024**2, far_timeout=PATIENCE)
    settings = Settings(
        kind="redis", redis=RedisSettings(url=url, prefix="large", **UNHURRIED), limits=limits, key=SECRET
    )

    def cache() -> Cache:
        if made == "by settings":
            return settings.cache()
        return Cache(RedisStore.from_url(url, prefix="larger", **UNHURRIED), limits=limits, key_secret=SECRET)

    async def scenario() -> None:
        async def load() -> bytes:
            loads.append(1)
            return bytes(size)

        loads: list[int] = []
        for one in (cache(), cache()):
            assert len(await one.get_or_load("k", load)) == size
            await one.aclose()
        assert len(loads) == 1

    asyncio.run(scenario())


def test_bytes_that_are_no_entry_are_counted_as_rejected_by_the_tier_that_had_them(server: RedisProcess) -> None:
    async def scenario() -> None:
        async with machines(f"redis://127.0.0.1:{server.port}", 1, "rejected") as (cache,):
            origin = Origin()
            assert await cache.get_or_load("question", origin) == 1
            await cache._engine.drain()
            (key,) = server.do("KEYS", "rejected:*:e")
            server.do("SET", key, b"not an entry", "KEEPTTL")
            cache._engine.near.clear()
            assert await cache.get_or_load("question", origin) == 2
            assert cache.counters.removals["redis", "rejected"] == 1

    asyncio.run(scenario())


def test_a_value_that_cannot_be_kept_holds_up_no_other_machine(server: RedisProcess) -> None:
    async def scenario() -> None:
        async with machines(f"redis://127.0.0.1:{server.port}", 3, "unkept") as caches:
            made: list[object] = []

            async def load() -> object:
                made.append(mine := object())
                await asyncio.sleep(0)
                return mine

            found = await asyncio.gather(*(cache.get_or_load("k", load) for cache in caches for _ in range(2)))
            assert len(set(found)) == len(made) == 6
            assert [stats(cache)["errors"] for cache in caches] == [0, 0, 0]

    asyncio.run(scenario())
