"""Which header fields cross a proxy, and what it adds to them (RFC 9110, section 7.6).

Decides per message, from its fields alone. Must never reorder, join or change a field that it lets through, and never
believe what a client says of itself (`Forwarded`, `X-Forwarded-*`) unless told to.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from email.utils import formatdate

from glasscache._entry import Headers
from glasscache.asgi._fields import members
from glasscache.asgi._http import HOP_BY_HOP
from glasscache.asgi.types import Scope

PSEUDONYM = b"glasscache"
"""What the proxy calls itself in `Via`."""

MAX_HOPS = 8
"""So many proxies of our name in one `Via` are a loop."""

# No connection options (RFC 9110, section 7.6.1). A message that calls them so would lose what it is about, or its
# secrecy.
_END_TO_END = frozenset(
    {
        b"age",
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"date",
        b"expires",
        b"host",
        b"set-cookie",
        b"vary",
    }
)

_CAPABILITY = PSEUDONYM + b'="Surrogate/1.0"'
"""What origins that know the W3C's note on edge architecture are told: here is one that hears Surrogate-Control."""

_NO_CONTENT = frozenset({204, 205, 304})

_FORWARDED = (b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto")
_CLAIMS = frozenset({b"forwarded", b"x-forwarded-port", b"x-forwarded-prefix", b"x-real-ip", *_FORWARDED})


def trimmed(fields: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The fields without the whitespace around their values, which is no part of them (RFC 9112, section 5)."""
    return [(name, value.strip(b" \t")) for name, value in fields]


def end_to_end(
    fields: Iterable[tuple[bytes, bytes]], *, keep: frozenset[bytes] = frozenset()
) -> list[tuple[bytes, bytes]]:
    """The fields, in lower case, that concern more than this connection; `keep`: hop-by-hop ones to leave in."""
    fields = [(name.lower(), value) for name, value in fields]
    options = {option.lower() for option in members(value for name, value in fields if name == b"connection")}
    dropped = (HOP_BY_HOP | options - _END_TO_END) - keep
    return [field for field in fields if field[0] not in dropped]


def to_upstream(scope: Scope, authority: bytes, *, keep_host: bool, trust: bool) -> list[tuple[bytes, bytes]]:
    """The fields of a request as the upstream gets them. `authority` is the upstream's host, sent as Host unless
    `keep_host`; `trust` keeps what the client, then a proxy of ours, says about who asked.
    """
    fields = end_to_end(scope["headers"])
    host = next((value for name, value in fields if name == b"host"), authority)
    hidden = {b"host", b"expect", b"via", b"surrogate-capability", *(_FORWARDED if trust else _CLAIMS)}
    if framing(scope):  # by chunks: RFC 9112, section 6.2
        hidden.add(b"content-length")
    return [
        (b"host", host if keep_host else authority),
        *(field for field in fields if field[0] not in hidden),
        *_forwarded(scope, host, fields if trust else ()),
        (b"surrogate-capability", _CAPABILITY),
        (b"via", via(fields, scope.get("http_version", "1.1").encode())),
    ]


def _forwarded(scope: Scope, host: bytes, claims: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Who asked, for which host, by which scheme. `claims`: the fields of a proxy that is believed. Each adds the peer
    that it sees; of host and scheme the first one knows best.
    """

    def claimed(name: bytes) -> list[bytes]:
        return [value for known, value in claims if known == name]

    client = scope.get("client")
    peers = [*claimed(b"x-forwarded-for"), *([client[0].encode()] if client else [])]
    told = {
        b"x-forwarded-for": b", ".join(peers),
        b"x-forwarded-host": next(iter(claimed(b"x-forwarded-host")), host),
        b"x-forwarded-proto": next(iter(claimed(b"x-forwarded-proto")), scope.get("scheme", "http").encode()),
    }
    return [(name, value) for name, value in told.items() if value]


def to_client(status: int, fields: Iterable[tuple[bytes, bytes]], version: bytes, now_wall: float) -> Headers:
    """The fields of a response as the client, or the cache, gets them; `now_wall` is Unix time of its receipt."""
    kept = end_to_end(fields)
    if status in _NO_CONTENT:  # RFC 9110, section 8.6: it may stand in a 304, and servers take it for their own
        kept = [field for field in kept if field[0] != b"content-length"]
    if all(name != b"date" for name, _ in kept):
        kept.append((b"date", formatdate(now_wall, usegmt=True).encode()))  # RFC 9110, section 6.6.1
    return (*(field for field in kept if field[0] != b"via"), (b"via", via(kept, version)))


def via(fields: Iterable[tuple[bytes, bytes]], version: bytes) -> bytes:
    """`Via` with us at its end (RFC 9110, section 7.6.3); `version` of the message as it was received."""
    return b", ".join([*(value for name, value in fields if name == b"via"), version + b" " + PSEUDONYM])


def loops(scope: Scope) -> bool:
    """Whether this request has come through us again and again."""
    hops = members(value for name, value in scope["headers"] if name == b"via")
    return sum(hop.split(b" ")[1:2] == [PSEUDONYM] for hop in hops) >= MAX_HOPS


def framing(scope: Scope) -> list[tuple[bytes, bytes]] | None:
    """How a request's body is framed on its way on, as it was framed on its way here; None: it has none."""
    headers = scope["headers"]
    if any(name == b"transfer-encoding" for name, _ in headers):
        return [(b"transfer-encoding", b"chunked")]
    lengths = [value for name, value in headers if name == b"content-length"]
    return [] if lengths and lengths != [b"0"] else None
