"""How anything is measured here: many short samples, interleaved in shuffled order, and their medians.

Decides what a figure is: processor time of the event loop's thread per operation, so that other work on the machine
costs no time (it still shares caches and clock rate), nor what an exporter's thread does; and that two cases are
compared round by round, since samples of one round saw the same machine. Elapsed time is kept beside it, for what waits
for a server. Must never know what is measured, and needs nothing but the standard library: the peers'
environment runs it, too.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from statistics import median

Work = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One thing to measure. `prepare(count)` makes, unmeasured, the work of `count` operations."""

    name: str
    prepare: Callable[[int], Work]
    count: int = 20
    """Operations in a sample: few, so that what was prepared is still in the processor's caches, as it is for a server
    that has just made it. With 1,000 a hit would take half as much again, and all of that to read prepared strings."""
    verify: Callable[[], Awaitable[None]] | None = None
    """Called before anything is measured: raises if the case does not do what its name says."""


@dataclass(frozen=True, slots=True)
class Timings:
    """Microseconds per operation, by case and round."""

    rounds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    elapsed: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def by_the_clock(self) -> Timings:
        """The same in elapsed time."""
        return Timings(self.elapsed)

    def us(self, name: str) -> float:
        """The median."""
        return median(self.rounds[name])

    def times(self, name: str, base: str) -> float:
        """How many times `base` it takes: the median of the rounds' ratios."""
        return median(mine / other for mine, other in zip(self.rounds[name], self.rounds[base], strict=True))

    def added(self, name: str, base: str) -> float:
        """Microseconds on top of `base`: the median of the rounds' differences."""
        return median(mine - other for mine, other in zip(self.rounds[name], self.rounds[base], strict=True))

    def spread(self, name: str) -> float:
        """The upper quartile over the lower one: 1.0 on a machine at rest."""
        ranked = sorted(self.rounds[name])
        return ranked[len(ranked) * 3 // 4] / ranked[len(ranked) // 4]


async def sample(case: Case, count: int) -> tuple[float, float]:
    """Microseconds of processor time and of elapsed time per operation, once. The collector waits, as for `timeit`."""
    work = case.prepare(count)
    gc.disable()
    try:
        began, used = time.perf_counter(), time.thread_time()
        await work()
        used, took = time.thread_time() - used, time.perf_counter() - began
        return used / count * 1e6, took / count * 1e6
    finally:
        gc.enable()


async def measure(cases: Sequence[Case], *, rounds: int, seed: int, scale: float = 1.0) -> Timings:
    """Verify all cases, warm each up, then take a sample of each in every round, each round in another order.

    `scale` shortens the samples. Raises what a case's `verify` raises.
    """
    counts = {case.name: max(1, int(case.count * scale)) for case in cases}
    for case in cases:
        if case.verify is not None:
            await case.verify()
    for case in cases:
        await sample(case, counts[case.name])
    found: dict[str, list[float]] = {case.name: [] for case in cases}
    elapsed: dict[str, list[float]] = {case.name: [] for case in cases}
    order, random = list(cases), Random(seed)
    gc.collect()
    gc.freeze()  # what is here stays; without this each round would look through all of it
    try:
        for _ in range(rounds):
            random.shuffle(order)
            for case in order:
                used, took = await sample(case, counts[case.name])
                found[case.name].append(used)
                elapsed[case.name].append(took)
            gc.collect()
    finally:
        gc.unfreeze()
    return Timings(found, elapsed)
