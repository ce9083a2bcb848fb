"""Calls that look alike and are not: functions, arguments and names that users mix up, and a cache must not."""

from __future__ import annotations

import asyncio
import datetime
import functools
import math
import sys
from collections.abc import Awaitable, Callable
from dataclasses import InitVar, dataclass
from pathlib import Path
from typing import Any, NamedTuple, cast
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest

from glasscache import Cache
from glasscache._events import Load
from glasscache.errors import ConfigurationError
from glasscache.policy import Detail, Policy
from glasscache.stores._envelope import Envelope
from glasscache.stores._redis_memo import Memo
from glasscache.stores._redis_values import Values
from glasscache.testing import RecordingTelemetry, entry

CACHE = Cache(telemetry=RecordingTelemetry())

ROUTES: dict[str, Callable[[], Awaitable[str]]] = {}


def route(path: str) -> Callable[[Callable[[], Awaitable[str]]], object]:
    """As frameworks have it: what the function is called does not matter."""

    def register(function: Callable[[], Awaitable[str]]) -> object:
        ROUTES[path] = function
        return function

    return register


@route("/a")
@CACHE.cached
async def get() -> str:
    return "a"


@route("/b")  # type: ignore[no-redef]
@CACHE.cached
async def get() -> str:  # noqa: F811 - so it is in many an app
    return "b"


def retried(function: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
    @functools.wraps(function)
    async def again() -> str:
        return await function()

    return again


@route("/c")
@CACHE.cached
@retried
async def fetch() -> str:
    return "c"


@route("/d")  # type: ignore[no-redef]
@CACHE.cached
@retried
async def fetch() -> str:  # noqa: F811
    return "d"


def test_two_routes_whose_functions_have_one_name_never_share_a_value() -> None:
    async def scenario() -> None:
        for _ in range(2):
            assert {path: await function() for path, function in ROUTES.items()} == {
                f"/{name}": name for name in "abcd"
            }

    asyncio.run(scenario())


def test_a_function_that_is_made_again_keeps_its_keys_beside_another_one_of_its_name() -> None:
    def made(*, other: bool) -> Any:
        if other:

            @CACHE.cached
            async def find(name: str) -> str:
                return f"other {name}"

        else:

            @CACHE.cached
            async def find(name: str) -> str:
                return name

        return find

    one, two = made(other=False), made(other=True)
    assert one.key_for("x") == made(other=False).key_for("x") != two.key_for("x") == made(other=True).key_for("x")


def in_language(language: object) -> Callable[[Callable[[], Awaitable[str]]], Callable[[], Awaitable[str]]]:
    def decorate(function: Callable[[], Awaitable[str]]) -> Callable[[], Awaitable[str]]:
        @functools.wraps(function)
        async def translated() -> str:
            return f"{language} {await function()}{end}"

        cached = CACHE.cached(translated)
        end = "."
        return cached

    return decorate


async def page() -> str:
    return "page"


def test_one_function_under_a_decorator_with_two_arguments_is_two_functions() -> None:
    async def scenario() -> None:
        for _ in range(2):
            for language in ("de", "en"):
                assert await in_language(language)(page)() == f"{language} page."
        assert CACHE.counters.group(f"{__name__}.page").hits == 2

    asyncio.run(scenario())


def test_functions_that_nobody_can_tell_from_others_of_their_name_are_remembered_up_to_a_bound() -> None:
    async def another_page() -> str:
        return "another page"

    another_page.__qualname__ = "another_page"  # as if it stood beside the others
    made: list[Any] = [in_language(object())(another_page) for _ in range(1000)]
    assert len({function.key_for() for function in made}) == len(made)
    assert len(CACHE._values.functions[f"{__name__}.another_page"]) == 64


# --- arguments ------------------------------------------------------------------------------------------------------


@dataclass
class Asked:
    text: str
    mode: InitVar[str] = ""

    def __post_init__(self, mode: str) -> None:
        self.way = mode

    @functools.cached_property
    def words(self) -> object:
        return object()  # nothing that could be keyed


class Signed(Asked):
    def __init__(self, text: str, user: str) -> None:
        super().__init__(text)
        self.user = user


class Open(msgspec.Struct, dict=True):
    x: int


class Pair(NamedTuple):
    x: int


class Named(Pair):
    name: str


class Lazy(pydantic.BaseModel):
    x: int

    @functools.cached_property
    def words(self) -> object:
        return object()


def with_name(value: Any, name: object) -> Any:
    value.name = name
    return value


@CACHE.cached
async def seen(value: object) -> None: ...


AT = datetime.datetime(2026, 1, 1, 12)  # noqa: DTZ001 - its zone is what the tests are about
PARIS, LAGOS = ZoneInfo("Europe/Paris"), ZoneInfo("Africa/Lagos")


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (AT.replace(tzinfo=PARIS), AT.replace(tzinfo=LAGOS)),  # an hour from UTC, but not in summer
        (AT.replace(tzinfo=PARIS), AT.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=1)))),
        (datetime.time(12, tzinfo=PARIS), datetime.time(12, tzinfo=LAGOS)),  # a time alone has no offset to show
        (datetime.time(12, tzinfo=PARIS), datetime.time(12)),
        (Asked("q", "fast"), Asked("q", "deep")),
        (Signed("q", "ann"), Signed("q", "bob")),
        (with_name(Open(1), "ann"), with_name(Open(1), "bob")),
        (with_name(Named(1), "ann"), with_name(Named(1), "bob")),
        ("Größe", "Grösse"),
        ("\ud800", "\ud801"),
        ("\ud800", b"\xed\xa0\x80"),
        (Path("\udcff"), Path("\udcfe")),  # names of files that are no UTF-8
    ],
    ids=repr,
)
def test_arguments_that_only_look_alike_have_keys_of_their_own(one: object, two: object) -> None:
    assert seen.key_for(one) != seen.key_for(two)
    assert seen.key_for(one) == seen.key_for(one)


