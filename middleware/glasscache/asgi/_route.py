"""One rule at work: the short way of a hit. Everything else is an `Exchange` (_exchange.py), the slow way.

The short way answers a request without body, credentials or conditions from memory: no task, no future, no lock, no
span. It only ever does what the slow way would do; whatever it is not sure of, it leaves to it. It ends with what is to
be sent: the middleware sends it, in the one coroutine that there is for a request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeAlias

from glasscache._entry import Entry, Key
from glasscache._gate import Gate
from glasscache.asgi import _request
from glasscache.asgi._exchange import Exchange
from glasscache.asgi._origin import Origin
from glasscache.asgi._places import Place, Places, Way
from glasscache.asgi._request import Body, BypassError
from glasscache.asgi._responder import send_hit, show
from glasscache.asgi._why import Hints
from glasscache.asgi.rules import Rule, methods_of, policy_of
from glasscache.asgi.types import ASGIApp, Receive, Scope, Send
from glasscache.cache import Cache
from glasscache.errors import ConfigurationError
from glasscache.interfaces import Steps

Served: TypeAlias = Entry | Awaitable[None]
"""What is left to do for an answer: to send a hit of one chunk as it is in `shown`, or to await the rest."""
Handler: TypeAlias = Callable[[Scope, Receive, Send], Served]

_NOT_TAKEN = Way(frozenset(), asks_by_query=True)
_SHOWN = 1024  # characters of what was asked that telemetry shows, if it may


class Route:
    """One rule of one middleware at work: it answers requests, by the short way where it can.

    `hears`: whether the Cache-Control of requests is heard. `clear_keys`: whether spans show what was asked.
    """

    def __init__(self, rule: Rule, cache: Cache, app: ASGIApp, credentials: frozenset[bytes]) -> None:
        self.rule = rule
        self.cache = cache
        self.engine = engine = cache._engine
        self.origin = Origin(
            app=app,
            rule=rule,
            policy=policy_of(rule, cache.policy),
            gate=Gate(rule.max_loads),
            clock=cache.clock,
            credentials=credentials,
            statuses=None if rule.statuses is None else frozenset(rule.statuses),
            hints=Hints(rule),
        )
        self.hears = rule.ttl is None or rule.client_may_refresh
        self.near = near = engine.near
        # what `peek` does, in two steps where the store has them: they take less than its call
        steps: Steps = getattr(near, "steps", None) or (near.peek, _nothing)
        self.now = cache.clock.now
        self._steps = (self.now, *steps)  # what is called is read at once: one by one it takes longer
        self.telemetry = cache.telemetry
        self._on_hit = cache.telemetry.on_hit
        self.counters = engine.counters.group(rule.name or rule.path)
        self._every = self.engine.tally.every
        self.places = Places(rule, cache.keyring, credentials, hears=self.hears)
        self.clear_keys = cache.detail.clear_keys
        told = cache.detail.trace_hits or self.clear_keys  # by the slow way alone
        self._ways: dict[str, Way] = {} if told else self.places.ways
        self._get = self._ways.get("GET", _NOT_TAKEN)

    def handlers(self) -> dict[str, Handler]:
        """Who answers a request, by its method."""
        return {method: self._handler(method) for method in methods_of(self.rule)}

    def _handler(self, method: str) -> Handler:
        if method not in self._ways:
            return self.slowly
        return self.get if method == "GET" else self.ask

    def slowly(self, scope: Scope, receive: Receive, send: Send) -> Served:
        """Answer one request by the slow way."""
        return Exchange(self, scope, receive, send).run()

    # --- the short way: functions, since a coroutine inside the middleware's own would cost a tenth of a hit ----------

    def get(self, scope: Scope, receive: Receive, send: Send) -> Served:
        """Answer one GET. What `Places.of` does is done here for a request like the last one with its path: it pays."""
        way, host = self._get, None
        wary_of = way.wary_of
        for name, value in scope["headers"]:
            if name in wary_of:
                if name == b"host" and host is None:
                    host = value
                else:
                    return Exchange(self, scope, receive, send).run()
        place = way.lately.get(scope["path"])
        try:
            asked = scope["query_string"]
            if (
                place is None
                or place.host != host
                or place.raw_path != scope["raw_path"]
                or place.scheme != scope["scheme"]
                or place.root_path != scope["root_path"]
                or ("extensions" in scope and "tls" in (scope["extensions"] or ()))
            ):
                place = self.places.of(scope, way)
        except KeyError:  # a server may leave out most of them
            asked, place = scope.get("query_string", b""), self.places.of(scope, way)
        if place is None:
            return Exchange(self, scope, receive, send).run()
        key = place.keys.get(asked)
        if key is None:
            key = self.places.identify(place, way, scope, asked)
        return self._answer(key, None, scope, receive, send)

    def ask(self, scope: Scope, receive: Receive, send: Send) -> Served:
        """Answer one request that asks by its content."""
        body, way = None, self._ways[scope["method"]]
        try:
            place = self.places.of(scope, way)
            if place is None:
                return Exchange(self, scope, receive, send).run()
            body = Body()
            rest = body.take(receive, self.rule)
            if rest is not None:
                return self._ask_when_read(rest, body, place, scope, receive, send)
            key = place.keys.get(body.content) or self.places.identify(place, way, scope, body.content)
        except BypassError as bypass:
            return Exchange(self, scope, receive, send, body).bypass(bypass.reason)
        return self._answer(key, body, scope, receive, send)

    async def _ask_when_read(
        self, rest: Awaitable[None], body: Body, place: Place, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            await rest
            way, asked = self._ways[scope["method"]], body.content
            key = place.keys.get(asked) or self.places.identify(place, way, scope, asked)
        except BypassError as bypass:
            await Exchange(self, scope, receive, send, body).bypass(bypass.reason)
            return
        answer = self._answer(key, body, scope, receive, send)
        await (send_hit(answer, send) if isinstance(answer, Entry) else answer)

    def _answer(self, key: Key, body: Body | None, scope: Scope, receive: Receive, send: Send) -> Served:
        clock, find, use = self._steps
        now, entry = clock(), find(key)
        if entry is None:
            return Exchange(self, scope, receive, send, body, key, is_missing=True).answer()
        use(key)
        is_whole = True
        if now >= entry.shown[0]:
            if now >= entry.settled_until or entry.vary:
                return Exchange(self, scope, receive, send, body, key).answer()
            is_whole = show(entry, now)
        counters = self.counters
        counters.hits = hits = counters.hits + 1
        counters.saved_seconds += entry.cost
        if entry.price:
            counters.saved_price += entry.price
        counters.saved_bytes += entry.size
        if self._on_hit is not None and self._on_hit(counters.name, key):
            self.name_route(scope)
        if hits >= counters.timed_at:
            counters.timed_at = hits + self._every
            return self._send_timed(entry, send, now)
        return entry if is_whole else send_hit(entry, send)

    async def _send_timed(self, entry: Entry, send: Send, begun: float) -> None:
        await send_hit(entry, send)
        self.engine.tally.timed(self.counters, begun)

    def name_route(self, scope: Scope) -> None:
        """Name the request's span by its route, for which nobody has asked the app's router."""
        route = self.places.routed(scope)
        if route is not None:
            self.telemetry.name_route(scope["method"], route)

    def key_of(self, scope: Scope, content: bytes, *, tenant: str | None = None) -> Key:
        """The key of a request, for the tenant that the rule names unless one is given; BypassError if it has none."""
        rule = self.rule if tenant is None else replace(self.rule, tenant=lambda _: tenant, shared=False)
        return self._key_at(self._place_of(scope, rule), scope, content, rule)

    def _place_of(self, scope: Scope, rule: Rule) -> Key:
        return _request.place_of(scope, rule, self.cache.keyring)

    def _key_at(self, place: Key, scope: Scope, content: bytes, rule: Rule) -> Key:
        return _request.key_at(place, scope, content, rule, self.cache.keyring)

    def shown(self, scope: Scope, content: bytes) -> str:
        """What was asked, in clear text, for the spans of who has opted for that (`Detail.clear_keys`)."""
        query = scope.get("query_string", b"").decode("latin-1")
        asked = f"{scope['method']} {scope['path']}{query and '?'}{query} {content.decode(errors='replace')}"
        return asked[:_SHOWN].rstrip()

    def authority(self, scheme: str | None, host: str | None) -> tuple[str, str]:
        """The one scheme and host that requests came with, as far as they are not given."""
        if not self.rule.host:
            host = ""
            if scheme is not None:
                return scheme, host
        seen = {
            (known_scheme, known_host.decode("latin-1"))
            for known_scheme, known_host in self.places.authorities
            if scheme in (None, known_scheme) and (host or "").lower() in ("", known_host.decode("latin-1"))
        }
        if len(seen) != 1:
            raise ConfigurationError(
                f"key_for(): requests came under {len(seen)} schemes and hosts; say which with scheme= and host="
            )
        return seen.pop()


def _nothing(key: Key) -> None:
    """The second step of a store without two: its `peek` has counted the use already."""
