"""How long answers took, as counts in buckets."""

from __future__ import annotations

from itertools import pairwise

import pytest

from glasscache._counters import Counters
from glasscache._durations import BOUNDS, Durations


@pytest.mark.parametrize("seconds", [0.0, 0.00001, 0.0003, 0.25, 1.0, 99.0, 100.0])
def test_the_bucket_is_the_narrowest_that_the_duration_fits_into(seconds: float) -> None:
    noted = Durations()
    noted.note(("miss", "origin"), seconds)
    ((index, count),) = noted.sparse()["miss origin"].items()
    assert count == 1
    assert seconds <= BOUNDS[index]
    assert index == 0 or seconds > BOUNDS[index - 1]


def test_what_takes_longer_than_all_bounds_is_counted_too() -> None:
    noted = Durations()
    noted.note(("miss", "origin"), 3600.0)
    assert noted.sparse() == {"miss origin": {len(BOUNDS): 1}}


def test_a_bucket_is_a_third_wider_than_the_one_before() -> None:
    assert (BOUNDS[0], BOUNDS[-1]) == (1e-5, 100.0)
    assert all(1.3 < upper / lower < 1.34 for lower, upper in pairwise(BOUNDS))


def test_kinds_are_counted_apart_and_a_sample_for_all_that_it_stands_for() -> None:
    noted = Durations()
    noted.note(("hit", "memory"), 0.00001, 64)
    noted.note(("hit", "memory"), 0.00001)
    noted.note(("hit", "redis"), 0.00001)
    assert noted.sparse() == {"hit memory": {0: 65}, "hit redis": {0: 1}}


def test_a_child_that_was_forked_starts_from_nothing() -> None:
    counters = Counters()
    counters.durations.note(("miss", "origin"), 1.0)
    counters.zero()
    assert counters.durations.sparse() == {}
