"""What may be done with an answer, decided when its head is known: who may read it, how long it is stored.

RFC 9111, section 3, as a shared cache reads it, or, where a rule sets a ttl, as the operator does. In doubt an answer
is not shared. Must never read a clock, or look at a body.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from glasscache._entry import Headers
from glasscache.asgi._directives import Directives, Fields, directives_of
from glasscache.asgi._fields import TOKEN, delta_seconds, members, parse_retry_after
from glasscache.asgi._freshness import Freshness, freshness
from glasscache.asgi._validation import has_validator
from glasscache.policy import Policy, Share, Terms

_LONGEST_PAUSE = 3600.0
"""Seconds: no Retry-After may switch a rule off for longer."""

_KEPT = 86_400.0
"""Seconds after its freshness for which an answer is kept to be confirmed by its origin: one more day."""

# RFC 9111, section 5.2.2.4, .5 and .7
_FORBIDDING = {b"no-store": "no_store", b"private": "private", b"no-cache": "no_cache"}

FOR_ONE = {
    b"set-cookie": "set_cookie",  # RFC 9111, section 7.3: storing it is allowed, and how sessions get swapped
    b"clear-site-data": "clear_site_data",  # one client's logout must not be everybody's
    b"trailer": "trailers",  # RFC 9110, section 6.5: fields that nobody has seen yet
}

_OPEN_TO_ALL = frozenset({b"public", b"s-maxage", b"must-revalidate"})
"""RFC 9111, section 3.5: what lets others see the answer to a request with credentials."""

# RFC 9111, section 4.2.4; s-maxage includes proxy-revalidate (5.2.2.10)
_NEVER_STALE = frozenset({b"must-revalidate", b"proxy-revalidate", b"s-maxage", b"no-cache"})

_ONLY_OK = frozenset({200})

_NEVER_STORED = frozenset({206, 304})
"""Parts and confirmations of an answer: alone they are none."""

_ABOUT_THE_REQUEST = frozenset({401, 406, 407, 408, 411, 412, 413, 415, 416, 417, 421, 425, 426, 428, 429, 431, 511})
"""Errors that blame one request's fields, body, credentials or pace: said to one client, whatever its headers say."""

_UNDERSTOOD = frozenset(
    {200, 201, 202, 203, 204, 205, 300, 301, 302, 303, 305, 307, 308}
    | {400, 402, 403, 404, 405, 409, 410, 414, 418, 422, 423, 424, 451}
    | {500, 501, 502, 503, 504, 505, 506, 507, 508, 510}
)
"""Statuses whose meaning for a cache we know (RFC 9111, section 5.2.2.3)."""

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

_PLAIN = 2048
"""Bytes of request headers up to which an error counts as the resource's and not as the request's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What of a request bears on what may be done with its answer."""

    method: str = "GET"
    headers: Headers = ()
    has_credentials: bool = False
    """It says who asks, and its rule does not say who shares."""

    @property
    def is_odd(self) -> bool:
        """Whether an error may be due to its header fields: they are long, or hold what no field should."""
        length = sum(len(name) + len(value) + 4 for name, value in self.headers)
        return length > _PLAIN or any(_CONTROL.search(value) for _, value in self.headers)


_ANYBODY = Asked()


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What may be done with an answer."""

    share: Share
    terms: Terms | None = None
    """How long it is stored; None: it is not."""
    vary: tuple[bytes, ...] = ()
    """The request headers that select among variants: lower case, sorted, each once."""
    hidden: frozenset[bytes] = frozenset()
    """Fields that are for one reader, while the rest is for all: `private="a"`, `no-cache="b"`."""
    reason: str = ""
    """Why it is not stored, in one word; empty if it is."""
    retry_after: float | None = None
    """Seconds for which a 429 or 503 asks to be left alone, at most an hour."""


def assess(
    status: int,
    headers: Headers,
    *,
    ttl: float | None,
    policy: Policy,
    statuses: frozenset[int] | None,
    now_wall: float,
    request: Asked = _ANYBODY,
    guess: bool = True,
) -> Assessment:
    """Judge an answer by its head. `headers` as `normalise` returns them; `now_wall` is Unix time.

    With a `ttl` (seconds) the rule decides freshness and stale windows, whatever max-age, Expires, Age or
    must-revalidate say; only what forbids storing at all still wins. Without one, the origin's words decide. Of
    `statuses` errors (400 and up) are stored for `policy.negative_ttl` only; None: 200, and without a ttl whatever
    RFC 9111 allows. `guess`: where the origin says nothing, its Last-Modified tells how fresh an answer to GET may be.
    """
    fields: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, value in headers:
        fields[name].append(value.strip(b" \t"))
    directives = directives_of(fields)
    vary = tuple(sorted({name.lower() for name in members(fields.get(b"vary", ()))}))
    retry_after = _pause(status, fields, now_wall)
    by_rule = ttl is not None
    hidden = frozenset() if by_rule else _qualified(directives, b"private") | _qualified(directives, b"no-cache")

    reason = _forbidden(status, fields, directives, by_rule=by_rule) or _selecting(fields, vary)
    if not reason and request.has_credentials and _OPEN_TO_ALL.isdisjoint(directives.said):
        reason = "credentials"
    if reason:
        known = () if reason in {"vary_star", "vary_malformed"} else vary
        return Assessment(share=Share.NONE, vary=known, reason=reason, retry_after=retry_after)
    if not _storable(status, policy, statuses, request, by_rule=by_rule):
        share = _unstored(status, request)
        return Assessment(share=share, vary=vary, hidden=hidden, reason="status", retry_after=retry_after)
    if ttl is not None:
        terms: Terms | None = _ruled(ttl, policy)
    else:
        found = freshness(status, fields, directives, now_wall, guess=guess and request.method in {"GET", "HEAD"})
        terms = _stated(found, directives, can_be_confirmed=has_validator(headers), is_failure=status >= 500)
    if terms is not None and status >= 400 and (by_rule or statuses is not None):
        terms = _negative(terms, policy, ruled=by_rule)
    if terms is None or _dead_on_arrival(terms):
        share = Share.NONE if status < 400 else _unstored(status, request)
        return Assessment(share=share, vary=vary, hidden=hidden, reason="no_freshness", retry_after=retry_after)
    return Assessment(share=Share.ALL, terms=terms, vary=vary, hidden=hidden, retry_after=retry_after)


def _forbidden(status: int, fields: Fields, directives: Directives, *, by_rule: bool) -> str:
    """Why nobody else may read this answer at all, whatever its status; empty if others may.

    For a rule with a ttl the forms of `private` and `no-cache` that name fields are those that do not, and
    must-understand does not lift no-store: both are the stricter reading, and allowed (RFC 9111, 5.2.2.3 to .7).
    """
    for name, reason in _FORBIDDING.items():
        if name in directives and not (not by_rule and _lifted(name, status, directives)):
            return reason
    if b"must-understand" in directives and status not in _UNDERSTOOD:
        return "not_understood"
    for name, reason in FOR_ONE.items():
        if name in fields and (by_rule or name != b"clear-site-data"):
            return reason
    return ""


def _lifted(name: bytes, status: int, directives: Directives) -> bool:
    """Whether a directive that forbids storing does not, where the origin's words decide."""
    if name == b"no-store":
        return b"must-understand" in directives and status in _UNDERSTOOD
    return name == b"no-cache" or bool(_qualified(directives, name))


