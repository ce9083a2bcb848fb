"""Structured fields by the letter of RFC 9651: what is read, and what a broken field says (nothing)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscache.asgi._structured import parse_dictionary, parse_strings


@pytest.mark.parametrize(
    ("lines", "members"),
    [
        ([b""], {}),
        ([], {}),
        ([b"a"], {b"a": True}),
        ([b"a=?0, b=?1"], {b"a": False, b"b": True}),
        ([b"max-age=60,  no-store"], {b"max-age": 60, b"no-store": True}),
        ([b"max-age=60", b"no-store"], {b"max-age": 60, b"no-store": True}),
        ([b"a=-1, a=2"], {b"a": 2}),
        ([b"a=1.5"], {b"a": 1.5}),
        ([b'a="x\\"\\\\y"'], {b"a": 'x"\\y'}),
        ([b'a=""'], {b"a": ""}),
        ([b"a=tok/en:x"], {b"a": b"tok/en:x"}),
        ([b"a=:aGk=:"], {b"a": b":aGk=:"}),
        ([b"a=@1659578233"], {b"a": b"@1659578233"}),
        ([b'a=%"f%c3%bc"'], {b"a": b'%"f%c3%bc"'}),
        ([b"a;x;y=1, b=2; z=?0"], {b"a": True, b"b": 2}),
        ([b"a=(1 2);q=1, b=()"], {b"a": [1, 2], b"b": []}),
        ([b'a=( "x"  y;z )'], {b"a": ["x", b"y"]}),
        ([b"*a_-.1=1"], {b"*a_-.1": 1}),
    ],
)
def test_a_dictionary_is_read(lines: list[bytes], members: dict[bytes, object]) -> None:
    assert parse_dictionary(lines) == members


@pytest.mark.parametrize(
    "line",
    [
        b"A=1",
        b"a=",
        b"a=1,",
        b"a=1 b=2",
        b"a=1, &",
        b"a=?2",
        b"a=1.",
        b"a=1.2345",
        b"a=1234567890123456",
        b'a="x',
        b'a="\\x"',
        b"a=\xff",
        b"a=(1",
        b"a=(1,2)",
        b'a=("x""y")',
        b"a;=1",
        b"a;x=",
        b",",
        b"\t a",
    ],
)
def test_a_dictionary_that_is_broken_anywhere_says_nothing(line: bytes) -> None:
    assert parse_dictionary([line]) is None


@pytest.mark.parametrize(
    ("lines", "strings"),
    [
        ([b'"a", "b";x=1'], ["a", "b"]),
        ([b'"a"', b'"b"'], ["a", "b"]),
        ([b""], []),
        ([b'"a", b'], []),
        ([b'"a", ("b")'], []),
        ([b'"a" "b"'], []),
        ([b'"a",'], []),
    ],
)
def test_a_list_of_strings_is_read_whole_or_not_at_all(lines: list[bytes], strings: list[str]) -> None:
    assert parse_strings(lines) == strings


pieces = st.sampled_from(
    [b"a", b"=", b",", b" ", b"1", b".", b'"', b"\\", b"(", b")", b";", b":", b"?0", b"@", b"%", b"\xff"]
)


@given(st.lists(st.lists(pieces, max_size=12).map(b"".join), max_size=3))
def test_whatever_is_sent_is_read_or_refused(lines: list[bytes]) -> None:
    found = parse_dictionary(lines)
    assert found is None or all(name for name in found)
    assert all(isinstance(name, str) for name in parse_strings(lines))
