"""The values of `Cache-Status` (RFC 9211), one builder per outcome of telemetry.md.

Decides only how an outcome is spelled: structured fields (RFC 9651), as bytes. Where the origin sent a
Cache-Status of its own it stays, and ours is one more field line behind it: each cache appends (RFC 9211,
section 2).
"""

from __future__ import annotations

import math
import re
from typing import Literal, TypeAlias

HEADER = b"cache-status"

Forward: TypeAlias = Literal["bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale", "partial"]
"""Why a request went on to the origin (RFC 9211, section 2.2)."""

_TOKEN = re.compile(r"[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+")
_UNPRINTABLE = re.compile(r"[^ -~]")
_SPECIAL = re.compile(r'(["\\])')


def hit(ttl: float) -> bytes:
    """A fresh answer from a tier, with `ttl` seconds left."""
    return b"glasscache; hit; ttl=%d" % math.floor(ttl)


def stale(ttl: float, detail: str) -> bytes:
    """A stored answer past its freshness (so `ttl` is negative), and why it was served."""
    return b"glasscache; hit; ttl=%d; detail=%b" % (math.floor(ttl), _item(detail))


def miss(*, stored: bool, fwd: Forward = "uri-miss", detail: str = "") -> bytes:
    """This request led the load. `stored`: its answer may be stored (known from its head); `detail`: why not."""
    return b"glasscache; fwd=%b%b%b" % (fwd.encode(), b"; stored" if stored else b"", _detail(detail))


def revalidated(*, stored: bool, fwd: Forward = "stale") -> bytes:
    """The origin has confirmed a stored answer. `stored`: it may go on being stored."""
    return b"glasscache; fwd=%b; fwd-status=304%b" % (fwd.encode(), b"; stored" if stored else b"")


def collapsed() -> bytes:
    """Served by another request's load."""
    return b"glasscache; fwd=uri-miss; collapsed"


def bypass(detail: str = "", fwd: Forward = "bypass") -> bytes:
    """The cache was not asked, and why."""
    return b"glasscache; fwd=%b%b" % (fwd.encode(), _detail(detail))


def _detail(text: str) -> bytes:
    return b"; detail=" + _item(text) if text else b""


def _item(text: str) -> bytes:
    """RFC 9651: a token (section 3.3.4) if it is one, otherwise a string (3.3.3), which is ASCII."""
    if _TOKEN.fullmatch(text):
        return text.encode("ascii")
    return b'"%b"' % _SPECIAL.sub(r"\\\1", _UNPRINTABLE.sub("?", text)).encode("ascii")
