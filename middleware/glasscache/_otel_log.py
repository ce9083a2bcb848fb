"""What telemetry says through stdlib `logging`: its events, and its own failures, each at most once a second.

Decides how often. Must never raise: `Quiet` is the one place where an error of telemetry ends.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from glasscache._otel_names import (
    ERROR_TYPE,
    EVENT_NAME,
    EVICTION_RATE,
    GROUP,
    LOCK_WAIT,
    NAME,
    SCOPE,
    TIER,
    TIER_STATE,
)

if TYPE_CHECKING:
    from types import TracebackType

    from glasscache._otel_names import LogEvent
    from glasscache.interfaces import Clock

_logger = logging.getLogger(SCOPE)
SHOWN = ": %s"
"""What follows an event's message where nothing but the message is shown; who sends its attributes leaves it out."""
_MOST_SHOWN = 200  # characters of the words of an error
_INTERVAL = 1.0  # seconds between two records of one name
_SHOWN = (NAME, GROUP, LOCK_WAIT, TIER, TIER_STATE, ERROR_TYPE, EVICTION_RATE)


class EventLog:
    """Writes log records, at most one a second for each event name."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}

    def _is_due(self, name: str) -> bool:
        now = self._clock.now()
        last = self._last.get(name)
        if last is not None and now - last < _INTERVAL:
            return False
        self._last[name] = now
        return True

    def tell(self, event: LogEvent, attributes: dict[str, object], why: object = None) -> None:
        """Log the event. Its attributes become the record's; their dots keep them clear of logging's own. `why`: for
        readers of the log alone, since nobody knows whose words they are.
        """
        if self._is_due(event.name):
            text = "" if why is None else " ".join(str(why).split())[:_MOST_SHOWN]
            shown = _shown(attributes) + (f" ({text})" if text else "")
            _logger.log(event.level, event.message + SHOWN, shown, extra={EVENT_NAME: event.name, **attributes})

    def failed(self, error: Exception) -> None:
        """Log that telemetry itself failed."""
        if self._is_due(""):
            _logger.warning("telemetry failed, requests are not affected", exc_info=error)


def _shown(attributes: dict[str, object]) -> str:
    """What is wrong, and where, for logs that show nothing but the message."""
    found = {name.removeprefix("cache."): attributes[name] for name in _SHOWN if name in attributes}
    return " ".join(
        [f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}" for name, value in found.items()]
    )


class Quiet:
    """`with quiet:` around everything that must not fail a request. Ends every `Exception` and reports it."""

    __slots__ = ("_log",)

    def __init__(self, log: EventLog) -> None:
        self._log = log

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        with suppress(Exception):  # a logging filter of the user's may throw as well
            self._log.failed(error)
        return True
