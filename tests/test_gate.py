"""How many loads run at once, and for how long a key is remembered that somebody waits for."""

from __future__ import annotations

import asyncio

import pytest

from glasscache._gate import Gate, KeyGates
from glasscache._lately import Lately
from glasscache.testing import ManualClock
from tests.flights.rig import run
from tests.support.seeded_loop import World


def test_a_gate_lets_in_so_many_and_no_more() -> None:
    async def scenario(world: World) -> None:
        gate = Gate(2)
        assert not gate.is_full
        leave = [await gate.enter(), await gate.enter()]
        assert (gate.is_full, gate.users) == (True, 2)
        third = world.spawn(gate.enter())
        await asyncio.sleep(1)
        assert (third.done(), gate.users) == (False, 3)
        leave[0]()
        (await third)()
        leave[1]()
        assert (gate.is_full, gate.users) == (False, 0)

    run(scenario)


def test_who_is_cancelled_at_the_gate_was_never_there() -> None:
    async def scenario(world: World) -> None:
        gate = Gate(1)
        leave = await gate.enter()
        waiting = world.spawn(gate.enter())
        await asyncio.sleep(1)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert gate.users == 1
        leave()
        assert gate.users == 0

    run(scenario)


def test_a_gate_without_a_limit_is_never_full() -> None:
    async def scenario(world: World) -> None:
        gate = Gate()
        leave = await gate.enter()
        assert (gate.is_full, gate.users) == (False, 0)
        leave()

    run(scenario)


def test_a_gate_serves_one_event_loop_after_the_other() -> None:
    gate = Gate(1)

    async def contend() -> None:
        leave = await gate.enter()
        waiting = asyncio.ensure_future(gate.enter())
        await asyncio.sleep(0)
        leave()
        (await waiting)()

    for _ in range(2):
        asyncio.run(contend())
    loop = asyncio.new_event_loop()
    leave = loop.run_until_complete(gate.enter())
    loop.close()
    asyncio.run(contend())  # a slot that was lost with its loop is not missed
    leave()
    assert gate.users == 0


def test_the_longer_pause_counts() -> None:
    gate = Gate()
    gate.pause(20.0)
    gate.pause(10.0)
    assert gate.paused_until == 20.0


def test_each_key_has_a_gate_of_its_own_for_as_long_as_it_is_used() -> None:
    async def scenario(world: World) -> None:
        gates = KeyGates(1, timeout=5.0)
        assert not gates.is_full(b"a")
        leave_a, leave_b = await gates.enter(b"a"), await gates.enter(b"b")
        assert gates.is_full(b"a")
        assert len(gates) == 2
        leave_b()
        assert len(gates) == 1
        with pytest.raises(TimeoutError):
            await gates.enter(b"a")
        assert world.loop.time() == 5.0
        leave_a()
        assert len(gates) == 0

    run(scenario)


def test_keys_are_remembered_for_some_seconds_each_and_so_many_of_them() -> None:
    clock = ManualClock()
    lately = Lately(2, 10.0, clock)
    lately.add(b"a")
    clock.advance(6.0)
    lately.add(b"b")
    lately.add(b"a")
    clock.advance(6.0)
    assert [key in lately for key in (b"a", b"b", b"c")] == [True, True, False]
    lately.add(b"c")
    assert [key in lately for key in (b"a", b"b", b"c")] == [True, False, True], "the oldest makes room"
    clock.advance(10.0)
    assert b"c" not in lately
    assert not lately
