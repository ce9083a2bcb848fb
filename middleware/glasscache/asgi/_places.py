"""How the short way finds the key of a request without building it: by what it remembers of earlier ones.

A *place* is where a question is asked: path, host, scheme and whatever else the key depends on. The *question* is the
query of a GET, or the content of any other. Of each place the keys of its last questions are remembered; a *way* has
the places of one method. Decides what two requests must have in common to be asked at one place. Anyone can send new
ones, so all that is remembered is bounded. Must never be sure of a request that the slow way would give another key.
"""

from __future__ import annotations

from typing import TypeAlias

from glasscache._entry import Key
from glasscache.asgi import _http, _request
from glasscache.asgi._request import BODY_METHODS
from glasscache.asgi._skim import skimmer
from glasscache.asgi.rules import QueryKey, Rule
from glasscache.asgi.types import Scope
from glasscache.keys import JsonBody, Keyring, Stem

ROUTED = "glasscache.routed"
"""In a request's scope: the route that the app's router has found, as a template."""
MOUNTED = "glasscache.mounted"
"""In a request's scope: the `root_path` of the mounted app that answered."""

_MEMO = 4096  # places and what was asked there, in all
_AUTHORITIES = 64
_MEMO_BYTES = 2048  # of what tells a place, or a question, from others

_MAY_BE_LEFT_OUT = ("query_string", "raw_path", "scheme", "root_path")

_Token: TypeAlias = tuple[object, ...]


class Place:
    """Where a question is asked: by the query of a GET, by the content of any other. `keys`: of questions, by it;
    `by_gist`: of JSON bodies that are strict, by what of them is keyed (see `_skim.py`). `routed`: the route
    that the app's router has found for it, if that is known.
    """

    __slots__ = ("by_gist", "digest", "host", "keys", "raw_path", "root_path", "routed", "scheme", "token")

    def __init__(self, stem: Stem, token: _Token) -> None:
        self.token = token
        _, self.host, _, _, self.raw_path, self.scheme, self.root_path = token
        self.digest = stem.digest
        self.keys: dict[bytes, Key] = {}
        self.by_gist: dict[bytes, Key] = {}
        self.routed: str | None = None


class Way:
    """The requests of one method that the short way can handle."""

    __slots__ = ("asks_by_query", "lately", "places", "wary_of")

    def __init__(self, wary_of: frozenset[bytes], *, asks_by_query: bool) -> None:
        self.wary_of = wary_of
        self.asks_by_query = asks_by_query
        self.places: dict[_Token, Place] = {}
        self.lately: dict[str, Place] = {}
        """Of a path the place that was asked last: to compare costs less than to look for it."""

    def forget(self) -> None:
        """Forget all places, and what was asked there."""
        self.places.clear()
        self.lately.clear()


def _asked_as(scope: Scope) -> str:
    """The method that has the route: a HEAD is answered as a GET."""
    method: str = scope["method"]
    return "GET" if method == "HEAD" else method


