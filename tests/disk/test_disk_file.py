"""A file that is damaged, foreign, gone, locked, full or not ours to write: nothing is believed, no request fails."""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from glasscache import Cache, MemoryStore, TieredStore
from glasscache.errors import StoreError
from glasscache.stores import _disk_file
from glasscache.stores.disk import DiskStore
from glasscache.testing import ManualClock, RecordingTelemetry, entry
from glasscache.testing._lease_contract import _KEY as KEY
from glasscache.testing._lease_contract import lease_of
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("no_leaks")

SECRET = "a secret for the keys of these tests"


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


async def fill(folder: Path, count: int = 1, size: int = 5_000) -> None:
    """Answers of an earlier process."""
    store = DiskStore(folder, clock=ManualClock(), compression="none")
    for number in range(count):
        await store.set(KEY if number == 0 else b"%d" % number, entry(b"before" + bytes(size)))
    await store.aclose()


async def works(store: DiskStore) -> None:
    """It keeps what it is given, and gives leases."""
    await store.set(KEY, entry(b"after"))
    found = await store.get(KEY)
    assert found is not None
    assert found.body == b"after"
    await store.release(b"other", await lease_of(store, key=b"other"))


def overwrite(path: Path, start: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(start)
        file.write(data)


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "text": lambda path: path.write_bytes(b"not a database at all " * 1000),
    "zeros": lambda path: overwrite(path, 0, bytes(4096)),
    "header": lambda path: overwrite(path, 0, b"\xff" * 100),
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "cut within its first page": lambda path: os.truncate(path, 1000),
    "another program's": lambda path: change(path, "PRAGMA application_id = 7"),
    "another version's": lambda path: change(path, "PRAGMA user_version = 99"),
    "nobody's": lambda path: change(path, "PRAGMA application_id = 0", "PRAGMA user_version = 0"),
    "without its state": lambda path: change(path, "DELETE FROM state"),
    "without a table": lambda path: change(path, "DROP TABLE state"),
}


