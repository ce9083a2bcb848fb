"""The page that warms: for a deployment, which knows what will be asked and cannot call `CacheMiddleware.warm`.

Decides how requests are said in JSON, and when a warming ends: with its client, and with its server. Must stand behind
the token: whoever may ask for it makes the app work. Must never say what an answer was, nor keep a server from its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import msgspec

from glasscache._warming import CONCURRENCY
from glasscache.asgi import _http
from glasscache.asgi._live import server_is_stopping, until_gone
from glasscache.asgi._pages import order_page
from glasscache.asgi._warming import WarmRequest

if TYPE_CHECKING:
    from glasscache.asgi._warming import Warmer
    from glasscache.asgi.types import ASGIApp, Receive, Scope
    from glasscache.cache import Cache

MOST_BYTES = 1024**2  # of one request for a warming
MOST_AT_ONCE = 64
_ROUTING = _http.ROUTING - _http.OF_A_SCRIPT | {b"host"}
_WAY = ("asgi", "app", "scheme", "server", "root_path")
"""What of the page's own request others have in common with it. Not `user`, `session`, `state`, `client`."""


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One request: `body` is JSON as it is to be sent, or a text that is sent as it is."""

    url: str
    method: str | None = None
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    headers: dict[str, str] = {}
    tenant: str | None = None

    def request(self) -> WarmRequest:
        """ConfigurationError for what cannot work."""
        body = b"" if self.body is msgspec.UNSET else bytes(self.body)
        if body.startswith(b'"'):
            body = msgspec.json.decode(body, type=str).encode()
        headers = tuple(self.headers.items())
        return WarmRequest(url=self.url, method=self.method, body=body, headers=headers, tenant=self.tenant)


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    requests: list[str | Line]
    concurrency: int = CONCURRENCY

    def __post_init__(self) -> None:
        if not 1 <= self.concurrency <= MOST_AT_ONCE:
            raise ValueError(f"concurrency {self.concurrency}: give a number from 1 to {MOST_AT_ONCE}")


def warm_page(cache: Cache, warmer: Warmer) -> ASGIApp:
    """The page."""

    async def warm(wanted: Wanted, scope: Scope, receive: Receive) -> dict[str, Any]:
        requests = [WarmRequest(url=line) if isinstance(line, str) else line.request() for line in wanted.requests]
        way = {name: scope[name] for name in _WAY if name in scope}
        way["headers"] = [field for field in scope["headers"] if field[0] in _ROUTING]
        client = asyncio.get_running_loop().create_task(until_gone(receive))
        try:
            warmed = await warmer.warm(_while_wanted(requests, client), way, wanted.concurrency)
        finally:
            client.cancel()
        said: dict[str, Any] = msgspec.to_builtins(warmed)
        return said

    return order_page(cache, Wanted, warm, example='{"requests": ["/search?q=a"]}', most_bytes=MOST_BYTES)


def _while_wanted(requests: list[WarmRequest], client: asyncio.Task[None]) -> Iterator[WarmRequest]:
    """One after the other, until the client leaves, or the server stops."""
    for request in requests:
        if client.done() or server_is_stopping():
            return
        yield request
