"""What a handler may say about its answer."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any

import pytest

from glasscache._climbing import Climbed
from glasscache._inside import Chain, loading
from glasscache.asgi import answer
from glasscache.asgi.handler import AnswerNotes, Notes, open_notes
from glasscache.errors import ConfigurationError
from glasscache.policy import Terms

TERMS = Terms(ttl=300, tags=("rule",), stale_if_error=10)


def test_a_handler_that_says_nothing_changes_nothing() -> None:
    notes = Notes()
    assert notes.is_stored
    assert notes.apply(TERMS) == TERMS


def test_what_is_said_chains_and_is_applied() -> None:
    AnswerNotes(notes := Notes()).tag("doc:7", "doc:8").tag("doc:7").ttl(60).cost(0.02)
    assert notes.apply(TERMS) == Terms(ttl=60, tags=("rule", "doc:7", "doc:8"), stale_if_error=10, price=0.02)


def test_a_tag_that_the_rule_gave_already_counts_once() -> None:
    AnswerNotes(notes := Notes()).tag("rule")
    assert notes.apply(TERMS).tags == ("rule",)


def test_a_lifetime_of_nothing_is_a_lifetime() -> None:
    AnswerNotes(notes := Notes()).ttl(0)
    assert notes.apply(TERMS).ttl == 0


def test_a_lifetime_counts_from_now_however_old_the_answer_was_on_arrival() -> None:
    aged = Terms(ttl=300, age=200)
    AnswerNotes(notes := Notes()).ttl(60)
    applied = notes.apply(aged)
    assert applied.ttl - applied.age == 60


def test_no_store_is_remembered() -> None:
    AnswerNotes(notes := Notes()).no_store()
    assert not notes.is_stored


@pytest.mark.parametrize("seconds", [-1, float("inf"), float("nan"), "60", None])
def test_a_lifetime_that_cannot_be_is_refused_where_it_is_said(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="finite number of seconds"):
        AnswerNotes(Notes()).ttl(seconds)


@pytest.mark.parametrize("price", [-0.01, float("inf"), float("nan"), "0.02"])
def test_a_price_that_cannot_be_is_refused_where_it_is_said(price: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"answer\(\)\.cost\(.*finite number, 0 or more"):
        AnswerNotes(Notes()).cost(price)


@pytest.mark.parametrize("tag", [7, ["doc:7", "doc:8"], None])
def test_a_tag_is_a_string(tag: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"give strings, such as answer\(\)\.tag\('doc:7', 'doc:8'\)"):
        AnswerNotes(Notes()).tag(tag)


def opened() -> Notes:
    """As a load begins."""
    chain = Chain(b"k")
    loading.set((*loading.get(), chain))
    return open_notes(chain)


def test_inside_a_load_everybody_finds_the_same_notes() -> None:
    def load() -> None:
        notes = opened()
        answer().tag("a")
        assert notes.apply(TERMS).tags == ("rule", "a")

    copy_context().run(load)


def test_outside_of_a_load_notes_are_taken_and_go_nowhere() -> None:
    answer().tag("a").no_store()
    assert copy_context().run(opened).is_stored


def test_a_load_inside_of_a_load_has_notes_of_its_own() -> None:
    def outer() -> None:
        mine, inner = opened(), copy_context()
        inner.run(opened)
        inner.run(lambda: answer().tag("inner"))
        answer().tag("outer")
        assert mine.apply(TERMS).tags == ("rule", "outer")

    copy_context().run(outer)


def test_in_the_load_of_a_value_the_notes_are_those_of_the_answer_that_it_is_read_for() -> None:
    def outer() -> None:
        mine, value = opened(), Chain(b"v")
        value.collector = Climbed()
        loading.set((*loading.get(), value))
        answer().tag("a")
        assert mine.apply(TERMS).tags == ("rule", "a")

    copy_context().run(outer)
