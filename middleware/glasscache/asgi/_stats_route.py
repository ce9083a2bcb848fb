"""The stats page: JSON from the cache's integers. Totals for everybody, groups only for who has the token."""

from __future__ import annotations

import hmac

from glasscache.asgi.types import Receive, Scope, Send
from glasscache.cache import Cache
from glasscache.stats import stats_json


class StatsRoute:
    """Answers GET and HEAD on `stats_path`."""

    def __init__(self, cache: Cache, token: str | None) -> None:
        self._cache = cache
        self._expected = None if token is None else b"Bearer " + token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = stats_json(self._cache, groups=self._is_allowed(scope))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    def _is_allowed(self, scope: Scope) -> bool:
        if self._expected is None:
            return False
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        return hmac.compare_digest(given, self._expected)
