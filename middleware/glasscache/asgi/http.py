"""What HTTP's fields mean to a cache: what belongs to the key, what to the answer, and when a 304 will do.

The one module of HTTP semantics that others import; the syntax is in `_fields.py`, freshness in
`_freshness.py`. Pure: header lists in, decisions out. Must never do I/O, read a clock, or touch a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from glasscache._entry import Headers
from glasscache.asgi import cache_status
from glasscache.asgi._fields import content_length, members, normalise, parse_directives, parse_http_date
from glasscache.asgi._freshness import Assessment, assess

__all__ = [
    "CONDITIONALS",
    "CREDENTIALS",
    "ROUTING",
    "Assessment",
    "assess",
    "cache_status",
    "content_length",
    "normalise",
    "not_modified",
    "not_modified_headers",
    "parse_directives",
    "parse_http_date",
    "precondition",
    "routing_parts",
    "storable_headers",
    "vary_value",
]

CREDENTIALS = frozenset(
    {
        b"authorization",
        b"proxy-authorization",
        b"cookie",
        b"x-api-key",
        b"api-key",
        b"x-auth-token",
        b"x-amz-security-token",
    }
)
"""Request headers that say who asks."""

CONDITIONALS = frozenset({b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range"})
"""Request headers that make a request conditional (RFC 9110, section 13.1)."""

_FOR_THE_ORIGIN = frozenset({b"if-match", b"if-unmodified-since"})

ROUTING = frozenset(
    {
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-scheme",
        b"x-host",
        b"x-original-host",
        b"forwarded",
        b"x-original-url",
        b"x-rewrite-url",
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
    }
)
"""Request headers that can make an application believe it was asked something else: keyed when present."""

# RFC 9110, section 7.6.1, and RFC 9111, section 3.1
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_OF_ONE_REQUEST = frozenset(
    b"age authentication-info b3 baggage cf-ray ratelimit request-id server-timing traceparent traceresponse"
    b" tracestate x-amz-cf-id x-amz-id-2 x-amz-request-id x-amzn-requestid x-amzn-trace-id x-b3-sampled"
    b" x-b3-spanid x-b3-traceid x-cloud-trace-context x-correlation-id x-process-time x-ratelimit-limit"
    b" x-ratelimit-remaining x-ratelimit-reset x-request-id x-response-time x-runtime x-trace-id".split()
)
"""True of the request that led the load only (`age` is told anew with every answer)."""
_NOT_STORED = _HOP_BY_HOP | _OF_ONE_REQUEST

# RFC 9110, section 15.4.5
_OF_A_304 = frozenset({b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary"})

# RFC 7239, section 4, with values as they are sent in practice (`host=a:8080` needs quotes by the letter).
# What is left out of the key must hide no `host=` that a simpler parser would see: it holds no separator.
_PAIR = re.compile(
    rb"""[ \t]*+(?:
        (?P<kept>(?:host|proto)=(?:[^\s",;=]++|"(?:[^"\\]|\\.)*+")?+)
        | [!#$%&'*+.^_`|~0-9a-z-]++=(?:[^\s",;=]++|"[^",;=\\]*+")?+
    )?+[ \t]*+(?P<end>[,;]|\Z)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)

# RFC 9110, section 8.8.3; weak comparison (8.8.3.2) looks at the opaque part alone
_ETAG = re.compile(rb'(?:W/)?("[^\x00-\x20"\x7f]*+")')
_ETAGS = re.compile(rb'(?:[ \t]*+(?:(?:W/)?"[^\x00-\x20"\x7f]*+")?+[ \t]*+(?:,|\Z))*+')

_BLANKS = re.compile(rb"[ \t]+")
_SEPARATORS = re.compile(rb" ?([,;]) ?")
_NEGOTIATION = frozenset({b"accept", b"accept-charset", b"accept-encoding", b"accept-language"})


def routing_parts(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, ...]:
    """Name and value, in turn, of each ROUTING header, for the key; in an order of our own.

    Names are lower case, as ASGI has them. Of `Forwarded` only `host` and `proto` are kept, at their place
    among the hops: `for` and `by` would give each client an entry of its own. A malformed one is keyed whole.
    """
    found = [(name, value.strip(b" \t")) for name, value in headers if name in ROUTING]
    if not found:
        return ()
    found.sort(key=lambda field: field[0])
    hops = [(name, _forwarded(value)) for name, value in found if name == b"forwarded"]
    if not any(value.strip(b",") for _, value in hops):
        hops = []
    others = [field for field in found if field[0] != b"forwarded"]
    return tuple(part for field in hops + others for part in field)


def _forwarded(value: bytes) -> bytes:
    """One field line, reduced to its `host=` and `proto=` pairs as written; all of it if it is malformed."""
    hops: list[list[bytes]] = [[]]
    at = 0
    while at < len(value):
        match = _PAIR.match(value, at)
        if match is None:
            return value
        if kept := match["kept"]:
            name, _, argument = kept.partition(b"=")
            hops[-1].append(name.lower() + b"=" + argument)
        if match["end"] == b",":
            hops.append([])
        at = match.end()
    return b",".join(map(b";".join, hops))


def vary_value(name: bytes, request_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """What a request says under a name that Vary lists, for the variant's key; absent differs from empty.

    Normalised as RFC 9111, section 4.1 allows: several fields are joined, runs of blanks are one, and blanks
    around separators are dropped where the syntax ignores them. What holds a quoted string is only joined.
    """
    values = [value.strip(b" \t") for field, value in request_headers if field == name]
    if not values:
        return b"absent"
    joined = b", ".join(values)
    if b'"' not in joined:
        joined = _BLANKS.sub(b" ", joined)
        if name in _NEGOTIATION:
            joined = _SEPARATORS.sub(rb"\1", joined)
    return b"=" + joined


def storable_headers(headers: Headers, extra: frozenset[bytes] = frozenset()) -> Headers:
    """The fields of an answer that are true of it for everyone, in order, names in lower case.

    Without those of one connection, without those of one request, and without `extra` (lower-case names).
    """
    lowered = tuple((name.lower(), value) for name, value in headers)
    named = {option.lower() for option in members(value for name, value in lowered if name == b"connection")}
    dropped = _NOT_STORED | extra | named
    return tuple(field for field in lowered if field[0] not in dropped)


def precondition(request_headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request carries a condition that only the origin may judge: If-Match or If-Unmodified-Since.

    They ask about the origin's current state, and a cache must not evaluate them (RFC 9111, section 4.3.2):
    such a request is for the origin, with its headers (a bypass). If-Range without Range means nothing
    (RFC 9110, section 13.1.5).
    """
    return not _FOR_THE_ORIGIN.isdisjoint([name for name, _ in request_headers])


def not_modified(request_headers: Iterable[tuple[bytes, bytes]], status: int, stored: Headers) -> bool:
    """Whether the client has this stored answer already, so that a 304 will do (RFC 9111, section 4.3.2).

    Only for GET, HEAD and QUERY (RFC 9110, section 13.1.2: elsewhere a match means 412, which is the origin's
    to say). In doubt the whole answer is sent: that is always right.
    """
    wanted: dict[bytes, list[bytes]] = {}
    for name, value in request_headers:
        if name in CONDITIONALS:
            wanted.setdefault(name, []).append(value.strip(b" \t"))
    if not wanted or not 200 <= status < 300:  # RFC 9110, section 13.2.1
        return False
    if b"if-none-match" in wanted:  # section 13.1.3: then If-Modified-Since is ignored
        return _none_match(b", ".join(wanted[b"if-none-match"]), stored)
    return status == 200 and _unmodified(wanted.get(b"if-modified-since", []), stored)


def _none_match(condition: bytes, stored: Headers) -> bool:
    """RFC 9110, section 13.1.2."""
    if condition == b"*":
        return True
    tags = [_ETAG.fullmatch(value.strip(b" \t")) for name, value in stored if name == b"etag"]
    if len(tags) != 1 or tags[0] is None or not _ETAGS.fullmatch(condition):
        return False
    return tags[0][1] in _ETAG.findall(condition)


def _unmodified(since: list[bytes], stored: Headers) -> bool:
    """RFC 9110, section 13.1.3: several fields, or an invalid date, are ignored."""
    modified = [value for name, value in stored if name == b"last-modified"]
    if len(since) != 1 or len(modified) != 1:
        return False
    limit, changed = parse_http_date(since[0]), parse_http_date(modified[0])
    return limit is not None and changed is not None and changed <= limit


def not_modified_headers(stored: Headers) -> Headers:
    """The fields of a stored answer that its 304 must repeat (RFC 9110, section 15.4.5)."""
    return tuple(field for field in stored if field[0] in _OF_A_304)
