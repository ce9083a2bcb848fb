"""One cache's engine, as its fronts see it: what it is made of, what others read of it, and what they may do to it.

Knows neither ASGI, Redis nor OpenTelemetry: its tiers, clock and telemetry are handed in. Decides nothing about an
answer (`_requests.py`, `_lookups.py`, `_warming.py` do), and nothing here may fail a request.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from random import Random
from typing import Any, TypeVar
from weakref import WeakSet

from glasscache._ask import Answer, Ask
from glasscache._counters import Counters
from glasscache._entry import Entry, Key
from glasscache._events import Source, TierGauge
from glasscache._flight import Flight
from glasscache._lookups import Lookups
from glasscache._requests import Requests
from glasscache._state import State, Tiers
from glasscache._tally import Tally
from glasscache._wait import Commons
from glasscache._warming import Warmed, Warming, Warmth
from glasscache.interfaces import Clock, NearStore, Telemetry
from glasscache.policy import Detail, Limits

T = TypeVar("T")


class Engine:
    """One cache's requests, figures and end."""

    def __init__(
        self,
        tiers: Tiers,
        *,
        limits: Limits,
        clock: Clock,
        telemetry: Telemetry,
        random: Random,
        detail: Detail | None = None,
    ) -> None:
        self._state = state = State(tiers, Commons(limits, clock, telemetry), random)
        self.near: NearStore = state.near
        self.clock = clock
        self.commons: Commons = state.commons
        self.counters: Counters = state.counters
        self.tally: Tally = Tally(state.near, state.commons, state.counters, detail or Detail())
        self._lookups = Lookups(state, self.tally)
        self._warming = Warming(state, self._lookups)
        self.answer: Callable[[Ask], Coroutine[Any, Any, Answer]]
        self.answer = Requests(state, self._lookups, self.tally).answer  # a method here would be one more call
        """The answer to one request. Raises what the origin raised, if nothing stored can stand in."""
        _all.add(self)

    def peek(self, ask: Ask) -> Answer | None:
        """A fresh answer from the near tier, if there is one; nothing is loaded or refreshed."""
        return self._lookups.peek(ask)

    def warm(self, ask: Ask) -> Coroutine[Any, Any, Warmth]:
        """See to it that there is a fresh answer. RecursiveLoadError inside of the load of the same key."""
        return self._warming.warm(ask)

    def warm_all(
        self, wanted: Iterable[T], warm: Callable[[T], Awaitable[Warmth]], concurrency: int
    ) -> Awaitable[Warmed]:
        """Warm one after the other, so many at once."""
        return self._warming.warm_all(wanted, warm, concurrency)

    # --- what others read -------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """Of the last invalidation that is known."""
        return self._state.coherence.markers.number

    @property
    def waiters(self) -> int:
        """Requests that wait for another request's load, now."""
        return self.commons.waiters

    @property
    def holders(self) -> int:
        """Loads under way, now."""
        return len(self._state.running)

    def under_way(self, most: int) -> list[Flight]:
        """Loads under way, now: at most so many, those with most readers first."""
        return heapq.nlargest(most, self._state.running, key=lambda flight: len(flight.readers))

    @property
    def abroad(self) -> tuple[int, int] | None:
        """Loads that wait for another machine's, and leases held, now; None: no tier is shared."""
        return (self.commons.abroad, self._state.leases) if self._state.is_shared else None

    @property
    def epoch(self) -> int:
        """The number of the last invalidation of everything; 0 before the first."""
        return self._state.coherence.markers.everything

    def gauges(self) -> Iterable[TierGauge]:
        """How full the near tier is."""
        return (self.near.gauge(),)

    def forked(self) -> None:
        """In the child of a fork: tell of nothing that the parent counts, loads or waits for."""
        self.counters.zero()
        self.commons.forked()
        self._state.forked()

    # --- what others do ---------------------------------------------------------------------------------------------

    def keep(self, key: Key, asked: Key, entry: Entry) -> None:
        """Keep near what no flight has brought, unless it was told invalid meanwhile, or machines share a tier."""
        if not self._state.is_shared and entry.number >= self._state.coherence.dead_below(entry, asked):
            self._state.settle()
            self._state.keep_near(key, entry)

    def renew(self, key: Key, old: Entry, new: Entry) -> None:
        """Keep `new` near in place of `old`, unless that has left, or machines share a tier (which has its own)."""
        if self.near.peek(key) is old and not self._state.is_shared:
            self._state.settle()
            self._state.keep_near(key, new)

    async def invalidate(
        self, *, key: Key | None = None, tag: str | None = None, everything: bool = False, source: Source = "api"
    ) -> int:
        """Remove on demand; how many entries left this machine's memory. Loads under way are not stored."""
        return await self._state.invalidate(key, tag, everything, source)

    async def drain(self) -> None:
        """Let running loads end, for at most `Limits.drain` seconds; then stop them."""
        await self._state.drain()

    async def aclose(self) -> None:
        """Drain, then close the stores."""
        await self._state.aclose()


_all: WeakSet[Engine] = WeakSet()


def _forked() -> None:
    for engine in _all:
        engine.forked()


# What the child inherits would be told twice, and what waits in it waits for ever. (Windows does not fork.)
getattr(os, "register_at_fork", lambda **_: None)(after_in_child=_forked)
