"""One request that takes the slow way: it asks the engine, or it goes past the cache.

Decides nothing of HTTP (that is `_http.py`) and nothing of loads (that is the engine): it hands the one's words to the
other, and sees to it that every request is answered, counted and told once.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from glasscache._ask import Answer, Ask
from glasscache._entry import Entry, Key
from glasscache._events import Answered, Outcome
from glasscache._flight import Flight
from glasscache._reader import Reader, ReaderGone
from glasscache._warming import Warmth
from glasscache.asgi import _http, _parts, _request
from glasscache.asgi._heads import HeadReader
from glasscache.asgi._http import cache_status
from glasscache.asgi._origin import AppLoad
from glasscache.asgi._parts import PartKeeper
from glasscache.asgi._places import MOUNTED, ROUTED
from glasscache.asgi._recorder import run_app
from glasscache.asgi._request import BODY_METHODS, Body, BypassError
from glasscache.asgi._responder import Watcher, answer_nobody, play, send_entry, send_hit, send_new, show, status_of
from glasscache.asgi.types import Message, Receive, Scope, Send

if TYPE_CHECKING:
    from glasscache.asgi._route import Route

log = logging.getLogger("glasscache")

_NO_BODY = Body()


async def _learn_nothing(message: Message) -> None:
    """For an answer of which nothing is kept."""


class Exchange(Ask):
    """One HTTP request and its answer, where the short way of a hit (`Route`) does not do."""

    _is_plain: bool
    """Whether the request has no conditions, credentials, ranges or Cache-Control of its own to be heard."""
    _reader: Reader
    wish: _http.Wish | None

    def __init__(
        self,
        route: Route,
        scope: Scope,
        receive: Receive,
        send: Send,
        body: Body | None = None,
        key: Key = b"",
        is_missing: bool = False,
    ) -> None:
        """`key`: if the short way has found it already, which it does for plain requests alone. `is_missing`: the near
        tier has just been looked into, and has nothing.
        """
        self.start()
        self.key = self.at = key
        self.is_missing = is_missing
        self._route = route
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body = body or _NO_BODY
        self._begun = route.now()
        self._is_plain = True
        self._watcher: Watcher | None = None
        origin = route.origin
        self.counters = route.counters
        self.policy = origin.policy
        self.gate = origin.gate
        if route.rule.ttl is None:
            self.queues = False

    async def run(self) -> None:
        """Answer a request of which no key is known yet."""
        try:
            self.key = self.at = await self._find_key()
        except BypassError as bypass:
            await self.bypass(bypass.reason)
            return
        if self._route.clear_keys:
            self.text = self._route.shown(self._scope, self._body.content)
        found, only = None, self._only_from_store()
        if only:
            found = self._route.engine.peek(self) or (self._part() if only == "range" else None)
            if found is None:
                await (self._refuse() if only == "only-if-cached" else self.bypass(only, learns=True))
                return
        await self.answer(found)

    async def answer(self, answer: Answer | None = None) -> None:
        """Answer a request whose key is known: with this answer, or by asking the engine for one."""
        route, engine = self._route, self._route.engine
        try:
            if answer is None:
                answer = await engine.answer(self)
            route.places.note_route(self._scope)
            if route.telemetry.annotates:
                self._annotate(answer)
            await self._pass_on(answer)
            self._finish(answer)
        except ReaderGone:
            if answer is None:  # otherwise the client has left in the middle of it
                await answer_nobody(self._send)
        except Exception:
            if answer is None and route.telemetry.annotates:
                self._annotate(Answer(result="error", tier="none"))
            raise
        finally:
            if self._watcher is not None:
                self._watcher.stop()

    async def warm(self, tenant: str | None) -> Warmth:
        """See to it that there is an answer, without answering. `tenant`: see `unvouched`."""
        route, scope = self._route, self._scope
        try:
            self.key = self.at = await self._find_key()
        except BypassError as bypass:
            return Warmth("not_stored", bypass.reason)
        if route.clear_keys:
            self.text = route.shown(scope, self._body.content)
        why = _request.unvouched(scope, route.rule, route.origin.credentials, tenant) or self._only_from_store()
        if why:
            return Warmth("not_stored", why)
        if way := route.places.ways.get(scope["method"]):
            route.places.of(scope, way)  # from here on it is remembered what was found for it
        warmth = await route.engine.warm(self)
        route.places.note_route(scope)
        return warmth

    def _finish(self, answer: Answer) -> None:
        route, scope = self._route, self._scope
        route.engine.tally.finished(self, answer, route.now() - self._begun)
        if MOUNTED in scope:  # from here on nobody asks where the request itself came to
            scope["root_path"] = scope.pop(MOUNTED)

    async def _find_key(self) -> Key:
        """The key of a request that the short way cannot handle. BypassError if it has none."""
        route, scope = self._route, self._scope
        self._is_plain = False
        self._body = Body()
        if route.hears:
            self.wish = _http.wish_of(scope["headers"])
        _request.refuse(scope, route.rule, route.origin.credentials)
        if self.wish is not None and self.wish.no_store:
            raise BypassError("no_store")
        if scope["method"] in BODY_METHODS:
            await self._body.read(self._receive, route.rule)
        key = route.key_of(scope, self._body.content)
        route.places.note_authority(scope)
        return key

    # --- as an `Ask` ------------------------------------------------------------------------------------------------

    def load(self, flight: Flight) -> Awaitable[None]:
        """Run the app, which feeds the flight."""
        messages = self._body.messages
        return run_app(self._route.origin, self._scope, messages, flight, self._app_load, self._is_plain)

    def _app_load(self) -> AppLoad:
        route, scope = self._route, self._scope
        private = not self._is_plain and _request.has_credentials(scope, route.rule, route.origin.credentials)
        return AppLoad(route.origin, scope, private)

    def variant(self, marker: Entry) -> Key:
        """The key of the variant that this request selects (RFC 9111, section 4.1): `marker` names the fields."""
        headers = self._scope["headers"]
        values = (_http.vary_value(name, headers) for name in marker.vary)
        return self._route.cache.keyring.digest(b"vary", self.key, marker.chunks[0], *values)

    def confirms(self, entry: Entry) -> bool:
        """RFC 9110, section 13.1.2: to a POST nobody answers 304."""
        return entry.kept > 0 and self._scope["method"] != "POST" and _http.has_validator(entry.headers)

    def unstored(self, reason: str) -> None:
        """Count it, and say so where nobody else does."""
        super().unstored(reason)
        if reason == "too_large":
            self._route.origin.hints.unstored(reason)

    def joined(self, reader: Reader) -> None:
        """The request reads this flight from now on."""
        self._reader = reader
        reader.watch = self._watch
        if self._watcher is not None or reader.stream.is_watched:
            self._watch()

    def _watch(self) -> None:
        """Watch the client for its disconnect from now on: a task, which short loads are spared."""
        if self._watcher is None:
            self._watcher = Watcher(self._receive)
        self._watcher.joined(self._reader)

    # --- its answer -------------------------------------------------------------------------------------------------

    def _pass_on(self, answer: Answer) -> Awaitable[None]:
        entry = answer.entry
        if entry is not None and answer.result == "miss":
            return send_new(entry, self._send)
        now = self._route.now()
        if entry is not None and self._is_plain and answer.result == "hit":  # as the short way does
            if now >= entry.shown[0]:
                show(entry, now)
            return send_hit(entry, self._send)
        status_field = status_of(answer, self, now)
        if entry is not None:
            return send_entry(entry, status_field, now, self._scope, self._send)
        assert answer.reader is not None
        return play(answer.reader, status_field, None if self._is_plain else self._scope, self._send)

    def _part(self) -> Answer | None:
        """An answer from a stored part (a 206), if that has all the bytes that are asked for."""
        whole, self.at = self.at, self._key_of_part()
        entry = self._route.near.peek(self.at)
        found = None
        if entry is not None and _parts.within(entry, self._scope["headers"]) is not None:
            found = self._route.engine.peek(self)
        if found is None:
            self.at = whole
        return found

    def _key_of_part(self) -> Key:
        return self._route.cache.keyring.digest(b"part", self.at)

    def _only_from_store(self) -> str:
        """Why this request neither leads nor joins a load; empty if it may."""
        if self.wish is not None and self.wish.only_if_cached:
            return "only-if-cached"
        if self._scope["method"] == "HEAD":
            return "method"
        return "range" if any(name == b"range" for name, _ in self._scope["headers"]) else ""

    async def _refuse(self) -> None:
        """Nothing is stored that could answer, and the client wants nothing else (RFC 9111, section 5.2.1.7)."""
        self._told_bypass("only_if_cached")
        field = cache_status.HEADER, cache_status.bypass("only_if_cached", "request")
        await self._send({"type": "http.response.start", "status": 504, "headers": [field]})
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        self._route.telemetry.emit(Answered(result="bypass", duration=self._route.now() - self._begun))

    def _annotate(self, answer: Answer) -> None:
        route = self._route
        now, entry = route.now(), None if answer.result == "miss" else answer.entry
        route.telemetry.annotate(
            Outcome(
                result=answer.result,
                tier=answer.tier,
                group=route.counters.name,
                key=self.at,
                text=self.text,
                age=None if entry is None else now - entry.born,
                ttl=None if entry is None else entry.fresh_until - now,
                bypass=answer.bypass,
            )
        )
        if ROUTED not in self._scope:
            route.name_route(self._scope)

    def _told_bypass(self, reason: str) -> None:
        route = self._route
        route.counters.others["bypass", "none"] += 1
        route.counters.bypasses[reason] += 1
        if route.telemetry.annotates:
            route.telemetry.annotate(Outcome(result="bypass", tier="none", group=route.counters.name, bypass=reason))

    def _learner(self, reason: str) -> Callable[[Message], Awaitable[None]]:
        """Who is shown the messages of an answer that goes past the cache: of a part, or of an answer to a HEAD."""
        engine, load = self._route.engine, self._app_load()
        if reason == "range":
            return PartKeeper(engine, load, self, self._key_of_part())
        return HeadReader(engine, load, self)

    async def bypass(self, reason: str, *, learns: bool = False) -> None:
        """Let the app answer as if unwrapped: what was read is replayed, then comes the live `receive`.

        `learns`: the request is a HEAD or asks for a part. Under a rule without a ttl its answer, which goes by, may
        then renew what is stored (RFC 9111, section 4.3.5), or be kept itself (section 3.3).
        """
        route = self._route
        self._told_bypass(reason)
        route.origin.hints.bypassed(reason, self._body.content)
        replay = iter(self._body.messages)

        async def receive() -> Message:
            message = next(replay, None)
            return await self._receive() if message is None else message

        learn = self._learner(reason) if learns and route.rule.ttl is None else _learn_nothing
        field = cache_status.HEADER, cache_status.bypass(reason, "method" if reason == "method" else "bypass")

        async def send(message: Message) -> None:
            try:
                await learn(message)
            except Exception:
                log.exception("nothing was learned from an answer that went by")
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), field]}
            await self._send(message)

        failure: Exception | None = None
        try:
            await route.origin.app(self._scope, receive, send)
        except Exception as error:
            failure = error
            raise
        finally:
            seconds = route.now() - self._begun
            route.telemetry.emit(Answered(result="bypass", duration=seconds, error=failure))
