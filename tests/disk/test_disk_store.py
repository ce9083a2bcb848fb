"""Answers in a file: what outlives a process, what is believed of it, and what goes when room runs out."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import glasscache
from glasscache._entry import Entry
from glasscache._lease import Claim, Lease
from glasscache.errors import ConfigurationError, MissingExtraError, StoreError, UnstorableError
from glasscache.stores import _compression
from glasscache.stores.disk import DiskStore
from glasscache.testing import ManualClock, entry
from glasscache.testing._lease_contract import _KEY as KEY
from glasscache.testing._lease_contract import holder_of, lease_of
from tests.support.forks import MAY_FORK
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("no_leaks")


class Tomorrow(ManualClock):
    """A process that starts later: its own clock begins anywhere."""


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


def sql(folder: Path, statement: str, *values: object) -> list[Any]:
    """As somebody else writes to the file."""
    with sqlite3.connect(folder / "glasscache.db", isolation_level=None) as db:
        found = db.execute(statement, values).fetchall()
    db.close()
    return found


def file_of(store: DiskStore) -> Path:
    return store.path / "glasscache.db"


def bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


def fresh(clock: ManualClock, body: bytes = b"an answer", seconds: float = 300.0, **changes: Any) -> Entry:
    now = clock.now()
    return entry(body, **{"born": now, "fresh_until": now + seconds, "settled_until": now + seconds} | changes)


# --- what outlives the process ----------------------------------------------------------------------------------------


def test_an_answer_outlives_its_process_and_lives_no_longer_than_it_was_meant_to(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock(now=50_000.0)
        store = DiskStore(tmp_path, clock=clock)
        await store.set(KEY, fresh(clock, seconds=300.0, stale_if_error=100.0))
        await store.aclose()
        clock = Tomorrow(now=7.0, wall=clock.wall() + 200.0)
        store = DiskStore(tmp_path, clock=clock)
        found = await store.get(KEY)
        assert found is not None
        assert found.fresh_until == pytest.approx(107.0, abs=0.001)
        assert found.dead_from == pytest.approx(207.0, abs=0.001)
        clock.advance(200.0)
        assert await store.get(KEY) is None
        await store.aclose()

    run(scenario)


def test_what_was_written_after_now_is_not_believed(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock)
        await store.set(KEY, fresh(clock))
        lease = await lease_of(store, key=b"loading")
        await store.release(b"refused", await lease_of(store, key=b"refused"), refuse_for=60.0)
        await store.aclose()
        back = ManualClock(now=clock.now(), wall=clock.wall() - 3600.0)
        store = DiskStore(tmp_path, clock=back)
        assert await store.get(KEY) is None
        assert (await lease_of(store, key=b"loading")).token > lease.token
        await lease_of(store, key=b"refused")
        await store.set(b"other", fresh(back))
        assert sql(tmp_path, "SELECT key FROM entries") == [(b"other",)], "and takes no room"
        await store.aclose()

    run(scenario)


def test_a_date_that_somebody_has_moved_makes_no_answer_live_longer(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock)
        await store.set(KEY, fresh(clock, seconds=300.0))
        sql(tmp_path, "UPDATE entries SET dead = dead + 1000000000000")
        found = await store.get(KEY)
        assert found is not None
        assert found.fresh_until == clock.now() + 300.0
        await store.aclose()

    run(scenario)


def test_what_is_dead_already_is_not_kept_and_gives_its_lease_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock)
        await store.set(KEY, fresh(clock, seconds=0.0))
        assert await store.commit(KEY, await lease_of(store), fresh(clock, seconds=0.0)) == ()
        assert await store.get(KEY) is None
        await lease_of(store)
        await store.aclose()

    run(scenario)


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path / "of its own" / "cache")
        assert await store.get(KEY) is None
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (store.path, *store.path.iterdir())}
        assert modes["cache"] == 0o700
        assert {modes[name] for name in modes if name.startswith("glasscache.db")} == {0o600}
        await store.aclose()

    run(scenario)


# --- what is believed -------------------------------------------------------------------------------------------------

TAMPERED = {
    "flipped": "UPDATE bodies SET value = CAST(substr(value, 1, 20) || x'FF' || substr(value, 22) AS BLOB)",
    "truncated": "UPDATE bodies SET value = CAST(substr(value, 1, 3) AS BLOB)",
    "empty": "UPDATE bodies SET value = x''",
    "zeros": "UPDATE bodies SET value = zeroblob(length(value))",
    "foreign": "UPDATE bodies SET value = x'3c68746d6c3e'",
    "text": "UPDATE bodies SET value = 'text'",
    "date": "UPDATE entries SET dead = 'never'",
    "use": "UPDATE entries SET used = 'x'",
    "moved": "UPDATE entries SET key = CAST('another' AS BLOB)",
}


@pytest.mark.parametrize("how", TAMPERED)
def test_bytes_that_are_no_entry_under_their_key_are_a_miss_counted_and_deleted(tmp_path: Path, how: str) -> None:
    async def scenario() -> None:
        clock, told = ManualClock(), list[str]()
        store = DiskStore(tmp_path, clock=clock)
        store.told_rejected = told.append
        await store.set(KEY, fresh(clock))
        sql(tmp_path, TAMPERED[how])
        key = b"another" if how == "moved" else KEY
        assert await store.get(key) is None
        assert (told, store.rejected.total()) == (["disk"], 1)
        assert sql(tmp_path, "SELECT count(*) FROM entries, bodies") == [(0,)]
        await lease_of(store, key=key)
        await store.aclose()

    run(scenario)


def test_a_lookup_takes_the_place_of_what_it_rejects(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock)
        await store.set(KEY, fresh(clock))
        sql(tmp_path, TAMPERED["zeros"])
        lease = await lease_of(store)
        assert store.rejected == {"foreign": 1}
        assert await store.commit(KEY, lease, fresh(clock, b"again")) == ()
        found = await store.get(KEY)
        assert found is not None
        assert found.body == b"again"
        await store.aclose()

    run(scenario)


def test_another_secret_opens_nothing_and_an_old_one_still_reads(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock, old, new = ManualClock(), "an old secret for tests only, 01234", "a new secret for tests only, 012345"
        store = DiskStore(tmp_path, clock=clock, secrets=[old])
        await store.set(KEY, fresh(clock, b"private"))
        await store.aclose()
        assert b"private" not in bytes_in(tmp_path)
        store = DiskStore(tmp_path, clock=clock, secrets=[new, old])
        assert await store.get(KEY) is not None
        await store.aclose()
        store = DiskStore(tmp_path, clock=clock, secrets=[new])
        assert await store.get(KEY) is None
        assert store.rejected == {"sealed": 1}
        await store.aclose()

    run(scenario)


# --- room -------------------------------------------------------------------------------------------------------------


def keys_in(folder: Path) -> set[int]:
    return {int(key) for (key,) in sql(folder, "SELECT key FROM entries")}


def test_what_was_not_used_for_the_longest_goes_when_room_runs_out(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock, max_bytes=100_000, compression="none")
        for number in range(8):
            await store.set(b"%d" % number, fresh(clock, bytes(10_000), seconds=9_000.0))
            clock.advance(1.0)
        clock.advance(120.0)
        assert await store.get(b"0") is not None
        for number in range(8, 12):
            await store.set(b"%d" % number, fresh(clock, bytes(10_000), seconds=9_000.0))
            clock.advance(1.0)
        assert keys_in(tmp_path) == {0, *range(4, 12)}
        (held, counted) = sql(tmp_path, "SELECT (SELECT sum(size) FROM entries), bytes FROM state")[0]
        assert 90_000 < held == counted <= 100_000
        await store.aclose()

    run(scenario)


def test_a_smaller_bound_is_reached_step_by_step(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock, compression="none")
        await asyncio.gather(*(store.set(b"%d" % number, fresh(clock, bytes(1_000))) for number in range(400)))
        await store.aclose()
        store = DiskStore(tmp_path, clock=clock, compression="none", max_bytes=65_536)
        counts = []
        for number in range(400, 402):
            await store.set(b"%d" % number, fresh(clock, bytes(1_000)))
            counts.append(len(keys_in(tmp_path)))
        assert counts[0] == 401 - 256
        assert counts[1] < 60
        assert {400, 401} <= keys_in(tmp_path)
        await store.aclose()

    run(scenario)


def test_what_is_dead_goes_before_what_is_alive(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock, max_bytes=100_000, compression="none")
        await store.set(b"0", fresh(clock, bytes(10_000)))
        for number in range(1, 9):
            await store.set(b"%d" % number, fresh(clock, bytes(10_000), seconds=0.5 if number > 4 else 300.0))
        clock.advance(0.75)  # less than from one sweep to the next
        for number in range(9, 12):
            await store.set(b"%d" % number, fresh(clock, bytes(10_000)))
        assert keys_in(tmp_path) == {0, 1, 2, 3, 4, 9, 10, 11}
        await store.aclose()

    run(scenario)


def test_what_is_found_often_costs_no_write_each_time(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock)
        for number in range(300):
            await store.set(b"%d" % number, fresh(clock, seconds=9_000.0))
        (stored,) = sql(tmp_path, "SELECT max(used) FROM entries")[0]
        clock.advance(120.0)
        for _ in range(5):
            assert await store.get(b"0") is not None
        assert sql(tmp_path, "SELECT max(used) FROM entries") == [(stored,)]
        await asyncio.gather(*(store.get(b"%d" % number) for number in range(300)))
        (used,) = sql(tmp_path, "SELECT min(used) FROM entries")[0]
        assert used == stored + 120_000_000, "so many are worth a transaction of their own"
        await store.aclose()

    run(scenario)


def test_the_file_gets_smaller_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock, compression="none")
        for number in range(40):
            await store.set(b"%d" % number, fresh(clock, bytes(200_000), seconds=60.0))
        await store.aclose()
        most = file_of(store).stat().st_size
        assert most > 8_000_000
        for _ in range(60):
            clock.advance(61.0)
            await store.set(b"small", fresh(clock))
        await store.aclose()
        assert file_of(store).stat().st_size < most / 4

    run(scenario)


def test_what_is_over_is_swept_in_passing(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        one, two = (DiskStore(tmp_path, clock=clock) for _ in range(2))
        await one.set(b"entry", fresh(clock))
        await one.release(b"refused", await lease_of(one, key=b"refused"), refuse_for=10.0)
        await lease_of(one, key=b"held")
        await holder_of(two, key=b"held")
        await holder_of(two, key=b"held", claim=Claim(waits=False))
        await one.backplane.tell_replaced(KEY)
        clock.advance(700.0)
        await one.set(b"later", fresh(clock))
        tables = ("leases", "refusals", "queue", "messages", "entries", "bodies")
        counts = {table: sql(tmp_path, f"SELECT count(*) FROM {table}")[0][0] for table in tables}
        assert counts == {"leases": 0, "refusals": 0, "queue": 0, "messages": 0, "entries": 1, "bodies": 1}
        await one.aclose()
        await two.aclose()

    run(scenario)


def test_what_is_larger_than_it_may_be_is_refused_and_gives_its_lease_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock, max_bytes=65_536, max_entry_bytes=100_000, compression="none")
        for size, told in ((70_000, "than the whole store"), (300_000, "than this store keeps")):
            lease = await lease_of(store)
            with pytest.raises(UnstorableError, match=told):
                await store.commit(KEY, lease, fresh(clock, bytes(size)))
        await lease_of(store)
        await store.aclose()

    run(scenario)


# --- processes, threads and loops -------------------------------------------------------------------------------------


def test_one_turn_of_the_loop_is_one_transaction(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        before = set(threading.enumerate())
        store, other = DiskStore(tmp_path, clock=clock), sqlite3.connect(tmp_path / "glasscache.db")
        await store.get(KEY)
        versions = set()
        for _ in range(2):
            await asyncio.gather(*(store.set(b"%d" % number, fresh(clock)) for number in range(50)))
            versions.add(other.execute("PRAGMA data_version").fetchone())
        other.close()
        assert len(versions) == 2
        assert sql(tmp_path, "SELECT count(*) FROM entries") == [(50,)]
        (thread,) = set(threading.enumerate()) - before
        assert thread.name.startswith("glasscache disk")
        await store.aclose()

    run(scenario)


def test_event_loops_may_follow_one_another_and_leave_things_undone(tmp_path: Path) -> None:
    clock = ManualClock()
    store = DiskStore(tmp_path, clock=clock)

    async def leave() -> None:
        await store.set(KEY, fresh(clock))
        asyncio.ensure_future(store.set(b"left behind", fresh(clock))).cancel()
        for number in range(100):
            store._thread.call(lambda db, number=number: db.execute("SELECT ?", (number,)).fetchone())  # type: ignore[misc]

    async def go_on() -> None:
        assert await store.get(KEY) is not None
        await store.release(b"new", await lease_of(store, key=b"new"))

    for scenario in (leave, go_on, leave, go_on, store.aclose):
        run(scenario)


def test_a_loop_that_was_left_standing_is_told_all_the_same(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    one, two = asyncio.new_event_loop(), asyncio.new_event_loop()

    async def ask() -> asyncio.Future[Entry | None]:
        asked = asyncio.ensure_future(store.get(KEY))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return asked

    left = one.run_until_complete(ask())
    two.run_until_complete(store.set(b"meanwhile", entry()))
    assert one.run_until_complete(left) is None
    two.run_until_complete(store.aclose())
    for loop in (one, two):
        loop.close()


FORKS = """
import asyncio, os, sys
from glasscache._lease import Claim
from glasscache.stores.disk import DiskStore
from glasscache._clock import SystemClock
from glasscache.testing import entry

