"""What the live tests share: signals between the test and the server's thread, a feed that the test turns, a question.

Decides: how a test waits: for a signal, or for a condition in the server's thread, always with a deadline.
Never: sleeps for a time in the hope that something has happened by then.
"""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from typing import Any, Literal, TypedDict

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.routing import Route

from glasscache import Cache, Limits, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule
from tests.support.asgi import Head
from tests.support.patience import PATIENCE
from tests.support.servers import LiveServer, RawConnection


class Stack(TypedDict):
    """Arguments of `live_server`."""

    loop: Literal["asyncio", "uvloop"]
    http: Literal["h11", "httptools"]


STACKS: tuple[Stack, ...] = ({"loop": "asyncio", "http": "h11"}, {"loop": "uvloop", "http": "httptools"})


class Signal:
    """An event that any thread sets and any event loop awaits."""

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def set(self) -> None:
        """Let everybody go on who waits, now or later."""
        with self._lock:
            self.is_set = True
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            with suppress(RuntimeError):  # that loop is closed
                loop.call_soon_threadsafe(_release, future)

    async def wait(self, patience: float = PATIENCE) -> None:
        """Wait until it is set; TimeoutError after `patience` seconds."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            if self.is_set:
                return
            self._waiting.append((loop, future))
        async with asyncio.timeout(patience):
            await future


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until something holds in the server's thread."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - integers of another thread tell nobody when they change
            await asyncio.sleep(0.002)


@dataclasses.dataclass(frozen=True)
class Got(Head):
    """A response, read whole."""

    body: bytes


async def ask(
    server: LiveServer,
    path: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Got:
    """Ask on a connection of its own."""
    async with RawConnection(server.port) as raw:
        return await ask_on(raw, path, method, headers=headers, body=body)


async def ask_on(
    raw: RawConnection,
    path: str,
    method: str = "GET",
    *,
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
) -> Got:
    """Ask on an open connection."""
    await raw.request(method, path, headers=headers, body=body)
    return await got(raw)


async def got(raw: RawConnection) -> Got:
    """Read the next response whole."""
    async with asyncio.timeout(PATIENCE):
        head = await raw.head()
        return Got(head.status, head.headers, await raw.body())


class Feed:
    """An origin whose events the test lets out, one by one: `GET /events`, cached for a minute unless `headers` forbid.

    `tell(n)` lets event n out; the stream ends after the last. `fails`: it raises instead of ending.
    """

    def __init__(self, count: int, *, headers: Mapping[str, str] | None = None, fails: bool = False) -> None:
        self.events = [b"data: %d\n\n" % number for number in range(count)]
        self.loads = 0
        self.ended = Signal()
        self._told = [Signal() for _ in range(count)]
        self._headers = headers
        self._fails = fails

    def tell(self, *numbers: int) -> None:
        """Let these events out; without a number all of them."""
        for number in numbers or range(len(self._told)):
            self._told[number].set()

    async def endpoint(self, request: Request) -> StreamingResponse:
        """Answer with the events."""
        self.loads += 1
        return StreamingResponse(self._stream(), media_type="text/event-stream", headers=self._headers)

    async def _stream(self) -> AsyncIterator[bytes]:
        try:
            for told, event in zip(self._told, self.events, strict=True):
                await told.wait()
                yield event
            if self._fails:
                raise RuntimeError("the origin broke on purpose")
        finally:
            self.ended.set()

    def served_by(self, cache: Cache) -> Starlette:
        """An app with this feed behind a cache."""
        app = Starlette(routes=[Route("/events", self.endpoint)])
        app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/events", ttl=60)])
        return app


def make_cache(**limits: Any) -> Cache:
    """A cache with a memory of its own and these `Limits`."""
    return Cache(MemoryStore(max_entries=200), limits=Limits(**limits))
