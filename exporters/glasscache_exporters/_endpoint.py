"""Who gets the page of metrics over HTTP, and `metrics_app()`: the page as an ASGI app.

Decides which request is answered. The page is made in a thread: collecting takes locks of the SDK, and writing
thousands of lines takes milliseconds in which no other request would be answered.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING

from glasscache_exporters._page import Answer, Page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.metrics import MeterProvider

    from glasscache.asgi.types import ASGIApp, Receive, Scope, Send


class Endpoint:
    """One page, for those who may see it; the arguments of `metrics_app`."""

    def __init__(self, provider: MeterProvider | None, token: str | None, *, scope_labels: bool) -> None:
        self._page = Page.of(provider)
        self._expected = None if token is None else f"Bearer {token}".encode()
        self._scope_labels = scope_labels

    def answer(self, method: str, headers: Mapping[str, str]) -> Answer:
        """Answer a request; names of headers in lower case. Never raises. To a HEAD without the body."""
        about = {"content-length": "0"}
        if method not in ("GET", "HEAD"):
            return Answer(405, about | {"allow": "GET, HEAD"}, b"")
        given = headers.get("authorization", "").encode("latin-1", "replace")
        if self._expected is not None and not hmac.compare_digest(given, self._expected):
            return Answer(401, about | {"www-authenticate": "Bearer"}, b"")
        answer = self._page.answer(headers, scope_labels=self._scope_labels)
        return answer if method == "GET" else answer._replace(body=b"")


def metrics_app(
    provider: MeterProvider | None = None, *, token: str | None = None, scope_labels: bool = False
) -> ASGIApp:
    """An ASGI app that answers GET and HEAD, on any path, with all metrics of this process for Prometheus.

    OpenMetrics 1.0 with exemplars where the client asks for it, as Prometheus does, else text 0.0.4; gzip if asked. It
    answers for one process: of several workers each needs a port of its own (`serve_metrics`), or use OTLP.

    `provider`: whose metrics (default: the global provider; made by the SDK, 1.44 or newer). `token`: answer only
    requests with `Authorization: Bearer` and this token; key groups name routes. `scope_labels`: each series carries
    otel_scope_name and otel_scope_version. Raises `ConfigurationError` if no SDK is set up.
    """
    endpoint = Endpoint(provider, token, scope_labels=scope_labels)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            answer = await asyncio.to_thread(endpoint.answer, scope["method"], _headers(scope))
            sent = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
            await send({"type": "http.response.start", "status": answer.status, "headers": sent})
            await send({"type": "http.response.body", "body": answer.body})
        else:
            await send({"type": "websocket.close", "code": 1000})

    return app


def _headers(scope: Scope) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        known, text = name.decode("latin-1").lower(), value.decode("latin-1")
        headers[known] = f"{headers[known]}, {text}" if known in headers else text
    return headers


async def _live(receive: Receive, send: Send) -> None:
    """Under a server of its own: nothing is to be started or stopped."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
