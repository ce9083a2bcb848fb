"""Runs the app for one load: what it receives, and how what it sends becomes a flight.

Decides what is a whole answer: messages in order, as many bytes as its head has declared, and not taken back by its
handler. Must never touch the client: the app runs detached from every request, and readers take what they need from the
flight.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NoReturn

from msgspec import Struct, structs

from glasscache._entry import Entry, Headers
from glasscache._flight import Flight
from glasscache._stream import Head
from glasscache.asgi import _http
from glasscache.asgi._origin import AppLoad, Origin, Plain
from glasscache.asgi._places import MOUNTED, ROUTED
from glasscache.asgi.handler import Notes, open_notes
from glasscache.asgi.types import Message, Scope
from glasscache.policy import Share, Terms

_ROUTED = ("endpoint", "path_params", "route")
"""What routers write into the scope, and loggers and tracers around them read after the answer."""

_TRAILERS = "http.response.trailers"

_NO_BODY: Sequence[Message] = ({"type": "http.request", "body": b"", "more_body": False},)


def run_app(
    origin: Origin,
    asked: Scope,
    messages: Sequence[Message],
    flight: Flight,
    load: Callable[[], AppLoad],
    is_plain: bool,
) -> Awaitable[None]:
    """Run the app to its end, for a flight to feed; its background tasks may outlast the answer. `asked`, `messages`:
    the request; `load`: how it bears on what may be done with its answer; `is_plain`: it has nothing to hide.
    """
    # a scope and messages of its own: what one load does to them, the next must not see
    if is_plain and flight.stale is None and not asked.get("extensions"):
        scope: Scope = {**asked, "headers": [*asked["headers"]]}
    else:
        conditions = () if flight.stale is None else _http.conditions(flight.stale.headers)
        scope = origin.scope_of(asked, conditions)
    notes = open_notes(flight.chain)
    recorder = Recorder(flight, origin, asked, load, scope, iter(messages or _NO_BODY), notes)
    return origin.app(scope, recorder.receive, recorder.send)


class Recorder(Struct, eq=False):
    """The app's `receive` and `send`: feeds the flight."""

    _flight: Flight
    _origin: Origin
    _asked: Scope
    _load: Callable[[], AppLoad]
    _scope: Scope
    _messages: Iterator[Message]
    _notes: Notes
    _plain: Plain | None = None
    """Its head, while all of its body may come in one piece, and then that is all."""
    _length: int | None = None
    _confirmed: Entry | None = None
    _held: bytes = b""
    _received: int = 0
    _terms: Terms | None = None

    async def receive(self) -> Message:
        """What there is of the request; then nothing, until nobody needs the answer."""
        for message in self._messages:
            return {**message}
        await self._flight.until_over()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take one message. OSError when nobody reads any more, RuntimeError for a message that is out of order."""
        flight, kind = self._flight, message["type"]
        if flight.ended:
            self._refuse(kind)
        if kind == "http.response.body":
            plain = self._plain
            if plain is None or message.get("more_body", False):
                await self._body(message, flight.head or self._refuse(kind))
                return
            chunk = bytes(message.get("body") or b"")  # all at once: what `_body` does, in short
            flight.put(chunk)
            length = plain.length
            if (length is None or length == len(chunk)) and self._notes.is_silent:
                flight.finish()
            else:
                self._length, self._received, self._terms = length, len(chunk), plain.head.terms
                self._finish(plain.head)
        elif kind == "http.response.start":
            self._start(message)
        else:
            self._trailers(message, flight.head or self._refuse(kind))

    def _refuse(self, kind: str) -> NoReturn:
        """A message that comes too late, or too early."""
        if self._flight.stopping:
            raise OSError("nobody reads this answer any more")
        why = ": the response is complete" if self._flight.ended else " before 'http.response.start'"
        raise RuntimeError(f"unexpected ASGI message {kind!r}{why}")

    def _tell_route(self, scope: Scope) -> None:
        """Of a mounted app only its own part is known as a template: there, nothing is remembered of it."""
        asked = self._asked
        asked.update({name: scope[name] for name in _ROUTED if name in scope})
        template, root = getattr(scope.get("route"), "path_format", None), scope.get("root_path", "")
        if root != asked.get("root_path", ""):
            asked[MOUNTED] = root
        elif isinstance(template, str):
            asked[ROUTED] = f"{root}{template}"

    def _start(self, message: Message) -> None:
        flight, scope = self._flight, self._scope
        if flight.head is not None:
            raise RuntimeError("unexpected ASGI message 'http.response.start': the response has started")
        if "endpoint" in scope or "route" in scope or "path_params" in scope:
            self._tell_route(scope)
        raw, plain = tuple(message.get("headers", ())), None
        may_be_plain = self._notes.is_silent and self._asked["method"] != "QUERY"  # whose answers have a tag each
        # a server that offers none does not wait for them, whatever an app announces
        has_trailers = bool(message.get("trailers", False)) and _TRAILERS in (scope.get("extensions") or ())
        if may_be_plain and message["status"] == 200 and not has_trailers:
            self._plain = plain = self._origin.plain(raw)
        if plain is not None:
            flight.begin(plain.head)
        else:
            self._look_at(message["status"], raw, has_trailers=has_trailers)

    def _look_at(self, status: int, raw: Sequence[Iterable[object]], *, has_trailers: bool) -> None:
        headers, self._length, _ = _http.head_of(raw)
        stale = self._flight.stale
        if stale is not None and status == 304:
            self._confirmed, self._length = stale, None
            status, headers = stale.status, _http.freshen(stale.headers, headers)
        self._begin(status, headers, has_trailers=has_trailers)

    def _begin(self, status: int, headers: Headers, *, has_trailers: bool) -> None:
        """With a head that has to be looked at."""
        notes = self._notes
        found = self._load().assess(status, headers, notes.ttl)
        share, terms, reason = found.share, found.terms, found.reason
        if has_trailers or not notes.is_stored:
            share, terms, reason = Share.NONE, None, reason or ("trailers" if has_trailers else "no_store")
        if reason and status < 300 and notes.is_stored:  # else nobody will miss it
            self._origin.hints.unstored(reason)
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
                headers=_http.storable_headers(headers, found.hidden),
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
        if kind != _TRAILERS or not head.has_trailers:
            raise RuntimeError(f"unexpected ASGI message {kind!r}: the extension is not offered on a cached route")
        self._flight.trailers += (dict(message),)
        if not message.get("more_trailers", False):
            self._finish(head)

    async def _body(self, message: Message, head: Head) -> None:
        plain = self._plain
        if plain is not None:
            self._plain, self._length, self._terms = None, plain.length, head.terms
        if self._confirmed is not None:
            await self._confirm(self._confirmed, message, head)
            return
        if self._held:
            await self._flight.write(self._held)
            self._held = b""
        more = message.get("more_body", False)
        chunk = bytes(message.get("body") or b"")
        self._received += len(chunk)
        if not more and not head.has_trailers:
            self._flight.put(chunk)
            self._finish(head)
            return
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
        if self._length not in (None, self._received):
            flight.spoil("incomplete")
        elif not self._notes.is_stored:  # taken back by its handler
            flight.spoil("no_store")
        elif self._terms is not None:
            if not self._notes.is_silent:  # the handler may have said more after the head
                terms = self._notes.apply(self._terms, is_error=head.status >= 400)
                flight.head = head = structs.replace(head, terms=terms)
            if self._origin.rule.etag and head.status == 200 and all(name != b"etag" for name, _ in head.headers):
                etag = b"etag", _http.made_tag(flight.buffer.chunks)
                flight.head = structs.replace(head, headers=(*head.headers, etag))
        flight.finish()