class Places:
    """What the short way of one rule recognises: by method the places, and keys of what was asked there."""

    def __init__(self, rule: Rule, keyring: Keyring, credentials: frozenset[bytes], *, hears: bool) -> None:
        self._rule = rule
        self._keyring = keyring
        self._room = _MEMO
        self._routes: dict[tuple[str, str], str] = {}
        """By method and path, what the app's router found where there is no place to remember it."""
        self._takes_query = rule.query == QueryKey()
        self._body = rule.key if type(rule.key) is JsonBody else None
        self._skim = skimmer(self._body.fields, self._body.ignored) if self._body and self._body.fields else None
        self.authorities: set[tuple[str, bytes]] = set()
        """The schemes and hosts that requests came under."""
        self.ways: dict[str, Way] = {}
        if rule.tenant or rule.when or rule.headers:
            return
        if rule.key is None or self._body is not None:  # any other may look at headers
            # shared=True changes nothing: a request with credentials takes the slow way, to the same key
            wary = credentials | _http.CONDITIONALS | _http.ROUTING
            wary |= {b"host", b"range", b"content-encoding", b"content-type"}
            if hears:
                wary |= {b"cache-control"}
            self.ways = {method: Way(wary, asks_by_query=False) for method in BODY_METHODS}
            self.ways["GET"] = Way(wary | {b"content-length", b"transfer-encoding"}, asks_by_query=True)

    def note_authority(self, scope: Scope) -> None:
        """A request came under this scheme and host."""
        if len(self.authorities) < _AUTHORITIES:
            host = b"".join(value for name, value in scope["headers"] if name == b"host")
            self.authorities.add((scope.get("scheme", "http"), host.lower() if self._rule.host else b""))

    def note_route(self, scope: Scope) -> None:
        """Remember what the app's router has found for this request, if it was asked."""
        routed = scope.get(ROUTED)
        if routed is None:
            return
        if (place := self._last(scope)) is not None:
            place.routed = routed
        elif len(scope["path"]) <= _MEMO_BYTES:
            if len(self._routes) >= _MEMO:
                self._routes.clear()
            self._routes[_asked_as(scope), scope["path"]] = routed

    def routed(self, scope: Scope) -> str | None:
        """The route that the app's router found when it was asked for such a request."""
        place = self._last(scope)
        return self._routes.get((_asked_as(scope), scope["path"])) if place is None else place.routed

    def _last(self, scope: Scope) -> Place | None:
        way = self.ways.get(_asked_as(scope))
        return None if way is None else way.lately.get(scope["path"])

    def of(self, scope: Scope, way: Way) -> Place | None:
        """The place of a request, if the short way can handle it. BypassError if nothing asked there has a key."""
        host = kind = None
        by_query = way.asks_by_query
        wary_of = way.wary_of
        for name, value in scope["headers"]:
            if name in wary_of:
                if name == b"host" and host is None:
                    host = value
                elif name == b"content-type" and kind is None and not by_query:
                    kind = value
                else:
                    return None
        try:
            token = (
                scope["path"],
                host,
                kind,
                None if by_query else scope["query_string"],
                scope["raw_path"],
                scope["scheme"],
                scope["root_path"],
            )
        except KeyError:  # a server may leave out most of them
            token = (
                scope["path"],
                host,
                kind,
                *[None if by_query and name == "query_string" else scope.get(name) for name in _MAY_BE_LEFT_OUT],
            )
        if "extensions" in scope and "tls" in (scope["extensions"] or ()):
            return None
        place = way.lately.get(scope["path"])
        return place if place is not None and place.token == token else self._find(scope, token, way)

    def _find(self, scope: Scope, token: _Token, way: Way) -> Place | None:
        place = way.places.get(token) or self._make(scope, token, way)
        if place is not None:
            way.lately[scope["path"]] = place
        return place

    def _make(self, scope: Scope, token: _Token, way: Way) -> Place | None:
        if sum([len(part) for part in token if isinstance(part, str | bytes)]) > _MEMO_BYTES:
            return None
        self.note_authority(scope)
        rule = self._rule
        at = _request.place_of(scope, rule, self._keyring)
        if way.asks_by_query:
            stem = self._keyring.stem((at,), (_request.content_part(scope, b"", rule.key),))
        else:
            stem = self._keyring.stem((at, _request.query_part(scope.get("query_string", b""), rule.query)))
        self._make_room()
        place = way.places[token] = Place(stem, token)
        return place

    def identify(self, place: Place, way: Way, scope: Scope, asked: bytes) -> Key:
        """The key of what was asked and is not remembered. BypassError if it has none."""
        if way.asks_by_query:
            key = place.digest(asked if self._takes_query else _request.query_part(asked, self._rule.query))
        elif self._body is None:
            key = place.digest(_request.content_part(scope, asked, self._rule.key))
        else:
            key = self._identify_json(place, self._body, scope, asked)
        if len(asked) <= _MEMO_BYTES:
            if self._room:  # as `_make_room` does it, but for a call: this is on the way of all that is new
                self._room -= 1
            else:
                self._make_room()
            place.keys[asked] = key
        return key

    def _identify_json(self, place: Place, builder: JsonBody, scope: Scope, asked: bytes) -> Key:
        gist = None if self._skim is None else self._skim(asked)
        if gist is not None and (known := place.by_gist.get(gist)):
            return known
        part = builder.at_once(asked) or _request.content_part(scope, asked, builder)
        key = place.digest(part)
        if gist is not None and len(gist) <= _MEMO_BYTES and part.startswith(builder.mark):
            self._make_room()
            place.by_gist[gist] = key
        return key

    def _make_room(self) -> None:
        """For one more to remember; when there is none, all are forgotten."""
        if not self._room:
            for way in self.ways.values():
                way.forget()
            self._room = _MEMO
        self._room -= 1
