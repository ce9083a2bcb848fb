"""One rule at work: the short way of a hit. Everything else is an `Exchange` (_exchange.py), the slow way.

The short way answers a request without body, credentials or conditions from memory: no task, no future, no lock, no
span. It only ever does what the slow way would do; whatever it is not sure of, it leaves to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from glasscache._entry import Entry, Headers, Key
from glasscache._events import Outcome
from glasscache._gate import Gate
from glasscache.asgi import _request
from glasscache.asgi._exchange import Exchange
from glasscache.asgi._places import Places, Way
from glasscache.asgi._recorder import Origin
from glasscache.asgi._request import Body, BypassError
from glasscache.asgi._responder import send_chunks
from glasscache.asgi.http import cache_status
from glasscache.asgi.rules import Rule
from glasscache.asgi.types import ASGIApp, Message, Receive, Scope, Send
from glasscache.cache import Cache
from glasscache.errors import ConfigurationError

_FIELDS = 4096  # of a kind that are remembered
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
        self._peek = cache.engine.near.peek
        self._clock = cache.clock
        self._now = cache.clock.now
        self._telemetry = cache.telemetry
        self._counters = cache.engine.counters.group(rule.group)
        # --- the short way
        self._every, self._first = self._engine.tally.every, 1 % self._engine.tally.every
        self._places = Places(rule, cache.keyring, credentials, hears=self._hears)
        self._shows = cache.detail.clear_keys
        told = cache.detail.trace_hits or self._shows  # by the slow way alone
        self._ways: dict[str, Way] = {} if told else self._places.ways

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = None
        try:
            way = self._ways.get(scope["method"])
            place = None if way is None else self._places.of(scope, way)
            if way is None or place is None:
                await Exchange(self, scope, receive, send).run(None)
                return
            if way.asks_by_query:
                asked: bytes = scope.get("query_string", b"")
            else:
                body = Body()
                rest = body.take(receive, self._rule)
                if rest is not None:
                    await rest
                asked = body.content
            key = place.keys.get(asked) or self._places.identify(place, way, scope, asked)
        except BypassError as bypass:
            await Exchange(self, scope, receive, send, body).bypass(bypass.reason)
            return
        now = self._now()
        entry = self._peek(key)
        if entry is None or now >= entry.settled_until or entry.vary:
            await Exchange(self, scope, receive, send, body).run(key, is_missing=entry is None)
            return
        await send(self._begin(entry, key, now))
        content = entry.content
        if type(content) is bytes:
            await send({"type": "http.response.body", "body": content, "more_body": False})
        else:
            await send_chunks(entry.chunks, send)
        if self._counters.hits % self._every == self._first:
            self._engine.tally.timed(self._counters, now)

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
        """What was asked, in clear text."""
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
            for known_scheme, known_host in self._places.authorities
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
    seconds, ttl = int(age), int(left)
    fields = (*entry.headers, _AGES[seconds], _HITS[ttl])
    ahead, behind = 1.0 - (age - seconds), left - ttl
    entry.shown = now + (ahead if ahead < behind else behind), fields
    return fields


class _Fields(dict[int, tuple[bytes, bytes]]):
    """Header fields that many answers share, by what they tell."""

    def __init__(self, made: Callable[[int], tuple[bytes, bytes]]) -> None:
        super().__init__()
        self._made = made

    def __missing__(self, told: int) -> tuple[bytes, bytes]:
        if len(self) >= _FIELDS:
            self.clear()
        field = self[told] = self._made(told)
        return field


_AGES = _Fields(lambda seconds: (b"age", b"%d" % seconds))
_HITS = _Fields(lambda ttl: (cache_status.HEADER, cache_status.hit(ttl)))
