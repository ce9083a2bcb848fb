"""Which variant of a resource a request selects: RFC 9111, section 4.1.

Decides what two requests have in common under a name that Vary lists. Only what means the same by the field's own
definition counts as the same: a difference in doubt costs a load, never a wrong variant.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_BLANKS = re.compile(rb"[ \t]+")
_SEPARATORS = re.compile(rb" ?([,;]) ?")
_NEGOTIATION = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})

# RFC 9110, sections 12.5.4 and 12.4.2
_LANGUAGE = re.compile(rb"(?P<range>[a-z0-9*-]++)(?:;q=(?P<weight>0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?")


def vary_value(name: bytes, request_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """What a request says under a name that Vary lists, for the variant's key; absent differs from empty.

    Normalised as section 4.1 allows: several fields are joined, runs of blanks are one, and blanks around separators
    are dropped where the syntax ignores them. What holds a quoted string is only joined. Of languages neither case nor
    the order of equally good ones matters (RFC 9110, section 12.5.4).
    """
    values = [value.strip(b" \t") for field, value in request_headers if field == name]
    if not values:
        return b"absent"
    joined = b", ".join(values)
    if b'"' in joined:
        return b"=" + joined
    joined = _BLANKS.sub(b" ", joined)
    if name in _NEGOTIATION:
        joined = _SEPARATORS.sub(rb"\1", joined)
    return b"=" + (_languages(joined) if name == b"accept-language" else joined)


def _languages(value: bytes) -> bytes:
    """Languages in an order of our own; what is no list of them only in lower case."""
    found: set[tuple[float, bytes]] = set()
    for member in filter(None, value.lower().split(b",")):
        match = _LANGUAGE.fullmatch(member)
        if match is None:
            return value.lower()
        found.add((-float(match["weight"] or 1), match["range"]))
    return b",".join(b"%b;q=%.3f" % (language, -weight) for weight, language in sorted(found))
