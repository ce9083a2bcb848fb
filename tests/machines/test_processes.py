"""One load among processes, whatever becomes of the one that loads; and waits that cost nothing."""

from __future__ import annotations

import itertools
import signal
import statistics
import time
from collections.abc import Iterator, Sequence

import pytest

from tests.machines.fleet import Fleet, Machine, answers, fleet, until
from tests.machines.machine import CHUNKS
from tests.support.redis_ear import Ear
from tests.support.redis_process import RedisProcess

CROWD = 250
LEASE = 2.0
TURNS = 4
"""Turns of processes that something takes, each of which a busy test machine makes late."""
_numbers = itertools.count()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with (
        RedisProcess(tmp_path_factory.mktemp("redis")) as server,
        fleet(server, 4, GLASSCACHE_LEASE_SECONDS=str(LEASE)) as made,
    ):
        yield made


def body_of(machine: Machine) -> str:
    return f"{machine.pid}" + "".join(f" {number}" for number in range(CHUNKS))


def all_wait(machines: Fleet) -> bool:
    """Who loads streams to its own crowd already; the three others wait for it: each sent one to ask for all."""
    told = [machine.status() for machine in machines.machines]
    waiting: int = sum(status["waiters"] + status["waiting_abroad"] for status in told)
    return waiting == 3 * CROWD


def crowd(machines: Fleet) -> tuple[str, Machine]:
    """1,000 requests for one new question: its name, and the machine that loads it."""
    machines.grow(4)
    name = f"q{next(_numbers)}"
    for machine in machines.machines:
        machine.do("ask", name=name, count=CROWD)
    until(lambda: all_wait(machines))
    (holder,) = machines.loads(name)
    return name, machines.by_pid(holder)


def test_a_thousand_identical_questions_to_four_processes_cost_one_load(machines: Fleet) -> None:
    name, holder = crowd(machines)
    machines.open_gate(name, holder.pid)
    assert answers(machines.machines, name) == {body_of(holder): 4 * CROWD}
    assert machines.loads(name) == [holder.pid]


def rounds(few: int) -> pytest.MarkDecorator:
    """How often: few times, and a hundred times in the soak."""
    return pytest.mark.parametrize("count", [few, pytest.param(100, marks=pytest.mark.soak)])


@rounds(3)
def test_a_machine_that_dies_while_it_loads_has_exactly_one_successor(machines: Fleet, count: int) -> None:
    for _ in range(count):
        name, holder = crowd(machines)
        died = time.monotonic()
        holder.signal(signal.SIGKILL)
        machines.bury(holder)
        successor = taken_over(machines, name, holder, died)
        machines.open_gate(name, successor.pid)
        assert answers(machines.machines, name) == {body_of(successor): 3 * CROWD}
        assert machines.loads(name) == [holder.pid, successor.pid]


@rounds(2)
def test_a_machine_that_stands_still_while_it_loads_cannot_store_its_late_answer(machines: Fleet, count: int) -> None:
    for _ in range(count):
        name, holder = crowd(machines)
        stopped = time.monotonic()
        holder.signal(signal.SIGSTOP)
        successor = taken_over(machines, name, holder, stopped)
        machines.open_gate(name, successor.pid)
        others = [machine for machine in machines.machines if machine is not holder]
        assert answers(others, name) == {body_of(successor): 3 * CROWD}
        holder.signal(signal.SIGCONT)
        machines.open_gate(name, holder.pid)
        assert answers([holder], name) == {body_of(holder): CROWD}, "its own requests had its answer begun already"
        until_given_up(holder)
        for machine in machines.machines:
            machine.do("forget")
            machine.do("ask", name=name, count=1)
        assert answers(machines.machines, name) == {body_of(successor): 4}
        assert machines.loads(name) == [holder.pid, successor.pid]


def lateness(machines: Sequence[Machine]) -> float:
    """How late they are at worst, since it was asked last."""
    for machine in machines:
        machine.status()
    worst = max(machine.late for machine in machines)
    for machine in machines:
        machine.late = 0.0
    return worst


def until_given_up(machine: Machine) -> None:
    """Until it knows that it has no lease any more."""
    until(lambda: machine.status()["leases"] == 0)


def taken_over(machines: Fleet, name: str, holder: Machine, since: float) -> Machine:
    """The machine that loads instead, in time."""
    others = [machine for machine in machines.machines if machine is not holder]
    lateness(others)  # what was late before is over
    late: list[float] = []

    def is_taken_over() -> bool:
        late.append(lateness(others))
        return len(machines.loads(name)) == 2

    until(is_taken_over)
    took, worst = time.monotonic() - since, max(late)
    figures = f"taken over after {took:.2f} s of a lease of {LEASE:g} s"
    print(f"{figures}; the processes themselves were late by {worst * 1e3:.0f} ms")
    assert took < LEASE + 1.0 + TURNS * worst
    return machines.by_pid(machines.loads(name)[1])


# --- what a wait costs ------------------------------------------------------------------------------------------------


@rounds(20)
def test_who_waits_on_another_machine_is_woken_at_once_and_asks_no_more_than_once_a_second(
    machines: Fleet, count: int
) -> None:
    machines.grow(4)
    lateness(machines.machines)
    answered: list[float] = []
    with Ear(machines.server) as ear:
        for number in range(count):
            name, began = f"w{next(_numbers)}", time.monotonic()
            loads, waits = one_waits_for_another(machines, name)
            if number == 0:
                # who waits asks when it comes, as soon as it hears, and then now and then
                until(lambda: len(ear.commands("HGET ")) >= 3)
                lasted, late = time.monotonic() - began, lateness(machines.machines)
                # where renewals are late, leases seem to end, and who waits asks sooner
                assert len(ear.commands("HGET ")) <= 2 + lasted / max(0.5, 1.0 - TURNS * late), "once a second"
            machines.open_gate(name, loads.pid)
            answered.append(waits.hear("answered", name=name)["at"])
            loads.hear("answered", name=name)
    woken = [at for at, command in ear.commands("PUBLISH ") if ":wake:" in command]
    latencies = [answer - wake for wake, answer in zip(woken, answered, strict=True)]
    print(f"wake-up after the write: p50 {statistics.median(latencies) * 1e3:.2f} ms of {len(latencies)}")
    assert statistics.median(latencies) < 0.5 + TURNS * lateness(machines.machines), "not by the poll"


def one_waits_for_another(machines: Fleet, name: str) -> tuple[Machine, Machine]:
    """Who loads, and who waits for it."""
    loads, waits = machines.machines[:2]
    loads.do("ask", name=name, count=1)
    until(lambda: machines.loads(name) == [loads.pid])
    waits.do("ask", name=name, count=1)
    until(lambda: bool(waits.status()["waiting_abroad"]))
    return loads, waits
