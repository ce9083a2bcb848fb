"""Invalidations and wake-ups between processes through a file: what is missed is known to be missed."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest

from glasscache._lease import Mark
from glasscache.errors import StoreError
from glasscache.stores._messages import MAX_NUMBER
from glasscache.stores.disk import DiskStore
from glasscache.testing._backplane_contract import Ear
from glasscache.testing._lease_contract import _KEY as KEY
from glasscache.testing._lease_contract import holder_of, lease_of
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("no_leaks")


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


NONSENSE = "INSERT INTO messages (at, told) VALUES (strftime('%s', 'now') * 1000000, x'c1')"


def sql(folder: Path, *statements: str) -> None:
    """As somebody else writes to the file, in one transaction."""
    with closing(sqlite3.connect(folder / "glasscache.db")) as db, db:
        for statement in statements:
            db.execute(statement)


async def listening(store: DiskStore) -> Ear:
    ear = Ear(PATIENCE)
    await store.backplane.start(ear)
    await ear.until(lambda: ear.hears)
    return ear


async def until(wanted: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not wanted():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def mark(store: DiskStore, *tags: str, everything: bool = False, seen: int = 0) -> int:
    return await store.backplane.mark(tags, everything=everything, seen=seen, source=None)


def test_numbers_and_markers_outlive_the_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)
        first = await mark(store, everything=True)
        second = await mark(store, "tag")
        await store.aclose()
        store = DiskStore(tmp_path)
        marks = await store.backplane.read(0)
        assert (marks.number, marks.everything, marks.tags) == (second, first, {"tag": second})
        assert await mark(store, "tag") == second + 1
        await store.aclose()

    run(scenario)


def test_of_too_many_tags_the_oldest_become_the_floor(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)
        store.backplane._max_tags = 3
        numbers = [await mark(store, f"tag {number}") for number in range(5)]
        await mark(store, "tag 3")
        marks = await store.backplane.read(0)
        assert sorted(marks.tags) == ["tag 2", "tag 3", "tag 4"]
        assert marks.floor == numbers[1]
        everything = await mark(store, everything=True)
        marks = await store.backplane.read(0)
        assert (marks.everything, marks.floor, marks.tags) == (everything, 0, {})
        await store.aclose()

    run(scenario)


def test_a_file_that_was_lost_tells_everything_invalid_to_whoever_remembers_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "cache"
        one, two = DiskStore(folder), DiskStore(folder)
        ear = await listening(two)
        number = [await mark(one, "tag") for _ in range(3)][-1]
        await ear.until_number(number)
        shutil.rmtree(folder)
        assert await two.get(KEY) is None  # begun anew by one that remembers nothing of it
        marks = await one.backplane.read(number)
        assert (marks.number, marks.everything) == (number + 1, number + 1)
        await ear.until(lambda: ear.told[-2:] == ["lost", "restored"])
        assert (await two.backplane.read(number)).everything == number + 1
        assert await mark(one, "tag") == number + 2
        await one.aclose()
        await two.aclose()

    run(scenario)


def test_a_file_that_forgot_while_nobody_read_tells_everything_with_the_next_mark(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "cache"
        one, two = DiskStore(folder), DiskStore(folder)
        number = await mark(one, "tag")
        shutil.rmtree(folder)
        assert await mark(two, "another's") == 1
        assert await mark(one, "tag") == number + 1
        assert (await two.backplane.read(1)).everything == number + 1
        await one.aclose()
        await two.aclose()

    run(scenario)


def test_no_number_is_given_out_twice_and_none_that_is_too_high(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)
        with pytest.raises(StoreError, match="no numbers are left"):
            await mark(store, "tag", seen=MAX_NUMBER)
        assert await mark(store, "tag") == 1
        await store.aclose()

    run(scenario)


def test_what_is_no_message_is_ignored(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = DiskStore(tmp_path), DiskStore(tmp_path)
        assert two.backplane.ignored == 0
        ear = await listening(two)
        sql(tmp_path, NONSENSE)
        number = await mark(one, "tag")
        await ear.until_number(number)
        assert two.backplane.ignored == 1
        assert ear.marks == [Mark(number=number, tags=("tag",))]
        await one.aclose()
        await two.aclose()

    run(scenario)


def test_whoever_has_missed_a_message_learns_of_it_and_looks(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = DiskStore(tmp_path), DiskStore(tmp_path)
        ear = await listening(two)
        await two.backplane.start(ear)  # twice does no harm
        await ear.until(lambda: ear.told == ["restored", "restored"])
        bell = two.listen(KEY)
        lease = await lease_of(one)
        await holder_of(two)
        sql(tmp_path, NONSENSE, NONSENSE, "DELETE FROM messages WHERE id = (SELECT min(id) FROM messages)")
        await ear.until(lambda: ear.told == ["restored", "restored", "lost", "restored"])
        assert await bell.rung(PATIENCE)
        await one.release(KEY, lease)
        assert await bell.rung(PATIENCE)
        bell.close()
        for store in (one, two):
            await store.aclose()
        assert ear.told[-1] == "lost"

    run(scenario)


def test_who_cannot_read_says_that_it_does_not_hear_until_it_can(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "cache"
        one = DiskStore(folder)
        ear = await listening(one)
        shutil.move(folder, tmp_path / "away")
        folder.write_text("in the way")
        await ear.until(lambda: not ear.hears)
        with pytest.raises(StoreError):
            await mark(one, "tag")
        folder.unlink()
        await ear.until(lambda: ear.hears)
        assert ear.told == ["restored", "lost", "restored"]
        await one.aclose()

    run(scenario)


def test_nobody_looks_while_nobody_listens_or_waits(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = DiskStore(tmp_path), DiskStore(tmp_path)
        lease = await lease_of(one)
        bell = two.listen(KEY)
        assert two._ear._timer is None
        await holder_of(two)
        await one.release(KEY, lease)
        assert await bell.rung(PATIENCE)
        bell.close()
        await until(lambda: two._ear._loop is None)
        assert two._ear._timer is None
        again = await lease_of(one)
        bell = two.listen(KEY)
        await holder_of(two)
        await one.release(KEY, again)
        assert await bell.rung(PATIENCE)
        bell.close()
        for store in (one, two):
            await store.aclose()

    run(scenario)


def test_a_wait_is_short_while_invalidations_are_heard_at_leisure(tmp_path: Path) -> None:
    async def scenario() -> None:
        one, two = DiskStore(tmp_path), DiskStore(tmp_path)
        await listening(two)
        await until(lambda: two._ear._timer is not None)
        assert two._ear._pause == 0.1
        lease = await lease_of(one)
        bell = two.listen(KEY)
        await holder_of(two)
        assert two._ear._pause == 0.005
        await one.release(KEY, lease)
        assert await bell.rung(PATIENCE)
        bell.close()
        for store in (one, two):
            await store.aclose()

    run(scenario)


def test_a_process_lets_itself_in_when_it_lets_go(tmp_path: Path) -> None:
    """Two loads of one key in one process: the file tells nobody what he has written himself."""

    async def scenario() -> None:
        store = DiskStore(tmp_path)
        for let_go in (store.release, lambda key, _: store.delete(key)):
            lease = await lease_of(store)
            bell = store.listen(KEY)
            await holder_of(store)
            await let_go(KEY, lease)
            assert await bell.rung(0.0)
            bell.close()
        await store.aclose()

    run(scenario)


def test_another_loop_begins_anew_to_hear(tmp_path: Path) -> None:
    one, two = DiskStore(tmp_path), DiskStore(tmp_path)

    async def hear() -> None:
        ear = await listening(two)
        number = await mark(one, "tag")
        await ear.until_number(number)
        two.listen(KEY)  # and is never closed

    for scenario in (hear, hear, one.aclose, two.aclose):
        run(scenario)
