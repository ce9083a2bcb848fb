"""A page behind a stack of layers with the cache among them, for the tests of their order.

Decides what the layers do. Must never decide their order: the tests do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule
from tests.support.asgi import ASGIApp, Client, Receive, Scope, Send
from tests.support.asgi import Response as Got
from tests.support.otel_rig import Rig

MISS = "glasscache; fwd=uri-miss; stored"
PAGE = "a page that is worth compressing " * 50


class Site:
    """`GET /page` behind the given layers, with a cache between them."""

    def __init__(
        self,
        *,
        before: tuple[Middleware, ...] = (),
        after: tuple[Middleware, ...] = (),
        cache: Cache | None = None,
        credentials: tuple[str, ...] | None = None,
        **rule: Any,
    ) -> None:
        self.loads = 0
        self.cache = cache or Cache(MemoryStore(max_entries=100))
        rules = [Rule("/page", ttl=60, **rule)]
        cached = Middleware(CacheMiddleware, cache=self.cache, rules=rules, credentials=credentials)
        self.client = Client(Starlette(routes=[Route("/page", self._page)], middleware=[*before, cached, *after]))

    async def _page(self, request: Request) -> Response:
        self.loads += 1
        return PlainTextResponse(f"{request.scope.get('user_name', 'you')}: {PAGE}")

    async def get(self, **headers: str) -> Got:
        """Ask for the page."""
        return await self.client.request("GET", "/page", headers={k.replace("_", "-"): v for k, v in headers.items()})


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def outcome(got: Got) -> str:
    """`hit`, `stored`, or what else Cache-Status says after the name."""
    field = got.header("cache-status") or "none"
    return "hit" if "; hit; ttl=" in field else "stored" if field == MISS else field.partition("; ")[2] or field


class TokenAuthentication:
    """Lets a request pass whose token is known."""

    def __init__(self, app: ASGIApp, header: bytes, tokens: dict[bytes, str]) -> None:
        self._app = app
        self._header = header
        self._tokens = tokens

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = next((value for name, value in scope.get("headers", ()) if name == self._header), b"")
        if scope["type"] != "http" or token in self._tokens:
            await self._app({**scope, "user_name": self._tokens.get(token)}, receive, send)
        else:
            await PlainTextResponse("who are you?", 401)(scope, receive, send)


def authenticating(header: str = "authorization", **tokens: str) -> Middleware:
    known = {token.encode(): name for name, token in tokens.items()}
    return Middleware(TokenAuthentication, header=header.encode(), tokens=known)


class Tracing:
    """A server span per request, as instrumentations make them."""

    def __init__(self, app: ASGIApp, rig: Rig) -> None:
        self._app = app
        self._tracer = rig.tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._tracer.start_as_current_span("GET /page", kind=SpanKind.SERVER):
            await self._app(scope, receive, send)
