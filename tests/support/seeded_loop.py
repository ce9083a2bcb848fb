"""Concurrency exploration: run one scenario under many seeds, each a different but repeatable schedule.

Decides: what a run's world offers, and what "at rest" means when its scenario has returned.
Never: lets a seed pass that left a task, a timer, an unretrieved exception or a suspended generator behind.

    async def scenario(world: World) -> None:
        tasks = [world.spawn(ask(), victim=True) for _ in range(5)]
        await asyncio.wait(tasks)

    explore(scenario, chaos=Chaos())          # 2,000 seeds; 10,000 with GLASSCACHE_SOAK=1
    run_seed(1234, scenario, chaos=Chaos())   # the one that failed, with the same options
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import random
from collections.abc import Callable, Coroutine, Iterable
from functools import cached_property
from typing import Any, TypedDict, TypeVar, Unpack, cast

from tests.support._loop import Chaos, Deadlock, Livelock, Order, SeededLoop
from tests.support._stacks import where

__all__ = [
    "Chaos",
    "Deadlock",
    "Explored",
    "Livelock",
    "NotAtRest",
    "Options",
    "Order",
    "SeedFailed",
    "SeededLoop",
    "World",
    "explore",
    "run_seed",
    "seed_count",
]

T = TypeVar("T")
Scenario = Callable[["World"], Coroutine[Any, Any, T]]


class NotAtRest(AssertionError):
    """The scenario returned and left something behind."""


class SeedFailed(AssertionError):
    """A scenario failed under a seed; the cause is chained, the seed stands in the message."""


class Options(TypedDict, total=False):
    """`chaos`: who cancels (default nobody). `order`, `eager`, `max_steps`: see `SeededLoop`.
    `timers`: a timer left set is an error (default True)."""

    chaos: Chaos | None
    order: Order
    eager: bool
    max_steps: int
    timers: bool


@dataclasses.dataclass(frozen=True)
class Explored:
    """What an exploration did: seeds run, handles run, victims cancelled. Lets a test show that it was not idle."""

    seeds: int
    steps: int
    cancellations: int


class World:
    """What a scenario gets to work with."""

    def __init__(self, loop: SeededLoop, seed: int) -> None:
        self.loop = loop
        self.seed = seed

    @cached_property
    def random(self) -> random.Random:
        """The scenario's own random numbers, apart from the loop's: drawing one does not change the schedule."""
        return random.Random(~self.seed)

    @property
    def cancelled(self) -> list[asyncio.Task[Any]]:
        """The victims hit so far, in order; a task hit twice is there twice."""
        return self.loop.cancelled

    def spawn(self, coro: Coroutine[Any, Any, T], *, victim: bool = False, name: str | None = None) -> asyncio.Task[T]:
        """Start a task; a `victim` may be cancelled by chaos at any of its steps, before the first one too."""
        task: asyncio.Task[T] = self.loop.create_task(coro, name=name)
        if victim:
            self.loop.victims.add(task)
        return task

    async def sleep(self, seconds: float = 0.0) -> None:
        """Let `seconds` of virtual time pass."""
        await asyncio.sleep(seconds)


def seed_count() -> int:
    """Return how many seeds a scenario gets: 2,000, or 10,000 when GLASSCACHE_SOAK is 1."""
    return 10_000 if os.environ.get("GLASSCACHE_SOAK") == "1" else 2_000


def run_seed(seed: int, scenario: Scenario[T], **options: Unpack[Options]) -> T:
    """Run `scenario` under `seed` and return its result. Raises the scenario's own error, `Deadlock`, `Livelock`,
    or `NotAtRest` when it left something behind."""
    return _run(seed, scenario, options)[0]


def explore(scenario: Scenario[Any], seeds: Iterable[int] | None = None, **options: Unpack[Options]) -> Explored:
    """Run `scenario` under each of `seeds` (default `range(seed_count())`). The first failure is raised
    as `SeedFailed`."""
    count = steps = cancellations = 0
    for seed in range(seed_count()) if seeds is None else seeds:
        try:
            loop = _run(seed, scenario, options)[1]
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # CancelledError and pytest's own outcomes are failures here, too
            raise SeedFailed(f"seed {seed}: {type(error).__name__}: {error}") from error
        count += 1
        steps += loop.steps
        cancellations += len(loop.cancelled)
    return Explored(count, steps, cancellations)


def _run(seed: int, scenario: Scenario[T], options: Options) -> tuple[T, SeededLoop]:
    loop_options: dict[str, Any] = {name: value for name, value in options.items() if name != "timers"}
    collecting = gc.isenabled()
    gc.disable()  # a collection in the middle would finalize generators at a step no seed decides
    loop = SeededLoop(seed, **loop_options)
    try:
        main: asyncio.Task[T] = loop.create_task(scenario(World(loop, seed)), name="scenario")
        loop.drive(main)
        try:
            result = main.result()
        except BaseException as error:
            for complaint in loop.complaints:
                error.add_note(f"the loop was told: {complaint}")
            raise
        problems = list(_left_behind(loop, timers=options.get("timers", True)))
        if problems:
            raise NotAtRest("; ".join(problems))
        return result, loop
    finally:
        _clear(loop)
        loop.close()
        if collecting:
            gc.enable()


def _left_behind(loop: SeededLoop, *, timers: bool) -> Iterable[str]:
    """Yield what a run left: pending tasks, unretrieved exceptions, complaints, generators, timers."""
    for task in loop.pending():
        yield f"task {task.get_name()} is pending at {where(task)}"
    for future in loop.made:
        if _unretrieved(future):
            yield f"nobody retrieved the exception of {future!r}"
    for complaint in loop.complaints:
        yield f"the loop was told: {complaint}"
    for generator in _suspended(loop):
        yield f"async generator {generator.__qualname__} is suspended"
    if timers:
        for timer in loop.timers():
            yield f"a timer is set: {timer!r}"


def _unretrieved(future: asyncio.Future[Any]) -> bool:
    """asyncio's own mark, which it would log when the future is collected, at a time no seed decides."""
    return bool(getattr(future, "_log_traceback", False))


def _suspended(loop: SeededLoop) -> list[Any]:
    generators: Any = getattr(loop, "_asyncgens", ())
    return [generator for generator in generators if generator.ag_frame is not None]


def _clear(loop: SeededLoop) -> None:
    """Stop what is left, so that a failed seed does not disturb the next one. Nothing to do after a clean run."""
    loop.disarm()
    for _ in range(10):  # a task may refuse to be cancelled a few times
        tasks = loop.pending()
        if not tasks:
            break
        for task in tasks:
            task.cancel()
        with contextlib.suppress(Livelock):
            loop.drive(_done(loop))
    for task in loop.pending():  # one that always does
        with contextlib.suppress(RuntimeError):
            cast("Coroutine[Any, Any, Any]", task.get_coro()).close()
    if _suspended(loop):
        loop.drive(loop.create_task(loop.shutdown_asyncgens()))
    for future in loop.made:
        if _unretrieved(future):
            future.exception()


def _done(loop: SeededLoop) -> asyncio.Future[None]:
    future = loop.create_future()
    future.set_result(None)
    return future
