"""The event loop under `tests.support.seeded_loop`: virtual time, seeded order, no system calls.

Decides: which ready handle runs next, when virtual time moves, which victim is cancelled, when a run is stuck.
All of it follows from the seed and the order of calls, so a seed that failed fails again.
Never: waits, opens a socket, starts a thread, or reads the machine's clock.

Legal reorderings only. Handles that are ready in the same iteration may run in any order; asyncio's tasks,
futures and locks hold under that, code that counts on the order of two `call_soon` calls does not.

What a seed cannot pin down: the order of a `set` of strings (PYTHONHASHSEED) or of objects hashed by address.
Tasks and futures of this loop hash by a serial number instead, so sets of those are safe.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import itertools
import random
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Literal, TypeVar, TypeVarTuple

from tests.support._stacks import describe_all

if TYPE_CHECKING:
    from collections import deque
    from concurrent.futures import Executor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
Order = Literal["shuffle", "single", "fifo"]


class Deadlock(AssertionError):
    """Nothing is ready, no timer is set, and somebody still waits."""


class Livelock(AssertionError):
    """The run took more steps than it was allowed."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chaos:
    """How often victims are cancelled. `share`: seeds that see any cancellation (0 to 1). `most`: cancellations
    per seed at most. `horizon`: a cancellation comes within this many steps of the one before; early steps are
    favoured, every step within it is reached."""

    share: float = 0.75
    most: int = 2
    horizon: int = 64

    def strikes(self, rng: random.Random) -> Iterator[int]:
        """Yield the gaps, in steps with a living victim, between this seed's cancellations."""
        if rng.random() < self.share:
            for _ in range(rng.randint(1, self.most)):
                yield int(self.horizon ** rng.random())


class SeededFuture(asyncio.Future[T]):
    """A future that hashes by serial number, so that a set of futures has the same order on every run."""

    def __init__(self, *, loop: SeededLoop) -> None:
        self._serial = loop.next_serial()
        super().__init__(loop=loop)

    def __hash__(self) -> int:
        return self._serial


class SeededTask(asyncio.Task[T]):
    """A task that hashes by serial number. The number is set first: an eager task runs inside `__init__`."""

    def __init__(self, coro: Coroutine[Any, Any, T], *, loop: SeededLoop, name: str | None, **options: Any) -> None:
        self._serial = loop.next_serial()
        loop.made.append(self)
        super().__init__(coro, loop=loop, name=name or f"task-{self._serial}", **options)

    def __hash__(self) -> int:
        return self._serial


