"""TraceQL over the contract's spans: what a search looks for, and what it shows.

Must never spell a span's or an attribute's name.
"""

from __future__ import annotations

from typing import Final

from glasscache.otel import names

_SERVICE = 'resource.service.name =~ "$job" && resource.service.instance.id =~ "$instance"'


def _search(span: str, *conditions: str, show: tuple[str, ...]) -> str:
    wanted = " && ".join((f'name = "{span}"', _SERVICE, *conditions))
    return f"{{ {wanted} }} | select({', '.join(f'span.{attribute}' for attribute in show)})"


_GROUP = f'span.{names.GROUP} =~ "$key_group"'

SLOW_WAITS: Final = _search(
    names.WAIT,
    _GROUP,
    "duration >= $min_wait",
    show=(
        names.GROUP,
        names.LOCK_SCOPE,
        names.LOCK_OUTCOME,
        names.QUEUE_POSITION,
        names.HOLDER_ELAPSED,
        names.HOLDER_ID,
        names.HOLDER_TRACE_ID,
    ),
)
"""Waits of some length."""

LEADERS: Final = _search(
    names.LOAD,
    _GROUP,
    f"span.{names.LOCK_WAITER_COUNT} > 0",
    show=(names.GROUP, names.LOAD_TRIGGER, names.LOCK_WAITER_COUNT, names.FENCING_TOKEN),
)
"""Loads that somebody waited for."""
