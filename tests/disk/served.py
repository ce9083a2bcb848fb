"""An app as a user has it: the cache comes from the environment, and uvicorn starts it in several workers."""

from __future__ import annotations

import os
from pathlib import Path

from glasscache.asgi import CacheMiddleware, Rule
from tests.support.asgi import Receive, Scope, Send


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    """`/pid` says whose worker it is; all else is an answer, whose load is written down."""
    if scope["path"] != "/pid":
        Path(os.environ["MACHINE_FOLDER"], f"load-{os.getpid()}-{os.urandom(4).hex()}").touch()  # noqa: ASYNC240
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{os.getpid()}".encode()})


app = CacheMiddleware(_app, rules=[Rule("/ask", ttl=300)])
