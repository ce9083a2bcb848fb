"""The disk tier keeps every contract that there is: as a store, with leases, and as a backplane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from glasscache.interfaces import Backplane, LeaseStore
from glasscache.stores.disk import DiskStore
from glasscache.testing import BackplaneContract, LeaseStoreContract, ManualClock

pytestmark = pytest.mark.usefixtures("no_leaks")


class TestDiskStore(LeaseStoreContract):
    """Each machine has a connection of its own."""

    options: dict[str, object] = {}  # noqa: RUF012 - read only
    folder: Path

    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "cache"

    def make_stores(self, count: int) -> Sequence[LeaseStore]:
        return [DiskStore(self.folder, clock=self.clock, **self.options) for _ in range(count)]  # type: ignore[arg-type]

    async def pass_time(self, seconds: float) -> None:
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(seconds)


class TestDiskStoreEncrypted(TestDiskStore):
    options = {"secrets": ["a secret that is for tests only, 0123"], "compression": "zlib"}  # noqa: RUF012


class TestDiskBackplane(BackplaneContract):
    folder: Path

    @pytest.fixture(autouse=True)
    def _in_a_folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path / "cache"
        self.stores: list[DiskStore] = []

    def make_backplanes(self, count: int) -> Sequence[Backplane]:
        self.stores = [DiskStore(self.folder) for _ in range(count)]
        return [store.backplane for store in self.stores]

    async def release(self) -> None:
        for store in self.stores:
            await store.aclose()
