"""What happens instead, where a feature of the contract does not hold: one check per exemption of the table."""

from __future__ import annotations

import json

from tests.frameworks.cell import MISS, Cell, assert_hit
from tests.frameworks.layers import MOUNT


async def lifespan_never_offered(cell: Cell) -> None:
    """The server sends no lifespan at all."""
    assert (await cell.desk())["lifespan"] == "never offered"


async def lifespan_refused(cell: Cell) -> None:
    """The server offers a lifespan, and the framework raises."""
    assert (await cell.desk())["lifespan"] == "refused"


async def mounted_without_root_path(cell: Cell) -> None:
    """A mounted sub-app is not told where it is mounted, and has entries of its own all the same."""
    first, second = [await cell.get(f"{MOUNT}/answer?q=rootless") for _ in range(2)]
    assert first.cache_status == MISS
    assert json.loads(first.body)["root"] == ""
    assert_hit(second)
    assert (await cell.get("/answer?q=rootless")).cache_status == MISS
    assert await cell.loads("rootless") == 2
