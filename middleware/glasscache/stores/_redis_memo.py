"""What was opened lately: the same bytes, again under the same key, are not opened anew.

Decides whether what a server has answered is what was opened before, and whether the entry that came of it still tells
how long it lives. Whatever it gives was proven under this very key, byte for byte, and ends no later than the server
says now. Must never hold more bytes than it may.
"""

from __future__ import annotations

from glasscache._entry import Entry, Key

_CLOSE = 0.05
"""Seconds that an entry may end sooner than the server says now. The answer to an earlier question took longer, or less
long: what it said of the end is that much less than the truth, and never more. Opened anew, it would say what is said
now.
"""
_PER_KEY = 1024
"""Bytes that a key counts beside its value and its entry; more than it takes where there is neither."""


class Memo:
    """Values and their entries, `most` bytes of both at most.

    What is opened for the first time is forgotten, but for its key: behind a memory tier, most never come again. There
    are two generations: when the younger one has half of all bytes, the older one goes.
    """

    def __init__(self, most: int) -> None:
        self._half = most // 2
        self._young: dict[Key, tuple[bytes, Entry] | None] = {}
        self._old: dict[Key, tuple[bytes, Entry] | None] = {}
        self._weight = 0
        """Of the younger ones."""

    def known(self, key: Key, value: bytes, left: int, now: float) -> Entry | None:
        """The entry of this value, of which so many milliseconds are left at `now`; None: open it."""
        known = self._young.get(key)
        if known is None:
            known = self._old.get(key)
            if known is None:
                return None
            self._keep(key, known)
        if known[0] != value:
            return None
        entry = known[1]
        if (
            0.0 <= now + left / 1000 - entry.dead_from <= _CLOSE
            and now < entry.fresh_until  # from there on it matters when exactly
            and entry.doubted is None  # by whoever has kept it
        ):
            return entry
        return None

    def opened(self, key: Key, value: bytes, entry: Entry) -> None:
        """This has come of it."""
        known = value, entry
        self._keep(key, known if key in self._young or key in self._old else None)

    def _keep(self, key: Key, known: tuple[bytes, Entry] | None) -> None:
        weight = _PER_KEY if known is None else _PER_KEY + len(known[0]) + known[1].size
        if weight > self._half:
            return
        self._weight += weight
        if self._weight > self._half:
            self._young, self._old, self._weight = {}, self._young, weight
        self._young[key] = known
