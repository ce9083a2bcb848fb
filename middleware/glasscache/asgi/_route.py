"""One rule at work: the short way of a hit. Everything else is an `Exchange` (_exchange.py), the slow way.

The short way answers a request without body, credentials or conditions from memory: no task, no future, no lock, no
span. It only ever does what the slow way would do; whatever it is not sure of, it leaves to it.
"""

from __future__ import annotations

from dataclasses import replace

from glasscache._entry import Entry, Headers, Key
from glasscache._events import Outcome
from glasscache._gate import Gate
from glasscache.asgi import _request, http
from glasscache.asgi._exchange import Exchange
from glasscache.asgi._recorder import Origin
from glasscache.asgi._request import BODY_METHODS, Body, BypassError
from glasscache.asgi._responder import send_chunks
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
        self.keys_by_more = rule.keys_by_more
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
        self._places: dict[tuple[object, ...], Key] = {}
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
                key = self._memo.get(token) or self._identify(token, token, scope, b"")
            else:
                body = Body()
                rest = body.take(receive, self._rule)
                if rest is not None:
                    await rest
                asked = token, body.content
                key = self._memo.get(asked) or self._identify(asked, token, scope, body.content)
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

    def _identify(self, asked: tuple[object, ...], token: tuple[object, ...], scope: Scope, content: bytes) -> Key:
        """The key of what was asked and is not remembered. BypassError if it has none."""
        where = token[1:]  # all but the query
        place = self._places.get(where)
        if place is None:
            place = _remember(self._places, where, self._place_of(scope, self._rule))
        key = self._key_at(place, scope, content, self._rule)
        return _remember(self._memo, asked, key) if len(content) <= _MEMO_BYTES else key

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
            query,
            path,
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


def _remember(known: dict[tuple[object, ...], Key], token: tuple[object, ...], key: Key) -> Key:
    if len(known) >= _MEMO:
        known.clear()
    known[token] = key
    return key


def _show(entry: Entry, now: float) -> Headers:
    """The header fields of a hit. They stay true until `Age` or the remaining ttl changes, within a second."""
    age, left = now - entry.born, entry.fresh_until - now
    fields = (*entry.headers, (b"age", b"%d" % age), (cache_status.HEADER, cache_status.hit(left)))
    entry.shown = now + min(1 - age % 1, left % 1), fields
    return fields