class Victims:
    """The tasks that chaos may cancel, in the order in which they were added."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def add(self, task: asyncio.Task[Any]) -> None:
        """Register `task`; it stays until it is done."""
        self._tasks.append(task)

    def alive(self) -> list[asyncio.Task[Any]]:
        """Return those that are not done."""
        self._tasks = [task for task in self._tasks if not task.done()]
        return self._tasks


class SeededLoop(asyncio.BaseEventLoop):
    """An asyncio loop whose every choice comes from `seed`.

    `order`: "shuffle" runs each iteration's handles in random order; "single" takes one random handle at a time from
    all that are ready (a handle may be starved for long); "fifo" is asyncio's own order. `eager`: tasks start inside
    `create_task` (Python 3.12 and later). `max_steps`: handles run before `Livelock` is raised.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool

    def __init__(
        self,
        seed: int = 0,
        *,
        order: Order = "shuffle",
        chaos: Chaos | None = None,
        eager: bool = False,
        max_steps: int = 100_000,
    ) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.victims = Victims()
        self.cancelled: list[asyncio.Task[Any]] = []
        self.complaints: list[dict[str, Any]] = []
        self.made: list[asyncio.Future[Any]] = []
        self.steps = 0
        self._serials = itertools.count(1)
        self._now = 0.0
        self._order = order
        self._task_options: dict[str, Any] = {"eager_start": True} if eager else {}
        self._max_steps = self._last_step = max_steps
        self._driven: asyncio.Future[Any] | None = None
        self._strikes = chaos.strikes(self.random) if chaos else iter(())
        self._fuse = next(self._strikes, 0)
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def time(self) -> float:
        """Return virtual seconds since the loop was made."""
        return self._now

    def next_serial(self) -> int:
        """Return the next number for a task or future of this loop."""
        return next(self._serials)

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future of this loop; it is kept, so that an exception nobody retrieved is seen at the end."""
        future: SeededFuture[Any] = SeededFuture(loop=self)
        self.made.append(future)
        return future

    def create_task(self, coro: Any, *, name: Any = None, context: Context | None = None, **options: Any) -> Any:
        """Return a task of this loop, kept like futures are; an installed task factory is obeyed."""
        if self.get_task_factory() is not None:
            task = super().create_task(coro, name=name, context=context, **options)
            self.made.append(task)
            return task
        self._check_closed()  # type: ignore[attr-defined]
        return SeededTask(coro, loop=self, name=name, context=context, **{**self._task_options, **options})

    def run_in_executor(self, executor: Executor | None, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        """Run `func` on a later step in this thread: `asyncio.to_thread` works and stays deterministic."""
        future: asyncio.Future[T] = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_soon(work)
        return future

    def drive(self, future: asyncio.Future[Any]) -> None:
        """Run until `future` is done and nothing is ready any more. Time stands still once it is done."""
        self._driven = future
        try:
            self.run_forever()
        finally:
            self._driven = None

    def pending(self) -> list[asyncio.Task[Any]]:
        """Return the tasks that are not done, oldest first."""
        return [task for task in self.made if isinstance(task, asyncio.Task) and not task.done()]

    def timers(self) -> list[asyncio.TimerHandle]:
        """Return the timers that are set and not cancelled."""
        return [timer for timer in self._scheduled if not timer.cancelled()]

    def disarm(self) -> None:
        """Cancel nobody from now on, and allow the full number of steps again."""
        self._fuse = 0
        self._last_step = self.steps + self._max_steps

    def _run_once(self) -> None:
        """Run one iteration. Called by asyncio's `run_forever`."""
        self._collect_due()
        if not self._ready and not self._stopping:
            if self._driven is not None and self._driven.done():
                self.stop()
                return
            self._jump()
        if self.steps > self._last_step:
            raise Livelock(f"still busy after {self._max_steps} steps: {describe_all(self.pending())}")
        for _ in range(self._arrange()):
            handle = self._ready.popleft()
            if handle._cancelled:
                continue
            self.steps += 1
            if self._fuse:
                self._burn()
            handle._run()

    def _collect_due(self) -> None:
        """Move the timers whose time has come to the ready queue."""
        while self._scheduled and self._scheduled[0].when() <= self._now:
            timer = heapq.heappop(self._scheduled)
            if not timer.cancelled():
                self._ready.append(timer)

    def _jump(self) -> None:
        """Move virtual time to the next timer; without one, nothing can ever happen again."""
        while self._scheduled and self._scheduled[0].cancelled():
            heapq.heappop(self._scheduled)
        if not self._scheduled:
            told = "".join(f"\n  the loop was told: {complaint}" for complaint in self.complaints)
            raise Deadlock(f"nothing is ready and no timer is set: {describe_all(self.pending())}{told}")
        self._now = self._scheduled[0].when()
        self._collect_due()

    def _arrange(self) -> int:
        """Bring the ready queue into this iteration's order; return how many handles to run from its left."""
        ready = self._ready
        count = len(ready)
        if count < 2 or self._order == "fifo":
            return count
        if self._order == "single":
            ready.rotate(-int(self.random.random() * count))
            return 1
        handles = list(ready)
        self.random.shuffle(handles)
        ready.clear()
        ready.extend(handles)
        return count

    def _burn(self) -> None:
        """Count a step down; at zero cancel one victim that is alive."""
        alive = self.victims.alive()
        if not alive:
            return
        self._fuse -= 1
        if self._fuse == 0:
            task = alive[int(self.random.random() * len(alive))]
            self.cancelled.append(task)
            task.cancel("chaos")
            self._fuse = next(self._strikes, 0)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing to count: a cancelled timer is dropped when it reaches the head of the heap."""

    def _write_to_self(self) -> None:
        """There is no selector to wake."""
