"""Why a request went past the cache, or its answer was not stored: each word of `Cache-Status`, in a sentence.

Decides what is said of each, and which of them the log tells: those by which a rule with a ttl, whose author wants its
answers kept, keeps none. Once for each rule and word. Must never show what was asked, or who asked it.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from glasscache.asgi.rules import Rule
from glasscache.keys import JsonBody

log = logging.getLogger("glasscache")

BYPASSED: Mapping[str, str] = {
    "body": "it is a GET or HEAD with a body, and no two apps agree what that means: ask by POST or QUERY",
    "body_size": "its body is longer than the rule's `max_body` (1 MiB): raise it",
    "body_timeout": "its body took longer to come than the rule's `body_timeout` (10 s)",
    "credentials": "it says who asks (`Authorization`, `Cookie`, an API key, a client certificate), and the rule does "
    'not say who shares the answer. One for each: `tenant=credential("authorization")`, or a function of the '
    "scope; one for all: `shared=True`",
    "disconnect": "its client left before its body was there",
    "method": "it is a HEAD, and no answer to a GET is stored",
    "no_store": "it says `Cache-Control: no-store`",
    "only_if_cached": "it says `Cache-Control: only-if-cached`, and nothing is stored",
    "overload": "too many loads are under way, or too many wait for it: `Limits(max_flights=..., max_waiters=...)`",
    "precondition": "it has a condition that is for the app: `If-Match`, `If-Unmodified-Since`; with POST any",
    "range": "it asks for a part of an answer that is not stored, or asks for a part by POST or QUERY",
    "uncacheable": "what came a moment ago could not be shared, so for 10 s nobody waits for the next. Ask after that: "
    "the answer then says why it is not stored",
    "unkeyed_field": "its JSON body has a field that `json_body()` neither lists nor ignores, and the app may look at "
    "it: list it, or name it in `ignore=`",
    "unscoped": "the rule's `tenant=` names nobody for it (None or an empty text; an exception is in the log)",
    "when": "the rule's `when=` says no (an exception is in the log)",
}
"""`detail` of a request for which the cache was not asked: what it is."""

UNSTORED: Mapping[str, str] = {
    "clear_site_data": "it has `Clear-Site-Data`, which is for one client",
    "codec": "it is a value in code that cannot be kept as what is annotated: a warning names the function",
    "cors_without_vary": "it allows one origin, without `Vary: Origin`: mount CORS outside of the cache",
    "credentials": "its request says who asks, the rule has neither `ttl=` nor `tenant=`, and the app does not say "
    "`Cache-Control: public`",
    "incomplete": "it was shorter, or longer, than its Content-Length. That shows at its end, after `Cache-Status`",
    "no_cache": "its `Cache-Control` says `no-cache`",
    "no_freshness": "the app does not say for how long it is fresh: give the rule a `ttl=`, or send "
    "`Cache-Control: max-age=60`",
    "no_store": "its `Cache-Control` says `no-store`, or its handler `answer().no_store()`",
    "not_understood": "its `Cache-Control` says `must-understand`, and its status is none that a cache knows",
    "private": "its `Cache-Control` says `private`",
    "set_cookie": "it sets a cookie, which all who share it would get: set cookies elsewhere, or outside of the cache",
    "status": "its status is not stored. Under a `ttl=` only 200 is; others by `statuses=(200, 201)`, errors by "
    "`statuses=(200, 404), negative_ttl=10`",
    "store_if": "`store_if=` says no (an exception, also of `tags=`, is in the log)",
    "too_large": "it is longer than `Limits(max_entry_bytes=...)` (8 MiB) allows, or with all that loads at the time "
    "longer than `max_flight_bytes`. That shows after `Cache-Status`, which says `stored`",
    "too_many_tags": "it is a value in code that was made of others with so many tags that not all can be told",
    "trailers": "it has trailer fields, which are for one client",
    "vary_malformed": "its `Vary` names what is no header field",
    "vary_star": "its `Vary: *` says that nobody can tell whom else it would suit",
}
"""`detail` of an answer that was loaded and not stored: what it is."""

_TOLD_BYPASSED = frozenset({"body_size", "credentials", "unkeyed_field"})
_TOLD_UNSTORED = frozenset(
    {"cors_without_vary", "no_cache", "no_store", "private", "set_cookie", "status", "too_large"}
    | {"vary_malformed", "vary_star"}
)

_PLAIN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")
"""Names of fields come from a client: no others are shown."""


class Hints:
    """What is told of one rule: what it does not keep."""

    __slots__ = ("_rule", "_told")

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._told: set[tuple[str, str]] = set()

    def bypassed(self, reason: str, content: bytes) -> None:
        """A request with this content, as far as it was read, went past the cache."""
        if reason in _TOLD_BYPASSED and self._is_new("bypassed", reason):
            self._tell("a request went past the cache", reason, BYPASSED[reason] + self._unkeyed(reason, content))

    def unstored(self, reason: str) -> None:
        """An answer was not stored that somebody will miss (no error, no redirect; its handler wants it stored)."""
        if reason in _TOLD_UNSTORED and self._is_new("unstored", reason):
            self._tell("an answer was not stored", reason, UNSTORED[reason])

    def _is_new(self, kind: str, reason: str) -> bool:
        if self._rule.ttl is None or (kind, reason) in self._told:
            return False
        self._told.add((kind, reason))
        return True

    def _tell(self, what: str, reason: str, why: str) -> None:
        log.warning("Rule(%r): %s (told once; %s): %s", self._rule.path, what, reason, why)

    def _unkeyed(self, reason: str, content: bytes) -> str:
        """The names of the fields that are neither listed nor ignored, as far as they may be shown."""
        if reason != "unkeyed_field" or not isinstance(self._rule.key, JsonBody):
            return ""
        names = [name for name in self._rule.key.unkeyed(content) if _PLAIN_NAME.fullmatch(name)]
        return f" (here: {', '.join(names[:5])})" if names else ""
