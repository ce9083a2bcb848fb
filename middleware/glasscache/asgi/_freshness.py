"""How long an answer stays fresh, and how old it is when it arrives: RFC 9111, section 4.2.

Decides by what the origin says. Must never read a clock, or decide whether an answer may be stored at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from glasscache.asgi._directives import Directives, Fields
from glasscache.asgi._fields import delta_seconds, members, parse_http_date

_OF_ITS_AGE = 0.1
"""RFC 9111, section 4.2.2: "a typical setting of this fraction might be 10%"."""

_LONGEST_GUESS = 86_400.0
"""Seconds: what is only guessed holds for a day at most."""

HEURISTIC = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Statuses that a guess is allowed for (RFC 9110, section 15.1)."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """Seconds, both counted from the origin's sending of the answer."""

    lifetime: float
    age: float
    """On arrival, but for the time that the answer took, which the engine knows."""

    is_over: bool = True
    """Whether it arrives stale, and not only because a second has turned since its Date, which has whole ones."""


def freshness(
    status: int, fields: Fields, directives: Directives, now_wall: float, *, guess: bool = False
) -> Freshness | None:
    """What the origin says, or with `guess` else what its Last-Modified lets expect; None: nothing."""
    date = date_of(fields, now_wall)
    lifetime = _stated(fields, directives, date)
    if lifetime is None and guess and (status in HEURISTIC or b"public" in directives):
        lifetime = _guessed(fields, date)
    if lifetime is None:
        return None
    age = _age(fields)
    if age is None:
        age = lifetime  # nobody knows: it counts as stale
    # section 4.2.3, but for the response delay. Date has whole seconds.
    apparent = math.floor(now_wall) - date
    return Freshness(lifetime, max(0.0, apparent, age), is_over=lifetime <= max(apparent - 1, age))


def date_of(fields: Fields, now_wall: float) -> float:
    """When the answer was sent; without a valid Date, now (RFC 9110, section 6.6.1)."""
    dates = fields.get(b"date", ())
    date = parse_http_date(dates[0]) if dates else None
    return now_wall if date is None else date


def _stated(fields: Fields, directives: Directives, date: float) -> float | None:
    """Section 4.2.1: the first of s-maxage, max-age and Expires; malformed means stale."""
    for name in (b"s-maxage", b"max-age"):
        if name in directives:
            return delta_seconds(directives.get(name)) or 0.0
    if b"expires" not in fields or directives.is_targeted:
        return None
    expires = {parse_http_date(value) for value in fields[b"expires"]}
    until = expires.pop()
    if expires or until is None:  # contradictory, or, as `Expires: 0` (section 5.3), no date
        return 0.0
    return max(0.0, until - date)


def _guessed(fields: Fields, date: float) -> float | None:
    """Section 4.2.2: a tenth of the time for which it has not changed."""
    modified = [parse_http_date(value) for value in fields.get(b"last-modified", ())]
    if len(modified) != 1 or modified[0] is None or modified[0] > date:
        return None
    return min((date - modified[0]) * _OF_ITS_AGE, _LONGEST_GUESS)


def _age(fields: Fields) -> float | None:
    """Section 5.1: the first member counts, without parameters; None if it is no number."""
    ages = members(fields.get(b"age", ()))
    return delta_seconds(ages[0].partition(b";")[0]) if ages else 0.0
