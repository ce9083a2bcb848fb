"""What stands in for the real thing in a test: a clock moved by hand, a store that fails, telemetry kept.

Must never import a test framework, and never do anything that it was not told to.
"""

from __future__ import annotations

import itertools
import weakref
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from glasscache._entry import Entry, Key, entry_of
from glasscache._events import Event, Load, Outcome, SpanRef, Wait, Work
from glasscache.errors import StoreError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterator

    from glasscache.interfaces import Observable, Store


class ManualClock:
    """A clock that stands still until it is told to move. `now` and `wall` are in seconds."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """The time that it was given, and all that it was advanced by."""
        return self._now

    def wall(self) -> float:
        """The same as Unix time."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Move both clocks forward. Raises ValueError if `seconds` is negative."""
        if seconds < 0:
            raise ValueError(f"advance({seconds!r}): give 0 seconds or more")
        self._now += seconds
        self._wall += seconds


def entry(body: bytes = b"an answer", **changes: Any) -> Entry:
    """An answer, fresh from 1000.0 (where a `ManualClock` begins) for 300 s. `changes` are fields of it."""
    fields: dict[str, Any] = {
        "chunks": (body,),
        "status": 200,
        "headers": ((b"content-type", b"text/plain"),),
        "born": 1000.0,
        "fresh_until": 1300.0,
        "settled_until": 1290.0,
        "cost": 0.25,
    }
    return entry_of(**fields | changes)


class FlakyStore:
    """A store in front of another: passes everything on, until told to fail or to wait."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.calls: Counter[str] = Counter()
        """get, set, delete, aclose -> how often it was asked for."""
        self._failing: dict[str, BaseException] = {}
        self._gates: dict[str, asyncio.Event] = {}

    @property
    def name(self) -> str:
        """The name of the store behind."""
        return self.store.name

    def fail(self, *operations: str, error: BaseException | None = None) -> None:
        """From now on these operations (none named: get, set and delete) raise `error`, or a `StoreError`."""
        for operation in operations or ("get", "set", "delete"):
            self._failing[operation] = error or StoreError(f"{operation} fails, as the test told it to")

    def hold(self, gate: asyncio.Event, *operations: str) -> None:
        """From now on these operations (none named: get, set and delete) wait until the gate is set."""
        for operation in operations or ("get", "set", "delete"):
            self._gates[operation] = gate

    def heal(self) -> None:
        """Pass everything on again. Who waits at a gate goes on waiting for it."""
        self._failing.clear()
        self._gates.clear()

    async def _pass(self, operation: str) -> None:
        self.calls[operation] += 1
        gate = self._gates.get(operation)
        if gate is not None:
            await gate.wait()
        error = self._failing.get(operation)
        if error is not None:
            raise error

    async def get(self, key: Key) -> Entry | None:
        """As the store behind, unless told otherwise."""
        await self._pass("get")
        return await self.store.get(key)

    async def set(self, key: Key, entry: Entry) -> None:
        """As the store behind, unless told otherwise."""
        await self._pass("set")
        await self.store.set(key, entry)

    async def delete(self, key: Key) -> None:
        """As the store behind, unless told otherwise."""
        await self._pass("delete")
        await self.store.delete(key)

    async def aclose(self) -> None:
        """As the store behind, unless told otherwise."""
        await self._pass("aclose")
        await self.store.aclose()


class RecordingTelemetry:
    """Keeps all that it is told. Loads and waits get made-up spans, so that links can be tested."""

    annotates = True

    def __init__(self) -> None:
        self.works: list[Work] = []
        """In the order in which they began."""
        self.ended: list[Work] = []
        """In the order in which they ended."""
        self.events: list[Event] = []
        self.outcomes: list[Outcome] = []
        self.routes: list[str] = []
        """Those of `name_route`, each behind its method."""
        self.sources: weakref.WeakSet[Observable] = weakref.WeakSet()
        self.current_span: SpanRef | None = None
        """What `current` returns: set it to be, as it were, inside of a span."""
        self.is_hushed: bool = False
        """Whether somebody is inside of `hushed`."""
        self._ids = itertools.count(1)

    def observe(self, source: Observable) -> None:
        """Keep the cache in `sources`, weakly."""
        self.sources.add(source)

    @contextmanager
    def span(self, work: Work) -> Iterator[None]:
        """Keep the work in `works`, and in `ended` when it is over."""
        self.works.append(work)
        if isinstance(work, (Load, Wait)):
            number = next(self._ids)
            work.ref = SpanRef(trace_id=number, span_id=number, sampled=True)
        try:
            yield
        except GeneratorExit:  # dropped without its end: nobody is told
            return
        except BaseException:
            self.ended.append(work)
            raise
        self.ended.append(work)

    def hears(self) -> bool:
        """True: spans and events are kept here, so they have to be made."""
        return True

    def emit(self, event: Event) -> None:
        """Keep the event in `events`."""
        self.events.append(event)

    def annotate(self, outcome: Outcome) -> None:
        """Keep the outcome in `outcomes`."""
        self.outcomes.append(outcome)

    def on_hit(self, group: str, key: Key) -> bool:
        """Keep its outcome in `outcomes`."""
        self.annotate(Outcome(result="hit", tier="memory", group=group, key=key))
        return True

    def name_route(self, method: str, route: str) -> None:
        """Keep them in `routes`."""
        self.routes.append(f"{method} {route}")

    def current(self) -> SpanRef | None:
        """The span in `current_span`."""
        return self.current_span

    @contextmanager
    def hushed(self) -> Iterator[None]:
        """Set `is_hushed` for as long as the block runs."""
        before, self.is_hushed = self.is_hushed, True
        try:
            yield
        finally:
            self.is_hushed = before
