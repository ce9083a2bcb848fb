"""One server, or one directory, for applications that were not meant to share it, or not with these secrets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from glasscache import Cache, DiskStore, Limits, MemoryStore, RedisStore, TieredStore
from glasscache.interfaces import Store
from glasscache.stats import stats
from glasscache.stores._envelope import EnvelopeError
from glasscache.stores._rejects import Rejects
from tests.support.redis_process import UNHURRIED, RedisProcess

ONE, TWO = "one secret of more than 32 characters", "two secret of more than 32 characters"
ROUNDS = 10

Make = Callable[[tuple[str, ...]], Store]


@pytest.fixture(params=["redis", "disk"])
def make(request: pytest.FixtureRequest, server: RedisProcess, tmp_path: Path) -> Make:
    """A store that shares what the others of this test have."""

    def store(secrets: tuple[str, ...]) -> Store:
        if request.param == "disk":
            return DiskStore(tmp_path, secrets=secrets)
        return RedisStore.from_url(
            f"redis://127.0.0.1:{server.port}", prefix=str(tmp_path), secrets=secrets, **UNHURRIED
        )

    return store


class Origin:
    loads = 0

    async def __call__(self) -> str:
        self.loads += 1
        await asyncio.sleep(0)
        return "an answer"


def cache_of(store: Store, key: str = ONE) -> Cache:
    return Cache(TieredStore([MemoryStore(), store]), key_secret=key, limits=Limits(far_timeout=10.0))


@pytest.mark.parametrize("secrets", [((ONE,), (TWO,)), ((ONE,), ())], ids=["other secrets", "no secrets"])
def test_two_with_other_secrets_do_not_throw_out_each_others_answers_for_ever(
    make: Make, secrets: tuple[tuple[str, ...], ...], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        origin, caches = Origin(), [cache_of(make(each)) for each in secrets]
        for _ in range(ROUNDS):
            for cache in caches:
                assert await cache.get_or_load("question", origin, ttl=300.0) == "an answer"
                await asyncio.gather(*cache._engine._state.tasks)  # what is stored and told behind, is
        assert origin.loads < ROUNDS  # not one for each of twice as many requests
        assert [stats(cache)["errors"] for cache in caches] == [0, 0]
        for cache in caches:
            rejected = stats(cache)["evictions"]
            assert isinstance(rejected, dict)
            have_met.append(bool(rejected["rejected"]))
            await cache.aclose()

    have_met: list[bool] = []
    asyncio.run(scenario())
    told = [record.getMessage() for record in caplog.records if "is no entry" in record.getMessage()]
    assert len(told) == have_met.count(True) > 0  # once by each; one with a copy in memory may not have looked again
    assert all("(sealed)" in words and "give all machines the same GLASSCACHE_SECRETS" in words for words in told)


def test_two_with_other_keys_find_nothing_of_each_other_and_throw_out_nothing(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        origins, caches = (Origin(), Origin()), [cache_of(make(()), key) for key in (ONE, TWO)]
        for _ in range(ROUNDS):
            for cache, origin in zip(caches, origins, strict=True):
                await cache.get_or_load("question", origin, ttl=300.0, tags=("doc",))
        assert [origin.loads for origin in origins] == [1, 1]
        for cache in caches:
            await cache.aclose()

    asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_what_another_release_has_stored_is_removed_once_and_then_left_to_it_for_a_minute(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [1000.0]
    rejects = Rejects("<a store>", lambda: now[0])
    rejects.meet(b"key", EnvelopeError("version"))
    rejects.meet(b"other", EnvelopeError("version"))
    for _ in range(2):
        with pytest.raises(EnvelopeError, match="version"):
            rejects.meet(b"key", EnvelopeError("version"))
    now[0] += 61.0
    rejects.meet(b"key", EnvelopeError("version"))
    assert rejects.counts == {"version": 5}
    (record,) = caplog.records
    assert record.getMessage().startswith("<a store>: what is stored there is no entry (version), it is loaded anew: ")


def test_what_is_damaged_is_removed_each_time(caplog: pytest.LogCaptureFixture) -> None:
    rejects = Rejects("<a store>", lambda: 1000.0)
    for _ in range(3):
        rejects.meet(b"key", EnvelopeError("checksum"))
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "it is damaged, or somebody has tampered with it"
    ]


def test_of_ever_new_keys_only_so_many_are_remembered() -> None:
    rejects = Rejects("<a store>", lambda: 1000.0)
    for number in range(10_000):
        rejects.meet(b"%d" % number, EnvelopeError("sealed"))
    assert len(rejects._lately) <= 4096
