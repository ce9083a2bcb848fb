"""Parts of a stored whole: RFC 9110, section 14, for single ranges of bytes.

Decides which part a request gets. What cannot be read, names another unit, or asks for several parts is ignored: the
whole is always right (section 14.2). Must never copy more of a body than is sent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from glasscache._entry import Headers
from glasscache.asgi._fields import parse_http_date
from glasscache.asgi._validation import entity_tag, last_modified

_RANGE = re.compile(rb"bytes=[ \t]*+(?P<first>\d{0,18})-(?P<last>\d{0,18})[ \t]*+", re.IGNORECASE)
_SETTLED = 60.0
"""Seconds after which a Last-Modified is a strong validator (RFC 9110, section 8.8.2.2)."""

_OF_THE_WHOLE = frozenset({b"content-length", b"content-range"})


class Span(NamedTuple):
    """Bytes `first` up to, not including, `end` of `length`."""

    first: int
    end: int
    length: int


def wanted(request_headers: Iterable[tuple[bytes, bytes]], stored: Headers, length: int) -> Span | None:
    """The part of a stored whole of `length` bytes that a request asks for; None: all of it.

    An empty Span: there is no such part (416).
    """
    ranges, conditions = [], []
    for name, value in request_headers:
        if name == b"range":
            ranges.append(value.strip(b" \t"))
        elif name == b"if-range":
            conditions.append(value.strip(b" \t"))
    if len(ranges) != 1 or len(conditions) > 1 or (conditions and not _is_same(conditions[0], stored)):
        return None
    return span(ranges[0], length)


def span(text: bytes, length: int) -> Span | None:
    """Section 14.1.2: `bytes=0-9`, `bytes=10-`, `bytes=-5`."""
    match = _RANGE.fullmatch(text)
    if match is None or not (match["first"] or match["last"]):
        return None
    if not match["first"]:
        return Span(max(0, length - int(match["last"])), length, length)
    first = int(match["first"])
    end = int(match["last"]) + 1 if match["last"] else length
    if end <= first and match["last"]:
        return None
    return Span(min(first, length), min(end, length), length)


def _is_same(condition: bytes, stored: Headers) -> bool:
    """Section 13.1.5: the same entity tag, both strong; or the very same date, if it is a strong validator."""
    if condition.startswith((b'"', b"W/")):
        return not condition.startswith(b"W/") and condition == entity_tag(stored)
    modified = last_modified(stored)
    dates = [value for name, value in stored if name == b"date"]
    if modified is None or len(dates) != 1 or condition != modified:
        return False
    sent, changed = parse_http_date(dates[0]), parse_http_date(modified)
    return sent is not None and changed is not None and sent - changed >= _SETTLED


def part_headers(stored: Headers, part: Span) -> Headers:
    """The fields of a part (RFC 9110, section 15.3.7), or of the news that there is none (15.5.17)."""
    kept = tuple(field for field in stored if field[0] not in _OF_THE_WHOLE)
    size = part.end - part.first
    where = b"bytes %d-%d/%d" % (part.first, part.end - 1, part.length) if size else b"bytes */%d" % part.length
    return (*kept, (b"content-range", where), (b"content-length", b"%d" % size))


def cut(chunks: Sequence[bytes], part: Span) -> list[bytes]:
    """The pieces of the body that make up a part."""
    pieces, at = [], 0
    for chunk in chunks:
        piece = chunk[max(0, part.first - at) : max(0, part.end - at)]
        if piece:
            pieces.append(piece)
        at += len(chunk)
    return pieces
