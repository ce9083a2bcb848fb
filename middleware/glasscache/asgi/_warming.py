"""Requests that nobody has sent: what is to be warmed, as the app would see it if a client asked.

Decides what such a request is made of. Must never take a user, a tenant or a credential from the request that asks for
the warming; and whatever a rule would refuse of a client is refused here (see `_request.py`).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from glasscache._warming import Warmed, Warmth
from glasscache.asgi._exchange import Exchange
from glasscache.asgi._request import BODY_METHODS
from glasscache.asgi._urls import url_of
from glasscache.asgi.types import Scope
from glasscache.errors import ConfigurationError

if TYPE_CHECKING:
    from glasscache.asgi._route import Route
    from glasscache.asgi.types import Message, Receive
    from glasscache.cache import Cache

_NOBODY: Scope = {"asgi": {"version": "3.0"}, "root_path": "", "client": None, "server": None}
_METHODS = BODY_METHODS | {"GET"}
_FIELD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, section 5


class WarmRequest(Struct, frozen=True, kw_only=True):
    """One request to warm, as a client would send it.

    - `url`: path and query, or all of it.
    - `method`: GET, POST or QUERY; by default POST if there is a `body`, else GET.
    - `headers`: those that the app or the key depends on; a body is `application/json` unless they say otherwise.
    - `tenant`: what the rule's `tenant` has to say of this request; if it says another name, or none,
      nothing is loaded.
    - `scope`: what middleware around the cache would have put there, such as `{"user": user}`.

    Raises ConfigurationError for what cannot work.
    """

    url: str
    method: str | None = None
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = ()
    tenant: str | None = None
    scope: dict[str, Any] = {}

    def __post_init__(self) -> None:
        try:
            url_of(self.url)
        except ValueError as error:
            raise ConfigurationError(f"WarmRequest: {error}") from None
        if self.method is not None and self.method not in _METHODS:
            raise ConfigurationError(f"WarmRequest(url={self.url!r}, method={self.method!r}): give GET, POST or QUERY")
        for name, value in self.headers:
            if not _FIELD.fullmatch(f"{name}:{value}"):
                raise ConfigurationError(f"WarmRequest(url={self.url!r}): {name!r} is no field, or its value is none")


class Warmer:
    """Warms what the rules of one middleware cover. `find`: the route of a request, if there is one."""

    def __init__(self, cache: Cache, find: Callable[[Scope], Route | None]) -> None:
        self.surroundings: Scope = {}
        """The scope of the lifespan, if there is one: `app` and `state` are what all requests share."""
        self._cache = cache
        self._find = find

    def warm(self, requests: Iterable[str | WarmRequest], way: Scope, concurrency: int) -> Awaitable[Warmed]:
        """Warm them, as if they came by this way: with its header fields (Host is one), `scheme` and `root_path`."""
        if isinstance(requests, str):
            raise ConfigurationError(f"warm({requests!r}): give a list, such as ['/search?q=a']")

        async def warm(request: str | WarmRequest) -> Warmth:
            return await self._warm(WarmRequest(url=request) if isinstance(request, str) else request, way)

        return self._cache._engine.warm_all(requests, warm, concurrency)

    async def _warm(self, request: WarmRequest, way: Scope) -> Warmth:
        if not self._cache.enabled:
            return Warmth("not_stored", "disabled")
        scope = self._scope_of(request, way)
        route = self._find(scope)
        if route is None:
            return Warmth("not_stored", "no_rule")
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if not hosts or "scheme" not in scope:
            scope["scheme"], host = route.authority(scope.get("scheme"), hosts[0] if hosts else None)
            if not hosts:
                scope["headers"].insert(0, (b"host", host.encode("latin-1") or b"localhost"))
        return await Exchange(route, scope, _client(request.body), _nowhere).warm(request.tenant)

    def _scope_of(self, request: WarmRequest, way: Scope) -> Scope:
        """As a server would make it, and what is around the app."""
        url = url_of(request.url)
        method = request.method or ("POST" if request.body else "GET")
        headers = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in request.headers]
        if url.host:
            headers.insert(0, (b"host", url.host))
        named = {name for name, _ in headers}
        if method in BODY_METHODS:
            headers.append((b"content-length", b"%d" % len(request.body)))
            if b"content-type" not in named:
                headers.append((b"content-type", b"application/json"))
        around = {name: self.surroundings[name] for name in ("asgi", "app", "state") if name in self.surroundings}
        if "state" in around:
            around["state"] = {**around["state"]}  # each request has its own
        scope: Scope = {**_NOBODY, **way, **around, **request.scope}
        if url.scheme:
            scope["scheme"] = url.scheme
        return {
            **scope,
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "path": url.path,
            "raw_path": url.raw_path,
            "query_string": url.query,
            "headers": [field for field in way.get("headers", ()) if field[0] not in named] + headers,
        }


def _client(body: bytes) -> Receive:
    """What one receives from a client that sends this."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return messages.pop()

    return receive


async def _nowhere(message: Message) -> None:
    """Where an answer goes that nobody asked for."""