@pytest.mark.parametrize("how", DAMAGES)
def test_a_file_that_is_not_whole_or_not_ours_is_set_aside_and_begun_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    async def scenario() -> None:
        await fill(tmp_path, 20)
        path = tmp_path / "glasscache.db"
        DAMAGES[how](path)
        damaged = path.read_bytes()
        store = DiskStore(tmp_path, clock=ManualClock())
        assert await store.get(KEY) is None
        await works(store)
        assert (tmp_path / "glasscache.db.aside").read_bytes()[100:] == damaged[100:]
        (told,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert "glasscache.db was set aside as glasscache.db.aside, and begun anew" in told
        await store.aclose()

    run(scenario)


def test_pages_that_turn_out_to_be_damaged_while_it_is_open_are_no_error_of_a_request(tmp_path: Path) -> None:
    async def scenario() -> None:
        await fill(tmp_path, 200)
        store, other = (DiskStore(tmp_path, clock=ManualClock()) for _ in range(2))
        assert await other.get(b"unknown") is None
        assert await store.get(b"unknown") is None
        path = tmp_path / "glasscache.db"
        overwrite(path, 4096, b"\xff" * (path.stat().st_size - 4096))
        await store.set(b"in time", entry())  # which needs one of them
        answers = await asyncio.gather(*(store.get(b"%d" % number) for number in range(200)))
        assert set(answers) == {None}
        assert await store.get(b"in time") is not None
        await works(store)
        await works(other)  # which sees that the file is another one
        await store.set(b"new", entry(b"new"))
        assert await other.get(b"new") is not None
        await store.aclose()
        await other.aclose()

    run(scenario)


def test_a_file_that_is_cut_short_while_it_is_open_is_begun_anew_by_all_who_have_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store, other = (DiskStore(tmp_path, clock=ManualClock()) for _ in range(2))
        for number in range(20):  # into the log, that is
            await store.set(b"%d" % number, entry(b"x" * 10_000))
        assert await other.get(b"3") is not None
        for name in ("glasscache.db", "glasscache.db-wal"):
            os.truncate(tmp_path / name, 100)
        assert await store.get(b"5") is None
        await works(store)
        await store.set(b"new", entry(b"new"))
        assert await other.get(b"new") is not None
        await store.aclose()
        await other.aclose()

    run(scenario)


def test_of_two_processes_that_find_the_damage_one_begins_anew_and_the_other_goes_on_with_that(tmp_path: Path) -> None:
    async def scenario() -> None:
        await fill(tmp_path)
        store = DiskStore(tmp_path, clock=ManualClock())
        path, first = tmp_path / "glasscache.db", True

        def damaged(db: sqlite3.Connection) -> object:
            nonlocal first
            if first:
                first = False
                path.unlink()
                error = sqlite3.DatabaseError("malformed")
                error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
                raise error
            return db.execute("SELECT count(*) FROM entries").fetchone()

        assert await store._thread.call(damaged) == (0,)
        assert not (tmp_path / "glasscache.db.aside").exists()
        await works(store)
        await store.aclose()

    run(scenario)


def test_two_versions_that_run_side_by_side_do_not_take_the_file_from_each_other_in_turns(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "glasscache.db"
        store = DiskStore(tmp_path, clock=ManualClock())
        await works(store)
        change(path, "PRAGMA user_version = 99")
        path.rename(tmp_path / "other")
        (tmp_path / "other").rename(path)
        shutil.copy(path, tmp_path / "newer")
        (tmp_path / "newer").rename(path)
        for _ in range(2):
            with pytest.raises(StoreError, match="is not a database of this version"):
                await store.get(KEY)
        assert not (tmp_path / "glasscache.db.aside").exists()
        await store.aclose()

    run(scenario)


@pytest.mark.parametrize(
    "statement",
    [
        *("DROP TABLE entries", "DROP TABLE bodies", "DROP TABLE leases", "DROP TABLE marks", "DROP TABLE messages"),
        *("DROP TABLE state", "DELETE FROM state", "ALTER TABLE entries RENAME COLUMN dead TO gone"),
    ],
)
def test_a_part_that_is_taken_away_while_it_is_open_is_no_error_of_a_request(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, statement: str
) -> None:
    async def scenario() -> None:
        await fill(tmp_path)
        store, other = (DiskStore(tmp_path, clock=ManualClock()) for _ in range(2))
        for one in (store, other):
            assert await one.get(KEY) is not None
        assert await store.backplane.mark(("tag",), everything=False, seen=0, source=None) == 1
        change(tmp_path / "glasscache.db", statement)
        await asyncio.gather(works(store), store.backplane.mark(("tag",), everything=False, seen=1, source=None))
        assert (await store.backplane.read(0)).everything >= 2, "what was told invalid may have been forgotten"
        assert await store.get(b"other") is None
        assert (tmp_path / "glasscache.db.aside").exists()
        await works(other)
        aside, anew = (record.message for record in caplog.records if record.levelno >= logging.WARNING)
        assert "glasscache.db was set aside as glasscache.db.aside, and begun anew: " in aside
        assert "was removed, or another put in its place, while it was open: opened anew" in anew
        for one in (store, other):
            await one.aclose()

    run(scenario)


def test_what_is_wrong_with_a_question_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path, clock=ManualClock())
        await works(store)
        wrong = store._thread.write(lambda db: db.execute("SELECT nothing FROM nowhere").fetchall())
        set_beside = store.set(b"beside", entry())
        answers = await asyncio.gather(wrong, set_beside, return_exceptions=True)
        assert isinstance(answers[0], StoreError)
        assert answers[1] is None
        assert await store.get(KEY) is not None
        assert not (tmp_path / "glasscache.db.aside").exists()
        await store.aclose()

    run(scenario)


def test_a_directory_that_is_removed_is_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        folder = tmp_path / "cache"
        store = DiskStore(folder, clock=ManualClock())
        await works(store)
        shutil.rmtree(folder)
        assert await store.get(KEY) is None
        await works(store)
        (told,) = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
        assert "glasscache.db was removed, or another put in its place, while it was open: opened anew" in told
        await store.aclose()

    run(scenario)


def test_a_lock_file_that_is_none_is_made_anew(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "glasscache.lock").write_bytes(b"not a database at all " * 1000)
        store = DiskStore(tmp_path, clock=ManualClock())
        with pytest.raises(StoreError, match="not a database"):
            await store.get(KEY)
        await works(store)
        await store.aclose()

    run(scenario)


# --- where nothing can be written -------------------------------------------------------------------------------------


def test_a_path_that_cannot_be_a_directory_is_an_error_of_the_store_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "file").write_text("in the way")
        for path in (tmp_path / "file", tmp_path / "file" / "below"):
            store = DiskStore(path, clock=ManualClock())
            for operation in (store.get(KEY), store.set(KEY, entry()), store.backplane.read(0)):
                with pytest.raises(StoreError, match=r"Errno|File"):
                    await operation
            await store.aclose()

    run(scenario)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write everywhere: be nobody."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("has_file", [False, True])
def test_a_directory_that_may_only_be_read_is_an_error_of_the_store_alone(tmp_path: Path, has_file: bool) -> None:
    async def scenario() -> None:
        if has_file:
            await fill(tmp_path)
        os.chmod(tmp_path, 0o500)
        store = DiskStore(tmp_path, clock=ManualClock())
        with unprivileged():
            for operation in (store.get(KEY), store.set(KEY, entry())):
                with pytest.raises(StoreError):
                    await operation
        os.chmod(tmp_path, 0o700)
        await works(store)
        await store.aclose()

    run(scenario)


def test_a_database_that_may_only_be_read_still_answers(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock)
        await works(store)
        await store._thread.call(lambda db: db.execute("PRAGMA query_only = 1").fetchall())
        assert (await store.get(KEY)) is not None
        for operation in (store.set(KEY, entry()), store.delete(KEY), store.backplane.tell_replaced(KEY)):
            with pytest.raises(StoreError, match="readonly"):
                await operation
        await store.aclose()

    run(scenario)


