"""What machines tell each other about who loads what: records, no decisions. Ground floor, stdlib only.

A lease is the right to load one key, held across machines for a limited time. It is an efficiency tool: results are
right with two holders, too, because a write under a token that is no longer the lease's is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from glasscache._entry import Entry
from glasscache._events import SpanRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a lookup in a shared tier asks for, beside the entry."""

    ref: SpanRef | None = None
    """The span of who asks: others link to it, whether it comes to hold the lease or to wait for it."""
    refreshes: bool = False
    """Only an entry answers that is fresh for more than `fresh_for` seconds; otherwise one that is fresh, or within
    its `stale_while_revalidate`."""
    fresh_for: float = 0.0
    waits: bool = True
    """Stand in the queue if another machine holds the lease, to be woken at its release."""
    number: int = 0
    """The highest invalidation number known to who asks: of a lease taken with this claim, ..."""
    newer_than: int = 0
    """... and here what must not be below this: an entry or a lease below it was told invalid, and is not there."""
    reclaims: bool = False
    """This machine knows of no lease of its own: one that is in its name was left behind by a call whose answer was
    lost, and is granted anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to load, granted."""

    token: int
    """The fencing token: rises with every lease of a key."""
    seconds: float
    """How long it lasts unless it is renewed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Another machine that loads."""

    token: int
    machine: str
    """Its id: host, process and a random part."""
    ref: SpanRef | None
    """The span that it told when it claimed."""
    elapsed: float
    """Seconds since it took the lease, by the server's clock."""
    remaining: float
    """Seconds until its lease ends unless it is renewed."""
    position: int
    """The place in its queue of who asked, 1 is the first; 0: not in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """The answer of a shared tier: an entry that answers; or else exactly one of `lease`, `holder`, `refused`."""

    entry: Entry | None = None
    """Beside one of the others: stale, may stand in for a load that fails."""
    lease: Lease | None = None
    """The right to load is yours: commit or release it."""
    holder: Holder | None = None
    """Another machine loads already."""
    refused: bool = False
    """A load has shown lately that nothing will be stored: each request loads for itself."""
    tier: str = ""
    """Which tier had an entry that answers, if not the last one."""

    @property
    def is_answer(self) -> bool:
        """Whether the entry answers, and does not only stand in."""
        return self.entry is not None and self.lease is None and self.holder is None and not self.refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One invalidation, by its number from the counter of the namespace."""

    number: int
    tags: tuple[str, ...] = ()
    everything: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a machine reads that may have missed invalidations."""

    number: int
    """The highest number given out."""
    everything: int
    """The number below which everything is dead."""
    floor: int
    """The number below which every entry with tags is dead: markers up to it were forgotten."""
    tags: dict[str, int]
    """Markers above the number that was asked for."""
