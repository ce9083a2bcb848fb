"""A `Telemetry` that tells nobody: of what the engine itself does nothing is then hidden by what telemetry does."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from glasscache._events import Event, Outcome, SpanRef, Work
from glasscache.interfaces import Observable


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

    def name_route(self, method: str, route: str) -> None:
        """Do nothing."""

    def current(self) -> SpanRef | None:
        """There is none."""
        return None

    def hushed(self) -> AbstractContextManager[object]:
        """Do nothing."""
        return self._NOTHING
