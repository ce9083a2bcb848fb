"""A disk between memory and Redis: what it kept while it was away obeys what was told invalid meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache._clock import SystemClock
from glasscache._entry import Entry
from glasscache._events import TierCall
from glasscache._far_tiers import FarTiers
from glasscache._guard import Guard
from glasscache.codecs import MsgspecCodec
from glasscache.errors import ConfigurationError, StoreError
from glasscache.interfaces import Middle, Telemetry
from glasscache.stores import disk
from glasscache.stores._disk_thread import DiskThread
from glasscache.stores._null import NullMiddle
from glasscache.stores.disk import DiskStore
from glasscache.testing import RecordingTelemetry, entry
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")

SECRET = "a secret that all machines of this test share"
_numbers = itertools.count()


class Place:
    """Machines with disks of their own, before one Redis."""

    def __init__(self, server: RedisProcess, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.prefix = f"glasscache-{next(_numbers)}"
        self.version = "first"
        self.loads = 0

    def machine(self, name: str, *, alone: bool = False, telemetry: Telemetry | None = None) -> Cache:
        """One process of the machine of this name; `alone`: it knows of no Redis."""
        disk = DiskStore(self.folder / name)
        url = f"redis://127.0.0.1:{self.server.port}"
        shared = [] if alone else [RedisStore.from_url(url, prefix=self.prefix, **UNHURRIED)]
        tiers = TieredStore([MemoryStore(), disk, *shared])
        return Cache(tiers, limits=Limits(far_timeout=10.0), key_secret=SECRET, telemetry=telemetry)

    async def ask(self, cache: Cache, question: str = "q") -> str:
        async def load() -> str:
            self.loads += 1
            return self.version

        return await cache.get_or_load(question, load, tags=("tag",), group="ask")

    async def flush(self) -> None:
        """The server loses what it had."""
        await asyncio.to_thread(self.server.do, "FLUSHALL")


def run(server: RedisProcess, folder: Path, scenario: Callable[[Place], Awaitable[None]]) -> None:
    asyncio.run(scenario(Place(server, folder)))  # type: ignore[arg-type]


def fresh(**changes: Any) -> Entry:
    now = SystemClock().now()
    return entry(born=now, fresh_until=now + 300.0, settled_until=now + 290.0, **changes)


def results(cache: Cache) -> dict[str, int]:
    """How often an answer came from where."""
    counts = cache.counters.group("ask").requests()
    return {f"{result} {tier}": count for (result, tier), count in counts.items()}


async def in_step(cache: Cache) -> None:
    async with asyncio.timeout(PATIENCE):
        while not cache._engine._state.coherence.in_step:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


async def drained(cache: Cache) -> None:
    """What is stored behind, is."""
    await asyncio.gather(*cache._engine._state.tasks)


def test_what_a_machine_has_on_its_disk_answers_after_a_restart_and_it_is_told_where_it_was(
    server: RedisProcess, tmp_path: Path
) -> None:
    async def scenario(place: Place) -> None:
        one = place.machine("one")
        assert await place.ask(one) == "first"
        await one.aclose()
        one = place.machine("one")
        assert await asyncio.gather(*(place.ask(one) for _ in range(20))) == ["first"] * 20
        assert (results(one), place.loads) == ({"hit disk": 20}, 1)
        two = place.machine("two")
        assert await place.ask(two) == "first"
        assert (results(two), place.loads) == ({"hit redis": 1}, 1)
        await drained(two)
        await two.aclose()
        await place.flush()  # which the disk of two has not forgotten; but nobody can vouch for it
        place.version = "second"
        assert await place.ask(one) == "first"
        await one.aclose()

    run(server, tmp_path, scenario)


@pytest.mark.parametrize("how", ["key", "tag", "all"])
def test_what_was_told_invalid_while_a_machine_was_away_is_not_on_its_disk(
    server: RedisProcess, tmp_path: Path, how: str
) -> None:
    async def scenario(place: Place) -> None:
        one, two = place.machine("one"), place.machine("two")
        assert await place.ask(one) == "first"
        await one.aclose()
        wanted: dict[str, Any] = {"key": {"key": "q"}, "tag": {"tag": "tag"}, "all": {"all": True}}
        await two.invalidate(**wanted[how])
        place.version = "second"
        one = place.machine("one")
        assert await place.ask(one) == "second"
        assert await place.ask(two) == "second"
        for cache in (one, two):
            await cache.aclose()

    run(server, tmp_path, scenario)


def test_what_was_told_invalid_is_not_back_when_redis_has_lost_its_data_and_nobody_remembers(
    server: RedisProcess, tmp_path: Path
) -> None:
    async def scenario(place: Place) -> None:
        one, two = place.machine("one"), place.machine("two")
        assert await place.ask(one) == "first"
        await one.aclose()
        for _ in range(3):
            await two.invalidate(tag="tag")
        await two.aclose()
        await place.flush()
        two = place.machine("two")  # which gives out numbers of a new life
        await two.invalidate(tag="another")
        place.version = "second"
        one = place.machine("one")
        assert await place.ask(one) == "second"
        assert await place.ask(two) == "second"
        assert place.loads == 2
        for cache in (one, two):
            await cache.aclose()
        one = place.machine("one")
        assert await place.ask(one) == "second"
        assert results(one) == {"hit disk": 1}
        await one.aclose()

    run(server, tmp_path, scenario)


def test_a_disk_that_was_a_machines_only_tier_is_trusted_no_more_behind_another_counter_nor_back(
    server: RedisProcess, tmp_path: Path
) -> None:
    async def scenario(place: Place) -> None:
        for version, alone in (("first", True), ("second", False), ("third", True)):
            place.version = version
            cache = place.machine("one", alone=alone)
            assert await place.ask(cache) == version
            await cache.aclose()
            cache = place.machine("one", alone=alone)
            assert await place.ask(cache) == version
            assert results(cache) == {"hit disk": 1}
            await cache.aclose()

    run(server, tmp_path, scenario)


def test_entries_that_nobody_has_named_belong_to_somebody_else(server: RedisProcess, tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        store = DiskStore(place.folder / "one")
        assert await store.recall() == ("", 0)
        await store.set(b"key", fresh(number=7))
        assert await store.recall() == ("unknown", 7)
        await store.aclose()
        one = place.machine("one")
        await place.ask(one)
        await in_step(one)
        assert one._engine.epoch == 8
        await one.aclose()

    run(server, tmp_path, scenario)


@pytest.mark.parametrize("how", ["removed", "without a table"])
def test_a_disk_that_is_begun_anew_under_a_running_machine_belongs_to_the_same_data_again(
    server: RedisProcess, tmp_path: Path, how: str
) -> None:
    async def scenario(place: Place) -> None:
        one, two = place.machine("one"), place.machine("two")
        assert await place.ask(one) == await place.ask(two) == "first"
        if how == "removed":
            shutil.rmtree(place.folder / "one")
        else:
            with closing(sqlite3.connect(place.folder / "one" / "glasscache.db")) as db:
                db.execute("DROP TABLE bodies")
        assert await place.ask(one, "another") == "first"
        await one.aclose()
        one = place.machine("one")
        assert await place.ask(one, "another") == "first"
        assert (results(one), one._engine.epoch) == ({"hit disk": 1}, 0)
        assert await place.ask(one) == "first"
        assert (results(one), place.loads) == ({"hit disk": 1, "hit redis": 1}, 2)
        for cache in (one, two):
            await cache.aclose()

    run(server, tmp_path, scenario)


def test_a_disk_that_cannot_say_whom_it_belongs_to_does_not_answer_and_holds_nobody_up(
    server: RedisProcess, tmp_path: Path
) -> None:
    class Forgetful(DiskStore):
        """Cannot recall."""

        fails = True

        async def recall(self) -> tuple[str, int]:
            if self.fails:
                raise StoreError("cannot be read")
            return await super().recall()

    async def scenario(place: Place) -> None:
        one = place.machine("one")
        assert await place.ask(one) == "first"
        await one.aclose()
        disk = Forgetful(place.folder / "one")
        redis = RedisStore.from_url(f"redis://127.0.0.1:{server.port}", prefix=place.prefix, **UNHURRIED)
        TieredStore([disk, redis])
        assert redis.backplane.middle is disk
        await disk.set(b"too early", fresh())
        with pytest.raises(StoreError, match="cannot be read"):
            await redis.backplane.read(0)
        assert (await redis.backplane.read(0)).number == 0
        key = one.keyring.digest(b"value", b"q")
        assert await disk.get(key) is None
        assert await redis.get(key) is not None
        assert await disk.get(b"too early") is None
        disk.fails = False
        await redis.backplane.read(0)
        assert await disk.get(b"too early") is None
        assert await disk.get(key) is not None
        for store in (disk, redis):
            await store.aclose()

    run(server, tmp_path, scenario)


def test_a_newer_answer_of_another_machine_takes_the_place_of_a_copy_on_the_disk(
    server: RedisProcess, tmp_path: Path
) -> None:
    async def scenario(place: Place) -> None:
        one, two = place.machine("one"), place.machine("two")
        key = one.keyring.digest(b"value", b"q")
        assert await place.ask(one) == await place.ask(two) == "first"
        await in_step(one)
        far = two._engine._state.far
        assert isinstance(far, Guard)
        assert isinstance(far.store, FarTiers)
        newer = two._engine.near.peek(key)
        assert newer is not None
        await far.set(key, newer.but(chunks=(MsgspecCodec().encode("second"),)))
        await two._engine._state.tell_replaced(key)
        async with asyncio.timeout(PATIENCE):
            while await place.ask(one) == "first":  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)
        assert place.loads == 1
        for cache in (one, two):
            await cache.aclose()

    run(server, tmp_path, scenario)


def test_a_hit_on_the_disk_needs_no_task_and_is_told_as_the_disks(server: RedisProcess, tmp_path: Path) -> None:
    async def scenario(place: Place) -> None:
        one = place.machine("one")
        assert await place.ask(one) == "first"
        await one.aclose()
        telemetry = RecordingTelemetry()
        one = place.machine("one", telemetry=telemetry)
        assert await place.ask(one, "another") == "first"
        await in_step(one)
        one._engine.near.clear()
        assert await place.ask(one) == "first"
        one._engine.near.clear()
        await drained(one)
        telemetry.ended.clear()
        before = asyncio.all_tasks()
        asking = asyncio.ensure_future(place.ask(one))
        await asyncio.sleep(0)
        assert asyncio.all_tasks() - before == {asking}
        assert await asking == "first"
        assert results(one) == {"miss origin": 1, "hit disk": 2}
        calls = [work for work in telemetry.ended if isinstance(work, TierCall)]
        assert [(call.tier, call.operation, call.found) for call in calls] == [("disk", "get", True)]
        await one.aclose()

    run(server, tmp_path, scenario)


def test_a_disk_that_is_held_up_is_left_alone_and_takes_neither_redis_nor_an_invalidation_with_it(
    server: RedisProcess, tmp_path: Path
) -> None:
    async def scenario(place: Place) -> None:
        one, two = place.machine("one"), place.machine("two")
        for number in range(100):
            await place.ask(one, f"{number}")
        await place.ask(two, "0")
        await in_step(two)
        states = set[tuple[str, object]]()
        with closing(sqlite3.connect(place.folder / "two" / "glasscache.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for number in range(1, 50):
                assert await place.ask(two, f"{number}") == "first"
                states |= set(two.tier_states())
            assert place.loads == 100
            assert states >= {("disk", "open")}
            assert {state for tier, state in states if tier == "redis"} == {"ok"}
            await two.invalidate(key="7")
            assert dict(two.tier_states())["redis"] == "ok"
            place.version = "second"
            assert await place.ask(two, "7") == await place.ask(one, "7") == "second"
        questions = itertools.count(50)
        async with asyncio.timeout(PATIENCE):
            while dict(two.tier_states()) != {"disk": "ok", "redis": "ok"}:
                await place.ask(two, f"{next(questions) % 100}")
                two._engine.near.clear()
                await asyncio.sleep(0.005)
        for cache in (one, two):
            await cache.aclose()

    run(server, tmp_path, scenario)


def test_what_one_process_of_a_machine_has_put_on_its_disk_is_left_there_by_the_others(
    server: RedisProcess, tmp_path: Path
) -> None:
    async def scenario(place: Place) -> None:
        heard: list[bytes] = []
        one, sibling = place.machine("one"), place.machine("one")
        for cache in (one, sibling):
            await place.ask(cache, "first")
            await in_step(cache)
        reach = sibling._engine._state
        forget = reach.forget_replaced
        reach.forget_replaced = lambda key: (heard.append(key), forget(key))[1]  # type: ignore[method-assign,func-returns-value]
        before = set(sibling._engine.near._live)  # type: ignore[attr-defined]  # of which it may hear as late as now
        for number in range(20):
            await place.ask(one, f"{number}")
        async with asyncio.timeout(PATIENCE):
            while len(set(heard) - before) < 20:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.005)
        for cache in (one, sibling):
            await cache.aclose()
        one = place.machine("one")
        for number in range(20):
            assert await place.ask(one, f"{number}") == "first"
        assert results(one) == {"hit disk": 20}
        await one.aclose()

    run(server, tmp_path, scenario)


def test_of_a_disk_that_processes_share_only_the_newest_copy_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        one, sibling = DiskStore(tmp_path), DiskStore(tmp_path)
        assert one.put_last(b"key") == 0
        await one.set(b"key", fresh())
        newest = one.put_last(b"key")
        assert newest > 0
        sibling.spare(b"key", newest)
        await sibling.delete(b"key")
        assert await one.get(b"key") is not None
        await sibling.set(b"key", fresh())  # which it had asked for before
        sibling.spare(b"key", newest)
        await sibling.delete(b"key")
        assert await one.get(b"key") is None
        await one.set(b"key", fresh())
        monkeypatch.setattr(DiskThread, "call", refuse)
        with pytest.raises(StoreError):
            await one.set(b"key", fresh())
        assert one.put_last(b"key") == 0, "another may be there yet"
        monkeypatch.undo()
        monkeypatch.setattr(disk, "_MOST_NOTED", 2)
        for key in (b"1", b"2", b"3"):
            await one.set(key, fresh())
        assert [one.put_last(key) > 0 for key in (b"1", b"2", b"3")] == [False, True, True]
        for store in (one, sibling):
            await store.aclose()

    async def refuse(self: DiskThread, step: object) -> None:
        raise StoreError("cannot be written")

    asyncio.run(scenario())


def test_a_machines_own_tier_behind_one_that_machines_share_is_refused(tmp_path: Path) -> None:
    redis = RedisStore.from_url("redis://localhost:1")
    with pytest.raises(ConfigurationError, match="disk is this machine's alone: put it before"):
        TieredStore([MemoryStore(), redis, DiskStore(tmp_path)])
    between = TieredStore([MemoryStore(), DiskStore(tmp_path), redis])
    assert between.backplane is redis.backplane


def test_where_nothing_outlives_the_process_there_is_nothing_to_remember(tmp_path: Path) -> None:
    async def scenario() -> None:
        nothing = NullMiddle()
        nothing.stand_between()
        assert await nothing.recall() == ("", 0)
        await nothing.belong("life")
        assert not nothing.distrust()
        assert nothing.put_last(b"key") == 0
        nothing.spare(b"key", 7)

    asyncio.run(scenario())
    assert isinstance(NullMiddle(), Middle)
    assert isinstance(DiskStore(tmp_path), Middle)
    assert not isinstance(MemoryStore(), Middle)
