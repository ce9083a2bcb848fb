"""The app behind a rule: what it sees of a request, and what may be done with its answer.

Decides (with `_http.assess`) who may have an answer, on what terms it is kept, and which heads need no look: a 200 that
says nothing of it. Must never show the app what is not for it: conditions, and credentials where all share an answer.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import Struct

from glasscache._entry import Headers, common_list
from glasscache._gate import Gate
from glasscache._stream import Head
from glasscache._values import names_of
from glasscache.asgi import _http
from glasscache.asgi._why import Hints
from glasscache.asgi.rules import Rule, keys_by_more, not_awaitable
from glasscache.asgi.types import ASGIApp, Scope
from glasscache.interfaces import Clock
from glasscache.policy import Policy, Share

log = logging.getLogger("glasscache")

_HIDDEN = frozenset(
    {
        "http.response.pathsend",
        "http.response.zerocopysend",
        "http.response.push",
        "http.response.early_hint",
        "http.response.debug",
    }
)
"""Extensions that would bypass the recorder, or speak to one client of many."""

_HEADS = 1024
"""How many heads of an app are known at once, of those that come again and again."""


class Plain(Struct, eq=False):
    """The head of a 200 that says nothing of what may be done with it, and may be stored as it is."""

    head: Head
    length: int | None
    """Bytes of the body, as it declares; None: it does not."""


@dataclass(slots=True, kw_only=True)
class Origin:
    """The app behind one rule, and on what terms its answers are kept."""

    app: ASGIApp
    rule: Rule
    policy: Policy
    gate: Gate
    clock: Clock
    credentials: frozenset[bytes]
    statuses: frozenset[int] | None
    hints: Hints
    hidden: frozenset[bytes] = field(init=False)
    """Fields of a request that its load does not see: the client's conditions (we answer them), and what a rule that
    is shared hides.
    """
    _of_plain: _http.Assessment | None = field(init=False, default=None)
    """What may be done with a 200 whose head says nothing of it, if that is always the same."""
    _known: dict[tuple[Any, ...], Plain] = field(init=False, default_factory=dict)
    """Such heads, as the app sends them."""

    def __post_init__(self) -> None:
        rule = self.rule
        self.hidden = _http.CONDITIONALS | self.credentials if rule.shared else _http.CONDITIONALS
        if rule.ttl is not None and rule.store_if is None and not (callable(rule.tags) or keys_by_more(rule)):
            found = _http.assess(200, (), ttl=rule.ttl, policy=self.policy, statuses=self.statuses, now_wall=0.0)
            terms = None if found.terms is None else replace(found.terms, tags=names_of(rule.tags))
            self._of_plain = replace(found, terms=terms)

    def plain(self, raw: tuple[Any, ...]) -> Plain | None:
        """A 200 with these header fields, if it is plain."""
        try:
            return self._known.get(raw) or self._read_plain(raw, remembers=True)
        except TypeError:  # an app may well send lists
            return self._read_plain(raw, remembers=False)

    def _read_plain(self, raw: tuple[Any, ...], *, remembers: bool) -> Plain | None:
        found = self._of_plain
        if found is None:
            return None
        headers, length, says_something = _http.head_of(raw)
        if says_something or (self.rule.etag and all(name != b"etag" for name, _ in headers)):
            return None
        common = common_list(headers)
        headers = common or headers
        head = Head(status=200, headers=headers, own_headers=headers, share=found.share, terms=found.terms)
        plain = Plain(head, length)
        if remembers and common:
            if len(self._known) >= _HEADS:
                self._known.clear()
            self._known[raw] = plain
        return plain

    def scope_of(self, scope: Scope, conditions: Headers) -> Scope:
        """The scope that the app sees: with our conditions, without what is hidden."""
        extensions = scope.get("extensions")
        shown = {name: value for name, value in extensions.items() if name not in _HIDDEN} if extensions else {}
        if self.rule.shared and shown.get("tls"):
            tls = shown["tls"]
            shown["tls"] = {name: value for name, value in tls.items() if not name.startswith("client_cert_")}
        hidden = self.hidden
        headers = [(name, value) for name, value in scope["headers"] if name not in hidden]
        headers += conditions
        return {**scope, "headers": headers, "extensions": shown}


class AppLoad(Struct, eq=False):
    """The load of the answer to one request, as far as it bears on what may be done with that answer."""

    origin: Origin
    asked: Scope
    """The request's own scope."""
    is_private: bool
    """Whether it has credentials, and its rule does not say who shares the answer."""

    def assess(self, status: int, headers: Headers, lifetime: float | None) -> _http.Assessment:
        """What may be done with this answer, for which its handler named a lifetime in seconds or None."""
        origin = self.origin
        found = _http.assess(
            status,
            headers,
            ttl=origin.rule.ttl if lifetime is None else lifetime,
            policy=origin.policy,
            statuses=origin.statuses,
            now_wall=origin.clock.wall(),
            request=_http.Asked(
                method=self.asked["method"], headers=self.asked["headers"], has_credentials=self.is_private
            ),
            guess=origin.rule.guess,
        )
        if found.retry_after is not None:
            origin.gate.pause(origin.clock.now() + found.retry_after)
        if found.terms is None:
            return found
        try:
            if origin.rule.store_if is None or not_awaitable(origin.rule.store_if(status, headers)):
                tags = self._tags(headers)
                return replace(found, terms=replace(found.terms, tags=tags)) if tags else found
        except Exception:
            log.exception("a rule's callable failed: the answer is not stored")
        return replace(found, share=Share.WHEN_COMPLETE, terms=None, reason="store_if")

    def _tags(self, headers: Headers) -> tuple[str, ...]:
        tags = self.origin.rule.tags
        found = names_of(tags(self.asked) if callable(tags) else tags)
        rule = self.origin.rule
        is_one_of_many = keys_by_more(rule) or self.asked["method"] == "QUERY"
        url = (_http.url_tag(self.asked, by_host=rule.host),) if is_one_of_many else ()
        return (*found, *url, *_http.tags(headers), *_http.groups(self.asked, headers, b"cache-groups"))
