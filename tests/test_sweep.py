"""One timer for all that has the same patience."""

from __future__ import annotations

import asyncio

import pytest

from glasscache._sweep import Sweep
from tests.support.patience import PATIENCE

pytestmark = pytest.mark.usefixtures("no_leaks")


async def until(late: list[str], count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(late) < count:  # noqa: ASYNC110 - `late` is a list, as any other receiver is
            await asyncio.sleep(0)


def test_what_does_not_end_is_late_in_the_order_of_its_beginning_and_what_ends_is_not() -> None:
    async def scenario() -> None:
        late: list[str] = []
        sweep = Sweep[str](0.002, late.append)
        for name in ("a", "b", "c", "d"):
            sweep.begin(name)
        sweep.end("b")
        await until(late, 3)
        assert late == ["a", "c", "d"], "each once"
        sweep.end("a")

    asyncio.run(scenario())


def test_what_begins_again_has_all_its_time_again() -> None:
    async def scenario() -> None:
        late: list[str] = []
        sweep = Sweep[str](0.002, late.append)
        sweep.begin("renewed")
        sweep.begin("other")
        sweep.begin("renewed")
        await until(late, 2)
        assert late == ["other", "renewed"]

    asyncio.run(scenario())


def test_what_another_event_loop_left_behind_is_forgotten() -> None:
    late: list[str] = []
    sweep = Sweep[str](0.002, late.append)

    async def scenario(name: str) -> None:
        sweep.begin(name)

    async def last() -> None:
        sweep.begin("here")
        await until(late, 1)

    asyncio.run(scenario("elsewhere"))
    asyncio.run(last())
    assert late == ["here"]


def test_at_rest_it_keeps_no_timer_and_nothing_is_forgotten() -> None:
    async def scenario() -> None:
        late: list[str] = []
        sweep = Sweep[str](0.002, late.append)
        sweep.rest()
        sweep.begin("ended")
        sweep.end("ended")
        sweep.rest()
        assert sweep._timer is None
        sweep.begin("waiting")
        sweep.rest()
        await until(late, 1)
        assert late == ["waiting"]

    asyncio.run(scenario())
