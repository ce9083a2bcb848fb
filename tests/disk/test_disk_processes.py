"""The workers of one machine behave as one, whatever becomes of one of them; what they have stored outlives them."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.machines.fleet import SECRET, Machine, answers, until

LEASE = 2.0
"""Seconds, where a process dies; elsewhere no lease may run out, however busy the machine is."""
CROWD = 100


class Workers:
    """Processes with one directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.machines: list[Machine] = []
        self.environment = {
            "CACHE_TYPE": "disk",
            "GLASSCACHE_DISK_PATH": str(folder / "cache"),
            "GLASSCACHE_KEY": SECRET,
            "GLASSCACHE_LEASE_SECONDS": "60",
            "GLASSCACHE_FAR_TIMEOUT": "10",
            "MACHINE_FOLDER": str(folder),
        }
        self.version("first")

    def version(self, name: str) -> None:
        """What is loaded from now on."""
        (self.folder / "new").write_text(name)
        (self.folder / "new").rename(self.folder / "version")

    def start(self, count: int) -> list[Machine]:
        """So many more."""
        new = [Machine(self.environment, "tests.disk.machine") for _ in range(count)]
        self.machines += new
        for machine in new:
            machine.hear("ready")
        return new

    def stop(self, machine: Machine) -> None:
        """In order, as a deployment does."""
        machine.leave()
        self.end(machine)

    def end(self, machine: Machine) -> None:
        """Whatever it does."""
        machine.end()
        self.machines.remove(machine)

    def loads(self, name: str) -> list[int]:
        """Who has loaded it."""
        return [int(path.name.rpartition("-")[2]) for path in self.folder.glob(f"load-{name}-*")]

    def open_gate(self, name: str, pid: int) -> None:
        """Let a load of that process end."""
        (self.folder / f"open-{name}-{pid}").touch()

    def sql(self, question: str) -> list[tuple[object, ...]]:
        """What is in the file."""
        with closing(sqlite3.connect(self.folder / "cache" / "default" / "glasscache.db")) as db:
            return db.execute(question).fetchall()


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path)
    try:
        yield made
    finally:
        for machine in tuple(made.machines):
            made.end(machine)


def ask(machine: Machine, name: str) -> str:
    machine.do("ask", name=name)
    (body,) = answers([machine], name)
    return body


def test_a_crowd_in_two_processes_costs_one_load_and_a_restart_costs_none(workers: Workers) -> None:
    one, two = workers.start(2)
    for machine in (one, two):
        machine.do("ask", name="gated", count=CROWD)
    until(lambda: sum(m.status()["waiters"] + m.status()["waiting_abroad"] for m in (one, two)) >= 2 * CROWD - 1)
    (holder,) = workers.loads("gated")
    workers.open_gate("gated", holder)
    assert answers([one, two], "gated") == {f"first of {holder}": 2 * CROWD}
    assert workers.loads("gated") == [holder]
    for machine in (one, two):
        assert machine.status()["tiers"] == {"disk": "ok"}
        workers.stop(machine)
    (after,) = workers.start(1)
    after.do("ask", name="gated", count=CROWD)
    assert answers([after], "gated") == {f"first of {holder}": CROWD}
    assert after.status()["requests"] == {"hit disk": CROWD}
    assert workers.loads("gated") == [holder]


@pytest.mark.parametrize("how", ["key", "tag", "all"])
def test_what_one_process_tells_invalid_leaves_the_memory_of_the_other(workers: Workers, how: str) -> None:
    one, two = workers.start(2)
    assert ask(one, "q") == ask(two, "q") == f"first of {one.pid}"
    assert ask(two, "q") == f"first of {one.pid}"
    workers.version("second")
    one.do("invalidate", how=how, name="q")
    one.hear("invalidated")
    until(lambda: two.status()["number"] == 1)
    assert two.status()["near"] == 0
    assert ask(two, "q") == f"second of {two.pid}"
    assert ask(one, "q") == f"second of {two.pid}"


def test_what_was_loaded_while_it_was_told_invalid_is_not_stored(workers: Workers) -> None:
    one, two = workers.start(2)
    one.do("ask", name="gated")
    until(lambda: bool(workers.loads("gated")))
    two.do("invalidate", how="tag")
    two.hear("invalidated")
    until(lambda: one.status()["number"] == 1)
    workers.open_gate("gated", one.pid)
    assert answers([one], "gated") == {f"first of {one.pid}": 1}
    workers.version("second")
    assert workers.sql("SELECT count(*) FROM entries") == [(0,)]
    workers.open_gate("gated", two.pid)
    assert ask(two, "gated") == f"second of {two.pid}"


def test_what_was_told_invalid_while_a_process_was_away_is_not_there_when_it_is_back(workers: Workers) -> None:
    one, two = workers.start(2)
    assert ask(one, "q") == f"first of {one.pid}"
    workers.stop(one)
    two.do("invalidate", how="tag")
    two.hear("invalidated")
    workers.stop(two)
    workers.version("second")
    (again,) = workers.start(1)
    assert ask(again, "q") == f"second of {again.pid}"


def test_a_process_that_dies_while_it_loads_has_exactly_one_successor(workers: Workers) -> None:
    workers.environment["GLASSCACHE_LEASE_SECONDS"] = str(LEASE)
    machines = workers.start(3)
    machines[0].do("ask", name="gated", count=CROWD)
    until(lambda: bool(workers.loads("gated")))
    others = machines[1:]
    for machine in others:
        machine.do("ask", name="gated", count=CROWD)
    until(lambda: all(machine.status()["waiting_abroad"] for machine in others))
    died = time.monotonic()
    machines[0].signal(signal.SIGKILL)
    workers.end(machines[0])
    until(lambda: len(workers.loads("gated")) == 2)
    print(f"taken over after {time.monotonic() - died:.2f} s of a lease of {LEASE:g} s")
    (successor,) = set(workers.loads("gated")) - {machines[0].pid}
    workers.open_gate("gated", successor)
    assert answers(others, "gated") == {f"first of {successor}": 2 * CROWD}
    assert len(workers.loads("gated")) == 2


def test_whoever_is_killed_amid_writes_leaves_only_what_is_whole(workers: Workers) -> None:
    (witness,) = workers.start(1)
    for round_ in range(3):
        victims = workers.start(2)
        for machine in victims:
            machine.do("fill", count=100_000, size=60_000)
        for machine in victims:
            machine.hear("filled", number=20 + 7 * round_)
            machine.signal(signal.SIGKILL)
        for machine in victims:
            workers.end(machine)
        assert workers.sql("PRAGMA quick_check") == [("ok",)]
        ((entries, bodies, held, counted),) = workers.sql(
            "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM bodies), "
            "(SELECT sum(size) FROM entries), bytes FROM state"
        )
        assert entries == bodies
        assert held == counted
        name = f"after {round_}"
        assert ask(witness, name) == f"first of {witness.pid}"
    assert witness.status()["tiers"] == {"disk": "ok"}
    (later,) = workers.start(1)
    assert ask(later, "after 0") == f"first of {witness.pid}"
