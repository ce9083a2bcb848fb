"""What every `Store` promises: tests to subclass.

Decides nothing that `interfaces.py` does not say, but for this: a store that may forget at any time has room
enough in a test, and does not.
"""

from __future__ import annotations

import asyncio
from copy import copy
from functools import cached_property
from typing import TYPE_CHECKING, Any

from glasscache._entry import Entry, Key
from glasscache.interfaces import Store
from glasscache.testing._doubles import ManualClock, entry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from glasscache.interfaces import Clock

_ODD_KEY = b"\x00\r\n\xff{}"
"""Bytes that a store must not take for anything but a key."""


class StoreContract:
    """What every `Store` promises. Override `make_store`; it is called inside the running event loop.

    Give the store `self.clock` if it needs one; override `clock` to run the tests by another. A store that
    keeps times less exactly than a float sets `tolerance`, in seconds.
    """

    tolerance: float = 0.001

    def make_store(self) -> Store:
        """An empty store with room for at least 300 entries and 4 MiB."""
        raise NotImplementedError

    @cached_property
    def clock(self) -> Clock:
        """By which the times of the entries in these tests are meant."""
        return ManualClock()

    def entry(self, body: bytes = b"an answer", **changes: Any) -> Entry:
        """An entry that is fresh for 300 s by `self.clock`; `changes` are fields of it."""
        now = self.clock.now()
        times = {"born": now, "fresh_until": now + 300.0, "settled_until": now + 290.0}
        return entry(body, **times | changes)

    def run(self, scenario: Callable[[Store], Awaitable[None]]) -> None:
        """Run the scenario with a new store, which is closed at the end."""

        async def with_store() -> None:
            store = self.make_store()
            try:
                await scenario(store)
            finally:
                await store.aclose()

        asyncio.run(with_store())

    def assert_same(self, found: Entry | None, wanted: Entry) -> None:
        """Every field is the same; times within `tolerance`."""
        assert found is not None, "the store lost an entry"
        for name in Entry.FIELDS:
            one, other = getattr(found, name), getattr(wanted, name)
            same = abs(one - other) <= self.tolerance if isinstance(other, float) else one == other
            assert same, f"{name} was {other!r} and is {one!r}"

    async def round_trip(self, store: Store, key: Key, wanted: Entry) -> None:
        """Set a copy of the entry, and expect to get an equal one."""
        await store.set(key, copy(wanted))
        self.assert_same(await store.get(key), wanted)

    def test_it_is_a_store_with_a_name(self) -> None:
        async def scenario(store: Store) -> None:
            assert isinstance(store, Store)
            assert isinstance(store.name, str)
            assert store.name

        self.run(scenario)

    def test_a_miss_is_none(self) -> None:
        async def scenario(store: Store) -> None:
            assert await store.get(b"unknown") is None

        self.run(scenario)

    def test_every_field_of_an_entry_comes_back(self) -> None:
        wanted = self.entry(
            chunks=(b"data: 1\n\n", b"data: 2", b"\n\n"),
            status=203,
            headers=((b"x-b", b"2"), (b"x-a", b"1"), (b"x-b", b""), (b"x-c", "\N{EURO SIGN}".encode())),
            tags=("doc:7", "d\N{LATIN SMALL LETTER O WITH DIAERESIS}c"),
            stale_while_revalidate=60.0,
            stale_if_error=600.0,
            number=2**40,
        )
        self.run(lambda store: self.round_trip(store, b"key", wanted))

    def test_a_vary_marker_comes_back(self) -> None:
        marker = self.entry(b"salt", status=0, headers=(), vary=(b"accept-language", b"accept"))
        self.run(lambda store: self.round_trip(store, b"key", marker))

    def test_a_body_may_be_empty(self) -> None:
        async def scenario(store: Store) -> None:
            await self.round_trip(store, b"one empty chunk", self.entry(b""))
            await self.round_trip(store, b"no chunk", self.entry(chunks=()))

        self.run(scenario)

    def test_a_body_may_have_a_megabyte(self) -> None:
        wanted = self.entry(bytes(range(256)) * 4096)
        self.run(lambda store: self.round_trip(store, b"key", wanted))

    def test_keys_are_any_bytes_and_do_not_meet(self) -> None:
        keys = (b"a", b"a\x00", b"\x00a", b"A", b"a" * 64, _ODD_KEY, bytes(16), bytes(32), b"*", b"a:b")

        async def scenario(store: Store) -> None:
            wanted = {key: self.entry(b"%d" % number) for number, key in enumerate(keys)}
            for key in keys:
                await store.set(key, wanted[key])
            for key in keys:
                self.assert_same(await store.get(key), wanted[key])

        self.run(scenario)

    def test_the_newer_of_two_entries_is_kept(self) -> None:
        async def scenario(store: Store) -> None:
            await store.set(b"key", self.entry(b"older and longer", tags=("old",)))
            await self.round_trip(store, b"key", self.entry(b"newer", tags=("new",)))
            await self.round_trip(store, b"key", self.entry(b"newest, and the longest of them all"))

        self.run(scenario)

    def test_a_deleted_entry_is_gone_and_the_others_stay(self) -> None:
        async def scenario(store: Store) -> None:
            other = self.entry(b"other")
            await store.set(b"key", self.entry())
            await store.set(b"other", other)
            await store.delete(b"key")
            assert await store.get(b"key") is None
            self.assert_same(await store.get(b"other"), other)
            await self.round_trip(store, b"key", self.entry(b"again"))

        self.run(scenario)

    def test_deleting_an_unknown_key_is_no_error(self) -> None:
        async def scenario(store: Store) -> None:
            await store.delete(b"unknown")
            await store.set(b"key", self.entry())
            await store.delete(b"key")
            await store.delete(b"key")
            assert await store.get(b"key") is None

        self.run(scenario)

    def test_many_operations_at_once_do_not_mix_entries_up(self) -> None:
        async def one(store: Store, number: int) -> None:
            key, wanted = b"key %d" % number, self.entry(b"%d " % number * 50)
            await store.set(key, self.entry(b"to be replaced"))
            await store.set(key, wanted)
            self.assert_same(await store.get(key), wanted)
            if number % 3 == 0:
                await store.delete(key)
                assert await store.get(key) is None, "deleted, and still there"

        async def scenario(store: Store) -> None:
            await asyncio.gather(*(one(store, number) for number in range(200)))
            for number in range(200):
                assert (await store.get(b"key %d" % number) is None) == (number % 3 == 0)

        self.run(scenario)

    def test_a_closed_store_may_be_used_again(self) -> None:
        async def scenario(store: Store) -> None:
            await store.set(b"key", self.entry())
            await store.aclose()
            await store.aclose()
            await store.delete(b"key")
            assert await store.get(b"key") is None
            await self.round_trip(store, b"key", self.entry(b"after"))

        self.run(scenario)
