"""What a flight keeps of its body, and what it may forget."""

from __future__ import annotations

import asyncio
from typing import Any

from glasscache._buffer import Buffer
from glasscache._wait import Commons
from glasscache.policy import Limits
from glasscache.testing import ManualClock
from tests.flights.rig import run
from tests.support.null_telemetry import NullTelemetry
from tests.support.seeded_loop import World

_HALF = b"x" * 200_000


def make(**limits: Any) -> tuple[Buffer, Commons]:
    commons = Commons(Limits(**limits), ManualClock(), NullTelemetry())
    return Buffer(commons), commons


def test_everything_is_kept_until_it_is_paced_and_counted_as_long_as_it_is_kept() -> None:
    buffer, commons = make(max_entry_bytes=2)
    assert buffer.append(b"a")
    assert buffer.append(b"b")
    assert not buffer.append(b"c")
    buffer.enter(0)
    buffer.move(0, 1)
    assert (buffer.chunks, buffer.end, commons.held_bytes) == ([b"a", b"b", b"c"], 3, 3)
    buffer.pace([1, 2])
    assert (buffer.chunks, buffer.first, buffer.slowest, commons.held_bytes) == ([b"b", b"c"], 1, 1, 2)
    buffer.enter(1)
    buffer.move(1, 2)
    assert buffer.first == 1
    buffer.move(1, None)
    assert (buffer.chunks, buffer.first) == ([b"c"], 2)
    buffer.release()
    assert (buffer.chunks, buffer.end, commons.held_bytes) == ([], 3, 0)


def test_a_producer_waits_for_the_slowest_reader_once_it_is_a_window_ahead() -> None:
    async def scenario(world: World) -> None:
        buffer, _ = make(reader_timeout=3.0)
        late: list[float] = []
        buffer.pace([0])
        buffer.append(_HALF)
        states = [buffer.is_full]
        buffer.append(_HALF)
        assert [*states, buffer.is_full] == [False, True]
        waiting = world.spawn(buffer.wait_for_room(lambda: late.append(world.loop.time())))
        await asyncio.sleep(5)
        assert buffer.is_waiting
        assert late == [3.0]
        buffer.move(0, 1)
        buffer.resume()
        await waiting
        assert not buffer.is_full
        assert not buffer.is_waiting

    run(scenario)