store = DiskStore(sys.argv[1])
now = SystemClock().now()
fresh = entry(b"of the parent", born=now, fresh_until=now + 300.0, settled_until=now + 290.0)

async def before():
    await store.set(b"parent", fresh)
    assert (await store.look(b"loading", Claim())).lease is not None

async def child():
    assert (await store.get(b"parent")).body == b"of the parent"
    held = (await store.look(b"loading", Claim(reclaims=True))).holder
    assert held is not None, "a lease of the parent is not the child's"
    await store.set(b"child", fresh)
    await store.aclose()

async def after():
    assert (await store.get(b"parent")) is not None
    assert (await store.get(b"child")) is not None
    await store.aclose()

asyncio.run(before())
number = os.fork()
if number == 0:
    asyncio.run(child())
    sys.exit(0)
_, status = os.waitpid(number, 0)
assert status == 0, status
asyncio.run(after())
"""


def test_a_child_of_a_fork_opens_the_file_for_itself(tmp_path: Path) -> None:
    command = [sys.executable, *MAY_FORK, "-c", FORKS, str(tmp_path)]
    subprocess.run(command, check=True, timeout=PATIENCE)


def test_a_thread_that_cannot_be_started_is_an_error_of_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        store = DiskStore(tmp_path)

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", refuse)
            for answer in await asyncio.gather(store.get(KEY), store.get(KEY), return_exceptions=True):
                assert isinstance(answer, StoreError)
                assert "can't start new thread" in str(answer)
        assert await store.get(KEY) is None
        await store.aclose()

    run(scenario)


# --- what it is made with ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"path": ""}, "give a directory"),
        ({"max_bytes": 1000}, "max_bytes=1000.: give 65536 bytes or more"),
        ({"lease_seconds": 0.0}, "lease_seconds=0.0.: give 0.05"),
        ({"secrets": ["short"]}, "needs 32 or more"),
        ({"compression": "best"}, "zstd"),
    ],
)
def test_values_that_cannot_work_are_refused(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        DiskStore(**{"path": tmp_path} | options)


def test_it_is_imported_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert glasscache.DiskStore is DiskStore
    loaded = "import sys, glasscache.asgi; sys.exit(any('disk' in name for name in sys.modules))"
    subprocess.run([sys.executable, "-c", loaded], check=True, timeout=PATIENCE)
    monkeypatch.setitem(sys.modules, "glasscache.stores.disk", None)
    with pytest.raises(MissingExtraError, match="this Python was built without"):
        _ = glasscache.DiskStore


def test_it_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        with monkeypatch.context() as patch:
            patch.setattr(_compression, "zstandard", None)
            store = DiskStore(tmp_path, clock=clock)
            await store.set(KEY, fresh(clock, b"an answer " * 500))
            assert await store.get(KEY) is not None
            assert sql(tmp_path, "SELECT substr(value, 4, 1) FROM bodies") == [(bytes((_compression.CODES["zlib"],)),)]
            await store.aclose()

    run(scenario)


def test_it_says_where_it_is(tmp_path: Path) -> None:
    store = DiskStore(os.path.relpath(tmp_path))
    assert repr(store) == f"<DiskStore {tmp_path}>"
    assert str(os.getpid()) in store.machine


def test_whoever_looks_while_the_answer_is_stored_finds_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock)
        lease = await lease_of(store)
        _, look = await asyncio.gather(store.commit(KEY, lease, fresh(clock)), store.look(KEY, Claim()))
        assert look.entry is not None
        assert (look.lease, look.holder) == (None, None)
        await store.aclose()

    run(scenario)


async def glanced(store: DiskStore, key: bytes) -> Entry | StoreError | None:
    """What is told of a key."""
    answer: asyncio.Future[Entry | StoreError | None] = asyncio.get_running_loop().create_future()
    assert store.glance(key, answer.set_result)
    return await answer


def test_a_glance_is_told_an_entry_that_answers_and_is_not_worth_it_after_a_miss(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store = DiskStore(tmp_path, clock=clock)
        await store.set(KEY, fresh(clock, seconds=10.0, stale_while_revalidate=10.0, stale_if_error=60.0))
        for seconds in (5.0, 10.0):
            clock.advance(seconds)
            assert isinstance(await glanced(store, KEY), Entry)
        clock.advance(10.0)
        assert await glanced(store, KEY) is None, "it may only stand in"
        assert not store.glance(KEY, lambda found: None)
        look = await store.look(KEY, Claim())
        assert (look.entry is not None, look.lease is not None) == (True, True)
        (tmp_path / "glasscache.db").unlink()
        (tmp_path / "glasscache.db").mkdir()
        assert isinstance(await glanced(store, KEY), StoreError)
        assert store.distrust()
        assert not store.glance(KEY, lambda found: None)
        await store.aclose()

    run(scenario)


def test_a_lease_that_was_never_given_out_is_nobodys(tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        store, nobodys = DiskStore(tmp_path, clock=clock), Lease(token=1, seconds=5.0)
        assert not await store.renew(KEY, nobodys)
        assert await store.release(KEY, nobodys) == ()
        assert await store.commit(KEY, nobodys, fresh(clock)) is None
        await store.aclose()

    run(scenario)
