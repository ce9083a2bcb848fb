"""Agents that share a cache in code: a dict under one lock, and glasscache in its place.

    .venv/bin/python examples/agent_orchestrator.py

Both orchestrators get the same agents, the same questions and the same knowledge base; what is printed was measured.
Only the knowledge base is simulated: a query sleeps for 150 to 450 ms, as long as retrieval takes.
"""

import argparse
import asyncio
import contextvars
import dataclasses
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random

from rich.console import Console
from rich.table import Table

from glasscache import Cache, MemoryStore

AGENTS = ("planner", "researcher", "analyst", "coder", "reviewer", "writer", "critic", "support")
SUBJECTS = ("refunds", "pricing", "security", "quotas", "regions", "webhooks", "billing")
STEPS = 4
AT_ONCE = 2  # questions that an agent asks together in each step

Query = Callable[[str], Awaitable[list[str]]]


class KnowledgeBase:
    """Where answers come from. It sleeps instead of searching, and takes any number of queries at once."""

    def __init__(self) -> None:
        self.queries = 0

    async def search(self, question: str) -> list[str]:
        self.queries += 1
        began = now()
        await asyncio.sleep(0.15 + 0.3 * hashlib.sha256(question.encode()).digest()[0] / 255)
        OWN_LOAD.get().append(now() - began)
        return [f"{question}: passage {number}" for number in (1, 2, 3)]


# --- before ---------------------------------------------------------------------------------------------------------


class LockedOrchestrator:
    """100 entries, 300 seconds, one lock for all keys. It is right, and each load stops every agent."""

    def __init__(self, base: KnowledgeBase) -> None:
        self.base = base
        self.lock = asyncio.Lock()
        self.entries: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()

    async def query(self, question: str) -> list[str]:
        async with self.lock:
            if (found := self.entries.get(question)) and now() - found[0] < 300:
                self.entries.move_to_end(question)
                return list(found[1])
            passages = await self.base.search(question)
            self.entries[question] = (now(), passages)
            if len(self.entries) > 100:
                self.entries.popitem(last=False)
            return list(passages)


# --- after ----------------------------------------------------------------------------------------------------------


class GlassOrchestrator:
    """The same bounds. Only those who ask the same question wait for its load."""

    def __init__(self, base: KnowledgeBase) -> None:
        self.cache = Cache(MemoryStore(max_entries=100), name="agents")

        @self.cache.cached(ttl=300, name="knowledge")
        async def query(question: str) -> list[str]:
            return await base.search(question)

        self.query = query


# --- the agents, and what they measure ------------------------------------------------------------------------------

OWN_LOAD: contextvars.ContextVar[list[float]] = contextvars.ContextVar("OWN_LOAD")
"""The seconds of the load that this question caused, if it caused one: a load runs in a copy of its asker's context."""


def now() -> float:
    """The event loop's clock, the one that sleeps."""
    return asyncio.get_running_loop().time()


@dataclasses.dataclass
class Asked:
    """One question of one agent. Seconds; `waited`: for a lock, or for a load that another question had caused."""

    agent: str
    question: str
    took: float
    waited: float
    loaded: bool
    answer: list[str]


@dataclasses.dataclass
class Run:
    """One workload, done by one orchestrator."""

    asked: list[Asked]
    queries: int
    took: float
    outcomes: Mapping[tuple[str, str], int] = dataclasses.field(default_factory=dict)

    def waits(self, agent: str | None = None) -> list[float]:
        """What was waited, of the questions that had to: more than a millisecond, which is the noise of a busy loop."""
        return [one.waited for one in self.asked if agent in (None, one.agent) and one.waited > 0.001]


def plans(seed: int) -> dict[str, list[list[str]]]:
    """What each agent asks in each of its steps: some subjects come up far more often than others."""
    rng = Random(seed)
    weights = [1 / rank for rank in range(1, len(SUBJECTS) + 1)]

    def step() -> list[str]:
        return [f"How do {subject} work?" for subject in rng.choices(SUBJECTS, weights, k=AT_ONCE)]

    return {agent: [step() for _ in range(STEPS)] for agent in AGENTS}


async def ask(agent: str, question: str, query: Query) -> Asked:
    """Ask, and take the time."""
    own: list[float] = []
    OWN_LOAD.set(own)  # each question is a task, so this is its alone
    began = now()
    answer = await query(question)
    took = now() - began
    return Asked(agent, question, took, max(0.0, took - sum(own)), bool(own), answer)


