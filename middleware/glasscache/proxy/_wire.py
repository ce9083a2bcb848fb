"""One connection to the upstream as bytes: what came, at the pace of its reader; what goes out, at the pace of theirs.

Decides when the other side is held back, and whether a connection that rests is still good for another request: bytes
that nobody asked for make it unusable, since they would be taken for the next request's answer. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
from typing import cast

_HIGH = 256 * 1024
"""Bytes that wait for their reader before the other side is held back."""


class Wire(asyncio.Protocol):
    """A stream of bytes each way. For one reader and one writer."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._data = bytearray()
        self._is_full = False
        self._has_ended = False
        self._error: Exception | None = None

    @property
    def is_quiet(self) -> bool:
        """Whether the other side has said nothing that was not read: not even that it has ended."""
        return not (self._data or self._has_ended)

    async def read(self) -> bytes:
        """What has come, as soon as there is any; b"" at the end. OSError if the connection broke."""
        while not self._data and not self._has_ended:
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        if not self._data and self._error is not None:
            raise self._error
        data = bytes(self._data)
        self._data.clear()
        if self._is_full and self._transport is not None:
            self._is_full = False
            self._transport.resume_reading()
        return data

    async def write(self, data: bytes) -> None:
        """Send, and wait until there is room for more. OSError if the connection is gone."""
        transport = self._transport
        if transport is None or transport.is_closing():
            raise self._error or ConnectionResetError("the connection is closed")
        transport.write(data)
        if self._room is not None:
            await asyncio.shield(self._room)

    def close(self) -> None:
        """End the connection now; what was not sent yet is dropped."""
        if self._transport is not None:
            self._transport.abort()

    # --- called by the transport ------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection stands."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        """Keep what has come; hold the other side back if its reader is slow."""
        self._data += data
        if len(self._data) > _HIGH and not self._is_full and self._transport is not None:
            self._is_full = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The other side will send no more; what we have to say, we still say."""
        self._has_ended = True
        self._wake()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, with an error or without."""
        self._has_ended = True
        self._error = exc
        self._transport = None
        self._wake()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The other side does not keep up."""
        self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        """The other side keeps up again."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
