"""Tags that climb: those of what is read in a load become those of its answer (`_inside.py`).

Must never grow without bound: a task that a load has started may read on for ever.
"""

from __future__ import annotations

from collections.abc import Iterable

MOST_TAGS = 1024


class Climbed(dict[str, None]):
    """The tags of all values that were read in one load, each once, in the order in which they came."""

    @property
    def is_full(self) -> bool:
        """No more are taken: what was made of so much cannot be told invalid, and must not be stored. Nor must what is
        made of that: it is full of the same tags.
        """
        return len(self) > MOST_TAGS

    def carry(self, tags: Iterable[str]) -> None:
        """A value that carries these was read."""
        if not self.is_full:
            self.update(dict.fromkeys(tags))
