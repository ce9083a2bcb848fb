"""How long an answer lives: every decision at, before and after its limit."""

from __future__ import annotations

import math
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscache._entry import Entry
from glasscache.errors import ConfigurationError
from glasscache.policy import (
    Detail,
    Limits,
    Policy,
    Pressure,
    Share,
    Terms,
    Verdict,
    judge,
    make_entry,
    make_marker,
    may_stand_in,
)
from glasscache.testing import entry

STALE = entry(
    born=0.0, fresh_until=100.0, settled_until=90.0, stale_while_revalidate=10.0, stale_if_error=30.0, cost=0.5
)


# --- judge --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (0.0, Verdict.FRESH),
        (89.9, Verdict.FRESH),
        (90.0, Verdict.FRESH),
        (99.9, Verdict.FRESH),
        (100.0, Verdict.STALE),
        (109.9, Verdict.STALE),
        (110.0, Verdict.STAND_IN),
        (129.9, Verdict.STAND_IN),
        (130.0, Verdict.DEAD),
    ],
)
def test_an_entry_goes_from_fresh_by_stale_and_stand_in_to_dead(now: float, verdict: Verdict) -> None:
    assert judge(STALE, now, beta=1.0, chance=1.0) is verdict


def test_without_windows_an_entry_is_dead_as_soon_as_it_is_not_fresh() -> None:
    plain = entry(fresh_until=100.0, settled_until=100.0)
    assert judge(plain, 99.9, beta=1.0, chance=1e-9) is Verdict.FRESH
    assert judge(plain, 100.0, beta=1.0, chance=1.0) is Verdict.DEAD


def test_the_chance_decides_who_refreshes_early() -> None:
    # 0.5 s of cost times -ln(chance) must bridge the 2 s that are left: chance <= e^-4.
    assert judge(STALE, 98.0, beta=1.0, chance=math.exp(-4.01)) is Verdict.EARLY
    assert judge(STALE, 98.0, beta=1.0, chance=math.exp(-3.99)) is Verdict.FRESH


def test_a_higher_beta_refreshes_earlier_and_0_never() -> None:
    chance = math.exp(-3.0)
    assert judge(STALE, 98.0, beta=1.0, chance=chance) is Verdict.FRESH
    assert judge(STALE, 98.0, beta=2.0, chance=chance) is Verdict.EARLY
    assert judge(STALE, 99.999, beta=0.0, chance=1e-300) is Verdict.FRESH


def test_before_it_is_settled_no_chance_is_needed() -> None:
    assert judge(STALE, 89.0, beta=1000.0, chance=1e-300) is Verdict.FRESH


@given(now=st.floats(0, 200), chance=st.floats(1e-12, 1), beta=st.floats(0, 4))
def test_an_answer_may_stand_in_exactly_until_it_is_dead(now: float, chance: float, beta: float) -> None:
    dead = judge(STALE, now, beta=beta, chance=chance) is Verdict.DEAD
    assert may_stand_in(STALE, now) is not dead


def test_no_entry_cannot_stand_in() -> None:
    assert not may_stand_in(None, 0.0)


# --- making -------------------------------------------------------------------------------------------------


def made(
    *, terms: Terms | None = None, policy: Policy | None = None, begun: float = 999.5, chance: float = 0.0
) -> dict[str, float]:
    new = make_entry(
        chunks=(b"a", b"b"),
        status=203,
        headers=((b"etag", b"1"),),
        terms=terms or Terms(ttl=100.0),
        policy=policy or Policy(),
        begun=begun,
        now=1000.0,
        chance=chance,
        number=7,
    )
    assert (new.chunks, new.status, new.headers, new.number) == ((b"a", b"b"), 203, ((b"etag", b"1"),), 7)
    assert (new.vary, new.tags) == ((), (terms or Terms(ttl=0.0)).tags)
    return {name: getattr(new, name) for name in Entry.FIELDS if isinstance(getattr(new, name), float)}


def test_an_answer_is_fresh_for_its_ttl_from_when_it_is_complete() -> None:
    assert (
        made().items()
        >= {
            "born": 1000.0,
            "fresh_until": 1100.0,
            "settled_until": 1094.0,  # twelve times the half second that the load took
            "stale_while_revalidate": 0.0,
            "stale_if_error": 0.0,
            "cost": 0.5,
        }.items()
    )


def test_the_age_on_arrival_counts() -> None:
    new = made(terms=Terms(ttl=100.0, age=30.0))
    assert (new["born"], new["fresh_until"]) == (970.0, 1070.0)


def test_the_windows_and_tags_are_those_of_the_terms() -> None:
    new = made(terms=Terms(ttl=100.0, stale_while_revalidate=5.0, stale_if_error=6.0, tags=("doc:7",)))
    assert (new["stale_while_revalidate"], new["stale_if_error"]) == (5.0, 6.0)


def test_jitter_shortens_the_ttl_by_a_random_share() -> None:
    policy = Policy(jitter=0.2)
    assert made(policy=policy, chance=0.0)["fresh_until"] == 1100.0
    assert made(policy=policy, chance=0.5)["fresh_until"] == 1090.0
    assert made(policy=policy, chance=1.0)["fresh_until"] == 1080.0


