"""Whole answers of our own. Nobody keeps one: they are true for now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from glasscache.asgi.types import Receive, Scope, Send


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
