"""A span's reference survives being written as text, and what others wrote never raises."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscache._events import SpanRef
from glasscache.stores._traceparent import from_traceparent, to_traceparent


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans())
def test_every_reference_comes_back(trace: int, span: int, sampled: bool) -> None:
    ref = SpanRef(trace, span, sampled)
    assert from_traceparent(to_traceparent(ref)) == ref


def test_it_is_written_as_the_w3c_says() -> None:
    text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    ref = SpanRef(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7, True)
    assert to_traceparent(ref) == text
    assert from_traceparent(text[:-2] + "03") == ref, "only the lowest flag is known"
    assert to_traceparent(None) == ""


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "01-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01\n",
        "00-" + "\N{ARABIC-INDIC DIGIT ONE}" * 32 + "-" + "1" * 16 + "-01",
    ],
)
def test_anything_else_is_no_reference(text: str) -> None:
    assert from_traceparent(text) is None


@given(st.text())
def test_nothing_raises(text: str) -> None:
    assert from_traceparent(text) is None
