"""What is loaded before anybody asks for it: after a start, after an invalidation.

Decides what of it is left alone (fresh, in any tier), what is loaded (through the flight and under the lease of any
request), and what is told of each. Must never count as a request, nor load more at once than it is told; what it loads
is told as `cache.load.trigger` = warm.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any, Literal, NamedTuple, TypeVar

from msgspec import Struct

from glasscache._ask import Ask
from glasscache._entry import Entry
from glasscache._far_run import NotLoadedError, open_run
from glasscache._flight import Flight
from glasscache._inside import awaiting, forbid_recursion, loading
from glasscache._lookups import Lookups
from glasscache._state import State
from glasscache.errors import ConfigurationError, LoadStoppedError, ReaderCutError
from glasscache.policy import Share, Verdict

log = logging.getLogger("glasscache")

T = TypeVar("T")
_MAX_TURNS = 8  # loads of others, or under an invalidation, one after the other

CONCURRENCY = 4
"""Loads at once, unless it is said: few enough for an origin that has requests to answer meanwhile."""


class Warmth(NamedTuple):
    """What became of one question, and, where it is not stored, why in one word."""

    kind: Literal["loaded", "fresh", "not_stored", "failed"]
    reason: str = ""


class Warmed(Struct, eq=False, kw_only=True):
    """What became of what was to be warmed.

    - `loaded`, `fresh` (left alone, some tier has it): how many.
    - `not_stored`: by reason the places of those in what was given, from 0. A reason is a `cache.bypass.reason`
      (`credentials`, `unscoped`, ...), what keeps an answer from being stored (`private`, `no_store`, `status`, ...) or
      a value (`store_if`, `codec`, `too_many_tags`), or one of `no_rule`, `tenant` (another one than was said),
      `uncacheable` (was found lately), `too_large`, `invalidated`, `incomplete`, `lease_lost`, `wait_timeout` (for
      another machine), `retry_after` (its origin wants to be left alone), `overload`, `disabled`.
    - `failed`: the same by the class of the exception, or the status of the answer.
    """

    loaded: int = 0
    fresh: int = 0
    not_stored: dict[str, list[int]] = {}
    failed: dict[str, list[int]] = {}

    @property
    def is_complete(self) -> bool:
        """Whether all that was asked for is there."""
        return not (self.not_stored or self.failed)

    def note(self, place: int, warmth: Warmth) -> None:
        """What became of one of them."""
        kind, reason = warmth
        if kind == "loaded":
            self.loaded += 1
        elif kind == "fresh":
            self.fresh += 1
        else:
            (self.not_stored if kind == "not_stored" else self.failed).setdefault(reason, []).append(place)


_LOADED, _FRESH = Warmth("loaded"), Warmth("fresh")


def fresh_only(entry: Entry, now: float, verdict: Verdict) -> Verdict:
    """The wish of who looks ahead: what is stale would soon be asked for anew."""
    if verdict is Verdict.EARLY:
        return Verdict.FRESH
    return verdict if verdict in (Verdict.FRESH, Verdict.DEAD) else Verdict.UNWANTED


class Warming:
    """The loads of one cache that nobody waits for."""

    def __init__(self, state: State, lookups: Lookups) -> None:
        self._state = state
        self._lookups = lookups

    async def warm(self, ask: Ask) -> Warmth:
        """See to it that there is a fresh answer. RecursiveLoadError inside of the load of the same key."""
        ask.wish = fresh_only
        for _ in range(_MAX_TURNS):
            if self._lookups.look(ask) is not None:
                return _FRESH
            ask.stand_in = ask.stale
            flight, inside = self._state.flights.get(ask.at), loading.get()
            if inside:
                forbid_recursion(ask.at, None if flight is None else flight.chain, inside)
            if refusal := self._why_not(ask, flight):
                return Warmth("not_stored", refusal)
            if flight is not None:
                await awaiting(flight.chain, flight.until_over(), inside)
                continue  # whatever became of it: look again
            run = open_run(self._state, ask, "warm")
            run.start()
            await awaiting(run.chain, _to_the_end(run), inside)
            warmth = _became(ask, run)
            if warmth is not None:
                return warmth
        return Warmth("not_stored", "invalidated")

    def _why_not(self, ask: Ask, flight: Flight | None) -> str:
        """Why this is not the time to load it; empty if it is."""
        if ask.at in self._state.uncacheable:
            return "uncacheable"
        if not self._state.has_room(flight):
            return "overload"
        return "retry_after" if ask.gate.paused_until > self._state.commons.clock.now() else ""

    async def warm_all(self, wanted: Iterable[T], warm: Callable[[T], Awaitable[Warmth]], concurrency: int) -> Warmed:
        """Warm one after the other, so many at once. One that fails stops no other; a shutdown ends it: what was done
        until then is told. ConfigurationError for what cannot work.
        """
        said: Any = concurrency
        if not isinstance(said, int) or said < 1:
            raise ConfigurationError(f"concurrency={concurrency!r}: give a whole number of loads at once, 1 or more")
        warmed, numbered = Warmed(), enumerate(wanted)
        state = self._state
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(concurrency):
                    worker = group.create_task(_work(numbered, warm, warmed))
                    state.warmers.add(worker)
                    worker.add_done_callback(state.warmers.discard)
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return warmed


async def _work(numbered: Iterator[tuple[int, T]], warm: Callable[[T], Awaitable[Warmth]], warmed: Warmed) -> None:
    await asyncio.sleep(0)  # an eager task that failed at once would cancel who is about to make the others
    for place, item in numbered:
        try:
            warmth = await warm(item)
        except ConfigurationError:
            raise
        except Exception as error:  # of no load: those have been told
            log.exception("what was to be warmed could not even be asked for")
            warmth = Warmth("failed", type(error).__name__)
        warmed.note(place, warmth)
        await asyncio.sleep(0)  # much of it may be fresh: requests come first


async def _to_the_end(run: Flight) -> None:
    """Wait for a load of our own. Should that end, it is stopped, unless requests have come to wait for it."""
    try:
        await run.until_over()
    except asyncio.CancelledError:
        if not run.readers:
            run.stop(LoadStoppedError("the warming that it was for has ended"))
        raise


def _became(ask: Ask, run: Flight) -> Warmth | None:
    """What became of a load of our own; None: look again."""
    entry = run.entry
    if entry is not None and run.tier != "origin":
        if not entry.vary:
            return _FRESH
        ask.select(entry)
        return None
    return None if run.void else _of(run)


def _of(run: Flight) -> Warmth:
    """What came of its origin."""
    if run.entry is not None:
        return _LOADED
    head, error = run.head, run.error
    if head is not None and head.status >= 500:
        return Warmth("failed", str(head.status))
    reason = "" if head is None else head.reason
    if isinstance(error, NotLoadedError):
        reason = error.reason
    elif isinstance(error, ReaderCutError):  # it was not to be for all, or there is no room for all of it
        reason = reason or "too_large"
    elif error is not None:
        return Warmth("failed", type(error).__name__)
    return Warmth("not_stored", reason or ("lease_lost" if run.share is Share.ALL else "incomplete"))
