"""What is stored under the key of an entry: its windows and its number, as text for scripts, and its envelope.

Decides how long it lives there, and what of what comes back is believed. Never asks a server.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from glasscache._entry import Entry, Key
from glasscache.stores._envelope import Envelope, EnvelopeError
from glasscache.stores._redis_memo import Memo

T = TypeVar("T")

P = ParamSpec("P")

_LONGEST = 1e12
"""Seconds: a server adds what it is told to its own time, in milliseconds of 64 bits."""

LARGE = 256 * 1024
"""Bytes that take about as long to pack as a thread takes to be asked."""


class Values:
    """Entries to bytes and back, by `now`. `max_ttl`: seconds that anything is kept. `memo`: of what was opened."""

    def __init__(self, envelope: Envelope, now: Callable[[], float], max_ttl: float, memo: Memo) -> None:
        self._seal = envelope.seal
        self._open = envelope.open
        self._now = now
        self._max_ttl = max_ttl
        self._memo = memo
        self.known: Callable[[Key, bytes, int, float], Entry | None] = memo.known
        """The entry of this value, if it has been opened before; asked as `unpack` is, in the event loop's thread."""

    def pack(self, key: Key, entry: Entry) -> tuple[bytes, bytes] | None:
        """What is stored, and for how many milliseconds; None: it is dead already."""
        lives = int(min(entry.dead_from - self._now(), self._max_ttl, _LONGEST) * 1000)
        if lives < 1:
            return None
        head = b"%b %b %d\n" % (milliseconds(entry.window), milliseconds(entry.stale_while_revalidate), entry.number)
        return head + self._seal(key, entry, left=lives / 1000), b"%d" % lives

    def unpack(self, key: Key, value: bytes, left: int, now: float) -> Entry:
        """The entry, of which so many milliseconds were left at `now`. EnvelopeError if it is none."""
        begins = value.find(b"\n") + 1
        if not begins or left < 0:
            raise EnvelopeError("foreign")
        entry = self._open(key, value[begins:], now, left / 1000)
        if len(value) <= LARGE:  # else this is a thread
            self._memo.opened(key, value, entry)
        return entry


async def off_loop(size: int, do: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What is large is packed and unpacked in a thread: it would hold up all other requests for milliseconds."""
    return await asyncio.to_thread(do, *args, **kwargs) if size > LARGE else do(*args, **kwargs)


def milliseconds(seconds: float) -> bytes:
    """As scripts want them."""
    return b"%d" % math.ceil(min(seconds, _LONGEST) * 1000)
