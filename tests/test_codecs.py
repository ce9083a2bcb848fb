"""The codec: what goes in comes back, in the type that was asked for, or an error says what to do."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import math
import uuid
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeVar

import msgspec
import pydantic
import pytest

from glasscache.codecs import MsgspecCodec
from glasscache.errors import CodecError

if TYPE_CHECKING:
    from glasscache.interfaces import Codec

T = TypeVar("T")
CODEC: Codec = MsgspecCodec()


@dataclasses.dataclass
class Passage:
    text: str
    score: float = 0.0
    tags: set[str] = dataclasses.field(default_factory=set)


class Found(msgspec.Struct):
    passages: list[Passage]
    took: datetime.timedelta


class Pair(NamedTuple):
    left: int
    right: str


class Box(msgspec.Struct, Generic[T]):
    inside: T


class Colour(enum.Enum):
    RED = "red"


class Answer(pydantic.BaseModel):
    text: str
    at: datetime.datetime
    source: uuid.UUID = pydantic.Field(alias="sourceId")
    parts: tuple[int, ...] = ()

    @pydantic.computed_field
    def length(self) -> int:
        return len(self.text)


class Holder(msgspec.Struct):
    answers: list[Answer]


NOON = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
IDENTITY = uuid.UUID(int=7)
ANSWER = Answer(text="é", at=NOON, sourceId=IDENTITY, parts=(1, 2))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ({"a": [1, 1.5, None, True, "é", b"\xff"], "b": {"c": []}}, Any),
        ({1: "a", 2: "b"}, dict[int, str]),
        (2**64 - 1, int),
        (-(2**63), int),
        (math.inf, float),
        ((1, "a"), tuple[int, str]),
        ({1, 2}, set[int]),
        (frozenset({"a"}), frozenset[str]),
        (None, type(None)),
        (Passage("t", 0.5, {"x"}), Passage),
        (Found([Passage("t")], datetime.timedelta(milliseconds=3)), Found),
        (Pair(1, "a"), Pair),
        (Box([1]), Box[list[int]]),
        (Colour.RED, Colour),
        (NOON, datetime.datetime),
        (NOON.replace(tzinfo=None), datetime.datetime),
        (decimal.Decimal("1.10"), decimal.Decimal),
        (IDENTITY, uuid.UUID),
        ([Passage("a"), None], list[Passage | None]),
        (5, Annotated[int, {"cannot": "be hashed"}]),
        (ANSWER, Answer),
        (Holder([ANSWER]), Holder),
    ],
    ids=str,
)
def test_a_value_comes_back_in_the_type_that_is_asked_for(value: object, kind: Any) -> None:
    back = CODEC.decode(CODEC.encode(value), kind)
    assert back == value
    assert type(back) is type(value)


def test_each_call_gives_a_copy_of_its_own() -> None:
    data = CODEC.encode(Found([Passage("t")], datetime.timedelta(1)))
    first = CODEC.decode(data, Found)
    first.passages.clear()
    assert CODEC.decode(data, Found).passages == [Passage("t")]


def test_without_a_type_values_come_back_plain() -> None:
    kind: Any = Any
    data = CODEC.encode([Passage("t", 1.0), (1, 2), IDENTITY, NOON, ANSWER])
    passage, pair, identity, noon, answer = CODEC.decode(data, kind)
    assert passage == {"text": "t", "score": 1.0, "tags": []}
    assert pair == [1, 2]
    assert identity == str(IDENTITY)
    assert noon == NOON
    assert answer == {"text": "é", "at": "2026-01-02T12:00:00Z", "sourceId": str(IDENTITY), "parts": [1, 2]}


class Excluding(pydantic.BaseModel):
    secret: str = pydantic.Field(default="", exclude=True)


class Private(pydantic.BaseModel):
    _note: str = ""


class TwoNames(pydantic.BaseModel):
    text: str = pydantic.Field(validation_alias="in", serialization_alias="out")


def private_note() -> Private:
    model = Private()
    model._note = "n"
    return model


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Excluding(secret="s"), "Excluding differs after a round trip"),
        (private_note(), "Private differs after a round trip"),
        (TwoNames.model_validate({"in": "t"}), "cannot encode TwoNames"),
    ],
)
def test_a_model_that_its_own_json_does_not_describe_is_refused(model: object, why: str) -> None:
    with pytest.raises(CodecError, match=why):
        CODEC.encode(model)


def endless() -> list[object]:
    inner: list[object] = []
    inner.append(inner)
    return inner


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (object(), "object"),
        ([len], "list"),
        (2**64, "int"),
        ("\ud800", "str"),
        (endless(), "list"),
        ({"a": Passage}, "dict"),
    ],
    ids=["object", "function", "large", "surrogate", "endless", "class"],
)
def test_a_value_that_cannot_be_encoded_is_refused_by_its_type_with_the_remedy(value: object, name: str) -> None:
    with pytest.raises(CodecError, match=rf"cannot encode {name} \(.*\): return JSON-like values .*, dataclasses"):
        CODEC.encode(value)


class Plain:
    pass


@pytest.mark.parametrize(
    ("data", "kind", "name"),
    [
        (b"", int, "int"),
        (b"\xc1", Any, "Any"),
        (b"\xa1\xff", str, "str"),
        (CODEC.encode("x"), int, "int"),
        (CODEC.encode({"text": 1}), Passage, "Passage"),
        (CODEC.encode({"text": 1}), Answer, "Answer"),
        (CODEC.encode({}), Plain, "Plain"),
        (CODEC.encode({}), Passage | Found, r"test_codecs\.Passage"),
        (CODEC.encode([1]) + b"\x01", list[int], r"list\[int\]"),
        (b"\x91" * 100_000, Any, "Any"),
    ],
)
def test_bytes_that_are_not_of_the_type_are_refused_by_its_name(data: bytes, kind: Any, name: str) -> None:
    with pytest.raises(CodecError, match=f"cannot decode as .*{name}"):
        CODEC.decode(data, kind)
