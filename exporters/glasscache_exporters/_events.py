"""Events of the `glasscache` logger as log records of OpenTelemetry.

Decides which records are sent: of our own logger those that are events (they have an `event.name`), of another one all,
and of another one only if asked. Must never send what sending itself says, or a collector that is down would be told of
for ever.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from opentelemetry._logs import SeverityNumber
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, get_value

from glasscache._otel_log import SHOWN
from glasscache.errors import ConfigurationError
from glasscache.otel import names

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry._logs import LoggerProvider

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_TEXTS = {"WARNING": "WARN", "CRITICAL": "FATAL"}  # OpenTelemetry's words
_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (logging.DEBUG, SeverityNumber.DEBUG),
)


def listen(
    provider: LoggerProvider, loggers: Sequence[str] = (), *, are_printed: bool = False
) -> list[tuple[logging.Logger, logging.Handler]]:
    """Send the events of the `glasscache` logger, and all records of `loggers` ("" is the root), by this provider.

    Returns what was added to what. `are_printed`: the provider prints them, so that nobody else has to. Our logger
    lets INFO pass from now on, unless it has been told otherwise: that a tier answers again is told at INFO.
    ConfigurationError for loggers that are not names.
    """
    if isinstance(loggers, str) or not all(isinstance(name, str) for name in loggers):
        raise ConfigurationError(f"loggers={loggers!r}: give a list of names, such as ['myapp']; [''] is the root")
    asked = {name for name in loggers if not any(_is_below(name, other) for other in loggers)}  # each record once
    ours = logging.getLogger(names.SCOPE)
    if ours.level == logging.NOTSET:
        ours.setLevel(logging.INFO)
    wanted = dict.fromkeys(asked, False)
    if not any(name == names.SCOPE or _is_below(names.SCOPE, name) for name in asked):
        wanted[names.SCOPE] = True
    added: list[tuple[logging.Logger, logging.Handler]] = []
    for name, events_only in wanted.items():
        logger, handler = logging.getLogger(name), _Handler(provider, events_only, are_printed)
        logger.addHandler(handler)
        added.append((logger, handler))
    return added


def _is_below(name: str, other: str) -> bool:
    return name != other and (not other or name.startswith(f"{other}."))


class _Handler(logging.Handler):
    """Turns records into OpenTelemetry's, in the context in which they are logged: the trace comes from there."""

    def __init__(self, provider: LoggerProvider, events_only: bool, are_printed: bool) -> None:
        super().__init__()
        self._provider = provider
        self._events_only = events_only
        self._are_printed = are_printed

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record to the SDK's queue."""
        event: str | None = getattr(record, names.EVENT_NAME, None)
        is_sent = not get_value(_SUPPRESS_INSTRUMENTATION_KEY) and not (self._events_only and event is None)
        if not (is_sent and self._are_printed) and _is_heard_by_nobody_else(record.name):
            _show(record)
        if not is_sent:
            return
        try:
            self._send(record, event)
        except Exception:
            self.handleError(record)

    def _send(self, record: logging.LogRecord, event: str | None) -> None:
        attributes: dict[str, Any] = {key: value for key, value in vars(record).items() if key not in _STANDARD}
        error = record.exc_info[1] if record.exc_info else None
        self._provider.get_logger(record.name).emit(
            timestamp=int(record.created * 1e9),
            severity_number=next((number for level, number in _SEVERITIES if record.levelno >= level), None),
            severity_text=_TEXTS.get(record.levelname, record.levelname),
            body=_body(record),
            attributes=attributes,
            event_name=event,
            exception=error,
        )


def _body(record: logging.LogRecord) -> str:
    """The message; of our own events without the attributes at its end, which are sent as such."""
    if record.name == names.SCOPE and isinstance(record.msg, str) and record.msg.endswith(SHOWN):
        return record.msg.removesuffix(SHOWN)
    return record.getMessage()


def _show(record: logging.LogRecord) -> None:
    """As Python does where there is no handler: to add one must hide nothing."""
    fallback = logging.lastResort
    if fallback is not None and record.levelno >= fallback.level:
        fallback.handle(record)


def _is_heard_by_nobody_else(name: str) -> bool:
    logger: logging.Logger | None = logging.getLogger(name)
    while logger is not None:
        if not all(isinstance(handler, _Handler) for handler in logger.handlers):
            return False
        logger = logger.parent if logger.propagate else None
    return True
