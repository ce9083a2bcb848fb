"""A span's reference as text: W3C Trace Context, level 1 (no tracestate). Must never raise for what others wrote."""

from __future__ import annotations

import re

from glasscache._events import SpanRef

_FORM = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})", re.ASCII)


def to_traceparent(ref: SpanRef | None) -> str:
    """`00-{trace}-{span}-{flags}`; "" for no span."""
    return f"00-{ref.trace_id:032x}-{ref.span_id:016x}-{ref.sampled:02x}" if ref else ""


def from_traceparent(text: str) -> SpanRef | None:
    """The span; None for anything else than a valid `traceparent` of version 00."""
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    trace, span, flags = (int(part, 16) for part in form.groups())
    return SpanRef(trace, span, bool(flags & 1)) if trace and span else None
