"""Requests that change something: the app answers them, and what they changed is stored no longer.

Decides nothing of HTTP (that is `_invalidation.py`). Must never change, hold up for long, or fail such a request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from urllib.parse import unquote

from glasscache.asgi import http
from glasscache.asgi._request import BypassError
from glasscache.asgi._route import Route
from glasscache.asgi.types import ASGIApp, Message, Receive, Scope, Send
from glasscache.cache import Cache

log = logging.getLogger("glasscache")

_OF_THE_CONTENT = frozenset({b"content-type", b"content-encoding", b"content-length", b"transfer-encoding"})


class Unsafe:
    """Passes unsafe requests on, and invalidates before their answers go out.

    `find`: the route of GET requests for a path, if there is one.
    """

    def __init__(self, app: ASGIApp, cache: Cache, find: Callable[[Scope], Route | None]) -> None:
        self._app = app
        self._cache = cache
        self._find = find

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def invalidate_first(message: Message) -> None:
            if message["type"] == "http.response.start":
                try:
                    await self._invalidate(scope, message["status"], http.normalise(message.get("headers", ())))
                except Exception:
                    log.exception("nothing was invalidated after a %s request", scope["method"])
            await send(message)

        await self._app(scope, receive, invalidate_first)

    async def _invalidate(self, scope: Scope, status: int, headers: http.Headers) -> None:
        engine = self._cache.engine
        for tag in http.groups(scope, headers, b"cache-group-invalidation"):
            await engine.invalidate(tag=tag, source="unsafe_method")
        if not http.changes(status):
            return
        for target in http.targets(scope, headers):
            seen = _get(scope, target)
            route = self._find(seen)
            if route is None:
                continue
            try:
                key = route.key_of(seen, b"")
            except BypassError:
                continue  # nothing of it can be stored
            await engine.invalidate(key=key, source="unsafe_method")


def _get(scope: Scope, target: http.Target) -> Scope:
    """The GET request for a resource, from the same client."""
    return {
        **scope,
        "method": "GET",
        "raw_path": target.raw_path,
        "path": unquote(target.raw_path.decode("latin-1")),
        "query_string": target.query,
        "headers": [(name, value) for name, value in scope["headers"] if name not in _OF_THE_CONTENT],
    }
