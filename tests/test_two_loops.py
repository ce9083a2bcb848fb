"""One cache, and two event loops at a time: a server's, and that of a plain function that runs a loop in its thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from glasscache import Cache, DiskStore, Limits, MemoryStore, TieredStore
from glasscache.testing import RecordingTelemetry
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("no_leaks")


def machine(folder: Path) -> Cache:
    return Cache(
        TieredStore([MemoryStore(), DiskStore(folder)]),
        limits=Limits(far_timeout=10.0),
        key_secret="a secret that both machines of this test have",
        telemetry=RecordingTelemetry(),
    )


@contextmanager
def loop_in_a_thread() -> Iterator[Callable[[Awaitable[Any]], Any]]:
    """Runs things in an event loop that goes on meanwhile."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def awaited(work: Awaitable[Any]) -> Any:
        return await work

    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(awaited(work), loop).result(PATIENCE)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(PATIENCE)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class Origin:
    loads = 0

    async def __call__(self) -> int:
        await asyncio.sleep(0)
        self.loads += 1
        return self.loads


def test_a_second_event_loop_has_what_is_in_memory_and_loads_the_rest_for_itself(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache, kept, other = machine(tmp_path), Origin(), Origin()
    with loop_in_a_thread() as at_home:
        assert at_home(cache.get_or_load("kept", kept)) == 1

        async def elsewhere() -> list[int]:
            async with asyncio.timeout(PATIENCE):
                return [
                    await cache.get_or_load("kept", kept),
                    *await asyncio.gather(*(cache.get_or_load("other", other) for _ in range(3))),
                ]

        for first in (1, 4):
            assert asyncio.run(elsewhere()) == [1, first, first + 1, first + 2]
        assert caplog.text.count("two event loops") == 1
        assert at_home(cache.get_or_load("other", other)) == 7  # nothing was in its way
        assert asyncio.run(elsewhere()) == [1, 7, 7, 7]
        at_home(cache.aclose())
    assert asyncio.run(elsewhere()) == [1, 7, 7, 7]  # the first one is gone: it is the second one's now
    asyncio.run(cache.aclose())


@pytest.mark.parametrize("everything", [True, False])
def test_what_a_second_event_loop_invalidates_is_gone_at_once_here_and_soon_on_all_machines(
    tmp_path: Path, everything: bool
) -> None:
    one, two, origin = machine(tmp_path), machine(tmp_path), Origin()

    def read(cache: Cache) -> Awaitable[int]:
        return cache.get_or_load("k", origin, tags=["docs"])

    with loop_in_a_thread() as at_home:
        assert [at_home(read(cache)) for cache in (one, two)] == [1, 1]
        assert asyncio.run(one.invalidate(all=True) if everything else one.invalidate(tag="docs")) == 1

        async def heard() -> None:
            async with asyncio.timeout(PATIENCE):
                while await read(two) == 1:  # noqa: ASYNC110 - the other machine tells nobody here
                    await asyncio.sleep(0.005)

        at_home(heard())
        assert at_home(read(one)) == at_home(read(two)) == 2
        for cache in (one, two):
            at_home(cache.aclose())


def test_what_a_second_event_loop_invalidates_has_left_and_been_counted_before_the_first_one_may_tell_it(
    tmp_path: Path,
) -> None:
    cache, left = machine(tmp_path), list[int]()
    with loop_in_a_thread() as at_home:
        at_home(cache.get_or_load("k", Origin(), tags=["docs"]))
        coherence = cache._engine._state.coherence
        tell = coherence.when_untold
        coherence.when_untold = lambda: (left.append(cache._engine.near.gauge().entries), tell())[1]  # type: ignore[func-returns-value]
        assert asyncio.run(cache.invalidate(tag="docs")) == 1
        assert left == [0]
        at_home(cache.aclose())


def test_a_message_for_an_event_loop_that_has_just_been_closed_is_told_at_the_next_occasion(tmp_path: Path) -> None:
    class Closed:
        def is_running(self) -> bool:
            return True

        def call_soon_threadsafe(self, _: object) -> None:
            raise RuntimeError("Event loop is closed")

    cache, closed = machine(tmp_path), Closed()
    cache._engine._state._loop = cast("asyncio.AbstractEventLoop", closed)  # a moment that cannot be met on purpose
    assert asyncio.run(cache.invalidate(tag="docs")) == 0
    assert cache._engine._state.coherence.has_untold
    cache._engine._state._loop = None
    asyncio.run(cache.aclose())
    assert not cache._engine._state.coherence.has_untold
