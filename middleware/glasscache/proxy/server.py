"""The server of `glasscache proxy`: uvicorn, set up so that it adds nothing to what the upstream says.

Decides uvicorn's settings, and how an interim response (103 Early Hints and its like) reaches a client, for which ASGI
has no message. Date and Server are the upstream's; what a client says of itself is not believed here.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from glasscache.asgi.types import ASGIApp, Message, Receive, Scope, Send
from glasscache.proxy._forwarding import INTERIM

_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Protocol(HttpToolsProtocol):
    """uvicorn's, with interim responses: `extensions["glasscache.interim"]["send"](status, fields)`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.app: Any = partial(self._serve, self.app)

    async def _serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        may_hint = scope["http_version"] != "1.0"  # RFC 9110, section 15.2

        async def watched_send(message: Message) -> None:
            nonlocal may_hint
            may_hint = False
            await send(message)

        def interim(status: int, fields: Iterable[tuple[bytes, bytes]]) -> None:
            if may_hint and not self.transport.is_closing():
                lines = [b"HTTP/1.1 %d %s" % (status, _PHRASES.get(status, "").encode())]
                lines += [b"%s: %s" % field for field in fields]
                self.transport.write(b"\r\n".join([*lines, b"", b""]))

        scope.setdefault("extensions", {})[INTERIM] = {"send": interim}
        try:
            await app(scope, receive, watched_send)
        finally:
            may_hint = False


SETTINGS: dict[str, Any] = {
    "http": Protocol,
    "ws": "none",
    "lifespan": "on",
    "log_config": None,
    "date_header": False,
    "server_header": False,
    "proxy_headers": False,
}
"""Options of `uvicorn.Config`."""


def serve(app: ASGIApp, listener: socket.socket, *, access_log: bool = False) -> None:
    """Serve what comes to `listener` until the process is told to end (SIGINT, SIGTERM)."""
    with suppress(_ToldToEnd):  # so that what is open around the server is closed, too
        signal.signal(signal.SIGTERM, _end)  # uvicorn raises it anew when it has ended
        uvicorn.Server(uvicorn.Config(app, access_log=access_log, **SETTINGS)).run(sockets=[listener])


class _ToldToEnd(BaseException):
    """SIGTERM has come."""


def _end(_signal: int, _frame: object) -> None:
    raise _ToldToEnd
