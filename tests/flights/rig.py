"""What the unit tests of the engine share: a site that tells everything, and ways to read what it told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from glasscache._ask import Answer
from glasscache._events import Load as LoadWork
from glasscache._events import Wait
from glasscache.policy import Share
from glasscache.stores.memory import MemoryStore
from glasscache.testing import RecordingTelemetry
from tests.flights.site import Load, Site
from tests.support.seeded_loop import World, run_seed


class FarStore(MemoryStore):
    """Tells itself apart."""

    name = "far"


def run(scenario: Callable[[World], Awaitable[None]]) -> None:
    """In asyncio's own order, in virtual time; nothing may be left."""
    run_seed(0, scenario, order="fifo")  # type: ignore[arg-type]


async def answer(load: Load, share: Share = Share.ALL, **head: Any) -> None:
    """An origin that takes a second before its head and a second before its end."""
    await asyncio.sleep(1)
    load.begin(share, **head)
    await asyncio.sleep(1)
    for chunk in load.body:
        await load.flight.write(chunk)
    load.flight.finish()


def make(world: World, **options: Any) -> Site:
    options.setdefault("origin", answer)
    return Site(world, telemetry=RecordingTelemetry(), **options)


def told(site: Site) -> RecordingTelemetry:
    return cast("RecordingTelemetry", site.state.commons.telemetry)


def waits(site: Site) -> list[Wait]:
    return [work for work in told(site).ended if isinstance(work, Wait)]


def loads(site: Site) -> list[LoadWork]:
    return [work for work in told(site).works if isinstance(work, LoadWork)]


def events(site: Site, kind: type) -> list[Any]:
    return [event for event in told(site).events if isinstance(event, kind)]


def counted(site: Site) -> dict[tuple[str, str], int]:
    return dict(site.engine.counters.group("site").requests().items())


async def together(site: Site, count: int, *, who: str = "r") -> list[Answer]:
    """Requests that come one after the other, before the origin has said anything."""
    return await asyncio.gather(*(site.request(who=f"{who}{i}") for i in range(count)))
