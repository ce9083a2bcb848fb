"""The stand-in for a shared server keeps the promises of the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from glasscache._lease import Claim
from glasscache._null import NullBackplane
from glasscache.errors import StoreError
from glasscache.interfaces import Backplane, LeaseStore
from glasscache.testing import BackplaneContract, LeaseStoreContract, ManualClock, SharedServer
from glasscache.testing._backplane_contract import Ear


class TestSharedStore(LeaseStoreContract):
    def make_stores(self, count: int) -> Sequence[LeaseStore]:
        server = SharedServer(self.clock)
        return [server.store(f"machine {number}") for number in range(count)]

    async def pass_time(self, seconds: float) -> None:
        assert isinstance(self.clock, ManualClock)
        self.clock.advance(seconds)


class TestNullBackplane:
    """Of a machine that is alone."""

    def test_it_has_nobody_to_tell_and_nothing_to_read(self) -> None:
        async def scenario() -> None:
            alone, ear = NullBackplane(), Ear()
            await alone.start(ear)
            assert await alone.mark(("tag",), everything=False, seen=4, source=None) == 5
            await alone.tell_replaced(b"key")
            assert (await alone.read(4)).number == 4
            await alone.aclose()
            assert not ear.told

        asyncio.run(scenario())


class TestSharedBackplane(BackplaneContract):
    def make_backplanes(self, count: int) -> Sequence[Backplane]:
        server = SharedServer(ManualClock())
        return [server.backplane(f"machine {number}") for number in range(count)]


def test_it_fails_as_it_is_told() -> None:
    async def scenario() -> None:
        server = SharedServer(ManualClock())
        store = server.store("one")
        server.fail("look")
        with pytest.raises(StoreError, match="look was told to fail"):
            await store.look(b"key", Claim())
        assert await store.get(b"key") is None
        server.fail()
        with pytest.raises(StoreError):
            await store.get(b"key")
        server.heal()
        assert (await store.look(b"key", Claim())).lease is not None
        assert server.calls == {"look": 2, "get": 2}

    asyncio.run(scenario())


def test_a_machine_that_is_cut_off_hears_nothing_until_it_is_back() -> None:
    async def scenario() -> None:
        server, ear = SharedServer(ManualClock()), Ear()
        one, two = server.backplane("one"), server.backplane("two")
        two.cut()
        await two.start(ear)
        two.join()
        two.cut()
        await one.mark(("tag",), everything=False, seen=0, source=None)
        await asyncio.sleep(0)
        two.join()
        assert ear.told == ["restored", "lost", "restored"]
        assert (await two.read(0)).tags == {"tag": 1}
        await one.mark(("late",), everything=False, seen=0, source=None)
        await two.aclose()
        await two.aclose()
        await asyncio.sleep(0)
        assert not ear.marks
        two.cut()
        two.join()
        two.cut()
        await two.start(ear)
        await two.aclose()

    asyncio.run(scenario())
