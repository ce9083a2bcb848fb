"""A page whose load the test holds up, and that tells who asked: for servers that are stopped meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.asgi.types import Receive, Scope, Send
from tests.frameworks.origin import TOLD

HELD_FOR = 0.3  # seconds that the load goes on after it was let go

told = Path(os.environ[TOLD])


def tell(what: str) -> None:
    with told.open("a") as file:
        file.write(what + "\n")


async def held(_: Request) -> JSONResponse:
    """Goes on when the test has made a file beside the one in which is told."""
    tell("load")
    while not told.with_suffix(".go").exists():  # noqa: ASYNC110 - the test is in another process
        await asyncio.sleep(0.01)
    await asyncio.sleep(HELD_FOR)
    return JSONResponse({"answer": "held"})


async def page(request: Request) -> JSONResponse:
    """What the app sees of who asks."""
    tell("page")
    names = [name.decode() for name, _ in request.scope["headers"]]
    return JSONResponse({"host": request.headers.get("host"), "odd": [name for name in names if name.startswith(":")]})


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    yield
    tell("shutdown")


site = Starlette(
    routes=[Route("/held", held), Route("/page", page)],
    lifespan=lifespan,
    middleware=[Middleware(CacheMiddleware, cache=Cache(), rules=[Rule("/*", ttl=60)])],
)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """The site; each request is told before anything else is done."""
    if scope["type"] == "http":
        tell(f"asked {scope['http_version']}")
    await site(scope, receive, send)