def test_an_answer_that_took_long_is_never_settled_but_no_longer_unsettled_than_its_ttl() -> None:
    assert made(begun=900.0)["settled_until"] == 1000.0


def test_without_early_refresh_an_answer_is_settled_to_its_end() -> None:
    assert made(policy=Policy(early_refresh=0.0))["settled_until"] == 1100.0


@given(
    cost=st.floats(0, 50), ttl=st.floats(0, 1000), age=st.floats(0, 1000), beta=st.floats(0, 4), chance=st.floats(0, 1)
)
def test_the_times_of_an_entry_are_in_order(cost: float, ttl: float, age: float, beta: float, chance: float) -> None:
    new = made(
        terms=Terms(ttl=ttl, age=age),
        policy=Policy(early_refresh=beta, jitter=0.5),
        begun=1000.0 - cost,
        chance=chance,
    )
    assert new["born"] - 1e-6 <= new["settled_until"] <= new["fresh_until"] <= new["born"] + ttl + 1e-6


def test_a_marker_is_settled_for_all_its_life_and_carries_salt_and_names() -> None:
    marker = make_marker((b"accept",), b"salt", now=1000.0, lifetime=60.0, number=3)
    assert (marker.vary, marker.chunks, marker.number, marker.status) == ((b"accept",), (b"salt",), 3, 0)
    assert (marker.born, marker.settled_until, marker.fresh_until, marker.dead_from) == (1000.0, 1060.0, 1060.0, 1060.0)


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [field.name for field in fields(Policy)])
@pytest.mark.parametrize("value", [-1.0, math.inf, math.nan, "60", timedelta(seconds=1)])
def test_a_policy_refuses_what_is_no_number_of_seconds(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Policy(**{name: value})


def test_a_policy_refuses_a_jitter_above_the_whole_ttl() -> None:
    assert Policy(jitter=1.0).jitter == 1.0
    with pytest.raises(ConfigurationError, match=r"jitter=1\.1: give a share"):
        Policy(jitter=1.1)


def test_a_policy_has_a_ttl() -> None:
    with pytest.raises(ConfigurationError, match=r"ttl=None: give a finite number"):
        Policy(ttl=None)  # type: ignore[arg-type]


def test_a_policy_may_have_no_soft_timeout_and_zeros() -> None:
    assert Policy().soft_timeout is None
    assert Policy(ttl=0.0, soft_timeout=0.0).soft_timeout == 0.0


def test_but_changes_what_is_given_and_nothing_else() -> None:
    policy = Policy(ttl=60.0, stale_if_error=5.0)
    assert policy.but(ttl=10.0, jitter=None) == Policy(ttl=10.0, stale_if_error=5.0)
    assert policy.but(ttl=None) is policy
    assert policy.but(ttl=0.0).ttl == 0.0


def test_but_checks_like_the_constructor() -> None:
    with pytest.raises(ConfigurationError, match="ttl"):
        Policy().but(ttl=-1.0)
    with pytest.raises(TypeError):
        Policy().but(no_such_option=1.0)


@pytest.mark.parametrize("name", [field.name for field in fields(Limits) if field.type != "bool"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan, "10", True, None])
def test_a_limit_is_a_finite_number_above_0(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize("name", ["max_parallel_loads", "max_flights", "max_entry_bytes"])
def test_half_a_load_or_a_byte_is_no_limit(name: str) -> None:
    half: dict[str, Any] = {name: 0.5}
    with pytest.raises(ConfigurationError, match=rf"Limits\({name}=0.5\): give a whole number"):
        Limits(**half)
    whole: dict[str, Any] = {name: 10e6}
    assert getattr(Limits(**whole), name) == 10_000_000


def test_whether_to_finish_abandoned_loads_is_no_number() -> None:
    assert Limits(finish_abandoned=False).finish_abandoned is False
    with pytest.raises(ConfigurationError, match=r"finish_abandoned='no'\): give True or False"):
        Limits(finish_abandoned="no")  # type: ignore[arg-type]


def test_the_words_for_sharing_are_those_that_are_told_apart() -> None:
    assert [share.value for share in Share] == ["all", "when_complete", "leader", "none"]


# --- telemetry ----------------------------------------------------------------------------------------------


def test_one_hit_in_less_than_none_cannot_be_timed() -> None:
    with pytest.raises(ConfigurationError, match=r"Detail\(time_hits=-1\): give 0, or N for one hit in N"):
        Detail(time_hits=-1)
    with pytest.raises(ConfigurationError, match=r"Detail\(time_hits='100'\): give 0, or N"):
        Detail(time_hits="100")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"Detail\(clear_keys='false'\): give True or False"):
        Detail(clear_keys="false")  # type: ignore[arg-type]


def test_a_tier_is_too_small_if_all_of_it_would_be_gone_within_a_minute() -> None:
    pressure = Pressure()
    assert pressure.evicted(0.0, 100) is None, "the first one says nothing of a rate"
    seen = [pressure.evicted(second / 2, 100) for second in range(1, 41)]
    assert [rate for rate in seen if rate] == [2.0, 2.0], "once in ten seconds"
    slow = Pressure()
    assert [slow.evicted(second, 121) for second in range(41)] == [None] * 41
