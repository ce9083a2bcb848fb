"""Whole answers of our own. Nobody keeps one: they are true for now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from glasscache.asgi.types import ASGIApp, Receive, Scope, Send


def json_page(body: Callable[[Scope], bytes]) -> ASGIApp:
    """A page that answers GET and HEAD with the JSON that `body` makes for the request."""

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(scope, send, body(scope), (b"content-type", b"application/json"))

    return page


async def respond(scope: Scope, send: Send, body: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> None:
    """One whole answer that nobody keeps."""
    headers = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store"), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
