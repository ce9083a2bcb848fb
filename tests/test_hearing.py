"""What a machine makes of messages: order, gaps, age, and nonsense."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscache._lease import Mark
from glasscache.stores._hearing import Hearing, ServerTime
from glasscache.stores._messages import MAX_NUMBER, VERSION, Marked, Message, Replaced, encode
from glasscache.testing import ManualClock
from glasscache.testing._backplane_contract import Ear

_LIFE = "a life"


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.time = ServerTime(self.clock.now)
        self.ear = Ear()
        self.hearing = Hearing(self.ear, "me", self.time)

    def mark(self, number: int, previous: int, *, birth: str = _LIFE, machine: str = "other", time: int = 0) -> None:
        told = Marked(("tag",), False, machine, "")
        self.hearing.hear(encode(Message(VERSION, number, previous, birth, time, told)))

    def told(self) -> list[str]:
        """Since it was last asked."""
        told, self.ear.told = self.ear.told, []
        return told


GAP = ["lost", "restored"]


def test_messages_that_follow_on_one_another_are_passed_on() -> None:
    rig = Rig()
    rig.mark(5, 4)
    rig.mark(6, 5)
    rig.mark(9, 6)
    assert rig.told() == ["marked"] * 3
    assert rig.ear.marks[-1] == Mark(number=9, tags=("tag",))


def test_a_message_that_is_missing_is_told_before_the_one_that_shows_it() -> None:
    rig = Rig()
    rig.mark(5, 4)
    rig.mark(7, 6)
    assert rig.told() == ["marked", *GAP, "marked"]
    rig.mark(8, 7)
    assert rig.told() == ["marked"], "told once"


def test_after_a_new_subscription_any_message_may_be_the_first() -> None:
    rig = Rig()
    rig.mark(5, 4)
    rig.hearing.lost()
    rig.hearing.restored()
    rig.mark(9, 8)
    assert rig.told() == ["marked", *GAP, "marked"]


def test_what_was_read_is_what_the_first_message_must_follow_on() -> None:
    rig = Rig()
    rig.hearing.has_read(_LIFE, 4)
    rig.mark(5, 4)
    assert rig.told() == ["marked"]
    rig.hearing.has_read(_LIFE, 3)  # the answer came later than a message
    rig.mark(6, 5)
    assert rig.told() == ["marked"]
    rig.hearing.restored()
    rig.hearing.has_read(_LIFE, 7)
    rig.mark(9, 8)
    assert rig.told() == ["restored", *GAP, "marked"]


def test_numbers_of_another_life_of_the_servers_data_are_a_gap_even_where_they_seem_to_follow() -> None:
    rig = Rig()
    rig.mark(5, 4)
    rig.mark(6, 5, birth="another life")
    assert rig.told() == ["marked", *GAP, "marked"]


def test_numbers_that_go_back_are_a_gap() -> None:
    rig = Rig()
    rig.mark(50, 49)
    rig.mark(49, 48)
    assert rig.told() == ["marked", *GAP, "marked"]


def test_whoever_has_lost_markers_makes_all_others_read_even_those_that_hear_it_first() -> None:
    rig = Rig()
    rig.mark(5, 5)
    assert rig.told() == [*GAP, "marked"]


def test_own_marks_are_not_told_but_show_a_gap_as_any_other() -> None:
    rig = Rig()
    rig.mark(5, 4, machine="me")
    rig.mark(6, 5)
    rig.mark(7, 6, machine="me")
    assert rig.told() == ["marked"]
    rig.mark(9, 8, machine="me")
    assert rig.told() == GAP


def test_a_new_answer_is_told_and_is_no_gap() -> None:
    rig = Rig()
    rig.mark(5, 4)
    for machine in ("other", "me"):
        rig.hearing.hear(encode(Message(VERSION, 0, 0, "", 0, Replaced(b"key", machine))))
    rig.mark(6, 5)
    assert rig.told() == ["marked", "replaced", "marked"]
    assert rig.ear.keys == [b"key"]


def test_of_the_newest_copy_it_is_told_before_the_others_are_dropped() -> None:
    rig = Rig()
    told: list[tuple[bytes, int, int]] = []
    rig.hearing.spares = lambda key, copy: told.append((key, copy, len(rig.ear.keys)))
    rig.hearing.hear(encode(Message(VERSION, 0, 0, "", 0, Replaced(b"key", "me", 7))))
    rig.hearing.hear(encode(Message(VERSION, 0, 0, "", 0, Replaced(b"key", "other", 7))))
    assert told == [(b"key", 7, 0)]
    rig.hearing.hear(msgspec.msgpack.encode([VERSION, 0, 0, "", 0, ["replaced", b"key", "other"]]))
    assert told[1:] == [(b"key", 0, 1)]


def hostile() -> list[bytes]:
    told = Marked(("tag",), False, "other", "")
    whole = encode(Message(VERSION, 6, 5, _LIFE, 0, told))
    pack = msgspec.msgpack.encode
    rest = [6, 5, _LIFE, 0]
    return [
        b"",
        b"\x80\x04\x95pickle.",
        whole[:-1],
        b"\xdd\xff\xff\xff\xff",
        pack({"number": 6}),
        pack([2, *rest, ["marked", ["tag"], False, "other", ""]]),
        pack([1, -1, 5, _LIFE, 0, ["marked", ["tag"], False, "other", ""]]),
        pack([1, MAX_NUMBER + 1, 5, _LIFE, 0, ["marked", ["tag"], False, "other", ""]]),
        pack([1, 6.5, 5, _LIFE, 0, ["marked", ["tag"], False, "other", ""]]),
        pack([1, *rest, ["marked", "tag", False, "other", ""]]),
        pack([1, *rest, ["marked", [b"tag"], False, "other", ""]]),
        pack([1, *rest, ["marked", ["tag"], 1, "other", ""]]),
        pack([1, *rest, ["marked", ["tag"], False, "o" * 257, ""]]),
        pack([1, *rest, ["sold", b"key", "other"]]),
        pack([1, *rest, ["replaced", "key", "other"]]),
        pack([1, *rest]),
        b"\x96\x01\x06\x05\xa1\xff\x00" + pack(["marked", ["tag"], False, "other", ""]),
        b"\x97" + whole[1:] + b"\x91" * 100_000,
    ]


@pytest.mark.parametrize("data", hostile(), ids=range(len(hostile())))
def test_what_is_not_a_message_is_counted_and_changes_nothing(data: bytes) -> None:
    rig = Rig()
    rig.mark(5, 4)
    rig.hearing.hear(data)
    assert rig.hearing.ignored == 1
    rig.mark(6, 5)
    assert rig.told() == ["marked", "marked"]


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    Rig().hearing.hear(data)


@given(st.binary(max_size=40), st.integers(0, 60))
def test_no_mutation_raises(noise: bytes, at: int) -> None:
    whole = encode(Message(VERSION, 6, 5, _LIFE, 0, Marked(("tag",), False, "other", "")))
    Rig().hearing.hear(whole[:at] + noise + whole[at + len(noise) :])


def test_a_later_version_may_add_to_a_message() -> None:
    rig = Rig()
    rig.hearing.hear(msgspec.msgpack.encode([1, 6, 5, _LIFE, 0, ["marked", ["tag"], False, "other", "", 7], "more"]))
    assert rig.told() == ["marked"]


def test_the_age_of_a_message_is_by_the_servers_clock_in_the_middle_of_the_round_trip() -> None:
    rig = Rig()
    asked = rig.clock.now()
    rig.clock.advance(0.2)
    rig.time.learn(asked, 7_000_000)  # the server showed 7 s when it was asked, 0.1 s ago
    rig.mark(5, 4, time=7_000_000)
    rig.clock.advance(1.0)
    rig.mark(6, 5, time=7_000_000)
    assert rig.ear.lags == pytest.approx([0.1, 1.1])


def test_no_message_is_from_the_future_and_none_has_an_age_before_the_time_is_known() -> None:
    rig = Rig()
    rig.mark(5, 4, time=1)
    rig.time.learn(rig.clock.now(), 7_000_000)
    rig.mark(6, 5, time=8_000_000)
    assert rig.ear.lags == [0.0, 0.0]


def test_of_two_readings_of_the_servers_clock_the_shorter_round_trip_counts_until_it_is_old() -> None:
    rig = Rig()

    def learn(seconds: float, shown: int) -> None:
        asked = rig.clock.now()
        rig.clock.advance(seconds)
        rig.time.learn(asked, shown)

    learn(0.0, 7_000_000)
    learn(2.0, 500_000_000)
    assert rig.time.since(7_000_000) == pytest.approx(2.0)
    rig.clock.advance(61.0)
    learn(2.0, 500_000_000)
    assert rig.time.since(500_000_000) == pytest.approx(1.0)
    rig.hearing.restored()  # perhaps another server
    assert rig.time.since(0) == 0.0


def test_the_servers_time_is_old_until_it_is_known_and_a_minute_later() -> None:
    rig = Rig()
    seen = [rig.time.is_old]
    rig.time.learn(rig.clock.now(), 7_000_000)
    for _ in range(3):
        seen.append(rig.time.is_old)
        rig.clock.advance(31.0)
    assert seen == [True, False, False, True]
