"""Telemetry for who wants none. Null objects keep `if x is not None` out of the engine."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from glasscache._events import Event, Outcome, SpanRef, Work
from glasscache.interfaces import Observable


class NullTelemetry:
    """Tells nobody."""

    annotates = False
    _NOTHING: AbstractContextManager[object] = nullcontext()

    def observe(self, source: Observable) -> None:
        """Do nothing."""

    def span(self, work: Work) -> AbstractContextManager[object]:
        """Do nothing."""
        return self._NOTHING

    def emit(self, event: Event) -> None:
        """Do nothing."""

    def annotate(self, outcome: Outcome) -> None:
        """Do nothing."""

    def current(self) -> SpanRef | None:
        """There is none."""
        return None
