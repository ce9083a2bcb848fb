"""Runs the app for one load: what it receives, and how what it sends becomes a flight.

Decides (with `http.assess`) what may be done with the answer when its head is known. Must never touch the client: the
app runs detached from every request, and readers take what they need from the flight.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from glasscache._entry import Entry, Headers
from glasscache._flight import Flight
from glasscache._gate import Gate
from glasscache._stream import Head
from glasscache.asgi import http
from glasscache.asgi.handler import AnswerNotes, open_notes
from glasscache.asgi.rules import Rule
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

_ROUTED = ("endpoint", "path_params", "route")
"""What routers write into the scope, and loggers and tracers around them read after the answer."""

_NO_BODY: Sequence[Message] = ({"type": "http.request", "body": b"", "more_body": False},)


def load_scope(scope: Scope, rule: Rule, credentials: frozenset[bytes], conditions: Headers = ()) -> Scope:
    """The scope that the app sees: without the client's conditions (we answer them) but with ours, without hidden
    extensions and what a shared rule hides.
    """
    hidden = _CONDITIONAL | credentials if rule.shared else _CONDITIONAL
    extensions = {name: value for name, value in (scope.get("extensions") or {}).items() if name not in _HIDDEN}
    if rule.shared and extensions.get("tls"):
        tls = extensions["tls"]
        extensions["tls"] = {name: value for name, value in tls.items() if not name.startswith("client_cert_")}
    headers = [*((name, value) for name, value in scope["headers"] if name not in hidden), *conditions]
    return {**scope, "headers": headers, "extensions": extensions}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The app behind one rule, and on what terms its answers are kept."""

    app: ASGIApp
    rule: Rule
    policy: Policy
    gate: Gate
    clock: Clock
    credentials: frozenset[bytes]
    statuses: frozenset[int] | None


class AppLoad:
    """How to load the answer to one request: called with the flight to feed."""

    __slots__ = ("_asked", "_messages", "_origin", "_scope")

    def __init__(self, origin: Origin, scope: Scope, body: Sequence[Message], asked: http.Asked) -> None:
        self._origin = origin
        self._scope = scope
        self._messages = body or _NO_BODY
        self._asked = asked

    async def __call__(self, flight: Flight) -> None:
        """Run the app to its end; its background tasks may outlast the answer."""
        messages = deque(self._messages)
        recorder = Recorder(flight, self, open_notes())

        async def receive() -> Message:
            if messages:
                return {**messages.popleft()}
            await flight.until_over()
            return {"type": "http.disconnect"}

        # a scope and messages of its own: what one load does to them, the next must not see
        conditions = () if flight.stale is None else http.conditions(flight.stale.headers)
        scope = load_scope(self._scope, self._origin.rule, self._origin.credentials, conditions)

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._scope.update({name: scope[name] for name in _ROUTED if name in scope})
            await recorder.send(message)

        await self._origin.app(scope, receive, send)

    @property
    def makes_tags(self) -> bool:
        """Whether answers without an ETag get one of ours."""
        return self._origin.rule.etag

    def assess(self, status: int, headers: Headers, lifetime: float | None) -> http.Assessment:
        """What may be done with this answer, for which its handler named a lifetime in seconds or None."""
        found = http.assess(
            status,
            headers,
            ttl=self._origin.rule.ttl if lifetime is None else lifetime,
            policy=self._origin.policy,
            statuses=self._origin.statuses,
            now_wall=self._origin.clock.wall(),
            request=self._asked,
            guess=self._origin.rule.guess,
        )
        if found.retry_after is not None:
            self._origin.gate.pause(self._origin.clock.now() + found.retry_after)
        if found.terms is None:
            return found
        try:
            if self._origin.rule.store_if is None or self._origin.rule.store_if(status, headers):
                tags = self._tags(headers)
                return replace(found, terms=replace(found.terms, tags=tags)) if tags else found
        except Exception:
            log.exception("a rule's callable failed: the answer is not stored")
        return replace(found, share=Share.WHEN_COMPLETE, terms=None, reason="store_if")

    def _tags(self, headers: Headers) -> tuple[str, ...]:
        tags = self._origin.rule.tags
        found: Iterable[str] = tags(self._scope) if callable(tags) else tags
        url = (http.url_tag(self._scope),) if self._origin.rule.keys_by_more else ()
        return (*found, *url, *http.tags(headers), *http.groups(self._scope, headers, b"cache-groups"))


