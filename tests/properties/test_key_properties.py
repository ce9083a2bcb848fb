"""Keys under generated input: what differs never meets, what is equal does, fast and slow ways agree."""

from __future__ import annotations

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glasscache._calls import call_key
from glasscache._strict import parse_slowly
from glasscache.keys import Keyring, json_body

pytestmark = pytest.mark.no_cover

RING = Keyring("a secret that is for tests only, 0123456789")
thorough = settings(max_examples=100, deadline=None, derandomize=True)

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
names = st.sampled_from(["a", "b", "é", "", 'q"', "\\", "\n"]) | texts
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(names, values, max_size=4)


def exact(value: Any) -> Any:
    """The value in a form that is equal by the rules: 1, 1.0, True and "1" differ, names have no order."""
    if isinstance(value, dict):
        return ("object", frozenset((name, exact(item)) for name, item in value.items()))
    if isinstance(value, list):
        return ("array", tuple(map(exact, value)))
    return (type(value).__name__, repr(value))


def shuffled(value: Any, draw: Any) -> Any:
    """The same value with its names in another order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name], draw) for name in draw(st.permutations(list(value)))}
    return [shuffled(item, draw) for item in value] if isinstance(value, list) else value


@st.composite
def spellings(draw: Any, value: Any) -> bytes:
    """JSON texts of one value."""
    text = json.dumps(
        shuffled(value, draw),
        ensure_ascii=draw(st.booleans()),
        indent=draw(st.sampled_from([None, None, 0, 3, "\t"])),
        separators=draw(st.sampled_from([None, (",", ":")])),
    )
    encoded: bytes = text.encode()
    return encoded


PIECES = [
    b'"a":1,', b'"a":', b'"', b"\\", b'\\"', b"\\u0061", b"\\ud800", b"{", b"}", b"[", b"]", b",", b":", b" ",
    b"\t",
    b"NaN", b"Infinity", b"null", b"-", b"0", b"-0", b"1e5", b"1E400", b".", b"\xff", b"\xc3\xa9",
    b"\xef\xbb\xbf",
    b"\x00", b"\x1f", b"\x7f", b"{" * 9, b"[" * 70, b"]" * 70,
]  # fmt: skip
WHOLE = [
    b'{"question":"what","filters":{"a":[1,2.50,{"a":null}],"b":true},"user":"\xc3\xa9"}',
    b'[{"a":1,"b":2},{"a":1,"b":2}, {"a":"\\u0061\\n","":""}]',
    b'{"a":{"a":{"a":{}}},"b":[[],[[]]],"c":-1.5e-7}',
]


def damaged(text: bytes, chance: random.Random) -> bytes:
    """The text with a piece doubled, dropped, overwritten or put in, up to three times."""
    for _ in range(chance.randrange(4)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.randrange(9))
        middle = chance.choice([chance.choice(PIECES), b"", text[start:end] * 2, text[end:start:-1]])
        text = text[:start] + middle + text[end:]
    return text


def depth(value: Any) -> int:
    """Levels of arrays and objects; an empty one is a level, too."""
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)


def slowly(body: bytes) -> bytes:
    """The key that the slow and obvious way gives."""
    try:
        value = parse_slowly(body)
        text = msgspec.json.encode(value, order="deterministic")
    except (ValueError, RecursionError):
        return b"raw:" + body
    return b"raw:" + body if depth(value) > 64 else json_body().mark + text


@thorough
@given(st.lists(st.binary(max_size=5), max_size=4), st.lists(st.binary(max_size=5), max_size=4))
def test_digests_are_equal_only_for_equal_parts(one: list[bytes], other: list[bytes]) -> None:
    assert (RING.digest(*one) == RING.digest(*other)) == (one == other)


@thorough
@given(st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=4), st.integers(0, 12))
def test_moving_a_border_between_parts_changes_the_digest(parts: list[bytes], at: int) -> None:
    whole = b"".join(parts)
    moved = [whole[:at], whole[at:]]
    assert (RING.digest(*parts) == RING.digest(*moved)) == (parts == moved)


@thorough
@given(st.lists(st.binary(max_size=300), max_size=20), st.binary(max_size=300), st.lists(st.binary(), max_size=2))
def test_a_stem_makes_the_same_keys(before: list[bytes], part: bytes, after: list[bytes]) -> None:
    assert RING.stem(tuple(before), tuple(after)).digest(part) == RING.digest(*before, part, *after)


@given(values.flatmap(spellings), st.randoms(use_true_random=True))
@thorough
@example(b'{"a":1,"a":1}', random.Random(0))
@example(b'{"a":1,"b":{"a":1,"a":1} }', random.Random(0))
@example(b'{"a":-0,"b":1}', random.Random(0))
@example(b"{%s}" % b",".join(b'"%d":{}' % name for name in range(70)), random.Random(0))
@example(b'{"a":%s}' % (b'{"a":' * 64 + b"1" + b"}" * 64), random.Random(0))
@example(b'{"a":1,"a":"\\u0022\\u0022"}', random.Random(0))
@example(b"[" * 65 + b'"]]"' + b"]" * 65, random.Random(0))
@example(b"[" * 65 + b"]" * 65, random.Random(0))
@example(b"[" * 64 + b"]" * 64, random.Random(0))
@example(b'"' + b"[" * 65 + b'"', random.Random(0))
def test_the_fast_way_agrees_with_the_slow_one_on_json_and_on_damaged_json(body: bytes, chance: random.Random) -> None:
    assert json_body()({}, body) == slowly(body)
    for _ in range(5):
        other = damaged(body, chance)
        assert json_body()({}, other) == slowly(other)


def test_the_fast_way_agrees_with_the_slow_one_on_thousands_of_damaged_texts() -> None:
    chance = random.Random(20260102)
    kinds = set()
    for _ in range(6_000):
        body = damaged(chance.choice(WHOLE), chance)
        key = json_body()({}, body)
        assert key == slowly(body), body
        kinds.add((slowly(body)[:4], b"\\" in body))
    assert len(kinds) == 4  # strict or not, with an escape or without: all were met


@thorough
@given(st.binary(max_size=12))
def test_the_fast_way_agrees_with_the_slow_one_on_any_bytes(body: bytes) -> None:
    assert json_body()({}, body) == slowly(body)


@thorough
@given(st.data(), values, values)
def test_bodies_have_equal_keys_only_if_they_say_the_same(data: Any, one: Any, other: Any) -> None:
    builder = json_body()
    first, second = data.draw(spellings(one)), data.draw(spellings(other))
    assert (builder({}, first) == builder({}, second)) == (exact(one) == exact(other))
    assert builder({}, first) == builder({}, data.draw(spellings(one)))


@thorough
@given(st.data(), objects, objects)
def test_with_fields_bodies_have_equal_keys_only_if_these_say_the_same(data: Any, one: Any, other: Any) -> None:
    builder = json_body("a", "b", ignore=("é", ""))
    keys = [builder({}, data.draw(spellings(value))) for value in (one, other)]
    for key, value in zip(keys, (one, other), strict=True):
        assert (key is None) == (not value.keys() <= {"a", "b", "é", ""})
    if None not in keys:
        kept = [exact({name: item for name, item in value.items() if name in ("a", "b")}) for value in (one, other)]
        assert (keys[0] == keys[1]) == (kept[0] == kept[1])


@thorough
@given(st.data(), objects)
def test_a_name_that_comes_twice_at_any_depth_is_never_canonical(data: Any, value: Any) -> None:
    name, item, again = data.draw(names), data.draw(values), data.draw(values)
    pair = [(json.dumps(name, ensure_ascii=data.draw(st.booleans())), json.dumps(item)) for item in (item, again)]
    inner = "{" + ",".join(f"{left}:{right}" for left, right in pair) + "}"
    body = data.draw(st.sampled_from(["%s", "[%s]", '{"x":[0,%s]}', '{"y":%s}'])).replace("%s", inner)
    assert json_body()({}, body.encode()) == b"raw:" + body.encode()


@thorough
@given(st.data(), values, values)
def test_calls_have_equal_keys_only_if_their_arguments_are_equal(data: Any, one: Any, other: Any) -> None:
    first, second = call_key("f", {"v": one}), call_key("f", {"v": other})
    assert (first == second) == (exact(one) == exact(other))
    assert call_key("f", {"v": shuffled(one, data.draw)}) == first
