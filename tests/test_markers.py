"""Which stored answers were told invalid, by number."""

from __future__ import annotations

import pytest

from glasscache import _markers
from glasscache._entry import Entry
from glasscache._markers import Markers
from glasscache.testing import entry


def is_dead(markers: Markers, stored: Entry, *tags: str) -> bool:
    return stored.number < markers.dead_below(stored, *tags)


def test_a_tag_kills_what_was_loaded_before_and_spares_what_comes_after() -> None:
    markers = Markers()
    old = entry(tags=("a", "b"), number=markers.number)
    assert markers.mark_tag("b", 1)
    assert not markers.mark_tag("b", 1)
    new = entry(tags=("a", "b"), number=markers.number)
    assert is_dead(markers, old)
    assert not is_dead(markers, new)
    assert not is_dead(markers, entry(tags=("a",), number=0))
    assert is_dead(markers, entry(number=0), "b")
    assert not is_dead(markers, entry(number=0))


def test_everything_is_everything_tagged_or_not() -> None:
    markers = Markers()
    markers.mark_tag("a", 1)
    assert markers.mark_all(2)
    assert not markers.mark_all(2)
    assert is_dead(markers, entry(number=1))
    assert not is_dead(markers, entry(number=2, tags=("a",)))


def test_markers_may_come_out_of_order() -> None:
    markers = Markers()
    markers.mark_tag("a", 5)
    markers.mark_all(3)
    assert markers.number == 5
    assert is_dead(markers, entry(number=4, tags=("a",)))
    assert not is_dead(markers, entry(number=4))
    assert not markers.mark_tag("a", 4)
    assert markers.dead_below(entry(tags=("a", "b"))) == 5
    assert markers.dead_below(entry()) == 3


def test_a_tag_that_falls_out_of_the_table_becomes_a_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_markers, "_MAX_TAGS", 2)
    markers = Markers()
    for number, tag in enumerate(("a", "b", "a", "c"), start=1):  # "a" was told again: "b" is the oldest
        markers.mark_tag(tag, number)
    assert is_dead(markers, entry(tags=("b",), number=1))
    assert is_dead(markers, entry(tags=("unknown",), number=1))
    assert not is_dead(markers, entry(tags=("unknown",), number=2))
    assert not is_dead(markers, entry(number=0))
    markers.mark_all(5)
    assert not is_dead(markers, entry(tags=("unknown",), number=5))
