"""Whole answers of our own. Nobody keeps one: they are true for now.

Decides how a page is asked to do something (`order_page`), and how what cannot be done is refused.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from glasscache.asgi._request import Body, BypassError
from glasscache.asgi.rules import Rule
from glasscache.stats import declared_workers

if TYPE_CHECKING:
    from glasscache.asgi.types import ASGIApp, Receive, Scope, Send
    from glasscache.cache import Cache

T = TypeVar("T")


def json_page(body: Callable[[Scope], bytes]) -> ASGIApp:
    """A page that answers GET and HEAD with the JSON that `body` makes for the request."""

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await respond(scope, send, body(scope), (b"content-type", b"application/json"))

    return page


def order_page(
    cache: Cache,
    form: type[T],
    carry_out: Callable[[T, Scope, Receive], Awaitable[dict[str, Any]]],
    *,
    example: str,
    most_bytes: int,
) -> ASGIApp:
    """A page that answers POST: what is ordered comes as JSON of this form, and JSON says what became of it.

    `example`: for who has sent what is none, or what cannot work.
    """
    limits = Rule("/", methods=("POST",), max_body=most_bytes)

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        body, status = Body(), 200
        try:
            await body.read(receive, limits)
            said = await carry_out(msgspec.json.decode(body.content, type=form), scope, receive)
            said |= {"name": cache.name, "worker": os.getpid(), "of": declared_workers()}
        except (msgspec.MsgspecError, BypassError, ValueError) as error:
            status, said = 400, {"error": f"{error}: send JSON, such as {example}"}
        await respond(scope, send, msgspec.json.encode(said), (b"content-type", b"application/json"), status=status)

    return page


async def respond(scope: Scope, send: Send, body: bytes, *fields: tuple[bytes, bytes], status: int = 200) -> None:
    """One whole answer that nobody keeps."""
    headers = [(b"content-length", b"%d" % len(body)), (b"cache-control", b"no-store"), *fields]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
