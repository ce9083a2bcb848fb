"""What the engine counts: plain integers, because a hit may pay for nothing more. Ground floor.

Decides how many key groups are counted one by one. Must never lock: telemetry and the stats page read the integers in
other threads, as they are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from glasscache._durations import Durations
from glasscache._events import Cause, Result

_MOST_GROUPS = 1000
"""Names of groups may come from what a user asks, in `get_or_load(group=...)`: never so many that they fill memory."""


class GroupCounters:
    """The integers of one key group (a rule, or a cached function). `hits` are fresh answers from memory."""

    __slots__ = (
        "bypasses",
        "hit_samples",
        "hit_seconds",
        "hits",
        "miss_seconds",
        "misses_timed",
        "name",
        "others",
        "saved_bytes",
        "saved_price",
        "saved_seconds",
        "timed_at",
        "unstored",
    )

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.zero()

    def zero(self) -> None:
        """Start from nothing (also after a fork: the parent goes on counting its own)."""
        self.hits: int = 0
        self.timed_at: int = 1
        """How many hits there are when the next of them is timed."""
        self.others: defaultdict[tuple[Result, str], int] = defaultdict(int)
        self.bypasses: Counter[str] = Counter()
        self.unstored: Counter[str] = Counter()
        """Loads whose answer was not stored, by why not."""
        self.saved_seconds: float = 0.0
        self.saved_bytes: int = 0
        self.saved_price: float = 0.0
        self.hit_seconds: float = 0.0
        self.hit_samples: int = 0
        self.miss_seconds: float = 0.0
        self.misses_timed: int = 0

    def save(self, cost: float, price: float, size: int) -> None:
        """A stored answer of this cost, price and size was served in place of a load."""
        self.saved_seconds += cost
        self.saved_price += price
        self.saved_bytes += size

    def requests(self) -> Mapping[tuple[Result, str], int]:
        """(result, tier) -> number of requests."""
        counts = Counter(self.others)
        if self.hits:
            counts["hit", "memory"] += self.hits
        return counts


class Counters:
    """Everything one cache counts; read at collection time by Telemetry and by the stats page."""

    def __init__(self) -> None:
        self.groups: dict[str, GroupCounters] = {}
        self.zero()

    def zero(self) -> None:
        """Start from nothing, keeping the groups that others already hold."""
        for group in self.groups.values():
            group.zero()
        self.removals: Counter[tuple[str, Cause]] = Counter()
        """(tier, cause) -> entries."""
        self.doubted: int = 0
        """Lookups that memory has answered although nobody could vouch for the answer."""
        self.durations: Durations = Durations()
        """By result and tier."""

    @property
    def bypasses(self) -> Counter[str]:
        """Of all groups."""
        return _all(group.bypasses for group in list(self.groups.values()))

    @property
    def unstored(self) -> Counter[str]:
        """Of all groups."""
        return _all(group.unstored for group in list(self.groups.values()))

    def reject(self, tier: str) -> None:
        """A tier had something that was no entry."""
        self.removals[tier, "rejected"] += 1

    def group(self, name: str) -> GroupCounters:
        """The integers of a key group, made on first use; of too many the later ones are one."""
        found = self.groups.get(name)
        if found is None:
            name = name if len(self.groups) < _MOST_GROUPS else "_other"
            found = self.groups.setdefault(name, GroupCounters(name))
        return found


def _all(counts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total += Counter(each)  # a copy, made in one step
    return total
