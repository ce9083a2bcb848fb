"""The agents of examples/agent_orchestrator.py: what they measure is true, on a virtual clock and as it is started."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path

import pytest

import agent_orchestrator
from agent_orchestrator import (
    AGENTS,
    AT_ONCE,
    OWN_LOAD,
    STEPS,
    KnowledgeBase,
    LockedOrchestrator,
    Run,
    ask,
    plans,
    run_glass,
    run_locked,
)
from tests.support.patience import PATIENCE
from tests.support.seeded_loop import World, run_seed

EXAMPLE = Path(agent_orchestrator.__file__)


def in_virtual_time(workload: Callable[[int], Awaitable[Run]], seed: int) -> Run:
    """The workload on a loop whose clock jumps from one timer to the next: exact figures, no waiting."""

    async def scenario(world: World) -> Run:
        return await workload(seed)

    return run_seed(seed, scenario)


@pytest.mark.parametrize("seed", range(5))
def test_both_orchestrators_give_the_same_answers_for_the_same_number_of_loads(seed: int) -> None:
    before, after = in_virtual_time(run_locked, seed), in_virtual_time(run_glass, seed)
    assert len(before.asked) == len(after.asked) == len(AGENTS) * STEPS * AT_ONCE
    assert [(one.agent, one.question, one.answer) for one in before.asked] == [
        (one.agent, one.question, one.answer) for one in after.asked
    ]
    assert before.queries == after.queries == len({one.question for one in after.asked})
    assert sum(after.outcomes.values()) == len(after.asked)
    assert after.outcomes["miss", "origin"] == after.queries


@pytest.mark.parametrize("seed", range(5))
def test_under_one_lock_every_load_stops_everyone_and_with_glasscache_only_who_asks_the_same(seed: int) -> None:
    before, after = in_virtual_time(run_locked, seed), in_virtual_time(run_glass, seed)
    loads = [one.took - one.waited for one in before.asked if one.loaded]
    assert before.took == pytest.approx(sum(loads))  # one load at a time, whatever was asked
    assert after.took < before.took
    assert sum(after.waits()) < sum(before.waits()) / 2
    # With glasscache nobody waits longer than one load takes, and only for the load of the same question.
    took = {one.question: one.took for one in after.asked if one.loaded}
    assert len(took) == after.queries
    assert all(one.waited <= took[one.question] + 1e-9 for one in after.asked if not one.loaded)
    assert all(one.waited == pytest.approx(0) for one in after.asked if one.loaded)
    assert max(before.waits()) > max(took.values())
    assert len(after.waits()) == after.outcomes.get(("collapsed", "origin"), 0)


def test_a_seed_stands_for_one_workload() -> None:
    assert plans(7) == plans(7) != plans(8)
    assert set(plans(7)) == set(AGENTS)


def test_the_cache_that_is_replaced_is_right_too_and_keeps_100_entries_for_300_seconds() -> None:
    async def scenario(world: World) -> None:
        base = KnowledgeBase()
        old = LockedOrchestrator(base)
        OWN_LOAD.set([])
        for number in range(101):
            await old.query(f"q{number}")
        assert list(old.entries) == [f"q{number}" for number in range(1, 101)]
        (await old.query("q100")).clear()
        assert len((await ask("writer", "q100", old.query)).answer) == 3
        assert base.queries == 101
        await old.query("q1")  # older than the others: it was asked 100 loads ago
        assert list(old.entries)[-1] == "q1"
        await asyncio.sleep(300)
        await old.query("q100")
        assert base.queries == 102

    run_seed(1, scenario)


def test_started_by_hand_it_fits_80_columns_and_shows_the_measured_difference() -> None:
    env = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, str(EXAMPLE), "--seed", "3"],
        env=env,
        capture_output=True,
        encoding="utf-8",
        timeout=2 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    asked, loads = (
        next(line for line in lines if name in line).split("│") for name in ("questions asked", "loads run")
    )
    assert [cell.strip() for cell in asked[2:4]] == ["64", "64"]
    assert loads[2].strip() == loads[3].strip()
    bars = {name: sum(line.count("█") for line in lines if f" {name} " in line) for name in ("one lock", "glasscache")}
    assert bars["one lock"] > bars["glasscache"] > 0
    assert any(first.strip() == "" and "Both gave the same answers" in second for first, second in pairwise(lines))
