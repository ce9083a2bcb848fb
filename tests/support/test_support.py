"""Proves the seeded loop: it works, and it finds what it is there to find. The rest of tests/support is proved by
test_support_asgi.py, test_support_servers.py and test_support_otlp.py."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator

import pytest

from tests.support.seeded_loop import (
    Chaos,
    Deadlock,
    Livelock,
    NotAtRest,
    SeededLoop,
    SeedFailed,
    World,
    explore,
    run_seed,
    seed_count,
)


async def racy_counter(world: World) -> None:
    """Two increments; each lets the other in between its read and its write on some schedules only."""
    count = 0

    async def increment() -> None:
        nonlocal count
        seen = count
        await world.sleep()
        count = seen + 1

    async def later() -> None:
        await world.sleep()
        await increment()

    await asyncio.gather(increment(), later())
    assert count == 2


async def trace_of(world: World) -> list[str]:
    """Tasks that write down who ran when, with sets, timers and cancellations that must not blur the order."""
    trace: list[str] = []

    async def walk(name: str) -> None:
        try:
            for step in range(4):
                await world.sleep(step % 2)
                trace.append(f"{name}{step} at {world.loop.time()}")
        except asyncio.CancelledError:
            trace.append(f"{name} cancelled")
            raise

    tasks = {world.spawn(walk(name), victim=True) for name in "abcdef"}
    await world.sleep(world.random.random())
    trace.extend(task.get_name() for task in tasks)
    futures = {world.loop.create_future(): name for name in "abcdef"}
    trace.extend(futures[future] for future in set(futures))
    await asyncio.wait(tasks)
    return trace


def test_a_race_that_only_some_schedules_expose_is_found_and_its_seed_repeats_it() -> None:
    outcomes = set()
    for seed in range(50):
        try:
            run_seed(seed, racy_counter)
            outcomes.add("right")
        except AssertionError:
            outcomes.add("wrong")
    assert outcomes == {"right", "wrong"}

    with pytest.raises(SeedFailed, match=r"^seed \d+: AssertionError") as failure:
        explore(racy_counter)
    seed = int(str(failure.value).split()[1].rstrip(":"))
    with pytest.raises(AssertionError):
        run_seed(seed, racy_counter)
    assert isinstance(failure.value.__cause__, AssertionError)


def test_asyncios_own_order_hides_that_race() -> None:
    assert explore(racy_counter, range(50), order="fifo").seeds == 50


@pytest.mark.parametrize("order", ["shuffle", "single"])
def test_a_seed_always_gives_the_same_schedule_and_other_seeds_give_others(order: str) -> None:
    first = [run_seed(seed, trace_of, order=order, chaos=Chaos()) for seed in range(30)]  # type: ignore[arg-type]
    again = [run_seed(seed, trace_of, order=order, chaos=Chaos()) for seed in range(30)]  # type: ignore[arg-type]
    assert first == again
    assert len(set(map(tuple, first))) > 25


def test_virtual_time_jumps_to_the_next_timer() -> None:
    async def scenario(world: World) -> tuple[float, float]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600):
                await asyncio.Event().wait()
        before = world.loop.time()
        await asyncio.gather(*(world.sleep(86_400) for _ in range(3)))
        return before, world.loop.time()

    assert run_seed(0, scenario) == (3600.0, 90_000.0)


def test_a_deadlock_is_reported_with_the_names_and_places_of_those_who_wait() -> None:
    async def scenario(world: World) -> None:
        lock = asyncio.Lock()
        await lock.acquire()

        async def wait_for_lock() -> None:
            await lock.acquire()

        await world.spawn(wait_for_lock(), name="the follower")

    with pytest.raises(Deadlock) as failure:
        run_seed(3, scenario)
    assert "the follower: " in str(failure.value)
    assert "wait_for_lock (test_support.py:" in str(failure.value)
    assert "Lock.acquire (locks.py:" in str(failure.value)


def test_a_deadlock_tells_what_the_loop_was_told_before() -> None:
    async def scenario(world: World) -> None:
        world.loop.call_soon(int, "no number")
        await asyncio.Event().wait()

    with pytest.raises(Deadlock, match="no number"):
        run_seed(0, scenario)


def test_a_run_that_never_comes_to_rest_is_stopped() -> None:
    async def scenario(world: World) -> None:
        while True:
            await world.sleep()

    with pytest.raises(Livelock, match="after 500 steps"):
        run_seed(0, scenario, max_steps=500)


def test_a_task_left_behind_is_reported_and_ended() -> None:
    ended = []

    async def scenario(world: World) -> None:
        async def linger() -> None:
            try:
                await world.sleep(60)
            finally:
                ended.append(True)

        world.spawn(linger(), name="lingering")
        await world.sleep(1)

    with pytest.raises(NotAtRest, match=r"task lingering is pending at .*linger"):
        run_seed(0, scenario)
    assert ended == [True]


def test_a_task_that_ends_without_waiting_is_not_left_behind() -> None:
    async def scenario(world: World) -> None:
        async def short() -> None:
            for _ in range(5):
                await world.sleep()

        world.spawn(short())

    explore(scenario, range(20))


def test_a_task_that_refuses_to_be_cancelled_does_not_hang_the_run() -> None:
    async def scenario(world: World) -> None:
        async def stubborn() -> None:
            for _ in range(refusals[-1]):
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            ended.append(refusals[-1])

        world.spawn(stubborn())
        await world.sleep()

    ended: list[int] = []
    refusals = [1_000, 3]
    while refusals:
        with pytest.raises(NotAtRest, match="stubborn"):
            run_seed(0, scenario)
        refusals.pop()
    assert ended == [3]


def test_an_exception_that_nobody_retrieves_is_reported() -> None:
    async def task(world: World) -> None:
        async def fail() -> None:
            raise ValueError("lost")

        world.spawn(fail())

    async def future(world: World) -> None:
        world.loop.create_future().set_exception(ValueError("lost"))

    async def callback(world: World) -> None:
        world.loop.call_soon(int, "lost")
        await world.sleep(1)

    for scenario in (task, future, callback):
        with pytest.raises(NotAtRest, match="lost"):
            run_seed(0, scenario)


def test_an_error_of_the_scenario_carries_what_the_loop_was_told() -> None:
    async def scenario(world: World) -> None:
        world.loop.call_soon(int, "told")
        await world.sleep(1)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as failure:
        run_seed(0, scenario)
    assert "told" in failure.value.__notes__[0]


def test_a_timer_left_set_is_reported_unless_that_is_allowed() -> None:
    async def scenario(world: World) -> None:
        world.loop.call_later(1, print).cancel()
        world.loop.call_later(5, print)

    with pytest.raises(NotAtRest, match="a timer is set"):
        run_seed(0, scenario)
    run_seed(0, scenario, timers=False)


def test_a_suspended_async_generator_is_reported_and_closed() -> None:
    closed = []

    async def count() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            closed.append(True)

    kept = count()

    async def scenario(world: World) -> None:
        await anext(kept)

    with pytest.raises(NotAtRest, match=r"async generator .*count is suspended"):
        run_seed(0, scenario)
    assert closed == [True]


def test_an_interrupt_by_the_user_is_not_a_failure_of_the_seed() -> None:
    async def scenario(world: World) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explore(scenario, range(3))


def test_functions_meant_for_threads_run_on_the_loop() -> None:
    async def scenario(world: World) -> int:
        abandoned = world.loop.run_in_executor(None, print, "never shown")
        abandoned.cancel()
        with pytest.raises(ValueError, match="no number"):
            await asyncio.to_thread(int, "no number")
        return await asyncio.to_thread(int, "42")

    assert run_seed(0, scenario) == 42


def test_a_task_factory_is_obeyed() -> None:
    made = []

    async def scenario(world: World) -> None:
        def factory(loop: asyncio.AbstractEventLoop, coro: object, **options: object) -> asyncio.Task[None]:
            made.append(coro)
            return asyncio.Task(coro, loop=loop, **options)  # type: ignore[arg-type]

        world.loop.set_task_factory(factory)  # type: ignore[arg-type]
        await world.spawn(world.sleep())

    run_seed(0, scenario)
    assert len(made) == 1


def test_the_loop_serves_asyncios_own_runner() -> None:
    async def main() -> str:
        await asyncio.sleep(5)
        return "done"

    with asyncio.Runner(loop_factory=SeededLoop) as runner:
        assert runner.run(main()) == "done"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
def test_eager_tasks_start_at_once_and_are_watched_like_others() -> None:
    async def scenario(world: World) -> None:
        started = []

        async def work() -> None:
            started.append(True)
            await world.sleep(1)

        task = world.spawn(work())
        assert started == [True]
        await task

    explore(scenario, range(20), eager=True)


@pytest.mark.parametrize(("soak", "count"), [("", 2_000), ("1", 10_000)])
def test_the_number_of_seeds_follows_the_environment(monkeypatch: pytest.MonkeyPatch, soak: str, count: int) -> None:
    monkeypatch.setenv("GLASSCACHE_SOAK", soak)
    assert seed_count() == count