def test_a_file_that_somebody_holds_up_is_waited_for_no_longer_than_a_request_may_take(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path, clock=ManualClock())
        await works(store)
        with closing(sqlite3.connect(tmp_path / "glasscache.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert await store.get(KEY) is not None, "reading needs no lock"
            sets = [store.set(b"%d" % number, entry()) for number in range(50)]
            for answer in await asyncio.gather(*sets, return_exceptions=True):
                assert isinstance(answer, StoreError)
                assert "locked" in str(answer)
        await works(store)
        await store.aclose()
        with closing(sqlite3.connect(tmp_path / "glasscache.lock", isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreError, match="locked"):
                await store.get(KEY)
        await works(store)
        await store.aclose()

    run(scenario)


async def other(store: DiskStore) -> str:
    return await store._thread.call(lambda _: "nothing of the file")


def test_a_damaged_file_that_cannot_be_set_aside_is_an_error_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        await fill(tmp_path, 200)
        store = DiskStore(tmp_path, clock=ManualClock())
        assert await store.get(b"unknown") is None
        path = tmp_path / "glasscache.db"
        overwrite(path, 4096, b"\xff" * (path.stat().st_size - 4096))

        def refuse(one: object, other: object) -> None:
            raise PermissionError("another process has it open")

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", refuse)  # as Windows does
            whole, damaged = await asyncio.gather(other(store), store.set(b"7", entry()), return_exceptions=True)
        assert whole == "nothing of the file"
        assert isinstance(damaged, StoreError)
        assert "malformed" in str(damaged)
        assert await store.get(b"7") is None
        await works(store)
        await store.aclose()

    run(scenario)


def test_where_processes_cannot_share_a_file_the_error_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path, clock=ManualClock())
        with monkeypatch.context() as patch:
            real = _disk_file._one

            def no_wal(db: sqlite3.Connection, question: str) -> object:
                return "delete" if "journal_mode" in question else real(db, question)

            patch.setattr(_disk_file, "_one", no_wal)  # as SQLite answers on a network file system
            with pytest.raises(StoreError, match="give a local disk"):
                await store.get(KEY)
        await works(store)
        await store.aclose()

    run(scenario)


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_what_is_too_much_for_the_disk_does_not_take_the_others_with_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path, clock=ManualClock(), compression="none")
        await works(store)
        await store._thread.call(lambda db: db.execute("PRAGMA max_page_count = 100").fetchall())
        small, large = entry(b"small"), entry(bytes(1_000_000))
        lease = await lease_of(store, key=b"loading")
        answers = await asyncio.gather(
            store.set(b"1", small),
            store.commit(b"loading", lease, large),
            store.set(b"2", small),
            return_exceptions=True,
        )
        assert (answers[0], answers[2]) == (None, None)
        assert isinstance(answers[1], StoreError)
        assert "full" in str(answers[1])
        assert await store.get(b"2") is not None
        await store.release(b"loading", lease)
        await lease_of(store, key=b"loading")
        await store.aclose()

    run(scenario)


FULL = """
import asyncio, resource, signal, sys
from glasscache import Cache, Limits, MemoryStore, Policy, TieredStore
from glasscache.stores.disk import DiskStore

async def main():
    store = DiskStore(sys.argv[1], compression="none")
    tiers = TieredStore([MemoryStore(max_entries=5), store])
    cache = Cache(tiers, policy=Policy(ttl=300.0), limits=Limits(far_timeout=30.0))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
    loads, states = 0, set()
    async def load() -> bytes:
        nonlocal loads
        loads += 1
        return bytes(50_000)
    for number in range(60):
        assert await cache.get_or_load(f"{number}", load) == bytes(50_000)
        await asyncio.sleep(0)
        states |= set(cache.tier_states())
    assert loads == 60
    print(sorted(state for _, state in states))
    await cache.aclose()

asyncio.run(main())
"""


def test_on_a_full_disk_every_request_is_answered_and_the_tier_is_left_alone(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(tmp_path)],
        env={**os.environ, "GLASSCACHE_KEY": SECRET},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "open" in done.stdout


def test_a_disk_that_cannot_be_used_opens_the_breaker_and_telemetry_says_so(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "file").write_text("in the way")
        telemetry = RecordingTelemetry()
        tiers = TieredStore([MemoryStore(), DiskStore(tmp_path / "file")])
        cache = Cache(tiers, key_secret=SECRET, telemetry=telemetry)

        async def load() -> int:
            return 7

        for number in range(10):
            assert await cache.get_or_load(f"{number}", load) == 7
        assert dict(cache.tier_states()) == {"disk": "open"}
        assert {event.tier for event in telemetry.events if hasattr(event, "tier")} >= {"disk"}
        await cache.aclose()

    run(scenario)