def test_what_an_object_has_worked_out_about_itself_does_not_change_its_key() -> None:
    for value in (Asked("q"), Lazy(x=1)):
        before = seen.key_for(value)
        assert value.words
        assert seen.key_for(value) == before


def test_an_attribute_or_a_time_zone_without_a_stable_form_is_refused() -> None:
    class Nameless(datetime.tzinfo):
        def utcoffset(self, _: object) -> datetime.timedelta:
            return datetime.timedelta(0)

        dst = utcoffset

        def tzname(self, _: object) -> str:
            return "one of many"

    for value in (with_name(Open(1), object()), AT.replace(tzinfo=Nameless())):
        with pytest.raises(ConfigurationError, match="parameter 'value' cannot be part of a key"):
            seen.key_for(value)


# --- half a surrogate pair, which JSON can say and UTF-8 cannot -----------------------------------------------------


def test_a_question_with_half_a_surrogate_pair_is_answered_kept_and_removed() -> None:
    async def scenario() -> None:
        cache, loads = Cache(telemetry=RecordingTelemetry()), []

        async def load() -> int:
            loads.append(1)
            return len(loads)

        assert [await cache.get_or_load("\ud83d", load), await cache.get_or_load("\ud83d", load)] == [1, 1]
        assert await cache.get_or_load("\ude00", load) == 2
        assert await cache.invalidate(key="\ud83d") == 1
        assert await cache.get_or_load("\ud83d", load) == 3

    asyncio.run(scenario())


# --- what comes back -------------------------------------------------------------------------------------------------


class Person(msgspec.Struct):
    name: str


@CACHE.cached
async def found(name: str) -> Person:
    return Person(name) if name else cast("Any", None)  # so it is in many an app


def test_nothing_that_was_found_is_kept_as_such_whatever_its_function_says_it_returns() -> None:
    async def scenario() -> None:
        for _ in range(2):
            assert await found("") is None
            assert await found("q") == Person("q")
        assert CACHE.counters.group(f"{__name__}.found").hits == 2

    asyncio.run(scenario())


# --- times ----------------------------------------------------------------------------------------------------------


def test_for_ever_in_any_way_that_users_write_it_is_a_time_that_redis_takes() -> None:
    values = Values(Envelope(), lambda: 0.0, math.inf, Memo(0))
    for ttl in (sys.maxsize, 1e18, 1e300):
        Policy(ttl=ttl)
        packed = values.pack(bytes(16), entry(fresh_until=float(ttl)))
        assert packed is not None
        assert int(packed[1]) + 2**42 < 2**63  # with the server's own time in milliseconds
    with pytest.raises(ConfigurationError, match="give a finite number"):
        Policy(ttl=10**400)


async def len_of(text: str) -> int:
    return len(text)


def test_a_question_shown_in_clear_text_can_be_sent_to_a_collector_whatever_is_in_it() -> None:
    async def scenario() -> None:
        telemetry = RecordingTelemetry()
        cache = Cache(telemetry=telemetry, detail=Detail(clear_keys=True))

        async def load() -> int:
            return 1

        await cache.get_or_load("who is \ud83d", load)
        await cache.cached(name="length")(len_of)("\ud83d")
        shown = [work.text for work in telemetry.works if isinstance(work, Load)]
        assert shown == ["who is ?", r"length('\ud83d')"]
        assert all(text.encode() for text in shown)

    asyncio.run(scenario())
