"""What may be done with an answer, decided when its head is known: who may read it, how long it is stored.

A shared cache's reading of RFC 9111, or, where a rule sets a ttl, the operator's. In doubt an answer is not
shared. Must never read a clock, look at a body, or know which request led to the answer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from glasscache._entry import Headers
from glasscache.asgi._fields import (
    TOKEN,
    delta_seconds,
    members,
    parse_directives,
    parse_http_date,
    parse_retry_after,
)
from glasscache.policy import Policy, Share, Terms

_Fields: TypeAlias = Mapping[bytes, Sequence[bytes]]
_Directives: TypeAlias = Mapping[bytes, bytes | None]

_LONGEST_PAUSE = 3600.0
"""Seconds: no Retry-After may switch a rule off for longer."""

# RFC 9111, section 5.2.2.4, .5 and .7. The forms that name fields are taken as the ones that do not (allowed
# there), and `must-understand` does not lift `no-store` (5.2.2.3): both are the stricter reading.
_FORBIDDING = {b"no-store": "no_store", b"private": "private", b"no-cache": "no_cache"}

_FOR_ONE = {
    b"set-cookie": "set_cookie",  # RFC 9111, section 7.3: storing it is allowed, and how sessions get swapped
    b"clear-site-data": "clear_site_data",  # one client's logout must not be everybody's
    b"trailer": "trailers",  # RFC 9110, section 6.5: fields that nobody has seen yet
}

# RFC 9111, section 4.2.4; s-maxage includes proxy-revalidate (5.2.2.10)
_NEVER_STALE = frozenset({b"must-revalidate", b"proxy-revalidate", b"s-maxage"})

_NEVER_STORED = frozenset({206, 304})
"""Parts and confirmations of an answer: alone they are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What may be done with an answer."""

    share: Share
    terms: Terms | None = None
    """None: not stored."""
    vary: tuple[bytes, ...] = ()
    """The request headers that select among variants: lower case, sorted, each once."""
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
    statuses: frozenset[int],
    now_wall: float,
) -> Assessment:
    """Judge an answer by its head. `headers` as `normalise` returns them; `now_wall` is Unix time.

    With a `ttl` (seconds) the rule decides freshness and stale windows, whatever max-age, Expires, Age or
    must-revalidate say; only what forbids storing at all still wins. Without one, the origin's explicit words
    decide, and where there are none nothing is stored. `statuses` may be stored, errors (400 and up) only for
    `policy.negative_ttl` and never past it.
    """
    fields: defaultdict[bytes, list[bytes]] = defaultdict(list)
    for name, value in headers:
        fields[name].append(value.strip(b" \t"))
    directives = parse_directives(fields.get(b"cache-control", ()))
    vary = tuple(sorted({name.lower() for name in members(fields.get(b"vary", ()))}))
    retry_after = _pause(status, fields, now_wall)

    reason = _forbidden(fields, directives, vary)
    if reason:
        known = () if reason in {"vary_star", "vary_malformed"} else vary
        return Assessment(share=Share.NONE, vary=known, reason=reason, retry_after=retry_after)
    if not _storable(status, policy, statuses):
        return Assessment(share=_unstored(status), vary=vary, reason="status", retry_after=retry_after)
    terms = _explicit(fields, directives, now_wall) if ttl is None else _ruled(ttl, policy)
    if terms is not None and status >= 400:
        terms = _negative(terms, policy, ruled=ttl is not None)
    if terms is None or _dead_on_arrival(terms):
        share = Share.NONE if status < 400 else _unstored(status)
        return Assessment(share=share, vary=vary, reason="no_freshness", retry_after=retry_after)
    return Assessment(share=Share.ALL, terms=terms, vary=vary, retry_after=retry_after)


def _forbidden(fields: _Fields, directives: _Directives, vary: tuple[bytes, ...]) -> str:
    """Why nobody else may read this answer at all, whatever its status; empty if others may."""
    for name, reason in _FORBIDDING.items():
        if name in directives:
            return reason
    for name, reason in _FOR_ONE.items():
        if name in fields:
            return reason
    if b"*" in vary:  # RFC 9111, section 4.1
        return "vary_star"
    if not all(map(TOKEN.fullmatch, vary)):
        return "vary_malformed"
    origins = fields.get(b"access-control-allow-origin", ())
    if b"origin" not in vary and any(origin != b"*" for origin in origins):
        return "cors_without_vary"  # Fetch standard, "CORS protocol and HTTP caches"
    return ""


def _storable(status: int, policy: Policy, statuses: frozenset[int]) -> bool:
    if status < 200 or status in _NEVER_STORED or status not in statuses:  # RFC 9111, section 3
        return False
    return status < 400 or policy.negative_ttl > 0


def _unstored(status: int) -> Share:
    return Share.WHEN_COMPLETE if status >= 500 else Share.LEADER


def _ruled(ttl: float, policy: Policy) -> Terms:
    return Terms(
        ttl=ttl,
        stale_while_revalidate=policy.stale_while_revalidate,
        stale_if_error=policy.stale_if_error,
    )


def _negative(terms: Terms, policy: Policy, *, ruled: bool) -> Terms:
    """The terms of an error: without stale windows, since an error can stand in for nothing."""
    ttl = policy.negative_ttl if ruled else min(terms.ttl, policy.negative_ttl)
    return Terms(ttl=ttl, age=terms.age, counts_delay=terms.counts_delay)


def _explicit(fields: _Fields, directives: _Directives, now_wall: float) -> Terms | None:
    """The terms that the origin states; None if it states none. No heuristics (RFC 9111, section 4.2.2)."""
    dates = fields.get(b"date", ())
    date = parse_http_date(dates[0]) if dates else None
    if date is None:
        date = now_wall  # RFC 9110, section 6.6.1: the time of receipt
    lifetime = _lifetime(fields, directives, date)
    if lifetime is None:
        return None
    # RFC 9111, section 4.2.3, but for the response delay, which the engine knows. Date has whole seconds.
    age = max(0.0, math.floor(now_wall) - date, _age(fields))
    if not _NEVER_STALE.isdisjoint(directives):
        return Terms(ttl=lifetime, age=age, counts_delay=True)
    return Terms(  # RFC 5861, sections 3 and 4
        ttl=lifetime,
        age=age,
        counts_delay=True,
        stale_while_revalidate=delta_seconds(directives.get(b"stale-while-revalidate")) or 0.0,
        stale_if_error=delta_seconds(directives.get(b"stale-if-error")) or 0.0,
    )


def _lifetime(fields: _Fields, directives: _Directives, date: float) -> float | None:
    """RFC 9111, section 4.2.1: the first of s-maxage, max-age and Expires; malformed means stale."""
    for name in (b"s-maxage", b"max-age"):
        if name in directives:
            return delta_seconds(directives[name]) or 0.0
    if b"expires" not in fields:
        return None
    expires = {parse_http_date(value) for value in fields[b"expires"]}
    until = expires.pop()
    if expires or until is None:  # contradictory, or, as `Expires: 0` (section 5.3), no date
        return 0.0
    return max(0.0, until - date)


def _age(fields: _Fields) -> float:
    """RFC 9111, section 5.1: the first member counts; ignored if it is not a number."""
    ages = members(fields.get(b"age", ()))
    return (delta_seconds(ages[0]) if ages else None) or 0.0


def _dead_on_arrival(terms: Terms) -> bool:
    return terms.ttl + max(terms.stale_while_revalidate, terms.stale_if_error) <= terms.age


def _pause(status: int, fields: _Fields, now_wall: float) -> float | None:
    if status not in {429, 503}:
        return None
    seconds = parse_retry_after(fields.get(b"retry-after", ()), now_wall)
    return None if seconds is None else min(seconds, _LONGEST_PAUSE)
