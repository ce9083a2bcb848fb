"""The site without a framework."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs

from glasscache.asgi import CacheMiddleware
from glasscache.asgi.types import Receive, Scope, Send
from tests.frameworks.layers import around, mounted, rules
from tests.frameworks.origin import TEAPOT, Origin, TooHardError

origin = Origin()
JSON = [(b"content-type", b"application/json")]
EVENTS = [(b"content-type", b"text/event-stream")]


async def respond(send: Send, answer: Any, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": JSON})
    await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


async def stream(send: Send, events: AsyncIterator[bytes], headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for event in events:
        await send({"type": "http.response.body", "body": event, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def lifespan(receive: Receive, send: Send) -> None:
    for moment in ("startup", "shutdown"):
        await receive()
        origin.tell(moment)
        await send({"type": f"lifespan.{moment}.complete"})


async def handle(path: str, name: str, scope: Scope, send: Send) -> None:
    match path:
        case "/answer":
            await respond(send, origin.load(name, root=scope["root_path"]))
        case "/private":
            await respond(send, origin.load(name, user=scope["user_name"]))
        case "/slow":
            await respond(send, await origin.slow(name))
        case "/events":
            await stream(send, origin.events(name), EVENTS)
        case "/endless":
            await stream(send, origin.endless(name), [*EVENTS, (b"cache-control", b"no-store")])
        case "/task":
            await respond(send, origin.load(name))
            await origin.work(name)
        case _:
            {"/fail": origin.fail, "/teapot": origin.refuse}[path](name)


async def site(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    [name] = parse_qs(scope["query_string"].decode())["q"]
    try:
        await handle(scope["path"].removeprefix(scope["root_path"]).removeprefix("/bare"), name, scope, send)
    except TooHardError:
        await respond(send, TEAPOT, 418)


main = CacheMiddleware(site, cache=origin.cache, rules=rules())
app = origin.served(mounted(around(main), main))
