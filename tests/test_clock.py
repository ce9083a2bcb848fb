"""The machine's clocks: what counts the time for which it was asleep."""

from __future__ import annotations

import time

import pytest

from glasscache._clock import SystemClock, steady


class Machine:
    """One that was asleep for a day, an hour after it had started."""

    def __init__(self, *, has: bool = True, allows: bool = True) -> None:
        self.allows = allows
        if has:
            self.CLOCK_BOOTTIME = 7

    def monotonic(self) -> float:
        return 3600.0

    def clock_gettime(self, clock: int) -> float:
        assert clock == 7
        if not self.allows:
            raise OSError("not here")
        return 3600.0 + 86_400.0


@pytest.mark.parametrize(
    ("machine", "shows"),
    [(Machine(), 90_000.0), (Machine(has=False), 3600.0), (Machine(allows=False), 3600.0)],
    ids=["Linux", "another system", "a sandbox"],
)
def test_the_time_for_which_a_machine_was_asleep_counts_where_it_is_known(machine: Machine, shows: float) -> None:
    assert steady(machine)() == shows


def test_the_clock_of_a_cache_is_that_of_its_machine() -> None:
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    before = time.monotonic() if boottime is None else time.clock_gettime(boottime)
    assert before <= SystemClock().now() < before + 3600.0
    assert SystemClock().wall is getattr(time, "time")  # noqa: B009 - the lint bans its name, here it is what is meant
