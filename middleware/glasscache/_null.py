"""Telemetry and a backplane for who wants none. Null objects keep `if x is not None` out of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

from glasscache._entry import Key
from glasscache._events import Event, Outcome, SpanRef, Work
from glasscache._lease import Marks
from glasscache.interfaces import Listener, Observable


class NullTelemetry:
    """Tells nobody."""

    annotates = False
    on_hit = None
    _NOTHING: AbstractContextManager[object] = nullcontext()

    def observe(self, source: Observable) -> None:
        """Do nothing."""

    def span(self, work: Work) -> AbstractContextManager[object]:
        """Do nothing."""
        return self._NOTHING

    def hears(self) -> bool:
        """Nobody does."""
        return False

    def emit(self, event: Event) -> None:
        """Do nothing."""

    def annotate(self, outcome: Outcome) -> None:
        """Do nothing."""

    def current(self) -> SpanRef | None:
        """There is none."""
        return None

    def hushed(self) -> AbstractContextManager[object]:
        """Do nothing."""
        return self._NOTHING


class NullBackplane:
    """Of a machine that is alone: there is nobody to tell."""

    async def start(self, listener: Listener) -> None:
        """Nobody tells anything."""

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        """The next number."""
        return seen + 1

    async def tell_replaced(self, key: Key) -> None:
        """There is nobody to tell."""

    async def read(self, since: int) -> Marks:
        """Nothing was missed."""
        return Marks(number=since, everything=0, floor=0, tags={})

    async def aclose(self) -> None:
        """There is nothing to release."""
