"""Tags that climb: what is made of a tagged value is invalid as soon as the value is.

Decides where the tags of a value that is read inside of a load go: to that load's own answer. Must cost a read outside
of all loads, or of a value without tags, next to nothing; and never grow without bound: a task that a load has started
may read on for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextvars import ContextVar

MOST_TAGS = 1024

collecting: ContextVar[Callable[[Iterable[str]], object] | None] = ContextVar("glasscache_collecting", default=None)
"""What takes the tags of values that are read in the load that we are inside of; None: we are inside of none."""


class Climbed(dict[str, None]):
    """The tags of what was read in one load, in order."""

    @property
    def is_full(self) -> bool:
        """No more are taken: what was made of so much cannot be told invalid, and must not be stored. Nor must what is
        made of that: it is full of the same tags.
        """
        return len(self) > MOST_TAGS

    def take(self, tags: Iterable[str]) -> None:
        """A value that carries these was read."""
        if not self.is_full:
            self.update(dict.fromkeys(tags))


def climb(tags: Iterable[str]) -> None:
    """A value that carries these was read."""
    collect = collecting.get()
    if collect is not None:
        collect(tags)
