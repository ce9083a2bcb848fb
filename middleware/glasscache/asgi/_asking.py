"""What a request asks of the cache in its own Cache-Control: RFC 9111, section 5.2.1.

Decides what becomes of a verdict on a stored answer. Only heard where a rule follows HTTP, or where
`client_may_refresh` says so: anyone can ask for a load, and a load costs. Must never make an answer look fresher than
it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from glasscache._entry import Entry
from glasscache.asgi._fields import delta_seconds, parse_directives
from glasscache.policy import Verdict

_FRESH = frozenset({Verdict.FRESH, Verdict.EARLY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one request accepts. Times in seconds."""

    no_store: bool = False
    only_if_cached: bool = False
    no_cache: bool = False
    max_age: float | None = None
    min_fresh: float = 0.0
    max_stale: float = 0.0

    def __call__(self, entry: Entry, now: float, verdict: Verdict) -> Verdict:
        """The verdict on a stored answer, for this request."""
        if verdict is Verdict.DEAD:
            return verdict
        too_old = self.no_cache or (self.max_age is not None and now - entry.born > self.max_age)
        left = entry.fresh_until - now
        if verdict in _FRESH:
            return Verdict.UNWANTED if too_old or left < self.min_fresh else verdict
        if too_old:
            return Verdict.UNWANTED
        may_be_stale = entry.stale_if_unreachable or entry.stale_while_revalidate > 0
        if verdict is Verdict.STAND_IN and may_be_stale and -left <= self.max_stale:
            return Verdict.STALE  # served as it is, and refreshed behind
        return verdict


def wish_of(headers: Iterable[tuple[bytes, bytes]]) -> Wish | None:
    """What a request asks for; None: nothing in particular. Malformed numbers say nothing, but for `max-age`, where
    they say 0: the origin's own word is always right.
    """
    lines = [value for name, value in headers if name == b"cache-control"]
    if not lines:
        return None
    said = parse_directives(lines)
    stale = delta_seconds(said.get(b"max-stale"))
    if b"max-stale" in said and said[b"max-stale"] is None:
        stale = 2**31  # however stale (section 5.2.1.2)
    wish = Wish(
        no_store=b"no-store" in said,
        only_if_cached=b"only-if-cached" in said,
        no_cache=b"no-cache" in said,
        max_age=(delta_seconds(said[b"max-age"]) or 0.0) if b"max-age" in said else None,
        min_fresh=delta_seconds(said.get(b"min-fresh")) or 0.0,
        max_stale=stale or 0.0,
    )
    return None if wish == _NOTHING else wish


_NOTHING = Wish()
