"""One worker of a machine: a cache made from the environment, asked in its own process; `Machine` of fleet.py runs it.

Decides nothing: it does what it reads, a JSON object a line, and writes what came of it. Loads are written down in a
directory that all workers share, and go on when a file is put there.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

from glasscache import Cache
from glasscache.settings import Settings
from tests.machines.machine import Commands, say, standard_input

FOLDER = Path(os.environ.get("MACHINE_FOLDER", "."))


class Worker(Commands):
    """Carries out one command after the other; crowds wait for their answers meanwhile."""

    def __init__(self, cache: Cache) -> None:
        super().__init__()
        self._cache = cache

    async def _load(self, name: str, size: int) -> str:
        (FOLDER / f"load-{name}-{os.getpid()}").touch()
        if name.startswith("gated"):
            while not (FOLDER / f"open-{name}-{os.getpid()}").exists():  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        version = (FOLDER / "version").read_text()
        return f"{version} of {os.getpid()}" + " " * size

    async def ask(self, name: str, count: int = 1, size: int = 0) -> None:
        """Ask `count` times at once; told when the last answer is there."""
        self.behind(self._crowd(name, count, size))

    async def _crowd(self, name: str, count: int, size: int) -> None:
        def asked() -> Any:
            return self._cache.get_or_load(name, lambda: self._load(name, size), tags=("tag",), type=str, group="ask")

        answers = await asyncio.gather(*(asked() for _ in range(count)), return_exceptions=True)
        bodies = Counter(repr(a) if isinstance(a, BaseException) else a.rstrip() for a in answers)
        say(kind="answered", name=name, bodies=bodies)

    async def fill(self, count: int, size: int) -> None:
        """Store new answers one after the other, until it is killed or there are so many."""
        for number in range(count):
            await self._cache.get_or_load(f"fill {os.getpid()} {number}", lambda: self._load("fill", size), type=str)
            say(kind="filled", number=number)

    async def invalidate(self, how: str, name: str = "") -> None:
        """By key, by tag, or all."""
        wanted: dict[str, Any] = {"key": {"key": name}, "tag": {"tag": "tag"}, "all": {"all": True}}
        await self._cache.invalidate(**wanted[how])
        say(kind="invalidated")

    async def status(self) -> None:
        """What it knows of itself."""
        assert self._cache.abroad is not None
        results = self._cache.counters.group("ask").requests()
        say(
            kind="status",
            waiters=self._cache.waiters,
            waiting_abroad=self._cache.abroad[0],
            leases=self._cache.abroad[1],
            tiers=dict(self._cache.tier_states()),
            in_step=self._cache._engine._state.coherence.in_step,
            number=self._cache._engine.number,
            near=next(iter(self._cache.gauges())).entries,
            requests={f"{result} {tier}": count for (result, tier), count in results.items()},
        )


async def main() -> None:
    """Until standard input ends."""
    lines = await standard_input()
    cache = Settings.from_env().cache()
    say(kind="ready")
    await Worker(cache).run(lines)
    await cache.aclose()


if __name__ == "__main__":
    asyncio.run(main())
