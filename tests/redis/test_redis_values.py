"""How long what is read from Redis lives: never longer than it may, whatever comes between a time and its value."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from glasscache._entry import Entry
from glasscache.errors import StoreError
from glasscache.stores._envelope import Envelope
from glasscache.stores._redis_glance import GlanceCall, Glances
from glasscache.stores._redis_memo import Memo
from glasscache.stores._redis_values import Values
from glasscache.testing import entry

KEY = bytes(range(16))
_few, _many = st.integers(0, 5), st.integers(0, 50)
"""Seconds."""


@dataclass(frozen=True)
class Written:
    """One value, that the server has from `at` on until `ends`."""

    at: float
    ends: float
    value: bytes
    body: bytes


@st.composite
def written(draw: st.DrawFn) -> list[Written]:
    """By machines that replace what is there; each seals what it has had for a while, and the server gets it later."""
    found, at = [], 0.0
    for number in range(draw(st.integers(1, 4))):
        sealed = at + draw(_few)
        at = sealed + draw(_few)
        born, body = sealed - draw(_many), b"answer %d" % draw(st.integers(0, number))
        ends = sealed + draw(_many)
        windows = {"stale_while_revalidate": draw(_few), "stale_if_error": draw(_few)}
        values = Values(Envelope(), iter([float(sealed)]).__next__, draw(st.sampled_from([math.inf, 30.0])), Memo(0))
        packed = values.pack(KEY, entry(body, born=born, fresh_until=ends, settled_until=ends, **windows))
        if packed is not None:
            found.append(Written(at, at + int(packed[1]) / 1000, packed[0], body))
    return found


def at_time(writes: list[Written], now: float) -> Written | None:
    """What the server then has."""
    number = bisect_right([write.at for write in writes], now)
    return writes[number - 1] if number and now < writes[number - 1].ends else None


@settings(max_examples=500)
@given(
    writes=written(),
    asked=st.lists(st.integers(0, 20), min_size=1, max_size=6).map(sorted),
    delays=st.lists(st.one_of(st.just((0, 0)), st.tuples(_few, _few)), min_size=6, max_size=6),
)
def test_whatever_is_replaced_between_a_time_and_its_value_lives_no_longer_than_it_may(
    writes: list[Written], asked: list[int], delays: list[tuple[int, int]]
) -> None:
    """Asking for the time, asking for the value and hearing both may take as long as they like, again and again."""
    now = 0
    values = Values(Envelope(), lambda: now, math.inf, Memo(1024**2))
    glances = Glances(b"prefix:{", values, lambda: now, lambda opening: None)
    for now, (one, other) in zip(asked, delays, strict=False):
        told: list[Entry | StoreError | None] = []
        glance = GlanceCall(glances, KEY, told.append)
        first, then = at_time(writes, now + one), at_time(writes, now + one + other)
        left = -2 if first is None else math.floor((first.ends - now - one) * 1000)
        assert glance.hear([left, None if then is None else then.value], 0, lambda call, error: call.fail(error)) == 2
        (found,) = told
        assert not isinstance(found, StoreError)
        if found is not None:
            assert then is not None
            assert found.body == then.body
            assert found.dead_from <= then.ends + 1e-6
