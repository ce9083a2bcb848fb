"""Which cache directives of an answer are meant for us, and which fields and standard they come from.

Cache-Control (RFC 9111, section 5.2), unless a field that targets us speaks (RFC 9213): the first of
`Glasscache-Control`, `CDN-Cache-Control` and `Surrogate-Control` that is there and well-formed stands in for
Cache-Control and Expires, whole. Decides nothing about what follows from a directive.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from glasscache.asgi._fields import parse_directives
from glasscache.asgi._structured import Bare, parse_dictionary

Fields: TypeAlias = Mapping[bytes, Sequence[bytes]]
"""The field lines of a message by their names in lower case."""

TARGETED = (b"glasscache-control", b"cdn-cache-control")
"""Fields that target us, the most specific first (RFC 9213, section 2.2)."""

SURROGATE = b"surrogate-control"
"""Of the W3C's note on edge architecture (2001), which many origins still send; below those of RFC 9213."""

_OURS = frozenset({b"", b"glasscache"})


@dataclass(frozen=True, slots=True)
class Directives:
    """What an answer's origin says to this cache."""

    said: Mapping[bytes, bytes | None]
    """Names in lower case -> argument, or None."""
    is_targeted: bool = False
    """Said by a field that targets us: Cache-Control and Expires are then for others."""

    def __contains__(self, name: bytes) -> bool:
        return name in self.said

    def get(self, name: bytes) -> bytes | None:
        """The argument of a directive; None if it has none, or was not said."""
        return self.said.get(name)


def directives_of(fields: Fields) -> Directives:
    """The directives that count for us."""
    for name in TARGETED:
        members = parse_dictionary(fields[name]) if name in fields else None
        if members:
            said = {key: _written(value) for key, value in members.items() if value is not False}
            return Directives(said, is_targeted=True)
    if SURROGATE in fields:
        surrogate = parse_directives(_without_targets(line) for line in fields[SURROGATE])
        if surrogate:
            return Directives(surrogate, is_targeted=True)
    return Directives(parse_directives(fields.get(b"cache-control", ())))


def _written(value: Bare | list[Bare]) -> bytes | None:
    """A member as Cache-Control would have it; of a kind that no directive has, malformed (RFC 9213, section 2.1)."""
    if value is True:
        return None
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, bytes):
        return value
    return b'"' + repr(value).encode() + b'"'


def _without_targets(line: bytes) -> bytes:
    """Surrogate-Control less the directives that name another device: `max-age=60;other`."""
    kept = []
    for directive in line.split(b","):
        said, _, target = directive.partition(b";")
        if target.strip(b" \t") in _OURS:
            kept.append(said)
    return b",".join(kept)
