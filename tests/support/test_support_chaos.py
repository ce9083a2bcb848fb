"""Proves that chaos cancels whom it may, wherever it may, and that a failure under it names its seed."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.seeded_loop import Chaos, SeedFailed, World, explore


def test_chaos_cancels_registered_victims_at_every_one_of_their_awaits_and_nobody_else() -> None:
    places: set[int] = set()

    async def scenario(world: World) -> None:
        bystander_steps = []

        async def victim() -> None:
            step = 0
            try:
                while step < 5:
                    step += 1
                    await world.sleep()
            except asyncio.CancelledError:
                places.add(step)
                raise

        async def bystander() -> None:
            for step in range(6):
                await world.sleep()
                bystander_steps.append(step)

        hit = world.spawn(victim(), victim=True)
        other = world.spawn(bystander())
        await asyncio.wait([hit, other])
        assert set(world.cancelled) <= {hit}
        assert bystander_steps == list(range(6))

    done = explore(scenario, range(1000), chaos=Chaos(share=0.5, horizon=16))
    assert places == {1, 2, 3, 4, 5}
    assert 200 < done.cancellations < 1000
    assert done.steps > 10_000
    assert explore(scenario, range(50)).cancellations == 0


def test_chaos_can_cancel_a_victim_twice_in_its_cleanup_too() -> None:
    async def scenario(world: World) -> None:
        async def victim() -> None:
            try:
                await world.sleep()
            finally:
                await world.sleep()
                cleaned.append(world.seed)

        await asyncio.wait([world.spawn(victim(), victim=True)])
        if len(world.cancelled) == 2:
            twice.append(world.seed)

    cleaned: list[int] = []
    twice: list[int] = []
    explore(scenario, range(500), chaos=Chaos(share=1, most=2, horizon=4))
    assert twice
    assert not set(twice) & set(cleaned)


def test_a_cancelled_scenario_is_a_failure_with_its_seed() -> None:
    async def scenario(world: World) -> None:
        world.loop.victims.add(asyncio.current_task())  # type: ignore[arg-type]
        await world.sleep()

    with pytest.raises(SeedFailed, match=r"seed \d+: CancelledError"):
        explore(scenario, range(200), chaos=Chaos(share=1, horizon=2))
