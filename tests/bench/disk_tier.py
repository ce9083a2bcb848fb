"""The tier that outlives a process, on a local disk: what a lookup and a lease cost there.

Decides what is measured: the same 2 KB and the same steps as of Redis. Figures are elapsed time, since the store's own
thread does the work; processor time of the event loop stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from glasscache.stores.disk import DiskStore
from tests.bench.measure import Case, Timings
from tests.bench.redis_tier import AT_ONCE, LEASED, LOOK, LOOKS, Lookups
from tests.bench.report import Row

LEASES = f"lookups that miss, leases, commits, {AT_ONCE} at once"
FOLDER = Path("build")
"""On the disk that the sources are on: what is temporary may be in memory."""


@contextmanager
def folder() -> Iterator[Path]:
    """Of a store."""
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory(dir=FOLDER) as name:
        yield Path(name)


class DiskTier(Lookups):
    """What is measured in one directory. Belongs to one event loop."""

    def __init__(self, path: Path) -> None:
        super().__init__(DiskStore(path))

    def cases(self) -> Sequence[Case]:
        """All of them."""
        return [
            Case(name=LOOK, prepare=self.one_by_one(self.look)),
            Case(name=LOOKS, prepare=self.together(self.look), count=AT_ONCE),
            Case(name=LEASED, prepare=self.one_by_one(self.lease, self.new)),
            Case(name=LEASES, prepare=self.together(self.lease, self.new), count=AT_ONCE),
        ]


def rows(found: Timings) -> list[Row]:
    """What was found."""
    clock = found.by_the_clock
    return [
        Row(name=name, us=clock.us(name), found=f"processor time of the event loop {found.us(name):.1f} us")
        for name in (LOOK, LOOKS, LEASED, LEASES)
    ]
