"""The table of docs/machines.md, at a small scale: what is shared is shared by all."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.machines.zipf import rows, stream, table
from tests.support.redis_process import RedisProcess


def test_eight_machines_that_share_a_tier_load_as_little_as_one(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as server:
        measured = asyncio.run(rows(600, 150, f"redis://127.0.0.1:{server.port}"))
    alone, apart, hybrid, redis = measured
    assert alone.loads == len(set(stream(600, 150)))
    assert hybrid.loads == redis.loads == alone.loads
    assert hybrid.whole == redis.whole == alone.whole
    assert apart.loads > 2 * alone.loads
    assert apart.whole < alone.whole
    printed = table(measured, 600, 150)
    assert printed.count("\n") == 7
    assert f"| hybrid | 8 | {hybrid.first:.1%} | {hybrid.whole:.1%} | {alone.loads:,} |" in printed
