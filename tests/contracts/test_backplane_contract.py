"""The contract of backplanes notices who breaks it. (Those that ship run it in the tests of their own.)"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from glasscache._entry import Key
from glasscache._events import SpanRef
from glasscache._lease import Mark, Marks
from glasscache.interfaces import Backplane, Listener
from glasscache.testing import BackplaneContract


class Board:
    """What all machines of one namespace share."""

    def __init__(self) -> None:
        self.marks = Marks(number=0, everything=0, floor=0, tags={})
        self.members: list[Faithful] = []


class Faithful:
    """A backplane in one process, that keeps every promise."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.listener: Listener | None = None
        board.members.append(self)

    async def start(self, listener: Listener) -> None:
        self.listener = listener
        listener.restored()

    def others(self) -> list[Listener]:
        return [one.listener for one in self.board.members if one is not self and one.listener is not None]

    def next_number(self, seen: int) -> int:
        return max(self.board.marks.number, seen) + 1

    def told(self, number: int, tags: Sequence[str], everything: bool) -> Mark:
        return Mark(number=number, tags=tuple(tags), everything=everything)

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        kept, number = self.board.marks, self.next_number(seen)
        self.board.marks = Marks(
            number=number,
            everything=number if everything else kept.everything,
            floor=0,
            tags=kept.tags | dict.fromkeys(tags, number),
        )
        for listener in self.others():
            listener.marked(self.told(number, tags, everything), 0.0, source)
        return number

    async def tell_replaced(self, key: Key) -> None:
        for listener in self.others():
            listener.replaced(key)

    async def read(self, since: int) -> Marks:
        marks = self.board.marks
        tags = {tag: number for tag, number in marks.tags.items() if number > since}
        return Marks(number=marks.number, everything=marks.everything, floor=marks.floor, tags=tags)

    async def aclose(self) -> None:
        self.listener = None


class Deaf(Faithful):
    """Says that it hears, and does not."""

    async def start(self, listener: Listener) -> None:
        listener.restored()


class Mute(Faithful):
    """Never says that it hears."""

    async def start(self, listener: Listener) -> None:
        self.listener = listener


class Echo(Faithful):
    """Hears itself."""

    def others(self) -> list[Listener]:
        return [one.listener for one in self.board.members if one.listener is not None]


class Repeating(Faithful):
    """Gives a number out twice."""

    def next_number(self, seen: int) -> int:
        return max(self.board.marks.number, seen + 1)


class Headstrong(Faithful):
    """Does not care what was seen."""

    def next_number(self, seen: int) -> int:
        return self.board.marks.number + 1


class Clipping(Faithful):
    """Ends tags where C ends strings."""

    def told(self, number: int, tags: Sequence[str], everything: bool) -> Mark:
        return super().told(number, [tag.partition("\0")[0] for tag in tags], everything)


class Rereading(Faithful):
    """Reads from the beginning."""

    async def read(self, since: int) -> Marks:
        return await super().read(0)


class Partial(Faithful):
    """Tells tags, but not that it was everything."""

    def told(self, number: int, tags: Sequence[str], everything: bool) -> Mark:
        return super().told(number, tags, False)


class Untraced(Faithful):
    """Loses the span."""

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        return await super().mark(tags, everything=everything, seen=seen, source=None)


class Secretive(Faithful):
    """Keeps new answers to itself."""

    async def tell_replaced(self, key: Key) -> None:
        pass


class Unending(Faithful):
    """Hears on when it is closed."""

    async def aclose(self) -> None:
        pass


def broken_by(kind: type[Faithful]) -> set[str]:
    """The contract's tests that such a backplane fails."""

    class Contract(BackplaneContract):
        patience = 0.05

        def make_backplanes(self, count: int) -> Sequence[Backplane]:
            board = Board()
            return [kind(board) for _ in range(count)]

    failed = set()
    for name in dir(Contract):
        if name.startswith("test_"):
            try:
                getattr(Contract(), name)()
            except (AssertionError, TimeoutError):
                failed.add(name)
    return failed


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (Deaf, "test_a_mark_reaches_all_others_with_its_number_and_its_span"),
        (Mute, "test_a_new_answer_is_told_to_all_others"),
        (Echo, "test_a_machine_does_not_hear_itself"),
        (Repeating, "test_numbers_rise_whoever_marks"),
        (Repeating, "test_marks_at_the_same_time_get_numbers_of_their_own_and_all_are_heard"),
        (Headstrong, "test_a_number_is_above_all_that_the_machine_has_seen"),
        (Clipping, "test_tags_are_any_text"),
        (Rereading, "test_what_is_read_is_all_that_is_above_a_number"),
        (Partial, "test_everything_is_told_and_kept"),
        (Untraced, "test_a_mark_reaches_all_others_with_its_number_and_its_span"),
        (Secretive, "test_a_new_answer_is_told_to_all_others"),
        (Unending, "test_a_closed_backplane_hears_nothing_and_may_be_started_again"),
    ],
)
def test_a_backplane_that_breaks_a_promise_fails_the_contract(kind: type[Faithful], test: str) -> None:
    assert test in broken_by(kind)


def test_a_backplane_that_keeps_every_promise_passes() -> None:
    assert broken_by(Faithful) == set()


def test_a_contract_without_backplanes_says_what_is_missing() -> None:
    with pytest.raises(NotImplementedError):
        BackplaneContract().make_backplanes(1)
