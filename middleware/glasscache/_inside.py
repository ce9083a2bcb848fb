"""What a load knows of the loads around it: who waits for whom, and whose answer is made of what is read here.

Decides whether a load would wait for itself, and where the tags of a value go that is read inside of a load: to that
load's own answer, since what is made of a tagged value is invalid as soon as the value is. A read outside of all loads
must cost next to nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from contextvars import ContextVar
from typing import Protocol, TypeVar

from msgspec import Struct

from glasscache._entry import Key
from glasscache.errors import RecursiveLoadError

T = TypeVar("T")


class Collector(Protocol):
    """Who gathers the tags of one load's answer: of a request `asgi.handler.Notes`, of a value `_climbing.Climbed`."""

    def carry(self, tags: Iterable[str]) -> None:
        """A value with these tags was read: what is made of it must be removed with it."""


class Chain(Struct, eq=False):
    """A load's place in the graph of who waits for whom (kept apart from the flight: contexts of tasks outlive it)."""

    key: Key | None
    """What is being loaded; None once the load is over."""
    awaits: list[Chain] = []
    collector: Collector | None = None
    """What takes the tags of values that are read in this load."""

    def leads_to(self, chains: tuple[Chain, ...]) -> bool:
        """Whether this load is, or waits directly or through others for, one of `chains`."""
        seen: set[Chain] = set()
        todo = [self]
        while todo:
            chain = todo.pop()
            if chain in chains:
                return True
            if chain not in seen:
                seen.add(chain)
                todo.extend(chain.awaits)
        return False


loading: ContextVar[tuple[Chain, ...]] = ContextVar("glasscache_loading", default=())
"""The loads that we are inside of, outermost first. All that belongs to a load hangs on its place in the graph: a
context variable of its own would cost a load as much as a call of its app.
"""


def forbid_recursion(key: Key, chain: Chain | None, inside: tuple[Chain, ...]) -> None:
    """RecursiveLoadError if a load that we are inside of would wait for itself: for this key, which `chain` loads."""
    if any(outer.key == key for outer in inside) or (chain and chain.leads_to(inside)):
        raise RecursiveLoadError(
            "a load asked for the key that it is itself loading: it would wait for ever "
            "(of a request: is the middleware there twice, with one cache?)"
        )


async def awaiting(awaited: Chain, work: Awaitable[T], inside: tuple[Chain, ...]) -> T:
    """Await the work of another load; meanwhile the load that we are inside of, if any, is known to wait for it."""
    if not inside:
        return await work
    waits = inside[-1].awaits
    waits.append(awaited)
    try:
        return await work
    finally:
        waits.remove(awaited)


def climb(tags: Iterable[str]) -> None:
    """A value with these tags was read here: if that is inside of a load, they are its answer's, too."""
    inside = loading.get()
    if inside and (collector := inside[-1].collector) is not None:
        collector.carry(tags)
