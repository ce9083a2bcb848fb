"""A TCP proxy that does to a connection what networks do.

Decides what happens to bytes on their way; whoever holds it may change that while they are under way. Never keeps a
connection, a task or a port when it is closed.

    async with ChaosProxy(server.port) as proxy:
        proxy.faults = Faults(delay=0.02)
        proxy.reset()
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """What is wrong. Nothing, by default."""

    delay: float = 0.0
    """Seconds at most that a piece waits, each way."""
    step: int = 65536
    """Bytes at most that travel together."""
    refuses: bool = False
    """New connections are reset."""
    swallows: bool = False
    """Nothing arrives anywhere: a black hole."""
    drops_replies: bool = False
    """Commands arrive, answers do not."""
    truncates: bool = False
    """The next answer ends in the middle, and so does its connection."""


class ChaosProxy:
    """Before a server on a port of 127.0.0.1; `tls`: what its clients speak, the server does not."""

    def __init__(self, port: int, *, seed: int = 7, tls: ssl.SSLContext | None = None) -> None:
        self.faults = Faults()
        self._tls = tls
        self.port = 0
        self._upstream = port
        self._random = Random(seed)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reset(self) -> None:
        """End every connection at once, as a crash does."""
        for writer in tuple(self._writers):
            writer.transport.abort()

    def cut(self) -> None:
        """Nobody gets through, and who did is thrown out."""
        self.faults = Faults(refuses=True)
        self.reset()

    def leads_to(self, port: int) -> None:
        """From now on, for new connections."""
        self._upstream = port

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self.faults = Faults()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.faults.refuses:
            writer.transport.abort()
            return
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        self._writers |= {writer, there}
        ways = {self._spawn(reader, there, replies=False), self._spawn(there_reader, writer, replies=True)}
        with suppress(asyncio.CancelledError):
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for end in (writer, there):
            end.transport.abort()
            self._writers.discard(end)

    def _spawn(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._pass_on(source, sink, replies=replies))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _pass_on(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, replies: bool) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                faults = self.faults
                if faults.swallows or (replies and faults.drops_replies):
                    continue
                if replies and faults.truncates:
                    sink.write(data[: len(data) // 2])
                    await sink.drain()
                    return
                for piece in _pieces(data, faults.step):
                    await asyncio.sleep(self._random.random() * faults.delay)
                    sink.write(piece)
                    await sink.drain()


def _pieces(data: bytes, step: int) -> Iterator[bytes]:
    return (data[at : at + step] for at in range(0, len(data), step))
