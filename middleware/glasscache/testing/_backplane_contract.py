"""What every `Backplane` promises: tests to subclass.

Decides nothing that `interfaces.py` does not say. Waits for events, never for time; a message that has not come after
`patience` seconds will not come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

from glasscache._entry import Key
from glasscache._events import SpanRef
from glasscache._lease import Mark
from glasscache.interfaces import Backplane

_SPAN = SpanRef(trace_id=2**128 - 1, span_id=1, sampled=True)
_UNSAMPLED = SpanRef(trace_id=1, span_id=2**64 - 1, sampled=False)
_ODD_TAGS = (
    "\0" + "ab" * 16,
    "",
    " ",
    "a\nb\r\n",
    "d\N{LATIN SMALL LETTER O WITH DIAERESIS}c",
    "\N{GRINNING FACE}",
    "{a}",
    "(1",
    "x" * 5000,
)


class Ear:
    """A `Listener` that keeps what it is told."""

    def __init__(self, patience: float = 60.0) -> None:
        self.told: list[str] = []
        """marked, replaced, lost, restored: in the order in which they were told."""
        self.marks: list[Mark] = []
        self.lags: list[float] = []
        self.sources: list[SpanRef | None] = []
        self.keys: list[Key] = []
        self._patience = patience
        self._changed = asyncio.Event()

    def _note(self, word: str) -> None:
        self.told.append(word)
        self._changed.set()

    def marked(self, mark: Mark, lag: float, source: SpanRef | None) -> None:
        """Keep what was told invalid, when, and by whom."""
        self.marks.append(mark)
        self.lags.append(lag)
        self.sources.append(source)
        self._note("marked")

    def replaced(self, key: Key) -> None:
        """Keep the key."""
        self.keys.append(key)
        self._note("replaced")

    def lost(self) -> None:
        """Keep that messages may be missing."""
        self._note("lost")

    def restored(self) -> None:
        """Keep that messages arrive again."""
        self._note("restored")

    @property
    def hears(self) -> bool:
        """Whether `restored` was told last, of it and `lost`."""
        return [word for word in self.told if word in ("lost", "restored")][-1:] == ["restored"]

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Until it is so. Raises TimeoutError if it does not come to be."""
        async with asyncio.timeout(self._patience):
            while not wanted():
                self._changed.clear()
                await self._changed.wait()

    async def until_marked(self, *tags: str) -> None:
        """Until a mark has come with each of the tags."""
        await self.until(lambda: set(tags) <= {tag for mark in self.marks for tag in mark.tags})

    async def until_number(self, number: int) -> None:
        """Until the mark of this number has come."""
        await self.until(lambda: any(mark.number == number for mark in self.marks))

    async def until_replaced(self, key: Key) -> None:
        """Until a new answer under the key was told."""
        await self.until(lambda: key in self.keys)


Machines: TypeAlias = Sequence[tuple[Backplane, Ear]]


