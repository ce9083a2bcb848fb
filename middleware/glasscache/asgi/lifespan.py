"""Watches an app's lifespan: loads are drained before the app shuts down, stores are closed after it has.

The messages themselves pass through unchanged. Where a server sends no lifespan, nothing here runs and nothing else
depends on it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from glasscache.asgi.types import ASGIApp, Message, Receive, Scope, Send
from glasscache.cache import Cache

_log = logging.getLogger("glasscache")

_OVER = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


async def watch_lifespan(
    app: ASGIApp, cache: Cache, scope: Scope, receive: Receive, send: Send, *, ending: Callable[[], object]
) -> None:
    """Run the app's lifespan; telemetry is not shut down here (a dead collector would hold up the server).

    `ending` is called when the shutdown begins.
    """

    async def watched_receive() -> Message:
        message = await receive()
        if message["type"] == "lifespan.shutdown":
            ending()
            await cache._engine.drain()  # what the loads use, the app is about to close
        return message

    async def watched_send(message: Message) -> None:
        if message["type"] in _OVER:
            try:
                await cache.aclose()
            except Exception:
                _log.exception("a store failed to close")
        await send(message)

    await app(scope, watched_receive, watched_send)
