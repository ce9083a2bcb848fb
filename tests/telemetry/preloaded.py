"""The site as a server imports it before it forks: its cache has been in use by then."""

from __future__ import annotations

import asyncio

from tests.telemetry.site import app, cache

__all__ = ["app"]


async def value() -> str:
    return "a value"


async def warm_up() -> None:
    for _ in range(2):  # a miss and a hit
        await cache.get_or_load("before", value, group="before")


asyncio.run(warm_up())
