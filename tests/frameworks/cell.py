"""One app on one running server, as the contract sees it: through its port, and through the desk in front of the app.

Decides how a test asks and waits: it polls the desk, with a deadline. Must never know what is asked for.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from tests.frameworks.origin import DESK
from tests.live.rig import Got, ask
from tests.support.patience import PATIENCE
from tests.support.servers import CutOff, LiveServer, RawConnection

MISS = "glasscache; fwd=uri-miss; stored"


@dataclass(frozen=True)
class Cell:
    """One app on one running server."""

    port: int
    told: Path
    """What the app told, readable also when its server is gone."""

    async def get(self, path: str, method: str = "GET", **headers: str) -> Got:
        """Ask on a connection of its own."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return await ask(LiveServer(self.port), path, method, headers=fields)

    async def desk(self, *gates: str) -> dict[str, Any]:
        """How things stand in the app, after these gates have been opened."""
        return await self._ask_desk("&".join(f"open={gate}" for gate in gates))

    async def _ask_desk(self, query: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((await self.get(f"{DESK}?{query}")).body)
        return found

    async def loads(self, name: str) -> int:
        """How often the app was asked for `name`."""
        count: int = (await self.desk())["loads"].get(name, 0)
        return count

    async def until(self, condition: Callable[[dict[str, Any]], object], *, asking: str = "") -> None:
        """Wait until the desk says so."""
        async with asyncio.timeout(PATIENCE):
            while not condition(await self._ask_desk(asking)):  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(0.005)


Check: TypeAlias = Callable[[Cell], Coroutine[Any, Any, None]]


def assert_hit(got: Got) -> None:
    """From memory, and still fresh."""
    assert (got.cache_status or "").startswith("glasscache; hit; ttl="), got.cache_status


async def read(client: RawConnection, count: int) -> bytes:
    """The next bytes of a body, however they are cut."""
    found = b""
    while len(found) < count:
        chunk = await client.chunk()
        if chunk is None:
            raise CutOff(f"the body ended after {found!r}")
        found += chunk
    return found
