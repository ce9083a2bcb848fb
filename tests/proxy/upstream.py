"""An upstream that says byte by byte what it is told to, on a real socket, and a proxy in front of it.

Decides nothing about HTTP: it reads a request as far as its own framing goes, and writes whatever the script says.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

import h11

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.proxy import Edge, ReverseProxy, Timeouts
from glasscache.proxy.server import SETTINGS
from tests.support.patience import PATIENCE
from tests.support.servers import RawConnection, live_server

SECRET = "a secret for the tests, long enough"


class Talk:
    """One connection that the upstream has accepted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.parser = h11.Connection(h11.SERVER)

    async def request(self) -> h11.Request:
        """Read the next request's head. EOFError when there is none."""
        if self.parser.our_state is h11.SEND_RESPONSE:  # the last answer was written past the parser
            self.parser = h11.Connection(h11.SERVER)
        event = await self.event()
        if not isinstance(event, h11.Request):
            raise EOFError
        return event

    async def body(self) -> bytes:
        """Read the rest of the request."""
        parts = []
        while isinstance(event := await self.event(), h11.Data):
            parts.append(bytes(event.data))
        return b"".join(parts)

    async def event(self) -> Any:
        """Read the next part of a request."""
        while (event := self.parser.next_event()) is h11.NEED_DATA:
            self.parser.receive_data(await self.reader.read(2**16))
        return event

    async def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def until_closed(self) -> None:
        """Wait until the other side has closed the connection."""
        with suppress(ConnectionError):
            while await self.reader.read(2**16):
                pass

    def reset(self) -> None:
        """End the connection with RST."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Talk], Awaitable[None]]


def answering(*answers: bytes) -> Script:
    """Give these answers, one a request whoever asks, the last one again and again; then keep the connection."""
    left = list(answers)

    async def script(talk: Talk) -> None:
        while True:
            await talk.request()
            await talk.body()
            await talk.send(left.pop(0) if len(left) > 1 else left[0])

    return script


def closing(*answers: bytes) -> Script:
    """The same, each on a connection of its own that is closed after it."""
    left = list(answers)

    async def script(talk: Talk) -> None:
        await talk.request()
        await talk.body()
        await talk.send(left.pop(0) if len(left) > 1 else left[0])

    return script


class Upstream:
    """A listening upstream: `url`, and how many connections came."""

    def __init__(self, script: Script, server: asyncio.Server) -> None:
        self.script = script
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.connections = 0
        self._server = server

    def stop(self) -> None:
        """Listen no more."""
        self._server.close()


@asynccontextmanager
async def upstream(script: Script, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    """An upstream in this event loop, for as long as the block lasts; https with the certificate in `tls`."""
    talks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        it.connections += 1
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            with suppress(EOFError, ConnectionError, h11.RemoteProtocolError):
                await it.script(Talk(reader, writer))
        finally:
            talks.discard(task)
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    it = Upstream(script, server)
    it.url = it.url if tls is None else it.url.replace("http:", "https:")
    try:
        yield it
    finally:
        server.close()
        for task in tuple(talks):
            task.cancel()
        if talks:
            await asyncio.wait(tuple(talks))


@asynccontextmanager
async def proxied(
    script: Script, *, rules: Sequence[Rule] | None = None, timeouts: Timeouts | None = None, **options: Any
) -> AsyncIterator[tuple[Upstream, int]]:
    """A scripted upstream, and the port of a real server with Edge, cache and ReverseProxy in front of it."""
    async with upstream(script) as origin:
        cache = Cache(MemoryStore(), key_secret=SECRET)
        proxy = ReverseProxy(origin.url, timeouts=timeouts, **options)
        app = Edge(CacheMiddleware(proxy, cache=cache, rules=rules))
        served = live_server(app, loop="uvloop", **SETTINGS)
        server = await asyncio.to_thread(served.__enter__)
        try:
            async with asyncio.timeout(PATIENCE):
                yield origin, server.port
        finally:
            await asyncio.to_thread(served.__exit__, None, None, None)


async def get(port: int, path: str = "/", **headers: str) -> tuple[int, dict[str, str], bytes]:
    """One GET on a connection of its own: status, headers (several of one name joined), body. CutOff if it is cut."""
    async with RawConnection(port) as raw:
        await raw.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        head = await raw.head()
        names = {name.decode() for name, _ in head.headers}
        return head.status, {name: head.header(name) or "" for name in names}, await raw.body()
