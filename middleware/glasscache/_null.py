"""A backplane for a machine that is alone. Null objects keep `if x is not None` out of the engine."""

from __future__ import annotations

from collections.abc import Sequence

from glasscache._entry import Key
from glasscache._events import SpanRef
from glasscache._lease import Marks
from glasscache.interfaces import Listener


class NullBackplane:
    """Of a machine that is alone: there is nobody to tell."""

    async def start(self, listener: Listener) -> None:
        """Listen to nobody: nothing will ever be told."""

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        """The next number; nobody else gives out any."""
        return seen + 1

    async def tell_replaced(self, key: Key) -> None:
        """There is nobody to tell."""

    async def read(self, since: int) -> Marks:
        """No markers: nothing was missed."""
        return Marks(number=since, everything=0, floor=0, tags={})

    async def aclose(self) -> None:
        """There is nothing to release."""
