"""The pages about a cache, under its `stats_path`: figures for everybody, who waits for whom for who has the token.

Decides who sees what. A page that needs the token is not there until one is set. Must never show a key, a request or a
tenant, with the token or without; never compare a token in a time that tells how much of it was right.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from glasscache.asgi.rules import Rule
from glasscache.contention import contention_json
from glasscache.stats import stats_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from glasscache.asgi.types import ASGIApp, Receive, Scope, Send
    from glasscache.cache import Cache


def admin_pages(cache: Cache, path: str, token: str | None) -> Iterator[tuple[Rule, ASGIApp]]:
    """The pages under `path`; without a token only the totals."""
    guard = Guard(token)
    yield Rule(path), JsonPage(lambda scope: stats_json(cache, groups=guard.lets_in(scope)))
    if token is not None:
        under = path.rstrip("/")
        yield Rule(f"{under}/contention"), guard.before(JsonPage(lambda _: contention_json(cache)))


class Guard:
    """Knows the token, if there is one."""

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else b"Bearer " + token.encode()

    def lets_in(self, scope: Scope) -> bool:
        """Whether the request carries the token."""
        if self._expected is None:
            return False
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        return hmac.compare_digest(given, self._expected)

    def before(self, page: ASGIApp) -> ASGIApp:
        """The page, for who has the token; all others get 401."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            await (page if self.lets_in(scope) else _refuse)(scope, receive, send)

        return guarded


class JsonPage:
    """Answers GET and HEAD with what `body` makes of the request."""

    def __init__(self, body: Callable[[Scope], bytes]) -> None:
        self._body = body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await respond(scope, send, self._body(scope), (b"content-type", b"application/json"))


async def respond(scope: Scope, send: Send, body: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> None:
    """One whole answer that nobody keeps."""
    headers = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store"), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    fields = (b"content-type", b"application/json"), (b"www-authenticate", b'Bearer realm="glasscache"')
    await respond(scope, send, b'{"error":"send the stats token: Authorization: Bearer ..."}', *fields, status=401)
