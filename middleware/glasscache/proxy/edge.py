"""The outermost layer of `glasscache proxy`: what belongs to one connection ends here, and errors become answers.

Decides what a request looks like to the cache: fields that the upstream will not see, it does not see either, or one
client could have stored, under the fields that it sent, an answer that was made without them. And how an error is told:
the status alone goes to the client, the reason to the log.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from glasscache.asgi.types import ASGIApp, Message, Receive, Scope, Send
from glasscache.errors import LoadStoppedError, LoadTimeoutError, ReaderCutError
from glasscache.proxy import _fields
from glasscache.proxy.errors import ProxyError

_log = logging.getLogger("glasscache.proxy")

_FRAMING = frozenset({b"transfer-encoding"})


class Edge:
    """Wraps the cache before a `ReverseProxy`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        has_begun = False

        async def watched_send(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        headers = _fields.end_to_end(_fields.trimmed(scope["headers"]), keep=_FRAMING)
        try:
            await self._app({**scope, "headers": headers}, receive, watched_send)
        except (ProxyError, LoadTimeoutError, LoadStoppedError, ReaderCutError) as error:
            _log.warning("%s %s: %s", scope["method"], scope["path"], error)
            # an answer that has begun gets no end: the server cuts its connection
            if not has_begun:
                await _tell(_status(error), send)


def _status(error: Exception) -> int:
    if isinstance(error, ProxyError):
        return error.status
    return 504 if isinstance(error, LoadTimeoutError) else 502


async def _tell(status: int, send: Send) -> None:
    body = f"{status} {HTTPStatus(status).phrase}\n".encode()
    fields = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"no-store"),
        (b"cache-status", b"glasscache; detail=upstream-error"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})
