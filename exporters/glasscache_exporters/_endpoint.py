"""`metrics_app()`: the page of metrics as an ASGI app.

Decides which request gets the page. It is made in a thread: collecting takes locks of the SDK, and writing thousands of
lines takes milliseconds in which no request would be answered.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

from glasscache_exporters._page import Answer, Page

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider

    from glasscache.asgi.types import ASGIApp, Receive, Scope, Send


def metrics_app(
    provider: MeterProvider | None = None, *, token: str | None = None, scope_labels: bool = False
) -> ASGIApp:
    """An ASGI app that answers GET and HEAD, on any path, with all metrics of this process for Prometheus.

    OpenMetrics 1.0 with exemplars where the client asks for it, as Prometheus does, else text 0.0.4; gzip if asked. It
    answers for one process: of several workers each needs a port of its own (GLASSCACHE_METRICS_PORT), or use OTLP.

    `provider`: whose metrics (default: the global provider; made by the SDK, 1.44 or newer). `token`: answer only
    requests with `Authorization: Bearer` and this token; key groups name routes. `scope_labels`: each series carries
    otel_scope_name and otel_scope_version. Raises `ConfigurationError` if no SDK is set up.
    """
    page = Page.of(provider)
    expected = None if token is None else f"Bearer {token}".encode()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1000})
            return
        headers = _headers(scope)
        answer = _refusal(scope["method"], headers, expected)
        if answer is None:
            answer = await asyncio.to_thread(page.answer, headers, scope_labels=scope_labels)
        sent = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        await send({"type": "http.response.start", "status": answer.status, "headers": sent})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer.body})

    return app


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        known, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[known] = f"{headers[known]}, {text}" if known in headers else text
    return headers


def _refusal(method: str, headers: dict[str, str], expected: bytes | None) -> Answer | None:
    about = {"content-length": "0"}
    if method not in ("GET", "HEAD"):
        return Answer(405, about | {"allow": "GET, HEAD"}, b"")
    given = headers.get("authorization", "").encode("latin-1")
    if expected is not None and not hmac.compare_digest(given, expected):
        return Answer(401, about | {"www-authenticate": "Bearer"}, b"")
    return None


async def _live(receive: Receive, send: Send) -> None:
    """Under a server of its own: nothing is to be started or stopped."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
