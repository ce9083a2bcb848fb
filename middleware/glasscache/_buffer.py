"""What a flight has produced and not everyone has read: retained whole at first, a sliding window once it is paced.

Decides what may be forgotten and when the producer must wait. Knows positions, not readers; counts every byte it holds
in the engine's common sum.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from glasscache._wait import Commons

_WINDOW = 256 * 1024  # bytes that a paced producer may be ahead of its slowest reader


class Buffer:
    """The chunks of one flight; a position is the number of chunks a reader has taken since byte 0."""

    __slots__ = ("_at", "_commons", "_size", "_writers", "chunks", "first", "paced")

    _at: dict[int, int]
    """Paced only: position -> readers that stand there."""
    _writers: list[asyncio.Future[None]]
    """Paced only: an app may send from several tasks at once."""

    def __init__(self, commons: Commons) -> None:
        self._commons = commons
        self._size = 0
        self.chunks: list[bytes] = []
        self.first: int = 0
        """Position of chunks[0]: above 0 only when paced, or released."""
        self.paced: bool = False

    @property
    def end(self) -> int:
        """The position of a reader that has taken everything so far."""
        return self.first + len(self.chunks)

    def append(self, chunk: bytes) -> bool:
        """Keep the next chunk; False if that is more than may be retained."""
        commons, size = self._commons, len(chunk)
        self.chunks.append(chunk)
        self._size = whole = self._size + size
        commons.held_bytes = held = commons.held_bytes + size
        limits = commons.limits
        return whole <= limits.max_entry_bytes and held <= limits.max_flight_bytes

    def pace(self, positions: Iterable[int]) -> None:
        """From now on forget what every reader has passed, and let the slowest one set the pace."""
        self.paced, self._at, self._writers = True, {}, []
        for position in positions:
            self.enter(position)
        self._trim()

    def enter(self, position: int) -> None:
        """A reader stands at `position`."""
        if self.paced:
            self._at[position] = self._at.get(position, 0) + 1

    def move(self, origin: int, target: int | None) -> None:
        """A reader went from `origin` to `target`, or away for good (None)."""
        if not self.paced:
            return
        left = self._at.pop(origin) - 1
        if left:
            self._at[origin] = left
        if target is not None:
            self.enter(target)
        if not left:
            self._trim()

    @property
    def slowest(self) -> int:
        """The position that holds up the producer."""
        return min(self._at)

    @property
    def is_waiting(self) -> bool:
        """Whether the producer waits for readers."""
        return self.paced and bool(self._writers)

    @property
    def is_full(self) -> bool:
        """Whether the producer must wait."""
        return self.paced and self._size > _WINDOW

    async def wait_for_room(self, when_late: Callable[[], None]) -> None:
        """Wait for the slowest reader; `when_late` is called after `reader_timeout` without room."""
        loop = asyncio.get_running_loop()
        room = loop.create_future()
        self._writers.append(room)
        late = loop.call_later(self._commons.limits.reader_timeout, when_late)
        try:
            await room
        finally:
            late.cancel()
            self._writers.remove(room)

    def resume(self) -> None:
        """Wake a producer that waits for room: it looks whether there is some, or whether it was stopped."""
        for room in self._writers if self.paced else ():
            if not room.done():
                room.set_result(None)

    def release(self) -> None:
        """Forget everything: nobody will read it any more."""
        self._commons.held_bytes -= self._size
        self._size = 0
        self.first += len(self.chunks)
        self.chunks = []

    def _trim(self) -> None:
        while self.chunks and self._at and self.first not in self._at:
            passed = len(self.chunks.pop(0))
            self.first += 1
            self._size -= passed
            self._commons.held_bytes -= passed
        if self._size <= _WINDOW:
            self.resume()
