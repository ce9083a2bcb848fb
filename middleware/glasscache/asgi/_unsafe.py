"""Requests that change something: the app answers them, and what they changed is stored no longer.

Decides nothing of HTTP (that is `_invalidation.py`). Must never change, hold up for long, or fail such a request.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import unquote

from glasscache._events import Source
from glasscache.asgi import _http
from glasscache.asgi._request import BypassError
from glasscache.asgi._route import Route
from glasscache.asgi.rules import keys_by_more
from glasscache.asgi.types import ASGIApp, Message, Receive, Scope, Send
from glasscache.cache import Cache

log = logging.getLogger("glasscache")

_OF_THE_CONTENT = frozenset({b"content-type", b"content-encoding", b"content-length", b"transfer-encoding"})


class Unsafe:
    """Passes unsafe requests on, and invalidates before their answers go out.

    `find`: the route of a request, if there is one.
    """

    def __init__(self, app: ASGIApp, cache: Cache, find: Callable[[Scope], Route | None]) -> None:
        self._app = app
        self._cache = cache
        self._find = find

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""

        async def invalidate_first(message: Message) -> None:
            if message["type"] == "http.response.start":
                try:
                    await self._invalidate(scope, message["status"], _http.normalise(message.get("headers", ())))
                except Exception:
                    log.exception("nothing was invalidated after a %s request", scope["method"])
            await send(message)

        await self._app(scope, receive, invalidate_first)

    async def _invalidate(self, scope: Scope, status: int, headers: _http.Headers) -> None:
        engine = self._cache._engine
        for tag in _http.groups(scope, headers, b"cache-group-invalidation"):
            await engine.invalidate(tag=tag, source="unsafe_method")
        if not _http.changes(status):
            return
        for target in _http.targets(scope, headers):
            await self.forget(_request_for(scope, target), "unsafe_method")

    async def forget(self, seen: Scope, source: Source) -> int:
        """Remove what is stored for the URL of a GET; how many entries left this machine's memory."""
        engine, count = self._cache._engine, 0
        route = self._find(seen)
        if route is not None:
            with suppress(BypassError):  # nothing of it can be stored
                read = {**seen, "headers": [field for field in seen["headers"] if field[0] not in _http.OF_A_SCRIPT]}
                for key in {route.key_of(seen, b""): None, route.key_of(read, b""): None}:
                    count += await engine.invalidate(key=key, source=source)
        tagged = (
            route if route is not None and keys_by_more(route.rule) else None,
            self._find({**seen, "method": "QUERY"}),
        )
        for by_host in {one.rule.host for one in tagged if one is not None}:
            count += await engine.invalidate(tag=_http.url_tag(seen, by_host=by_host), source=source)
        return count


def _request_for(scope: Scope, target: _http.Target) -> Scope:
    """The GET of a resource, from the same client."""
    is_own = target.raw_path == scope.get("raw_path")  # its path may have been rewritten outside
    return {
        **scope,
        "method": "GET",
        "raw_path": target.raw_path,
        "path": scope["path"] if is_own else unquote(target.raw_path.decode("latin-1")),
        "query_string": target.query,
        "headers": [(name, value) for name, value in scope["headers"] if name not in _OF_THE_CONTENT],
    }
