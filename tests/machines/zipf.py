"""`make machines`: what a tier that machines share is worth, as a table for docs/machines.md.

Eight simulated machines behind one load balancer answer the same stream of questions, some of which are asked far more
often than others (Zipf's law), once for each CACHE_TYPE, and one machine alone for comparison. Only what must be
shared is: the machines are caches of their own in one process, the server is a real one. Decides nothing about pace:
what counts is how many questions were answered from a store, and how many loads that spared the origin.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from glasscache import Cache, Limits, MemoryStore, Policy, RedisStore, TieredStore
from glasscache.stats import stats
from tests.machines.fleet import SECRET
from tests.support.ending import end_in_order
from tests.support.redis_process import UNHURRIED, RedisProcess

MACHINES = 8
KINDS = ("memory", "hybrid", "redis")
_AT_ONCE = 32
_numbers = itertools.count()


@dataclass(frozen=True)
class Row:
    """What came of the stream."""

    kind: str
    machines: int
    first: float
    """Hit rate of the first hundredth of the stream, 0 to 1."""
    whole: float
    loads: int


def stream(requests: int, questions: int) -> list[int]:
    """Questions by number; number n is asked in proportion to 1/n."""
    chance = random.Random(7)
    weights = [1 / number for number in range(1, questions + 1)]
    return chance.choices(range(questions), weights, k=requests)


def caches(kind: str, count: int, url: str) -> list[Cache]:
    """As many machines as that, with nothing stored yet."""
    prefix = f"zipf{next(_numbers)}"

    def store() -> MemoryStore | RedisStore | TieredStore:
        memory = MemoryStore(max_entries=100_000)
        if kind == "memory":
            return memory
        redis = RedisStore.from_url(url, prefix=prefix, **UNHURRIED)
        return redis if kind == "redis" else TieredStore([memory, redis])

    policy, limits = Policy(ttl=3600.0), Limits(far_timeout=10.0)
    return [Cache(store(), policy=policy, limits=limits, key_secret=SECRET) for _ in range(count)]


async def measure(kind: str, count: int, asked: Sequence[int], url: str) -> Row:
    """Send the stream through a load balancer that takes the machines in turn."""
    machines, loads = caches(kind, count, url), 0
    turns = itertools.cycle(machines)

    async def load() -> str:
        nonlocal loads
        loads += 1
        await asyncio.sleep(0)
        return "an answer"

    async def visitor(questions: Iterator[int]) -> None:
        for question in questions:
            await next(turns).get_or_load(f"question {question}", load)

    async def all_of(part: Sequence[int]) -> None:
        questions = iter(part)
        await asyncio.gather(*(visitor(questions) for _ in range(_AT_ONCE)))

    begin = len(asked) // 100
    await all_of(asked[:begin])
    first = _hits(machines) / begin
    await all_of(asked[begin:])
    whole = _hits(machines) / len(asked)
    for machine in machines:
        await machine.aclose()
    return Row(kind, count, first, whole, loads)


def _hits(machines: Sequence[Cache]) -> int:
    """Answered without a load of their own."""
    figures = [stats(machine) for machine in machines]
    return sum(int(str(figure["total_hits"])) + int(str(figure["collapsed"])) for figure in figures)


async def rows(requests: int, questions: int, url: str) -> list[Row]:
    """One machine alone, then eight of each kind."""
    asked = stream(requests, questions)
    each = [("memory", 1), *((kind, MACHINES) for kind in KINDS)]
    return [await measure(kind, count, asked, url) for kind, count in each]


def table(measured: Sequence[Row], requests: int, questions: int) -> str:
    """As Markdown."""
    lines = [
        f"{requests:,} requests for {questions:,} questions, {_AT_ONCE} at once, distributed by Zipf's law:",
        "",
        f"| `CACHE_TYPE` | machines | hit rate, first {requests // 100:,} | hit rate, all | loads of the origin |",
        "|---|---|---|---|---|",
        *(f"| {r.kind} | {r.machines} | {r.first:.1%} | {r.whole:.1%} | {r.loads:,} |" for r in measured),
    ]
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What a tier that machines share is worth.")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--questions", type=int, default=2_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, RedisProcess(Path(folder)) as server:
        measured = asyncio.run(rows(given.requests, given.questions, f"redis://127.0.0.1:{server.port}"))
    print(table(measured, given.requests, given.questions))


if __name__ == "__main__":
    end_in_order()
    main()
