"""Runs the app for one load: what it receives, and how what it sends becomes a flight.

Decides (with `http.assess`) what may be done with the answer when its head is known. Must never touch the client: the
app runs detached from every request, and readers take what they need from the flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from msgspec import Struct, structs

from glasscache._entry import Entry, Headers
from glasscache._flight import Flight
from glasscache._gate import Gate
from glasscache._stream import Head
from glasscache.asgi import http
from glasscache.asgi.handler import AnswerNotes, open_notes
from glasscache.asgi.rules import Rule, said
from glasscache.asgi.types import ASGIApp, Message, Scope
from glasscache.interfaces import Clock
from glasscache.policy import Policy, Share, Terms

log = logging.getLogger("glasscache")

_CONDITIONAL = http.CONDITIONALS
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

_ROUTED = frozenset({"endpoint", "path_params", "route"})
"""What routers write into the scope, and loggers and tracers around them read after the answer."""

_NO_BODY: Sequence[Message] = ({"type": "http.request", "body": b"", "more_body": False},)


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
    hidden: frozenset[bytes] = field(init=False)
    """Fields of a request that its load does not see: the client's conditions (we answer them), and what a rule that
    is shared hides.
    """
    plain: http.Assessment | None = field(init=False)
    """What may be done with a 200 whose head says nothing of it, if that is always the same."""

    def __post_init__(self) -> None:
        rule, self.plain = self.rule, None
        self.hidden = _CONDITIONAL | self.credentials if rule.shared else _CONDITIONAL
        if rule.ttl is not None and rule.store_if is None and not (callable(rule.tags) or rule.keys_by_more):
            found = http.assess(200, (), ttl=rule.ttl, policy=self.policy, statuses=self.statuses, now_wall=0.0)
            terms = None if found.terms is None else replace(found.terms, tags=tuple(rule.tags))
            self.plain = replace(found, terms=terms)

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
    """How to load the answer to one request: called with the flight to feed."""

    origin: Origin
    _scope: Scope
    _messages: Sequence[Message]
    _private: bool
    _plain: bool

    async def __call__(self, flight: Flight) -> None:
        """Run the app to its end; its background tasks may outlast the answer."""
        messages = iter(self._messages or _NO_BODY)

        async def receive() -> Message:
            for message in messages:
                return {**message}
            await flight.until_over()
            return {"type": "http.disconnect"}

        # a scope and messages of its own: what one load does to them, the next must not see
        if self._plain and flight.stale is None and not self._scope.get("extensions"):
            scope: Scope = {**self._scope, "headers": [*self._scope["headers"]], "extensions": {}}
        else:
            conditions = () if flight.stale is None else http.conditions(flight.stale.headers)
            scope = self.origin.scope_of(self._scope, conditions)
        await self.origin.app(scope, receive, Recorder(flight, self, open_notes(), scope).send)

    def routed(self, scope: Scope) -> None:
        """What routers have written into the app's scope belongs into the server's, too."""
        if not _ROUTED.isdisjoint(scope):
            self._scope.update({name: scope[name] for name in _ROUTED if name in scope})

    def assess(self, status: int, headers: Headers, lifetime: float | None) -> http.Assessment:
        """What may be done with this answer, for which its handler named a lifetime in seconds or None."""
        origin = self.origin
        found = http.assess(
            status,
            headers,
            ttl=origin.rule.ttl if lifetime is None else lifetime,
            policy=origin.policy,
            statuses=origin.statuses,
            now_wall=origin.clock.wall(),
            request=http.Asked(
                method=self._scope["method"], headers=self._scope["headers"], has_credentials=self._private
            ),
            guess=origin.rule.guess,
        )
        if found.retry_after is not None:
            origin.gate.pause(origin.clock.now() + found.retry_after)
        if found.terms is None:
            return found
        try:
            if origin.rule.store_if is None or said(origin.rule.store_if(status, headers)):
                tags = self._tags(headers)
                return replace(found, terms=replace(found.terms, tags=tags)) if tags else found
        except Exception:
            log.exception("a rule's callable failed: the answer is not stored")
        return replace(found, share=Share.WHEN_COMPLETE, terms=None, reason="store_if")

    def _tags(self, headers: Headers) -> tuple[str, ...]:
        tags = self.origin.rule.tags
        found: Iterable[str] = tags(self._scope) if callable(tags) else tags
        url = (http.url_tag(self._scope),) if self.origin.rule.keys_by_more else ()
        return (*found, *url, *http.tags(headers), *http.groups(self._scope, headers, b"cache-groups"))


class Recorder(Struct, eq=False):
    """The app's `send`: feeds the flight."""

    _flight: Flight
    _load: AppLoad
    _notes: AnswerNotes
    _scope: Scope
    _length: int | None = None
    _confirmed: Entry | None = None
    _held: bytes = b""
    _received: int = 0
    _terms: Terms | None = None
    _is_simple: bool = False
    """Its body may come in one piece, and then that is all."""

    async def send(self, message: Message) -> None:
        """Take one message. OSError when nobody reads any more, RuntimeError for a message that is out of order."""
        flight, kind = self._flight, message["type"]
        head = flight.head
        if flight.stopping:
            raise OSError("nobody reads this answer any more")
        if flight.ended:
            raise RuntimeError(f"unexpected ASGI message {kind!r}: the response is complete")
        if kind == "http.response.start":
            self._start(message)
            return
        if head is None:
            raise RuntimeError(f"unexpected ASGI message {kind!r} before 'http.response.start'")
        if kind != "http.response.body":
            self._trailers(message, head)
            return
        if self._is_simple and not message.get("more_body", False):
            self._last(message, head)
        else:
            await self._body(message, head)

    def _start(self, message: Message) -> None:
        if self._flight.head is not None:
            raise RuntimeError("unexpected ASGI message 'http.response.start': the response has started")
        status = message["status"]
        headers, self._length, says_something = http.head_of(message.get("headers", ()))
        has_trailers = bool(message.get("trailers", False))
        self._load.routed(self._scope)
        plain = self._load.origin.plain
        if not (has_trailers or says_something or plain is None) and status == 200 and self._notes.is_silent:
            self._terms, self._is_simple = plain.terms, True
            self._flight.begin(
                Head(status=status, headers=headers, own_headers=headers, share=plain.share, terms=plain.terms)
            )
            return
        stale = self._flight.stale
        if stale is not None and status == 304:
            self._confirmed, self._length = stale, None
            status, headers = stale.status, http.freshen(stale.headers, headers)
        self._begin(status, headers, has_trailers=has_trailers)

    def _begin(self, status: int, headers: Headers, *, has_trailers: bool) -> None:
        """With a head that has to be looked at."""
        notes = self._notes
        found = self._load.assess(status, headers, notes.lifetime)
        share, terms, reason = found.share, found.terms, found.reason
        if has_trailers or not notes.is_stored:
            share, terms, reason = Share.NONE, None, reason or ("trailers" if has_trailers else "no_store")
        if terms is not None:
            if self._confirmed is not None:  # what its load said of it still holds
                tags = dict.fromkeys((*terms.tags, *self._confirmed.tags))
                terms = replace(terms, tags=tuple(tags), price=self._confirmed.price)
            self._terms = terms
            terms = notes.apply(terms, is_error=status >= 400)
        self._flight.confirmed = self._confirmed is not None
        self._flight.begin(
            Head(
                status=status,
                headers=http.storable_headers(headers, found.hidden),
                own_headers=headers,
                share=share,
                terms=terms,
                vary=found.vary,
                has_trailers=has_trailers,
                reason=reason,
            )
        )

    def _trailers(self, message: Message, head: Head) -> None:
        kind = message["type"]
        if kind != "http.response.trailers" or not head.has_trailers:
            raise RuntimeError(f"unexpected ASGI message {kind!r}: the extension is not offered on a cached route")
        self._flight.trailers += (dict(message),)
        if not message.get("more_trailers", False):
            self._finish(head)

    def _last(self, message: Message, head: Head) -> None:
        """The rest of the body, and nearly always all of it."""
        chunk = bytes(message.get("body", b""))
        self._received += len(chunk)
        self._flight.put(chunk)
        self._finish(head)

    async def _body(self, message: Message, head: Head) -> None:
        self._is_simple = False
        if self._confirmed is not None:
            await self._confirm(self._confirmed, message, head)
            return
        if self._held:
            await self._flight.write(self._held)
            self._held = b""
        more = message.get("more_body", False)
        if not more and not head.has_trailers:
            self._last(message, head)
            return
        chunk = bytes(message.get("body", b""))
        self._received += len(chunk)
        if more and self._received == self._length:
            self._held = chunk  # nobody has it whole before it is stored: who asks again at once finds it
        else:
            await self._flight.write(chunk)
        if more:
            await asyncio.sleep(0)  # an app that computes without awaiting must not hold back what it has sent

    async def _confirm(self, stale: Entry, message: Message, head: Head) -> None:
        """The origin has nothing to add to what is stored."""
        if not message.get("more_body", False):
            for chunk in stale.chunks:
                await self._flight.write(chunk)
            self._finish(head)

    def _finish(self, head: Head) -> None:
        flight = self._flight
        if self._length not in (None, self._received) or not self._notes.is_stored:
            flight.void = True  # cut short, too long, or taken back by the handler: nothing to keep
        elif self._terms is not None:
            if not self._notes.is_silent:  # the handler may have said more after the head
                terms = self._notes.apply(self._terms, is_error=head.status >= 400)
                flight.head = head = structs.replace(head, terms=terms)
            if self._load.origin.rule.etag and head.status == 200 and all(name != b"etag" for name, _ in head.headers):
                etag = b"etag", http.made_tag(flight.buffer.chunks)
                flight.head = structs.replace(head, headers=(*head.headers, etag))
        flight.finish()
