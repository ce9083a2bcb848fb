"""What tests of streaming share: an origin that ticks, and clients that note when what arrived."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.asgi.site import Site
from tests.support.asgi import Receive, Scope, Send, Stream

PRIVATE = [(b"cache-control", b"private")]
STREAM = [(b"content-type", b"text/event-stream")]
KILOBYTE = b"k" * 1024


def now() -> float:
    return asyncio.get_running_loop().time()


class Ticker:
    """Sends one event each second; remembers what became of each of its loads."""

    def __init__(
        self, *, events: int | None, headers: Any = STREAM, event: Callable[[int], bytes] | None = None
    ) -> None:
        self.events = events
        self.headers = headers
        self.event = event or (lambda number: b"data: %d\n\n" % number)
        self.sent: list[int] = []
        self.ends: list[tuple[float, str]] = []
        self.disconnects: list[float] = []
        self.delay = 1.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        load = len(self.sent)
        self.sent.append(0)

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            self.disconnects.append(now())

        watching = asyncio.create_task(watch())
        try:
            await send({"type": "http.response.start", "status": 200, "headers": list(self.headers)})
            while self.events is None or self.sent[load] < self.events:
                await asyncio.sleep(self.delay)
                await send({"type": "http.response.body", "body": self.event(self.sent[load]), "more_body": True})
                self.sent[load] += 1
            await send({"type": "http.response.body"})
            self.ends.append((now(), "whole"))
        except BaseException as error:
            self.ends.append((now(), type(error).__name__))
            raise
        finally:
            watching.cancel()


@asynccontextmanager
async def reading(site: Site, **options: Any) -> AsyncIterator[Stream]:
    """A client that takes its messages one by one."""
    async with site.client.stream("GET", "/page", **options) as stream:
        yield stream


async def all_of(site: Site, start: float = 0.0, **options: Any) -> list[tuple[float, bytes]]:
    """When which chunk arrived, for a client that comes at `start` and is as fast as the answer."""
    await asyncio.sleep(start)
    arrived = []
    async with reading(site, **options) as stream:
        while chunk := await stream.chunk():  # an empty one only says that it is over
            arrived.append((now(), chunk))
    return arrived