class BackplaneContract:
    """What every `Backplane` promises. Override `make_backplanes`; it is called inside the running event loop."""

    patience: float = 60.0

    def make_backplanes(self, count: int) -> Sequence[Backplane]:
        """So many machines of one namespace, in which nothing was told yet."""
        raise NotImplementedError

    async def release(self) -> None:
        """Called when the backplanes are closed: release what else `make_backplanes` has opened."""

    def run(self, count: int, scenario: Callable[[Machines], Awaitable[None]], *, start: bool = True) -> None:
        """Run the scenario with so many machines, all of which hear."""

        async def with_machines() -> None:
            machines = [(backplane, Ear(self.patience)) for backplane in self.make_backplanes(count)]
            try:
                for backplane, ear in machines if start else ():
                    await backplane.start(ear)
                    await self._until_hearing(ear)
                await scenario(machines)
            finally:
                for backplane, _ in machines:
                    await backplane.aclose()
                await self.release()

        asyncio.run(with_machines())

    async def _until_hearing(self, ear: Ear) -> None:
        await ear.until(lambda: ear.hears)

    async def mark(self, backplane: Backplane, *tags: str, everything: bool = False, seen: int = 0) -> int:
        """Mark the tags as invalid, outside of any span; the number that was given out."""
        return await backplane.mark(tags, everything=everything, seen=seen, source=None)

    def test_it_is_a_backplane(self) -> None:
        async def scenario(machines: Machines) -> None:
            assert isinstance(machines[0][0], Backplane)

        self.run(1, scenario, start=False)

    def test_a_mark_reaches_all_others_with_its_number_and_its_span(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (_, b_ear), (_, c_ear) = machines
            for source in (_SPAN, _UNSAMPLED, None):
                number = await a.mark(("one", "two"), everything=False, seen=0, source=source)
                for ear in (b_ear, c_ear):
                    await ear.until_number(number)
                    assert ear.marks[-1] == Mark(number=number, tags=("one", "two"))
                    assert ear.sources[-1] == source
                    assert 0.0 <= ear.lags[-1] < self.patience

        self.run(3, scenario)

    def test_a_machine_does_not_hear_itself(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, a_ear), (b, b_ear) = machines
            await self.mark(a, "of a")
            await a.tell_replaced(b"of a")
            await b_ear.until(lambda: bool(b_ear.keys))
            await self.mark(b, "of b")
            await a_ear.until_marked("of b")
            assert [mark.tags for mark in a_ear.marks] == [("of b",)]
            assert a_ear.keys == []

        self.run(2, scenario)

    def test_numbers_rise_whoever_marks(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, _) = machines
            numbers = [await self.mark(machine, "tag") for machine in (a, b, b, a)]
            numbers.append(await self.mark(a, everything=True))
            numbers.append(await self.mark(b))
            assert numbers == sorted(set(numbers))
            assert numbers[0] > 0
            assert (await a.read(0)).number == numbers[-1]

        self.run(2, scenario)

    def test_a_number_is_above_all_that_the_machine_has_seen(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, _) = machines
            first = await self.mark(a, "tag", seen=1000)
            assert first > 1000
            assert await self.mark(b, "tag", seen=3) > first

        self.run(2, scenario)

    def test_marks_at_the_same_time_get_numbers_of_their_own_and_all_are_heard(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, _), (_, ear) = machines
            tags = [f"tag {number}" for number in range(50)]
            numbers = await asyncio.gather(*(self.mark((a, b)[i % 2], tag) for i, tag in enumerate(tags)))
            assert len(set(numbers)) == 50
            await ear.until_marked(*tags)
            assert {mark.tags[0]: mark.number for mark in ear.marks} == dict(zip(tags, numbers, strict=True))

        self.run(3, scenario)

    def test_marks_of_one_machine_are_heard_in_their_order_and_nothing_counts_as_lost(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (_, ear) = machines
            numbers = [await self.mark(a, f"tag {number}") for number in range(20)]
            await ear.until_marked("tag 19")
            assert [mark.number for mark in ear.marks] == numbers
            assert "lost" not in ear.told

        self.run(2, scenario)

    def test_everything_is_told_and_kept(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, ear) = machines
            await self.mark(a, "before")
            number = await self.mark(a, everything=True)
            await ear.until(lambda: any(mark.everything for mark in ear.marks))
            assert (ear.marks[-1].number, ear.marks[-1].everything) == (number, True)
            after = await self.mark(a, "after")
            marks = await b.read(0)
            assert (marks.number, marks.everything) == (after, number)
            assert marks.floor <= number
            assert marks.tags.get("before", 0) < number
            assert marks.tags["after"] == after

        self.run(2, scenario)

    def test_what_is_read_is_all_that_is_above_a_number(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, _) = machines
            assert (await b.read(0)).tags == {}
            first = await self.mark(a, "first", "both")
            second = await self.mark(b, "second", "both")
            marks = await b.read(0)
            assert marks.tags == {"first": first, "both": second, "second": second}
            assert (marks.number, marks.everything, marks.floor) == (second, 0, 0)
            assert (await a.read(first)).tags == {"both": second, "second": second}
            assert (await a.read(second)).tags == {}
            assert (await a.read(second)).number == second

        self.run(2, scenario)

    def test_tags_are_any_text(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, ear) = machines
            number = await self.mark(a, *_ODD_TAGS)
            await ear.until(lambda: bool(ear.marks))
            assert ear.marks[0].tags == _ODD_TAGS
            assert (await b.read(0)).tags == dict.fromkeys(_ODD_TAGS, number)

        self.run(2, scenario)

    def test_many_tags_in_one_mark_are_all_told_and_kept(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, ear) = machines
            tags = tuple(f"tag {number}" for number in range(10_000))
            number = await self.mark(a, *tags)
            await ear.until_marked(*tags)
            assert (await b.read(0)).tags == dict.fromkeys(tags, number)

        self.run(2, scenario)

    def test_a_new_answer_is_told_to_all_others(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (_, b_ear), (_, c_ear) = machines
            key = bytes(range(16))
            await a.tell_replaced(key)
            for ear in (b_ear, c_ear):
                await ear.until_replaced(key)
                assert ear.keys == [key]

        self.run(3, scenario)

    def test_who_does_not_listen_may_still_mark_and_read(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, _) = machines
            number = await self.mark(a, "tag")
            await a.tell_replaced(b"key")
            assert (await b.read(0)).tags == {"tag": number}

        self.run(2, scenario, start=False)

    def test_a_closed_backplane_hears_nothing_and_may_be_started_again(self) -> None:
        async def scenario(machines: Machines) -> None:
            (a, _), (b, first), (_, witness) = machines
            await b.aclose()
            await b.aclose()
            number = await self.mark(a, "while closed")
            await witness.until_marked("while closed")
            second = Ear(self.patience)
            await b.start(second)
            await self._until_hearing(second)
            assert (await b.read(0)).tags == {"while closed": number}
            await self.mark(a, "after")
            await second.until_marked("after")
            assert [mark.tags for mark in second.marks] == [("after",)]
            assert first.marks == []

        self.run(3, scenario)