def _qualified(directives: Directives, name: bytes) -> frozenset[bytes]:
    """The fields that a directive names, in lower case; none if it is about the whole answer."""
    named = frozenset(field.lower() for field in members([directives.get(name) or b""]))
    return named if all(map(TOKEN.fullmatch, named)) else frozenset()


def _selecting(fields: Fields, vary: tuple[bytes, ...]) -> str:
    """Why no request can be known to select this answer again; empty if it can (RFC 9111, section 4.1)."""
    if b"*" in vary:
        return "vary_star"
    if not all(map(TOKEN.fullmatch, vary)):
        return "vary_malformed"
    origins = fields.get(b"access-control-allow-origin", ())
    if b"origin" not in vary and any(origin != b"*" for origin in origins):
        return "cors_without_vary"  # Fetch standard, "CORS protocol and HTTP caches"
    return ""


def _storable(status: int, policy: Policy, statuses: frozenset[int] | None, request: Asked, *, by_rule: bool) -> bool:
    """RFC 9111, section 3: a final status, which we understand or which says nothing of the kind."""
    if status < 200 or status in _NEVER_STORED:
        return False
    if status >= 400 and request.is_odd:  # cache-poisoned denial of service (Nguyen et al., CCS 2019)
        return False
    if statuses is None and not by_rule:
        return status not in _ABOUT_THE_REQUEST
    listed = _ONLY_OK if statuses is None else statuses
    return status in listed and (status < 400 or policy.negative_ttl > 0)


def _unstored(status: int, request: Asked) -> Share:
    """A failure is everybody's who waited, unless the one who asked may have earned it."""
    return Share.WHEN_COMPLETE if status >= 500 and not request.is_odd else Share.LEADER


def _ruled(ttl: float, policy: Policy) -> Terms:
    return Terms(
        ttl=ttl,
        stale_while_revalidate=policy.stale_while_revalidate,
        stale_if_error=policy.stale_if_error,
    )


def _stated(
    found: Freshness | None, directives: Directives, *, can_be_confirmed: bool, is_failure: bool
) -> Terms | None:
    """The terms of the origin; None if it states none. A failure can stand in for nothing."""
    if b"no-cache" in directives and not _qualified(directives, b"no-cache"):  # always to be confirmed
        found = Freshness(0.0, 0.0 if found is None else found.age)
    if found is None:
        return None
    may_be_stale = not is_failure and _NEVER_STALE.isdisjoint(directives.said)
    stands_in = may_be_stale and not found.is_over
    return Terms(  # the windows: RFC 5861, sections 3 and 4
        ttl=found.lifetime,
        age=found.age,
        counts_delay=True,
        stale_while_revalidate=_window(directives, b"stale-while-revalidate") if may_be_stale else 0.0,
        stale_if_error=_window(directives, b"stale-if-error") if may_be_stale else 0.0,
        kept=_KEPT if can_be_confirmed or stands_in else 0.0,
        stale_if_unreachable=stands_in,
    )


def _window(directives: Directives, name: bytes) -> float:
    return delta_seconds(directives.get(name)) or 0.0


def _negative(terms: Terms, policy: Policy, *, ruled: bool) -> Terms:
    """The terms of an error: without stale windows, since an error can stand in for nothing."""
    ttl = policy.negative_ttl if ruled else min(terms.ttl, policy.negative_ttl)
    return Terms(ttl=ttl, age=terms.age, counts_delay=terms.counts_delay)


def _dead_on_arrival(terms: Terms) -> bool:
    if terms.kept:
        return False
    return terms.ttl + max(terms.stale_while_revalidate, terms.stale_if_error) <= terms.age


def _pause(status: int, fields: Fields, now_wall: float) -> float | None:
    if status not in {429, 503}:
        return None
    seconds = parse_retry_after(fields.get(b"retry-after", ()), now_wall)
    return None if seconds is None else min(seconds, _LONGEST_PAUSE)
