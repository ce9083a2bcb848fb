"""What every `NearStore` promises: tests to subclass.

Decides nothing that `interfaces.py` does not say.
"""

from __future__ import annotations

import asyncio

from glasscache._entry import Entry, Key
from glasscache._events import Cause
from glasscache.interfaces import NearStore, Steps, Store
from glasscache.testing._store_contract import StoreContract


class NearStoreContract(StoreContract):
    """What every `NearStore` promises beyond a `Store`. Override `make_store`.

    It keeps entries as they are, and is left without a call of `aclose` where a test needs no event loop.
    """

    tolerance: float = 0.0

    def make_store(self) -> NearStore:
        """An empty store with room for at least 300 entries and 4 MiB."""
        raise NotImplementedError

    def watched(self) -> tuple[NearStore, list[tuple[Key, Entry, Cause]]]:
        """A new store, and the removals that it tells."""
        store, told = self.make_store(), list[tuple[Key, Entry, Cause]]()
        store.watch(lambda key, entry, cause: told.append((key, entry, cause)))
        return store, told

    def test_it_is_a_near_store(self) -> None:
        assert isinstance(self.make_store(), NearStore)

    def test_peek_finds_what_was_put_itself_not_a_copy(self) -> None:
        store, wanted = self.make_store(), self.entry()
        assert store.peek(b"key") is None
        assert store.put(b"key", wanted)
        assert store.peek(b"key") is wanted

    def test_its_two_steps_if_it_has_them_find_what_peek_does(self) -> None:
        store, wanted = self.make_store(), self.entry()
        steps: Steps | None = getattr(store, "steps", None)
        if steps is not None:
            find, use = steps
            assert find(b"key") is None
            store.put(b"key", wanted)
            assert find(b"key") is wanted
            use(b"key")
            assert store.peek(b"key") is wanted

    def test_what_is_set_can_be_peeked_and_what_is_put_can_be_got(self) -> None:
        async def scenario(store: Store) -> None:
            assert isinstance(store, NearStore)
            one, other = self.entry(b"one"), self.entry(b"other")
            await store.set(b"one", one)
            assert store.peek(b"one") is one
            store.put(b"other", other)
            assert await store.get(b"other") is other

        self.run(scenario)

    def test_what_was_doubted_is_still_there_and_says_since_when(self) -> None:
        store, wanted = self.make_store(), self.entry()
        store.put(b"key", wanted)
        now = self.clock.now()
        store.doubt(now + 1.0)
        store.doubt(now + 2.0)
        store.put(b"other", self.entry())
        assert store.peek(b"key") is wanted
        assert wanted.doubted == now + 1.0, "the first doubt counts"
        other = store.peek(b"other")
        assert other is not None
        assert other.doubted is None

    def test_a_replaced_entry_is_told(self) -> None:
        store, told = self.watched()
        older, newer = self.entry(b"older"), self.entry(b"newer")
        store.put(b"key", older)
        assert told == []
        store.put(b"key", newer)
        assert told == [(b"key", older, "replaced")]
        assert store.peek(b"key") is newer

    def test_drop_removes_one_entry_and_tells_the_cause_given(self) -> None:
        store, told = self.watched()
        one, other = self.entry(b"one"), self.entry(b"other")
        store.put(b"one", one)
        store.put(b"other", other)
        assert store.drop(b"one")
        assert not store.drop(b"one")
        assert store.drop(b"other", "expired")
        assert store.peek(b"one") is None
        assert told == [(b"one", one, "invalidated"), (b"other", other, "expired")]

    def test_drop_tag_removes_those_that_carry_it_and_no_others(self) -> None:
        store, told = self.watched()
        store.put(b"1", self.entry(tags=("a", "b")))
        store.put(b"2", self.entry(tags=("b",)))
        store.put(b"3", self.entry(tags=("c",)))
        assert store.drop_tag("b") == 2
        assert store.drop_tag("b") == 0
        assert store.drop_tag("never seen") == 0
        assert store.peek(b"3") is not None
        assert sorted((key, cause) for key, _, cause in told) == [
            (b"1", "invalidated"),
            (b"2", "invalidated"),
        ]

    def test_the_tags_of_a_replaced_entry_are_forgotten(self) -> None:
        store, _ = self.watched()
        store.put(b"key", self.entry(tags=("old",)))
        store.put(b"key", self.entry(tags=("new",)))
        assert store.drop_tag("old") == 0
        assert store.peek(b"key") is not None
        assert store.drop_tag("new") == 1

    def test_clear_removes_everything_as_invalidated(self) -> None:
        store, told = self.watched()
        store.put(b"1", self.entry())
        store.put(b"2", self.entry())
        assert store.clear() == 2
        assert store.clear() == 0
        assert store.peek(b"1") is None
        assert [cause for _, _, cause in told] == ["invalidated", "invalidated"]

    def test_sweep_removes_the_dead_and_says_when_to_come_again(self) -> None:
        store, told = self.watched()
        now = self.clock.now()
        fresh = self.entry(fresh_until=now + 50.0)
        stale = self.entry(fresh_until=now + 5.0, stale_while_revalidate=1.0, stale_if_error=30.0)
        dead = self.entry(fresh_until=now + 5.5)
        for key, kept in ((b"fresh", fresh), (b"stale", stale), (b"dead", dead)):
            store.put(key, kept)
        again = store.sweep(now + 5.5)
        assert told == [(b"dead", dead, "expired")]
        assert again is not None
        assert now + 35.0 <= again < now + 50.0
        again = store.sweep(again)
        assert told[1:] == [(b"stale", stale, "expired")]
        assert again is not None
        assert store.sweep(again) is None
        assert told[2:] == [(b"fresh", fresh, "expired")]

    def test_nothing_dies_in_an_empty_store(self) -> None:
        assert self.make_store().sweep(self.clock.now()) is None

    def test_the_gauge_follows_what_is_kept(self) -> None:
        store, _ = self.watched()
        assert store.gauge()[0] == store.name
        assert (store.gauge().entries, store.gauge().size) == (0, 0)
        store.put(b"1", self.entry(bytes(1000)))
        store.put(b"2", self.entry(bytes(1000)))
        assert store.gauge().entries == 2
        assert store.gauge().size >= 2000
        store.drop(b"1")
        store.drop(b"2")
        assert (store.gauge().entries, store.gauge().size) == (0, 0)

    def test_every_hook_is_told_even_if_another_raises(self) -> None:
        store, told = self.watched()

        def broken(key: Key, entry: Entry, cause: Cause) -> None:
            raise LookupError("a hook's own trouble")

        store.watch(broken)
        later: list[Cause] = []
        store.watch(lambda key, entry, cause: later.append(cause))
        store.put(b"key", self.entry())
        assert store.drop(b"key")
        assert [cause for _, _, cause in told] == later == ["invalidated"]

    def test_a_hook_may_use_the_store_again(self) -> None:
        store, _ = self.watched()
        kept = self.entry(b"put by the hook")

        def put_again(key: Key, entry: Entry, cause: Cause) -> None:
            if cause == "invalidated":
                store.put(key, kept)

        store.watch(put_again)
        store.put(b"key", self.entry())
        store.drop(b"key")
        assert store.peek(b"key") is kept

    def test_closing_is_no_removal(self) -> None:
        store, told = self.watched()
        store.put(b"key", self.entry())
        asyncio.run(store.aclose())
        assert store.peek(b"key") is None
        assert told == []
        assert store.gauge().entries == 0
        store.put(b"key", self.entry())
        store.drop(b"key")
        assert len(told) == 1, "a store used again tells its removals again"
