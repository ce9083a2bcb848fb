"""Which copies in a nearer tier may be older than what the last tier has: nobody takes those, or puts them back.

Decides it key by key, for one process: whatever changes a key makes the lookups of it that are under way unsound. Does
no I/O and knows no store.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from glasscache._entry import Key
from glasscache._lately import Lately
from glasscache.interfaces import Clock

_MOST = 10_000
_LAG = 1.0
"""Seconds: where one process of a machine has dropped a copy, another that has not heard yet may put the old one back;
it drops it when it hears."""


class Asking:
    """One lookup of a key, around which it is entered; or from `begin` to `end`. `copies`: it writes what was found."""

    __slots__ = ("_copies", "copies", "has_changed", "key")

    def __init__(self, known: Copies, key: Key, *, copies: bool = False) -> None:
        self._copies = known
        self.key: Key = key
        self.copies: bool = copies
        self.has_changed: bool = known.is_changing(key)
        """Whether something has changed since it began."""

    def is_sound(self) -> bool:
        """Whether what it finds may be kept as a copy."""
        return not self.has_changed

    def trusts(self) -> bool:
        """Whether it may take a copy."""
        return not self.has_changed and not self._copies.is_doubted(self.key)

    def begin(self) -> None:
        """It is under way."""
        self._copies.under_way.setdefault(self.key, []).append(self)

    def end(self) -> None:
        """It is over."""
        under_way = self._copies.under_way[self.key]
        under_way.remove(self)
        if not under_way:
            del self._copies.under_way[self.key]

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()


class Copies:
    """What one process knows of them."""

    def __init__(self, clock: Clock) -> None:
        self.under_way: dict[Key, list[Asking]] = {}
        """The lookups."""
        self._changing: dict[Key, int] = {}
        self._dropped = Lately(_MOST, _LAG, clock)
        self._old = Lately(_MOST, math.inf, clock)

    def is_changing(self, key: Key) -> bool:
        """Whether another answer takes the place of what there is, now, or an older one may yet take its own."""
        if key in self._changing:
            return True
        under_way = self.under_way.get(key)
        return under_way is not None and any(asking.copies and asking.has_changed for asking in under_way)

    def is_doubted(self, key: Key) -> bool:
        """Whether there may be a copy that should be there no more."""
        return key in self._dropped or key in self._old

    @contextmanager
    def change(self, key: Key) -> Iterator[None]:
        """Around whatever puts another answer, or none, in the place of what the last tier or a copy has."""
        self._changing[key] = self._changing.get(key, 0) + 1
        for asking in self.under_way.get(key, ()):
            asking.has_changed = True
        try:
            yield
        finally:
            self._changing[key] -= 1
            if not self._changing[key]:
                del self._changing[key]

    def dropped(self, key: Key) -> None:
        """There is a newer answer in the last tier: the copy is about to be removed."""
        self._dropped.add(key)

    def may_be_old(self, key: Key) -> None:
        """It could not be removed or overwritten: there may be an old one, until another takes its place."""
        self._old.add(key)

    def is_new(self, key: Key) -> None:
        """It was removed, or overwritten."""
        self._old.pop(key, None)
