"""Who waits for another machine's load, over a real server: found by the machine that waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache.contention import contention
from glasscache.testing import RecordingTelemetry
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")


def machine(url: str) -> Cache:
    return Cache(
        TieredStore([MemoryStore(), RedisStore.from_url(url, prefix="contention", **UNHURRIED)]),
        limits=Limits(far_timeout=10.0, contention_threshold=0.001),
        key_secret="a secret that all machines of this test share",
        telemetry=RecordingTelemetry(),
    )


async def until(wanted: Callable[[], bool]) -> None:
    """Poll: what another machine has heard it tells nobody here."""
    async with asyncio.timeout(PATIENCE):
        while not wanted():  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)


def shown(cache: Cache) -> dict[str, Any]:
    told: dict[str, Any] = contention(cache)
    return told


def test_a_wait_for_another_machine_names_it_while_it_lasts_and_afterwards(tmp_path: Path) -> None:
    async def scenario(url: str) -> None:
        there, here, gate = machine(url), machine(url), asyncio.Event()

        async def load() -> str:
            await gate.wait()
            return "an answer"

        try:
            leading = asyncio.create_task(there.get_or_load("k", load))
            await until(lambda: there.abroad == (0, 1))
            (own,) = shown(there)["loads"]
            assert own["holder"]["id"] is None
            following = [asyncio.create_task(here.get_or_load("k", load)) for _ in range(3)]
            await until(lambda: here.abroad == (1, 0) and here.waiters == 2)
            (waited_for,) = shown(here)["loads"]
            name = waited_for["holder"]["id"]
            assert name
            assert waited_for["holder"]["fencing_token"] == own["holder"]["fencing_token"] != 0
            assert (waited_for["waiting"], waited_for["key_hash"]) == (2, own["key_hash"])
            gate.set()
            assert await asyncio.gather(leading, *following) == ["an answer"] * 4
            waits = shown(here)["contentions"]
            assert len(waits) == 3
            assert {(one["scope"], one["outcome"], one["load"]) for one in waits} == {("cluster", "served", 1)}
            assert {(one["holder"]["id"], one["holder"]["held"]) for one in waits} == {(name, None)}
            assert {one["holder"]["fencing_token"] for one in waits} == {own["holder"]["fencing_token"]}
            assert (shown(here)["loads"], shown(there)["contentions"]) == ([], [])
        finally:
            await there.aclose()
            await here.aclose()

    with RedisProcess(tmp_path) as server:
        asyncio.run(scenario(f"redis://127.0.0.1:{server.port}"))
