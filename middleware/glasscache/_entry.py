"""What is stored: one complete answer, or the marker that says which request headers select among variants.

An entry is immutable by agreement once it is stored: many requests read it at the same time, none may write to it (but
for `shown`, which is derived from the rest and the time, and for `doubt`).
All times are seconds of `Clock.now`, so an entry never leaves the process as it is (a codec turns its times into
remaining lifetimes).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, TypeAlias

Key: TypeAlias = bytes
"""A digest that names one answer (see `keys.py`); never clear text."""

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, names in lower case, repeated fields repeated."""

_PER_HEADER = 4  # ": " and CRLF, as on the wire
_NOT_SHOWN: tuple[float, Headers] = (0.0, ())


class Entry:
    """One stored answer.

    `chunks` keep the message boundaries of the origin, so that an event stream is replayed event by event.
    An entry with `vary` names is a marker: it has no answer of its own, and its single chunk is the salt under which
    its variants are kept (a new marker has a new salt, so no variant outlives it).
    """

    FIELDS: ClassVar[tuple[str, ...]] = (
        *("chunks", "status", "headers", "vary", "tags", "born", "fresh_until", "settled_until"),
        *("stale_while_revalidate", "stale_if_error", "kept", "stale_if_unreachable", "cost", "price", "number"),
    )
    """What an entry is made of."""

    __slots__ = ("content", *FIELDS[1:], "size", "shown", "doubted")

    content: bytes | tuple[bytes, ...]
    """The chunks; of a single one, as most answers have it, the chunk itself: there may be a million of them."""
    born: float
    """When its age was 0."""
    settled_until: float
    """Until here a hit needs no second thought; from here on to `fresh_until` it may be refreshed early."""
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
    size: int
    """Bytes of body and headers."""
    shown: tuple[float, Headers]
    """What a front keeps to itself: the header fields of a hit as it last sent them, and until when they are true."""
    doubted: float | None
    """Since when this machine may have missed that it was told invalid: another tier is asked before it is served."""

    def __init__(
        self,
        chunks: tuple[bytes, ...],
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
    ) -> None:
        self.content = chunks[0] if len(chunks) == 1 else chunks
        self.status = status
        self.headers = headers
        self.vary = vary
        self.tags = tags
        self.born = born
        self.fresh_until = fresh_until
        self.settled_until = settled_until
        self.stale_while_revalidate = stale_while_revalidate
        self.stale_if_error = stale_if_error
        self.kept = kept
        self.stale_if_unreachable = stale_if_unreachable
        self.cost = cost
        self.price = price
        self.number = number
        self.size = sum(map(len, chunks)) + sum([len(name) + len(value) + _PER_HEADER for name, value in headers])
        self.shown = _NOT_SHOWN
        self.doubted = None

    def but(self, **changes: Any) -> Entry:
        """A new entry that differs in these, and that nobody has shown or doubted."""
        return Entry(**{name: getattr(self, name) for name in self.FIELDS} | changes)

    def doubt(self, now: float) -> None:
        """From `now` on a hit needs a second thought; the first doubt counts."""
        self.doubted = now if self.doubted is None else self.doubted
        self.settled_until = -math.inf

    @property
    def chunks(self) -> tuple[bytes, ...]:
        """The body as the origin sent it, message by message."""
        return (self.content,) if isinstance(self.content, bytes) else self.content

    @property
    def window(self) -> float:
        """Seconds after its freshness for which it is of any use."""
        longest = self.stale_while_revalidate
        if self.stale_if_error > longest:
            longest = self.stale_if_error
        return longest if longest > self.kept else self.kept

    @property
    def dead_from(self) -> float:
        """The time from which nobody may be served this entry any more, stale or confirmed."""
        return self.fresh_until + self.window

    @property
    def body(self) -> bytes:
        """The whole body in one piece (copied if it has several chunks)."""
        return self.content if isinstance(self.content, bytes) else b"".join(self.content)
