"""How long answers took, as counts in buckets: enough to read a quantile from, at the cost of one addition.

Decides the buckets. They grow by a third, so that what is read from them is at most a sixth off.
"""

from __future__ import annotations

from bisect import bisect_left

BOUNDS: tuple[float, ...] = tuple(10 ** (step / 8 - 5) for step in range(57))
"""Upper ends of the buckets in seconds: 10 microseconds to 100 s; the last bucket has none."""


class Durations:
    """Counts by kind: the result, and the tier that it came from."""

    __slots__ = ("counts",)

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], list[int]] = {}

    def note(self, kind: tuple[str, str], seconds: float, times: int = 1) -> None:
        """Count one, or as many as it stands for."""
        counts = self.counts.get(kind)
        if counts is None:
            counts = self.counts[kind] = [0] * (len(BOUNDS) + 1)
        counts[bisect_left(BOUNDS, seconds)] += times

    def sparse(self) -> dict[str, dict[int, int]]:
        """The buckets that are not empty, by kind ("miss origin"): index -> count."""
        return {
            " ".join(kind): {index: count for index, count in enumerate(counts) if count}
            for kind, counts in self.counts.items()
        }
