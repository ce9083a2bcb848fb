"""Keys: which requests and calls meet in one key, and which never do."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import subprocess
import sys
import uuid
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple

import msgspec
import pydantic
import pytest

from glasscache._calls import call_key
from glasscache.errors import ConfigurationError
from glasscache.keys import Keyring, Text, credential, json_body

SECRET = "correct horse battery staple 0123456789"


# --- the keyring --------------------------------------------------------------------------------------------


def test_parts_are_told_apart_by_their_borders_and_their_number() -> None:
    ring = Keyring(SECRET)
    lists = [(b"ab", b"c"), (b"a", b"bc"), (b"abc",), (b"abc", b""), (b"", b"abc"), (), (b"",)]
    assert len({ring.digest(*parts) for parts in lists}) == len(lists)
    assert {len(ring.digest(*parts)) for parts in lists} == {16}


def test_equal_secrets_give_equal_keys_and_labels_and_others_do_not() -> None:
    key = Keyring(SECRET).digest(b"x")
    assert Keyring(SECRET.encode()).digest(b"x") == key
    assert Keyring(SECRET).label(key) == Keyring(SECRET).label(key)
    assert Keyring(SECRET + "!").digest(b"x") != key
    assert Keyring(SECRET + "!").label(key) != Keyring(SECRET).label(key)


def test_without_a_secret_each_keyring_has_its_own() -> None:
    assert Keyring().digest(b"x") != Keyring().digest(b"x")


def test_the_secret_may_come_from_the_environment() -> None:
    assert Keyring.from_env({"GLASSCACHE_KEY": SECRET}).digest(b"x") == Keyring(SECRET).digest(b"x")
    for environ in ({}, {"GLASSCACHE_KEY": ""}):
        assert Keyring.from_env(environ).digest(b"x") != Keyring.from_env(environ).digest(b"x")
    with pytest.raises(ConfigurationError, match=r"^GLASSCACHE_KEY: the key secret has 6 ") as caught:
        Keyring.from_env({"GLASSCACHE_KEY": "s3cret"})
    assert "s3cret" not in str(caught.value)


def test_a_label_is_16_hexadecimal_characters_and_no_part_of_the_key() -> None:
    ring = Keyring(SECRET)
    key = ring.digest(b"x")
    assert len(ring.label(key)) == 16
    assert ring.label(key) not in key.hex()
    int(ring.label(key), 16)


@pytest.mark.parametrize("secret", ["", "s3cret-" * 4, b"s3cret-" * 4])
def test_a_short_secret_is_refused_with_the_remedy_and_without_printing_it(secret: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match="needs 32 or more: make one with") as caught:
        Keyring(secret)
    assert "s3cret" not in str(caught.value)


def test_a_secret_that_is_no_text_is_refused_without_printing_it() -> None:
    with pytest.raises(ConfigurationError, match=r"the key secret is of type int: give a text, or bytes$"):
        Keyring(12345)  # type: ignore[arg-type]


def test_any_secret_of_32_characters_is_taken_however_long_or_odd() -> None:
    assert Keyring("\udcff" * 32).digest(b"x") != Keyring("k" * 1000).digest(b"x")


# --- JSON bodies --------------------------------------------------------------------------------------------


def key_of(body: str | bytes, *fields: str, **options: Any) -> bytes | None:
    return json_body(*fields, **options)({}, body.encode() if isinstance(body, str) else body)


@pytest.mark.parametrize(
    "other",
    [
        '{"b": [1, {"y": null, "x": "é"}], "a": 1.50}',
        '\t{ "b":[ 1,{"y":null,"x":"\\u00e9"}],\r\n"\\u0061":1.50 }',
        '{"a":1.50,"b":[1,{"x":"\\u00E9","y":null}]}',
    ],
)
def test_order_white_space_and_escapes_do_not_matter(other: str) -> None:
    key = key_of('{"a":1.50,"b":[1,{"x":"é","y":null}]}')
    assert key is not None
    assert key.startswith(b"json:")
    assert key_of(other) == key


DISTINCT = [
    "1", "1.0", '"1"', "true", "null", "[]", "{}", '""', "[1]", '[[1]]', '{"a":1}', '{"a":null}', '{"a":[]}',
    "0", "-0.0", "0.0", "9007199254740993", "9007199254740993.0", "9007199254740992",
    "18446744073709551616", "18446744073709551617", "9" * 4300, "9" * 4299 + "8", "9" * 5000,
    "0.1", "0.1000000000000000000001", "1e400", "1e401", "1e-400", '"A"', '"a"', '" a"', '"é"', '"e\u0301"',
    '[1,2]', '[2,1]', '{"a":{"b":1}}', '{"a":{},"b":1}', "NaN", "Infinity", "-Infinity", "", " ",
    "[1,]", "'a'",
    '{"a":1,"a":2}', '{"a":2,"a":1}', '{"a":2,"\\u0061":1}', '[{"a":1,"a":1}]', '{"":1,"":1}', "\ufeff1",
    "1 1",
    '"\\ud800"', '"\\udfff"', '{"a":"\\ud800"}', "01", "+1", ".5", '"a\nb"', '"a\\nb"', "nul", "[", '"',
]  # fmt: skip


def test_different_bodies_have_different_keys_strict_or_not() -> None:
    assert len({key_of(body) for body in DISTINCT}) == len(DISTINCT)


@pytest.mark.parametrize(
    "loose",
    [
        '{"q":1,"q":1}', '{"q":{"a":1,"a":1}}', '{"q":1,"\\u0071":2}', '{"q":NaN}', '{"q":-Infinity}',
        '{"q":1',
        '{"q":1,"q":"\\u0022\\u0022"}', '{"q":"\\ud800"}', "q=1", "", "\ufeff{}", b'{"q":"\xff"}',
        b'{"q":"\xed\xa0\x80"}', '{"q":1}'.encode("utf-16"),
        "[" * 100_000, '{"q":' * 5_000 + "1" + "}" * 5_000, '{"q\\n":' * 5_000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("fields", [(), ("q",)])
def test_what_is_not_strict_is_keyed_by_its_bytes(loose: str | bytes, fields: tuple[str, ...]) -> None:
    raw = loose.encode() if isinstance(loose, str) else loose
    assert key_of(raw, *fields) == b"raw:" + raw


def test_64_levels_are_read_and_65_are_not_whatever_the_number_of_brackets() -> None:
    for opening, closing in (("[", "]"), ('{"q":', "}"), ('{"\\u0071":', "}")):
        assert (key_of(opening * 64 + "1" + closing * 64) or b"").startswith(b"json:")
        assert (key_of(opening * 65 + "1" + closing * 65) or b"").startswith(b"raw:")
    for levels, mark in ((64, b"json:"), (65, b"raw:")):
        nested = "[" * (levels - 1) + "]" * (levels - 1)
        for inner in (nested, nested.replace("[]", "[1]")):
            assert (key_of(f"[{'[],' * 100}{inner}]") or b"").startswith(mark)
    wide = '{"q":[' + ",".join(['{"a":[]}'] * 200) + ',"[[["]}'
    assert key_of(wide) == key_of(wide.replace(",", " , "))


def test_numbers_of_any_length_are_read() -> None:
    assert key_of("9" * 5_000) == key_of(" " + "9" * 5_000)
    assert (key_of("9" * 5_000) or b"").startswith(b"json:")
    assert key_of("-0") == key_of("0")
    assert key_of('["\\n",-0]') == key_of('["\\u000a",0]')


def test_a_body_over_1_mib_is_keyed_by_its_bytes() -> None:
    longest = '"' + "x" * (1024**2 - 2) + '"'
    assert (key_of(longest) or b"").startswith(b"json:")
    assert (key_of(longest + " ") or b"").startswith(b"raw:")


def test_a_raw_body_cannot_pretend_to_be_a_canonical_one() -> None:
    canonical = key_of('{"q":1}')
    assert canonical is not None
    assert key_of(canonical) == b"raw:" + canonical


def test_ignored_fields_are_dropped_at_the_top_only() -> None:
    assert key_of('{"q":1,"user":"a"}', ignore=["user"]) == key_of('{"q":1}', ignore=["user"])
    assert key_of('{"q":{"user":1}}', ignore=["user"]) != key_of('{"q":{}}', ignore=["user"])
    assert key_of('["user"]', ignore=["user"]) == key_of('[ "user" ]', ignore=["user"])


def test_a_field_neither_keyed_nor_ignored_bypasses() -> None:
    builder = json_body("q", "filters", ignore=("user",))
    assert builder({}, b'{"q":1,"admin":true}') is None
    assert builder.bypass_reason == "unkeyed_field"
    assert builder({}, b'{"q":1,"user":1}') == builder({}, b'{"user":2,"q":1}')
    assert builder({}, b'{"q":1}') != builder({}, b'{"q":1,"filters":null}')
    assert builder({}, b'{"Q":1}') is None


def test_a_body_that_is_no_object_is_keyed_by_its_bytes_where_fields_are_named() -> None:
    assert key_of("[1, 2]", "q") == b"raw:[1, 2]"
    assert key_of("null", "q") == b"raw:null"


def test_other_settings_never_find_the_same_answers() -> None:
    body = '{"q":"a"}'
    keys = [
        key_of(body), key_of(body, "q"), key_of(body, "q", "r"), key_of(body, ignore=("u",)),
        key_of(body, "q", ignore=("u",)), key_of(body, text=Text(nfc=True)),
        key_of(body, text=Text(case=True)),
        key_of(body, text=Text(whitespace=True)),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert key_of(body, "r", "q", ignore=("u", "v")) == key_of(body, "q", "r", "q", ignore=("v", "u"))
    assert key_of(body, text=Text()) == key_of(body)


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [
        (Text(nfc=True), "caf\u00e9", "cafe\u0301"),
        (Text(whitespace=True), " what\t is\u00a0it\n", "what is it"),
        (Text(case=True), "STRASSE", "straße"),
        (Text(case=True, nfc=True), "\u01f0", "J\u030c"),
        (Text(case=True, nfc=True), "\u1fb3\u0301", "\u0391\u0301\u0345"),
        (Text(case=True, nfc=True, whitespace=True), "  CAFE\u0301 ", "caf\u00e9"),
    ],
)
def test_texts_can_be_normalised_at_any_depth_and_are_not_unless_asked(text: Text, one: str, other: str) -> None:
    for shape in ("%s", '{"q":%s}', '{"q":[1,{"deep":%s}]}'):
        a, b = (shape % msgspec.json.encode(value).decode() for value in (one, other))
        assert key_of(a, text=text) == key_of(b, text=text)
        assert key_of(a) != key_of(b)


def test_names_and_numbers_are_not_normalised() -> None:
    every = Text(nfc=True, whitespace=True, case=True)
    assert key_of('{"Q":1}', text=every) != key_of('{"q":1}', text=every)
    assert key_of("1E5", text=every) != key_of("1e5", text=every)


@pytest.mark.parametrize(
    ("fields", "ignore", "message"),
    [
        (("q",), "user", "give names of fields"),
        ((1,), (), "give names of fields"),
        (("q", "u"), ("u", "v"), r"\['u'\] both keyed and ignored"),
    ],
)
def test_a_builder_that_cannot_work_is_refused(fields: Any, ignore: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        json_body(*fields, ignore=ignore)


# --- tenants ------------------------------------------------------------------------------------------------


def scope_with(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "headers": list(headers)}


def test_the_same_credential_is_the_same_tenant_in_every_process() -> None:
    here = credential("Authorization")(scope_with((b"authorization", b"Bearer x")))
    code = (
        "from glasscache.keys import credential;"
        "print(credential('authorization')({'headers': [(b'Authorization', b'Bearer x')]}))"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here


def test_different_credentials_are_different_tenants_and_none_is_none() -> None:
    tenant = credential("authorization")
    scopes = [
        scope_with((b"authorization", b"ab"), (b"authorization", b"c")),
        scope_with((b"authorization", b"a"), (b"authorization", b"bc")),
        scope_with((b"authorization", b"c"), (b"authorization", b"ab")),
        scope_with((b"authorization", b"abc")),
        scope_with((b"authorization", b"abc"), (b"authorization", b"")),
    ]
    markers = {tenant(scope) for scope in scopes} | {credential("x-api-key")(scope_with((b"x-api-key", b"abc")))}
    assert len(markers) == 6
    assert None not in markers
    assert tenant(scope_with((b"cookie", b"a=b"))) is None
    assert tenant(scope_with((b"authorization", b""))) is None


def test_a_cookie_is_one_credential_in_however_many_fields_http2_has_split_it() -> None:
    tenant = credential("cookie")
    whole = tenant(scope_with((b"cookie", b"a=1; b=2")))
    assert whole == tenant(scope_with((b"cookie", b"a=1"), (b"cookie", b"b=2"))) is not None
    assert whole != tenant(scope_with((b"cookie", b"a=1")))


def test_a_tenant_does_not_show_the_credential() -> None:
    marker = credential("authorization")(scope_with((b"authorization", b"s3cret")))
    assert marker is not None
    assert "s3cret" not in marker
    assert b"s3cret".hex() not in marker


@pytest.mark.parametrize("name", ["", "authorization:", "a b", "clé", 5, None])
def test_a_credential_needs_the_name_of_a_header(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="give a header's name"):
        credential(name)


# --- calls --------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Point:
    x: int
    y: object = 0


@dataclasses.dataclass
class Vector:
    x: int
    y: object = 0


class Passage(msgspec.Struct):
    x: int


class Pair(NamedTuple):
    x: int
    y: int


class Colour(enum.IntEnum):
    RED = 1


class Ask(pydantic.BaseModel, extra="allow"):
    x: int
    hidden: str = pydantic.Field(default="", exclude=True)
    _note: str = ""


class Sly(str):
    __slots__ = ()


def call(value: object) -> bytes:
    return call_key("app.find", {"value": value})


def noted(note: str) -> Ask:
    ask = Ask(x=1)
    ask._note = note
    return ask


PARIS = datetime.timezone(datetime.timedelta(hours=1))
IDENTITY = "00000000-0000-0000-0000-000000000001"
CALLS: list[object] = [
    1, 1.0, True, "1", b"1", None, 0, False, -0.0, 0.0, "", b"", "None", 2**63, 2**64, -(2**63), -(2**63) - 1,
    2**200,
    hex(2**64), [], {}, set(), [1], [[1]], {"a": 1}, {1: "a"}, {"1": "a"}, {"a": None}, {1: "a", "1": "b"},
    {(1, 2): 3},
    {1}, {"a"}, {None, 1, "a"}, [["a", 1]], Point(1), Point(1, [1]), Vector(1), {"x": 1, "y": 0}, Passage(1),
    Pair(1, 0),
    Colour.RED, Ask(x=1), Ask(x=1, hidden="h"), Ask.model_validate({"x": 1, "z": 2}), noted("n"),
    datetime.date(2026, 1, 2), "2026-01-02", datetime.datetime(2026, 1, 2, 1, tzinfo=datetime.UTC),
    datetime.datetime(2026, 1, 2, 2, tzinfo=PARIS), datetime.datetime(2026, 1, 2, 1),  # noqa: DTZ001
    datetime.datetime(2026, 1, 2, 1, fold=1), datetime.time(1), datetime.timedelta(1),  # noqa: DTZ001
    decimal.Decimal("1.0"), decimal.Decimal("1.00"), uuid.UUID(IDENTITY), IDENTITY, Point, Ask, f"{__name__}.Point",
    Path("a"), "a", PurePosixPath("a"), PureWindowsPath("a"), Path("a/b"),
]  # fmt: skip


def test_different_calls_have_different_keys() -> None:
    assert len({call(value) for value in CALLS}) == len(CALLS)


def test_equal_calls_have_equal_keys() -> None:
    assert call({"a": 1, "b": {2, 1}}) == call({"b": frozenset({1, 2}), "a": 1})
    assert call([1, (2,)]) == call((1, [2]))
    assert call(Point(1, {"b": 1, "a": 2})) == call(Point(1, {"a": 2, "b": 1}))
    assert call(noted("n")) == call(noted("n"))
    assert call_key("f", {"a": 1, "b": 2}) == call_key("f", {"b": 2, "a": 1})


def test_the_function_and_the_parameter_count() -> None:
    keys = {call_key("f", {"a": 1}), call_key("g", {"a": 1}), call_key("f", {"b": 1}), call_key("f", {})}
    assert len(keys) == 4


def test_a_call_has_the_same_key_in_every_process() -> None:
    code = "from glasscache._calls import call_key; print(call_key('f', {'v': {'b', 'a', 'c', 1, None}}).hex())"
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], env={**env, "PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        for seed, env in (("1", _environment()), ("2", _environment()))
    ]
    assert runs[0].stdout == runs[1].stdout


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": ":".join(sys.path)}


def _endless() -> list[object]:
    endless: list[object] = []
    endless.append(endless)
    return endless


def _hidden() -> type:
    class Hidden:
        pass

    return Hidden


def _unfinished() -> Point:
    point = Point(1)
    del point.x
    return point


@pytest.mark.parametrize(
    "value",
    [object(), len, _hidden(), list[int], type("Point", (), {"__module__": __name__}), Sly("x"),
     [object()], {"a": {1: object()}}, {frozenset({Sly("x")})},
     Point(1, object()),
     _endless(), _unfinished(), range(3), bytearray(b"x")],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_value_without_a_stable_form_is_refused_by_the_name_of_its_parameter(value: object) -> None:
    with pytest.raises(ConfigurationError, match=r"app\.find: parameter 'value' cannot be part of a key"):
        call(value)
