"""What is stored: one complete answer, or the marker that says which request headers select among variants.

An entry is immutable by agreement once it is stored: many requests read it at the same time, none may write to it (but
for `shown`, which is derived from the rest and the time, and for `doubt`).
All times are seconds of `Clock.now`, so an entry never leaves the process as it is (a codec turns its times into
remaining lifetimes).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, TypeAlias

from msgspec import Struct

Key: TypeAlias = bytes
"""A digest that names one answer (see `keys.py`); never clear text."""

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, names in lower case, repeated fields repeated."""

_PER_HEADER = 4  # ": " and CRLF, as on the wire

Shown: TypeAlias = tuple[float, dict[str, Any], Headers]
"""How a front last answered with an entry: until when that is true, the message that begins it, to be copied for each
answer, and the header fields in that.
"""
_NOT_SHOWN: Shown = (-math.inf, {}, ())

_MOST = 1024
"""Fields, names and lists of fields that are known at once."""
_SHORT = 64
"""Bytes of a header field that others may have, too. Longer ones are this answer's own."""

_fields: dict[tuple[bytes, bytes], tuple[tuple[bytes, bytes], int]] = {}
_names: dict[bytes, bytes] = {}
_lists: dict[Headers, tuple[Headers, int]] = {}


class Entry(Struct, eq=False, gc=False):
    """One stored answer: made by `entry_of`.

    It keeps the message boundaries of the origin, so that an event stream is replayed event by event.
    An entry with `vary` names is a marker: it has no answer of its own, and its single chunk is the salt under which
    its variants are kept (a new marker has a new salt, so no variant outlives it).
    """

    FIELDS: ClassVar[tuple[str, ...]] = (
        *("chunks", "born", "fresh_until", "settled_until", "status", "headers", "vary", "tags"),
        *("stale_while_revalidate", "stale_if_error", "kept", "stale_if_unreachable", "cost", "price", "number"),
    )
    """What an entry is made of: the rest follows from it."""

    content: bytes | tuple[bytes, ...]
    """The chunks; of a single one, as most answers have it, the chunk itself: there may be a million of them."""
    size: int
    """Bytes of body and headers."""
    dead_from: float
    """The time from which nobody may be served this entry any more, stale or confirmed."""
    born: float
    """When its age was 0."""
    fresh_until: float
    settled_until: float
    """Until here a hit needs no second thought; from here on to `fresh_until` it may be refreshed early."""
    status: int
    headers: Headers
    vary: tuple[bytes, ...]
    tags: tuple[str, ...]
    stale_while_revalidate: float
    stale_if_error: float
    kept: float
    """How long after its freshness it is kept to be confirmed by its origin (RFC 9111, section 4.3), ..."""
    stale_if_unreachable: bool
    """... and whether it may then stand in for an origin that cannot be reached (section 4.2.4)."""
    cost: float
    """Seconds that its load took: what a hit saves, ..."""
    price: float
    """... and what it cost beside time, in the user's own unit of money."""
    number: int
    """The highest invalidation number known when its load began."""
    shown: Shown = _NOT_SHOWN
    """What a front keeps to itself. True no longer than until `settled_until`, so that a hit compares one time."""
    doubted: float | None = None
    """Since when this machine may have missed that it was told invalid: another tier is asked before it is served."""

    def but(self, **changes: Any) -> Entry:
        """A new entry that differs in these, and that nobody has shown or doubted."""
        return entry_of(**{name: getattr(self, name) for name in self.FIELDS} | changes)

    def doubt(self, now: float) -> None:
        """From `now` on a hit needs a second thought; the first doubt counts."""
        self.doubted = now if self.doubted is None else self.doubted
        self.settled_until = -math.inf
        self.shown = _NOT_SHOWN

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """The body as the origin sent it, message by message."""
        return (self.content,) if isinstance(self.content, bytes) else self.content

    @property
    def window(self) -> float:
        """Seconds after its freshness for which it is of any use."""
        return max(self.stale_while_revalidate, self.stale_if_error, self.kept)

    @property
    def body(self) -> bytes:
        """The whole body in one piece (copied if it has several chunks)."""
        return self.content if isinstance(self.content, bytes) else b"".join(self.content)


def entry_of(
    chunks: Sequence[bytes],
    born: float,
    fresh_until: float,
    settled_until: float,
    status: int = 0,
    headers: Headers = (),
    vary: tuple[bytes, ...] = (),
    tags: tuple[str, ...] = (),
    stale_while_revalidate: float = 0.0,
    stale_if_error: float = 0.0,
    kept: float = 0.0,
    stale_if_unreachable: bool = False,
    cost: float = 0.0,
    price: float = 0.0,
    number: int = 0,
) -> Entry:
    """A new entry; see its fields. What it has in common with others is kept once."""
    headers, size = _lists.get(headers) or _share(headers)
    content: bytes | tuple[bytes, ...]
    if len(chunks) == 1:
        content = chunks[0]
        size += len(content)
    else:
        content = tuple(chunks)
        size += sum(map(len, content))
    window = stale_while_revalidate
    if stale_if_error > window:  # to call max() takes longer
        window = stale_if_error
    if kept > window:
        window = kept
    return Entry(  # in order: with names it takes three times as long
        content,
        size,
        fresh_until + window if window else fresh_until,
        born,
        fresh_until,
        settled_until,
        status,
        headers,
        vary,
        tags,
        stale_while_revalidate,
        stale_if_error,
        kept,
        stale_if_unreachable,
        cost,
        price,
        number,
    )


def sendable(text: str) -> str:
    """The text as a message to a machine or a collector can hold it: half a surrogate pair is a question mark."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def common_list(headers: Headers) -> Headers | None:
    """The one object that answers with these header fields have in common; None: it is not known that there are more
    such answers.
    """
    found = _lists.get(headers)
    return None if found is None else found[0]


def _share(headers: Headers) -> tuple[Headers, int]:
    """The same fields, of which equal ones are one object, and how many bytes they are."""
    fields, size, are_known = [], 0, True
    for field in headers:
        known = _fields.get(field)
        if known is None:
            known, are_known = _learn(field), False
        fields.append(known[0])
        size += known[1]
    made = tuple(fields), size
    if are_known:  # a list with something new, or of its own, may never come again
        if len(_lists) >= _MOST:
            _lists.clear()
        _lists[made[0]] = made
    return made


def _learn(field: tuple[bytes, bytes]) -> tuple[tuple[bytes, bytes], int]:
    if len(_fields) >= _MOST or len(_names) >= _MOST:
        _fields.clear()
        _names.clear()
    name, value = field
    known = (_names.setdefault(name, name), value), len(name) + len(value) + _PER_HEADER
    if len(value) <= _SHORT:
        _fields[field] = known
    return known
