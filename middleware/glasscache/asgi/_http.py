"""What HTTP's fields mean to a cache: what belongs to the key, what to the answer, and when a 304 will do.

The one module of HTTP semantics that others import; the syntax is in `_fields.py`, freshness in
`_freshness.py`. Pure: header lists in, decisions out. Must never do I/O, read a clock, or touch a message.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from glasscache._entry import Headers
from glasscache.asgi import cache_status
from glasscache.asgi._asking import Wish, wish_of
from glasscache.asgi._directives import SURROGATE, TARGETED
from glasscache.asgi._fields import length_of, members, normalise, read_fields
from glasscache.asgi._invalidation import SAFE, Target, changes, groups, tags, targets, url_tag
from glasscache.asgi._ranges import Span, cut, part_headers, wanted
from glasscache.asgi._selecting import vary_value
from glasscache.asgi._storing import FOR_ONE, Asked, Assessment, assess
from glasscache.asgi._validation import (
    CONDITIONALS,
    conditions,
    freshen,
    has_validator,
    is_same,
    made_tag,
    not_modified,
    not_modified_headers,
    precondition,
)

__all__ = [
    "CONDITIONALS",
    "CREDENTIALS",
    "HOP_BY_HOP",
    "OF_A_SCRIPT",
    "ROUTING",
    "SAFE",
    "Asked",
    "Assessment",
    "Headers",
    "Span",
    "Target",
    "Wish",
    "assess",
    "cache_status",
    "changes",
    "conditions",
    "cut",
    "freshen",
    "groups",
    "has_validator",
    "head_of",
    "is_same",
    "made_tag",
    "normalise",
    "not_modified",
    "not_modified_headers",
    "part_headers",
    "precondition",
    "routing_parts",
    "storable_headers",
    "tags",
    "targets",
    "url_tag",
    "vary_value",
    "wanted",
    "wish_of",
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

ROUTING = frozenset(
    b"base-url destination forwarded front-end-https http-host http-url next-action next-router-prefetch"
    b" next-router-state-tree next-url proxy-host proxy-url real-host redirect request-uri rsc uri url x-api-version"
    b" x-arr-ssl x-backend-host x-base-url x-forwarded x-forwarded-by x-forwarded-host x-forwarded-path"
    b" x-forwarded-port x-forwarded-prefix x-forwarded-proto x-forwarded-protocol x-forwarded-scheme"
    b" x-forwarded-server x-forwarded-ssl x-forwarded-uri x-forwarded-url x-gateway-host x-host x-host-override"
    b" x-http-destinationurl x-http-host x-http-host-override x-http-method x-http-method-override"
    b" x-http-path-override x-https x-inertia x-invoke-path x-invoke-query x-invoke-status x-matched-path"
    b" x-method-override x-middleware-prefetch x-middleware-rewrite x-middleware-subrequest x-nextjs-data"
    b" x-now-route-matches x-original-host x-original-uri x-original-url x-override-url x-pjax x-prerender x-proxy-url"
    b" x-real-host x-request-uri x-requested-with x-rewrite-uri x-rewrite-url x-scheme x-server-name x-url-scheme"
    b" x-wap-profile".split()
)
"""Request headers that can make an application believe it was asked something else: keyed when present."""

OF_A_SCRIPT = frozenset(
    b"next-action next-router-state-tree x-http-method x-http-method-override x-inertia x-method-override x-pjax"
    b" x-requested-with".split()
)
"""Of these, what a script or a form sends with a change, and a browser does not when it reads the same page."""

HOP_BY_HOP = frozenset(
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
"""Fields that concern one connection: neither stored (RFC 9111, section 3.1) nor sent on (RFC 9110, sections 7.6.1,
10.1.4 and 11.7). Trailer (6.6.2) goes with trailer fields, which may be dropped (6.5.1)."""

_OF_ONE_REQUEST = frozenset(
    b"age authentication-info b3 baggage cf-ray ratelimit request-id server-timing traceparent traceresponse"
    b" tracestate x-amz-cf-id x-amz-id-2 x-amz-request-id x-amzn-requestid x-amzn-trace-id x-b3-sampled"
    b" x-b3-spanid x-b3-traceid x-cloud-trace-context x-correlation-id x-process-time x-ratelimit-limit"
    b" x-ratelimit-remaining x-ratelimit-reset x-request-id x-response-time x-runtime x-trace-id".split()
)
"""True of the request that led the load only (`age` is told anew with every answer)."""
_NOT_STORED = HOP_BY_HOP | _OF_ONE_REQUEST

# RFC 7239, section 4, with values as they are sent in practice (`host=a:8080` needs quotes by the letter).
# What is left out of the key must hide no `host=` that a simpler parser would see: it holds no separator.
_PAIR = re.compile(
    rb"""[ \t]*+(?:
        (?P<kept>(?:host|proto)=(?:[^\s",;=]++|"(?:[^"\\]|\\.)*+")?+)
        | [!#$%&'*+.^_`|~0-9a-z-]++=(?:[^\s",;=]++|"[^",;=\\]*+")?+
    )?+[ \t]*+(?P<end>[,;]|\Z)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)


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


_SAYING = _NOT_STORED.union(
    (b"cache-control", *TARGETED, SURROGATE),
    FOR_ONE,
    (b"vary", b"access-control-allow-origin"),
    (b"cache-tag", b"surrogate-key", b"cache-groups"),
)


def head_of(raw: Iterable[Iterable[object]]) -> tuple[Headers, int | None, bool]:
    """An application's headers in our form, the length that they declare, and whether they say anything to a cache.

    See `normalise` and `content_length`. If they say nothing, all of a 200 is stored under a rule with a ttl, and on
    the same terms as any other such answer.
    """
    headers, says_something, lengths = read_fields(raw, _SAYING)
    return headers, length_of(lengths), says_something


def storable_headers(headers: Headers, extra: frozenset[bytes] = frozenset()) -> Headers:
    """The fields of an answer that are true of it for everyone, in order, names in lower case.

    Without those of one connection, without those of one request, and without `extra` (lower-case names).
    """
    lowered = tuple((name.lower(), value) for name, value in headers)
    named = {option.lower() for option in members(value for name, value in lowered if name == b"connection")}
    dropped = _NOT_STORED | extra | named
    return tuple(field for field in lowered if field[0] not in dropped)
