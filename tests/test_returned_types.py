"""What a function says that it returns: resolved once for each place where it is written, never taken for another's."""

from __future__ import annotations

import asyncio
import functools
import sys
import types
import typing
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec
import pytest

from glasscache import Cache, MemoryStore
from glasscache._returned import _PLACES, _said, returned_type
from glasscache.testing import RecordingTelemetry


class Passage(msgspec.Struct):
    text: str


async def search(question: str) -> list[Passage]:
    return [Passage(question)]


def loader(question: str) -> Callable[[], Awaitable[list[Passage]]]:
    async def load() -> list[Passage]:
        return [Passage(question)]

    return load


MODULE = """
from __future__ import annotations
class Answer: pass
async def load() -> list[Answer]: ...
"""


def module(source: str | types.CodeType = MODULE) -> dict[str, Any]:
    """A module's names, made of its source or of its code."""
    made = types.ModuleType("made")
    exec(source, made.__dict__)  # noqa: S102 - our own text: a module that there can be two of
    return made.__dict__


def test_a_loader_that_is_made_anew_for_each_call_is_resolved_once() -> None:
    async def scenario() -> None:
        cache = Cache(MemoryStore(), telemetry=RecordingTelemetry())
        for question in ("a", "b", "a"):
            assert await cache.get_or_load(question, loader(question)) == [Passage(question)]
        await cache.aclose()

    _said.clear()
    asyncio.run(scenario())
    assert len(_said) == 1
    assert returned_type(functools.partial(search, "a")) == returned_type(search) == list[Passage]
    assert len(_said) == 2


def test_a_function_without_an_annotation_returns_anything_and_is_not_remembered() -> None:
    _said.clear()
    assert returned_type(lambda: 1) is Any
    assert returned_type(len) is Any
    assert _said == {}


def test_functions_of_the_same_text_or_code_in_other_places_have_types_of_their_own() -> None:
    code = compile(MODULE, "made", "exec")
    for names in (module(), module(), module(code), module(code)):
        assert typing.get_args(returned_type(names["load"])) == (names["Answer"],)


def test_functions_behind_one_decorator_have_types_of_their_own() -> None:
    def passing(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function(*args)

        return call

    for names in (module(), module()):
        assert typing.get_args(returned_type(passing(names["load"]))) == (names["Answer"],)


def test_one_function_made_with_different_annotations_has_the_one_that_it_was_made_with() -> None:
    def make(kind: object) -> Callable[[], None]:
        def load() -> None: ...

        load.__annotations__["return"] = kind  # as an annotation that is a variable, and no text, would
        return load

    kinds: list[object] = [int, list[int], Annotated[int, {}], list[int], typing.Any]  # one cannot be hashed
    assert [returned_type(make(kind)) for kind in kinds] == [int, list[int], int, list[int], typing.Any]


def test_what_cannot_be_resolved_is_anything() -> None:
    names = module("from __future__ import annotations\nasync def load() -> Missing: ...\n")
    assert [returned_type(names["load"]) for _ in range(2)] == [Any, Any]


TYPED = """
from typing import TYPE_CHECKING
from glasscache import Cache
if TYPE_CHECKING:
    from nowhere import Connection
cache = Cache(key_secret="a secret of thirty-two characters")
@cache.cached(ignore="connection")
async def find(connection: Connection, number: int) -> list[Answer]: ...
async def load(connection: Connection) -> list[Answer]: ...
class Answer: pass
"""


@pytest.mark.parametrize(
    "head",
    ["from __future__ import annotations"]
    + [""] * (sys.version_info >= (3, 14)),  # from then on Python does as the import did, only better
    ids=repr,
)
def test_what_a_parameter_is_need_be_known_to_type_checkers_alone_and_what_it_returns_may_be_defined_below(
    head: str,
) -> None:
    names = module(head + TYPED)
    for function in (names["find"], names["load"]):
        assert typing.get_args(returned_type(function)) == (names["Answer"],)
    assert names["find"].key_for(None, 1) == names["find"].key_for(7, number=1)


def test_no_more_places_are_remembered_than_the_bound() -> None:
    _said.clear()
    for line in range(_PLACES + 2):
        written = types.FunctionType(search.__code__.replace(co_firstlineno=line + 1), globals())
        written.__annotations__ = search.__annotations__
        assert returned_type(written) == list[Passage]
    assert len(_said) == 2