class Recorder:
    """The app's `send`: feeds the flight."""

    __slots__ = ("_confirmed", "_flight", "_held", "_length", "_load", "_notes", "_received", "_terms")

    def __init__(self, flight: Flight, load: AppLoad, notes: AnswerNotes) -> None:
        self._flight = flight
        self._load = load
        self._notes = notes
        self._length: int | None = None
        self._confirmed: Entry | None = None
        self._held = b""
        self._received = 0
        self._terms: Terms | None = None

    async def send(self, message: Message) -> None:
        """Take one message. OSError when nobody reads any more, RuntimeError for a message that is out of order."""
        flight = self._flight
        if flight.stopping:
            raise OSError("nobody reads this answer any more")
        kind = message["type"]
        if flight.ended:
            raise RuntimeError(f"unexpected ASGI message {kind!r}: the response is complete")
        if kind == "http.response.start":
            self._start(message)
        elif flight.head is None:
            raise RuntimeError(f"unexpected ASGI message {kind!r} before 'http.response.start'")
        elif kind == "http.response.body":
            await self._body(message, flight.head)
        elif kind == "http.response.trailers" and flight.head.has_trailers:
            flight.trailers += (dict(message),)
            if not message.get("more_trailers", False):
                self._finish(flight.head)
        else:
            raise RuntimeError(f"unexpected ASGI message {kind!r}: the extension is not offered on a cached route")

    def _start(self, message: Message) -> None:
        if self._flight.head is not None:
            raise RuntimeError("unexpected ASGI message 'http.response.start': the response has started")
        status = message["status"]
        headers = http.normalise(message.get("headers", ()))
        has_trailers = bool(message.get("trailers", False))
        stale = self._flight.stale
        if stale is not None and status == 304:
            self._confirmed = stale
            status, headers = stale.status, http.freshen(stale.headers, headers)
        else:
            self._length = http.content_length(headers)
        found = self._load.assess(status, headers, self._notes.lifetime)
        share, terms = found.share, found.terms
        if has_trailers or not self._notes.is_stored:
            share, terms = Share.NONE, None
        if terms is not None:
            if self._confirmed is not None:  # what its load said of it still holds
                tags = dict.fromkeys((*terms.tags, *self._confirmed.tags))
                terms = replace(terms, tags=tuple(tags), price=self._confirmed.price)
            self._terms = terms
            terms = self._notes.apply(terms, is_error=status >= 400)
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
            )
        )

    async def _body(self, message: Message, head: Head) -> None:
        if self._confirmed is not None:
            await self._confirm(self._confirmed, message, head)
            return
        chunk = bytes(message.get("body", b""))
        self._received += len(chunk)
        more = message.get("more_body", False)
        is_last = not more and not head.has_trailers
        if self._held:
            await self._flight.write(self._held)
            self._held = b""
        if more and self._received == self._length:
            self._held = chunk  # nobody has it whole before it is stored: who asks again at once finds it
        elif is_last:
            self._flight.put(chunk)
        else:
            await self._flight.write(chunk)
        if more:
            await asyncio.sleep(0)  # an app that computes without awaiting must not hold back what it has sent
        elif is_last:
            self._finish(head)

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
            terms = self._notes.apply(self._terms, is_error=head.status >= 400)
            if terms is not head.terms:  # the handler said more after the head
                flight.head = head = replace(head, terms=terms)
            if self._load.makes_tags and head.status == 200 and all(name != b"etag" for name, _ in head.headers):
                etag = b"etag", http.made_tag(flight.buffer.chunks)
                flight.head = replace(head, headers=(*head.headers, etag))
        flight.finish()
