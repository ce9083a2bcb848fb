"""Bodies with equal gists have equal keys; what is not certain has no gist."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glasscache.asgi._skim import skimmer
from glasscache.keys import json_body
from tests.properties.test_key_properties import damaged, objects, spellings, thorough

BUILDER = json_body("a", "b", ignore=("é", ""))
SKIM = skimmer(BUILDER.fields, BUILDER.ignored)
assert SKIM is not None


def is_strict(body: bytes) -> bool:
    """Whether reading the body finds it strict, and with no other field."""
    key = BUILDER({}, body)
    return key is not None and key.startswith(BUILDER.mark)


def agrees(known: dict[bytes, bytes | None], body: bytes) -> bool:
    """Whether the body has the key of those before it that have its gist. True for one without."""
    assert SKIM is not None
    gist = SKIM(body)
    if gist is None or (gist not in known and not is_strict(body)):
        return True
    key = BUILDER({}, body)
    return known.setdefault(gist, key) == key


@pytest.mark.parametrize(
    ("body", "gist"),
    [
        (b'{"a":1,"b":[2, 3]}', b"1,[2, 3]"),
        (b'{"b":[2, 3],"a":1}', b"1,[2, 3]"),
        (b'{"a":1,"b":[2, 3],"\xc3\xa9":{"x":[1.50]},"":null}', b"1,[2, 3]"),
        (b'{"a": 1, "b": [2, 3], "": "other"}\n', b"1,[2, 3]"),
        (b'{"a":1}', b"1,"),
        (b'{"b":null}', b",null"),
        (b"{}", b","),
        (b'{"":-0}', b","),
        (b'{"a":"\\n\\u0041","":"\\"\\\\"}', b'"\\n\\u0041",'),
        (b'{"a":%s,"":%s}' % (b"[" * 63 + b"]" * 63, b"[" * 63 + b"]" * 63), b"[" * 63 + b"]" * 63 + b","),
    ],
)
def test_the_gist_is_what_is_keyed_as_it_was_sent(body: bytes, gist: bytes) -> None:
    assert SKIM is not None
    assert SKIM(body) == gist
    assert is_strict(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[1]",
        b"null",
        b'{"a":1,"c":1}',  # neither keyed nor ignored
        b'{"a":1,"a":1}',
        b'{"a":1,"a":22222}',  # as long as it would be with spaces
        b'{"":1,"":1}',
        b'{"":{"x":1,"x":1}}',
        b'{"": {"x":1, "x":1}}',
        b'{"a":1,"":"\\u0022\\u0022", "a":2}',  # as many quotes as it would have
        b'{"\\u0061":1}',
        b'{"":"\\u0061"}',  # it could be proven, but is rare
        b'{"a": 1, "":"\\n"}',
        b'{"":"\xff"}',
        b'{"":"\xed\xa0\x80"}',
        b'{"":NaN}',
        b'{"":"\x01"}',
        b'{"a":1}}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"":%s}' % (b"[" * 64 + b"]" * 64),
        b'{"":%s}' % (b'{"x":' * 64 + b"1" + b"}" * 64),
        b'{"":%s}' % (b"[" * 5000 + b"]" * 5000),
        b'{"a":"%s"}' % (b"x" * 1024**2),
    ],
)
def test_what_is_not_certain_has_no_gist(body: bytes) -> None:
    assert SKIM is not None
    assert SKIM(body) is None


def test_names_that_have_to_be_escaped_are_not_looked_for() -> None:
    assert skimmer(['q"'], []) is None


@pytest.mark.parametrize("code", [*range(0x20), 0x22, 0x2F, 0x5C, 0x7F, 0xE9, 0x2028, 0xFFFF, 0x1F600])
def test_to_be_written_again_makes_no_character_longer(code: int) -> None:
    spellings = {json.dumps(chr(code), ensure_ascii=ensure).encode() for ensure in (False, True)}
    spellings |= {f'"\\u{code:04X}"'.encode()} if code < 0x10000 else set()
    for spelling in spellings:
        assert len(msgspec.json.encode(msgspec.json.decode(spelling))) <= len(spelling)


@thorough
@given(st.data(), objects, objects, st.randoms(use_true_random=True))
def test_bodies_with_one_gist_have_one_key(data: Any, one: Any, other: Any, chance: random.Random) -> None:
    bodies = [data.draw(spellings({**value, **rest})) for value in (one, other) for rest in (one, {"": 1}, {"é": 2})]
    known: dict[bytes, bytes | None] = {}
    for body in bodies:
        assert agrees(known, body)
        assert agrees(known, damaged(body, chance))


def test_thousands_of_damaged_bodies_have_the_key_of_their_gist_or_none() -> None:
    chance = random.Random(20261126)
    wholes = [
        b'{"a":"what","b":{"x":[1,2.50,{"a":null}],"y":true},"":"user","\xc3\xa9":"\xc3\xa9"}',
        b'{"a":"\\u0061\\n", "b":{"":""}, "":{"a":1}}',
        b'{"":{"a":{"a":[{}]}},"b":[[],[[]]],"a":-1.5e-7}',
    ]
    known: dict[bytes, bytes | None] = {}
    for _ in range(6_000):
        body = damaged(chance.choice(wholes), chance)
        assert agrees(known, body), body
    assert len(known) > 30  # gists that were met
