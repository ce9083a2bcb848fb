"""One rule at work: the short way of a hit, and the slow way of everything else.

The short way answers a request without body, credentials or conditions from memory: no task, no future, no lock, no
span. It only ever does what the slow way would do; whatever it is not sure of, it leaves to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from glasscache._entry import Entry, Headers, Key
from glasscache._events import Answered, Outcome
from glasscache._gate import Gate
from glasscache._run import Answer, Ask
from glasscache._stream import ReaderGone
from glasscache.asgi import _request, http
from glasscache.asgi._recorder import AppLoad, Origin
from glasscache.asgi._request import BODY_METHODS, Body, BypassError
from glasscache.asgi._responder import Watcher, answer_nobody, play, send_chunks, send_entry, status_of
from glasscache.asgi.http import cache_status
from glasscache.asgi.rules import Rule
from glasscache.asgi.types import ASGIApp, Message, Receive, Scope, Send
from glasscache.cache import Cache
from glasscache.errors import ConfigurationError
from glasscache.keys import JsonBody

_MEMO = 4096  # raw requests whose key is remembered; anyone can send new ones, so the memo is bounded
_MEMO_BYTES = 2048
_SHOWN = 1024  # characters of what was asked that telemetry shows, if it may


class Route:
    """One rule of one middleware."""

    def __init__(self, rule: Rule, cache: Cache, app: ASGIApp, credentials: frozenset[bytes]) -> None:
        self._rule = rule
        self._cache = cache
        self._origin = Origin(
            app=app,
            rule=rule,
            policy=rule.terms(cache.policy),
            gate=Gate(rule.max_loads),
            clock=cache.clock,
            credentials=credentials,
            statuses=None if rule.statuses is None else frozenset(rule.statuses),
        )
        self._hears = rule.ttl is None or rule.client_may_refresh
        self._engine = cache.engine
        self._near = cache.engine.near
        self._clock = cache.clock
        self._now = cache.clock.now
        self._telemetry = cache.telemetry
        self._counters = cache.engine.counters.group(rule.group)
        self.authorities: set[tuple[str, bytes]] = set()
        # --- the short way
        self._every, self._first = self._engine.tally.every, 1 % self._engine.tally.every
        self._memo: dict[tuple[object, ...], Key] = {}
        self._wary_of: dict[str, frozenset[bytes]] = {}
        told = cache.detail.trace_hits or cache.detail.clear_keys  # by the slow way alone
        if not (rule.tenant or rule.when or rule.headers or told):
            # shared=True changes nothing: a request with credentials takes the slow way, to the same key
            wary = credentials | http.CONDITIONALS | http.ROUTING | {b"host", b"range", b"content-encoding"}
            if self._hears:
                wary |= {b"cache-control"}
            described = {b"content-type", b"content-length", b"transfer-encoding"}
            if rule.key is None or isinstance(rule.key, JsonBody):  # any other may look at headers
                self._wary_of = {method: wary | {b"content-type"} for method in BODY_METHODS}
                self._wary_of["GET"] = wary | described

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        wary_of = self._wary_of.get(scope["method"])
        token = None if wary_of is None else self._recognise(scope, wary_of)
        if token is None:
            await Exchange(self, scope, receive, send).run(None)
            return
        body = None
        try:
            if scope["method"] == "GET":
                key = self._memo.get(token) or self._remember(token, self.key_of(scope, b""))
            else:
                body = Body()
                rest = body.take(receive, self._rule)
                if rest is not None:
                    await rest
                key = self._memo.get((token, body.content)) or self._identify(token, scope, body.content)
        except BypassError as bypass:
            await Exchange(self, scope, receive, send, body).bypass(bypass.reason)
            return
        now = self._now()
        entry = self._near.peek(key)
        if entry is None or now >= entry.settled_until or entry.vary:
            await Exchange(self, scope, receive, send, body).run(key)
            return
        await send(self._begin(entry, key, now))
        if len(entry.chunks) == 1:
            await send({"type": "http.response.body", "body": entry.chunks[0], "more_body": False})
        else:
            await send_chunks(entry.chunks, send)
        if self._counters.hits % self._every == self._first:
            self._engine.tally.timed(self._counters, now)

    def _identify(self, token: tuple[object, ...], scope: Scope, content: bytes) -> Key:
        """The key of a request with a content that is not remembered. BypassError if it has none."""
        places = token, None  # no content: what is remembered under it is no key
        place = self._memo.get(places) or self._remember(places, self._place_of(scope, self._rule))
        key = self._key_at(place, scope, content, self._rule)
        return self._remember((token, content), key) if len(content) <= _MEMO_BYTES else key

    def _remember(self, token: tuple[object, ...], key: Key) -> Key:
        if len(self._memo) >= _MEMO:
            self._memo.clear()
        self._memo[token] = key
        return key

    def _recognise(self, scope: Scope, wary_of: frozenset[bytes]) -> tuple[object, ...] | None:
        """What tells this request from others as it stands, if the short way can handle it."""
        host = kind = None
        for name, value in scope["headers"]:
            if name in wary_of:
                if name == b"host" and host is None:
                    host = value
                elif name == b"content-type" and kind is None and scope["method"] != "GET":
                    kind = value
                else:
                    return None
        query = scope.get("query_string", b"")
        path = scope["path"]
        extensions = scope.get("extensions")
        if len(path) + len(query) + len(host or b"") + len(kind or b"") > _MEMO_BYTES or (
            extensions and "tls" in extensions
        ):
            return None
        return (
            path,
            query,
            host,
            kind,
            scope["method"],
            scope.get("raw_path"),
            scope.get("scheme"),
            scope.get("root_path"),
        )

    def _begin(self, entry: Entry, key: Key, now: float) -> Message:
        """Count a hit; the first message of its answer."""
        counters = self._counters
        counters.hits += 1
        counters.saved_seconds += entry.cost
        counters.saved_price += entry.price
        counters.saved_bytes += entry.size
        if self._telemetry.annotates:
            self._telemetry.annotate(Outcome(result="hit", tier="memory", group=counters.name, key=key))
        until, fields = entry.shown
        if now >= until:
            fields = _show(entry, now)
        return {"type": "http.response.start", "status": entry.status, "headers": [*fields]}

    def key_of(self, scope: Scope, content: bytes, *, tenant: str | None = None) -> Key:
        """The key of a request, for the tenant that the rule names unless one is given; BypassError if it has none."""
        rule = self._rule if tenant is None else replace(self._rule, tenant=lambda _: tenant, shared=False)
        return self._key_at(self._place_of(scope, rule), scope, content, rule)

    def _place_of(self, scope: Scope, rule: Rule) -> Key:
        return _request.place_of(scope, rule, self._cache.keyring)

    def _key_at(self, place: Key, scope: Scope, content: bytes, rule: Rule) -> Key:
        return _request.key_at(place, scope, content, rule, self._cache.keyring)

    def shown(self, scope: Scope, content: bytes) -> str:
        """What was asked, in clear text, if telemetry is to show it."""
        if not self._cache.detail.clear_keys:
            return ""
        query = scope.get("query_string", b"").decode("latin-1")
        asked = f"{scope['method']} {scope['path']}{query and '?'}{query} {content.decode(errors='replace')}"
        return asked[:_SHOWN].rstrip()

    def authority(self, scheme: str | None, host: str | None) -> tuple[str, str]:
        """The one scheme and host that requests came with, as far as they are not given."""
        if not self._rule.host:
            host = ""
            if scheme is not None:
                return scheme, host
        seen = {
            (known_scheme, known_host.decode("latin-1"))
            for known_scheme, known_host in self.authorities
            if scheme in (None, known_scheme) and (host or "").lower() in ("", known_host.decode("latin-1"))
        }
        if len(seen) != 1:
            raise ConfigurationError(
                f"key_for(): requests came under {len(seen)} schemes and hosts; say which with scheme= and host="
            )
        return seen.pop()


def _show(entry: Entry, now: float) -> Headers:
    """The header fields of a hit. They stay true until `Age` or the remaining ttl changes, within a second."""
    age, left = now - entry.born, entry.fresh_until - now
    fields = (*entry.headers, (b"age", b"%d" % age), (cache_status.HEADER, cache_status.hit(left)))
    entry.shown = now + min(1 - age % 1, left % 1), fields
    return fields


def _confirms(entry: Entry) -> bool:
    return entry.kept > 0 and http.has_validator(entry.headers)


def _never(entry: Entry) -> bool:
    return False  # RFC 9110, section 13.1.2: to a POST nobody answers 304


class Exchange:
    """One request that takes the slow way."""

    def __init__(self, route: Route, scope: Scope, receive: Receive, send: Send, body: Body | None = None) -> None:
        self._route = route
        self._scope = scope
        self._receive = receive
        self._send = send
        self._body = body or Body()
        self._begun = route._clock.now()
        self._wish = http.wish_of(scope["headers"]) if route._hears else None

    async def run(self, key: Key | None) -> None:
        """Answer the request; `key` if the short way has found it already."""
        route, scope = self._route, self._scope
        if key is None:
            try:
                _request.refuse(scope, route._rule, route._origin.credentials)
                if self._wish is not None and self._wish.no_store:
                    raise BypassError("no_store")
                if scope["method"] in BODY_METHODS:
                    await self._body.read(self._receive, route._rule)
                key = route.key_of(scope, self._body.content)
            except BypassError as bypass:
                await self.bypass(bypass.reason)
                return
        self._note_authority()
        watcher = Watcher(self._receive)
        try:
            await self._answer(key, watcher)
        except ReaderGone:
            pass  # the client has left in the middle of its answer
        finally:
            watcher.stop()

    def _note_authority(self) -> None:
        known = self._route.authorities
        if len(known) < 64:
            host = b"".join(value for name, value in self._scope["headers"] if name == b"host")
            known.add((self._scope.get("scheme", "http"), host.lower() if self._route._rule.host else b""))

    def _ask(self, key: Key, joined: Callable[[Any], None]) -> Ask:
        route, scope = self._route, self._scope

        def variant(marker: Entry) -> Key:
            values = (http.vary_value(name, scope["headers"]) for name in marker.vary)
            return route._cache.keyring.digest(b"vary", key, marker.chunks[0], *values)

        headers = scope["headers"]
        private = _request.has_credentials(scope, route._rule, route._origin.credentials)
        asked = http.asked(scope["method"], headers, has_credentials=private)
        load = AppLoad(route._origin, scope, self._body.messages, asked)
        return Ask(
            key=key,
            counters=route._counters,
            policy=route._origin.policy,
            load=load,
            variant=variant,
            gate=route._origin.gate,
            text=route.shown(scope, self._body.content),
            queues=route._rule.ttl is not None,
            joined=joined,
            confirms=_confirms if scope["method"] != "POST" else _never,
            wish=self._wish,
        )

    async def _answer(self, key: Key, watcher: Watcher) -> None:
        route, engine = self._route, self._route._engine
        ask = self._ask(key, watcher.joined)
        only = self._only_from_store()
        if only:
            found = engine.peek(ask)
            if found is None:
                await (self._refuse() if only == "only-if-cached" else self.bypass(only))
                return
            answer = found
        else:
            try:
                answer = await engine.answer(ask)
            except ReaderGone:
                await answer_nobody(self._send)
                return
            except Exception:
                self._annotate(ask, Answer(result="error", tier="none"))
                raise
        self._annotate(ask, answer)
        now = route._clock.now()
        status_field = status_of(answer, ask, now)
        if answer.entry is not None:
            await send_entry(answer.entry, status_field, now, self._scope, self._send)
        else:
            assert answer.reader is not None
            await play(answer.reader, status_field, self._scope, self._send)
        engine.tally.finished(ask, answer, route._clock.now() - self._begun)

    def _only_from_store(self) -> str:
        """Why this request neither leads nor joins a load; empty if it may."""
        if self._wish is not None and self._wish.only_if_cached:
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
        self._route._telemetry.emit(Answered(result="bypass", duration=self._route._clock.now() - self._begun))

    def _annotate(self, ask: Ask, answer: Answer) -> None:
        route = self._route
        if route._telemetry.annotates:
            now, entry = route._clock.now(), answer.entry
            route._telemetry.annotate(
                Outcome(
                    result=answer.result,
                    tier=answer.tier,
                    group=route._counters.name,
                    key=ask.at,
                    text=ask.text,
                    age=None if entry is None else now - entry.born,
                    ttl=None if entry is None else entry.fresh_until - now,
                    bypass=answer.bypass,
                )
            )

    def _told_bypass(self, reason: str) -> None:
        route = self._route
        route._counters.others["bypass", "none"] += 1
        route._engine.counters.bypasses[reason] += 1
        if route._telemetry.annotates:
            route._telemetry.annotate(Outcome(result="bypass", tier="none", group=route._counters.name, bypass=reason))

    async def bypass(self, reason: str) -> None:
        """Let the app answer as if unwrapped: what was read is replayed, then comes the live `receive`."""
        route = self._route
        self._told_bypass(reason)
        replay = iter(self._body.messages)

        async def receive() -> Message:
            message = next(replay, None)
            return await self._receive() if message is None else message

        field = cache_status.HEADER, cache_status.bypass(reason, "method" if reason == "method" else "bypass")

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), field]}
            await self._send(message)

        failure: Exception | None = None
        try:
            await route._origin.app(self._scope, receive, send)
        except Exception as error:
            failure = error
            raise
        finally:
            seconds = route._clock.now() - self._begun
            route._telemetry.emit(Answered(result="bypass", duration=seconds, error=failure))