async def work(agent: str, steps: list[list[str]], query: Query) -> list[Asked]:
    """One agent: it goes on when all questions of a step are answered."""
    done: list[Asked] = []
    for questions in steps:
        done += await asyncio.gather(*(ask(agent, question, query) for question in questions))
    return done


async def run_locked(seed: int) -> Run:
    """The workload before."""
    base = KnowledgeBase()
    return await run(plans(seed), LockedOrchestrator(base).query, base)


async def run_glass(seed: int) -> Run:
    """The workload after, with the cache's own count of what happened."""
    base = KnowledgeBase()
    orchestrator = GlassOrchestrator(base)
    done = await run(plans(seed), orchestrator.query, base)
    counted = orchestrator.cache.counters.group("knowledge").requests()
    done.outcomes = {(result, tier): count for (result, tier), count in counted.items()}
    await orchestrator.cache.aclose()
    return done


async def run(workload: dict[str, list[list[str]]], query: Query, base: KnowledgeBase) -> Run:
    """All agents at once."""
    began = now()
    parts = await asyncio.gather(*(work(agent, steps, query) for agent, steps in workload.items()))
    return Run([one for part in parts for one in part], base.queries, now() - began)


# --- what is shown --------------------------------------------------------------------------------------------------


def seconds(value: float) -> str:
    """For people: milliseconds where they matter."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.{0 if value >= 0.01 else 2}f} ms"


def middle(values: Sequence[float]) -> float:
    """The upper median, a measured value; 0 for none."""
    return sorted(values)[len(values) // 2] if values else 0.0


def measures(before: Run, after: Run) -> Table:
    """The two runs side by side."""
    table = Table(title="The same questions, twice", title_justify="left", expand=False)
    table.add_column("measured")
    table.add_column("OrderedDict + one lock", justify="right", style="red")
    table.add_column("glasscache", justify="right", style="green")
    rows: list[tuple[str, Callable[[Run], str]]] = [
        ("questions asked", lambda run: f"{len(run.asked)}"),
        ("loads run", lambda run: f"{run.queries}"),
        ("questions that waited", lambda run: f"{len(run.waits())}"),
        ("waited for a lock or load, all", lambda run: seconds(sum(run.waits()))),
        ("  the longest wait", lambda run: seconds(max(run.waits(), default=0))),
        ("took without a load, median", lambda run: seconds(middle([a.took for a in run.asked if not a.loaded]))),
        ("all agents done after", lambda run: seconds(run.took)),
    ]
    for name, figure in rows:
        table.add_row(name, figure(before), figure(after))
    return table


def per_agent(before: Run, after: Run) -> Table:
    """How long each agent's questions waited, as bars of one scale."""
    table = Table(title="Waiting, by agent", title_justify="left", box=None, padding=(0, 1))
    for column in ("agent", "cache", "", "waited"):
        table.add_column(column, justify="right" if column == "waited" else "left")
    longest = max(sum(run.waits(agent)) for run in (before, after) for agent in AGENTS) or 1
    for agent in AGENTS:
        for name, cache, colour, run in ((agent, "one lock", "red", before), ("", "glasscache", "green", after)):
            waited = sum(run.waits(agent))
            table.add_row(name, cache, f"[{colour}]{'█' * round(40 * waited / longest)}[/]", seconds(waited))
    return table


def show(console: Console, before: Run, after: Run) -> None:
    """Print all that was measured."""
    assert [one.answer for one in before.asked] == [one.answer for one in after.asked]
    console.print(measures(before, after))
    console.print()
    console.print(per_agent(before, after))
    counted = ", ".join(f"{count} {result}" for (result, _), count in after.outcomes.items())
    console.print(f"\nBoth gave the same answers. glasscache counted {counted}.", highlight=False)


async def main(seed: int) -> None:
    """Before, after, and the difference."""
    console = Console()
    console.print(
        f"{len(AGENTS)} agents ask {STEPS} times {AT_ONCE} questions about {len(SUBJECTS)} subjects (seed {seed}).\n"
        "Simulated: the knowledge base, each query of which sleeps for 150 to 450 ms.\n",
        highlight=False,
    )
    show(console, await run_locked(seed), await run_glass(seed))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Agents on a dict under one lock, then on glasscache: who waits?")
    parser.add_argument("--seed", type=int, default=7, help="another seed, other questions (default: 7)")
    asyncio.run(main(parser.parse_args().seed))
