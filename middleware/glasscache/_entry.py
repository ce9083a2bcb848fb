"""What is stored: one complete answer, or the marker that says which request headers select among variants.

An entry is immutable by agreement once it is stored: many requests read it at the same time, none may write to it (but
for `shown`, which is derived from the rest and the time, and for `doubt`).
All times are seconds of `Clock.now`, so an entry never leaves the process as it is (a codec turns its times into
remaining lifetimes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TypeAlias

Key: TypeAlias = bytes
"""A digest that names one answer (see `keys.py`); never clear text."""

Headers: TypeAlias = tuple[tuple[bytes, bytes], ...]
"""Header fields in order, names in lower case, repeated fields repeated."""

_PER_HEADER = 4  # ": " and CRLF, as on the wire


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """One stored answer.

    `chunks` keep the message boundaries of the origin, so that an event stream is replayed event by event.
    An entry with `vary` names is a marker: it has no answer of its own, and its single chunk is the salt under which
    its variants are kept (a new marker has a new salt, so no variant outlives it).
    """

    chunks: tuple[bytes, ...]
    status: int = 0
    headers: Headers = ()
    vary: tuple[bytes, ...] = ()
    tags: tuple[str, ...] = ()
    born: float
    """When its age was 0."""
    fresh_until: float
    settled_until: float
    """Until here a hit needs no second thought; from here on to `fresh_until` it may be refreshed early."""
    stale_while_revalidate: float = 0.0
    stale_if_error: float = 0.0
    kept: float = 0.0
    """How long after its freshness it is kept to be confirmed by its origin (RFC 9111, section 4.3), ..."""
    stale_if_unreachable: bool = False
    """... and whether it may then stand in for an origin that cannot be reached (section 4.2.4)."""
    cost: float = 0.0
    """Seconds that its load took: what a hit saves, ..."""
    price: float = 0.0
    """... and what it cost beside time, in the user's own unit of money."""
    number: int = 0
    """The highest invalidation number known when its load began."""
    size: int = field(init=False)
    """Bytes of body and headers."""
    shown: tuple[float, Headers] = (0.0, ())
    """What a front keeps to itself: the header fields of a hit as it last sent them, and until when they are true."""

    doubted: float | None = field(default=None, init=False)
    """Since when this machine may have missed that it was told invalid: another tier is asked before it is served."""

    def doubt(self, now: float) -> None:
        """From `now` on a hit needs a second thought; the first doubt counts."""
        self.doubted = now if self.doubted is None else self.doubted
        self.settled_until = -math.inf

    def __post_init__(self) -> None:
        body = sum(map(len, self.chunks))
        self.size = body + sum(len(name) + len(value) + _PER_HEADER for name, value in self.headers)

    @property
    def window(self) -> float:
        """Seconds after its freshness for which it is of any use."""
        return max(self.stale_while_revalidate, self.stale_if_error, self.kept)

    @property
    def dead_from(self) -> float:
        """The time from which nobody may be served this entry any more, stale or confirmed."""
        return self.fresh_until + self.window

    @property
    def body(self) -> bytes:
        """The whole body in one piece (copied if it has several chunks)."""
        return self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
