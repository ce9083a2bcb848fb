"""Cached functions and methods: what their keys are, where they run, and in what type their values come back."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dataclasses
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Optional, assert_type

import msgspec
import pydantic
import pytest

from glasscache import Cache, CachedFunction
from glasscache.errors import ConfigurationError
from glasscache.testing import RecordingTelemetry
from tests.support.patience import PATIENCE

CACHE = Cache(telemetry=RecordingTelemetry())
"""For what is decorated in a module, as in an app; every test begins with an empty one."""

CALLS: list[tuple[object, ...]] = []
"""Every call that was not answered from the cache."""

USER: contextvars.ContextVar[str] = contextvars.ContextVar("USER", default="nobody")


@pytest.fixture(autouse=True)
def _anew() -> None:
    asyncio.run(CACHE.invalidate(all=True))
    CALLS.clear()


# --- plain functions ------------------------------------------------------------------------------------------------


@CACHE.cached(ttl=60)
def read(name: str, *, limit: int = 10) -> list[str]:
    """Read from a slow disk."""
    CALLS.append((name, limit, USER.get(), threading.current_thread() is threading.main_thread()))
    return [name] * limit


@CACHE.cached()
def fetch(name: str) -> Awaitable[dict[str, int]]:
    return fetched(name)


async def fetched(name: str) -> dict[str, int]:
    CALLS.append((name,))
    return {name: 1}


def test_a_plain_function_is_awaited_and_runs_in_a_thread_with_the_context_of_who_asked() -> None:
    async def scenario() -> None:
        USER.set("ann")
        found = await asyncio.gather(*(read("a", limit=2) for _ in range(3)))
        assert found == [["a", "a"]] * 3
        assert found[0] is not found[1]
        assert CALLS == [("a", 2, "ann", False)]

    asyncio.run(scenario())


def test_the_event_loop_goes_on_while_a_plain_function_blocks() -> None:
    async def scenario() -> None:
        loop, began, may_end = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

        @CACHE.cached()
        def block() -> str:
            loop.call_soon_threadsafe(began.set)
            assert may_end.wait(PATIENCE)
            return "done"

        waiting = asyncio.create_task(block())
        await began.wait()  # set by the loop, while the function holds its thread
        may_end.set()
        assert await waiting == "done"

    asyncio.run(scenario())


def test_an_error_of_a_plain_function_reaches_all_who_wait_for_it_and_is_not_kept() -> None:
    @CACHE.cached()
    def fail(name: str) -> str:
        CALLS.append((name,))
        raise LookupError(name)

    async def scenario() -> None:
        found = await asyncio.gather(fail("a"), fail("a"), return_exceptions=True)
        assert [repr(error) for error in found] == ["LookupError('a')"] * 2
        assert len(CALLS) == 1
        with pytest.raises(LookupError):
            await fail("a")
        assert len(CALLS) == 2

    asyncio.run(scenario())


def test_a_plain_function_around_an_async_one_is_awaited_on_the_event_loop() -> None:
    async def scenario() -> None:
        assert [await fetch("a"), await fetch("a")] == [{"a": 1}] * 2
        assert CALLS == [("a",)]

    asyncio.run(scenario())


async def _types() -> None:
    """Never run: mypy and pyright read it."""
    assert_type(await read("a", limit=1), list[str])
    assert_type(await fetch("a"), dict[str, int])
    assert_type(await answer("a"), Answer)
    shop = Shop("s", 1)
    assert_type(await shop.price("a"), float)
    assert_type(await shop.stock("a"), int)
    assert_type(await Shop.price(shop, "a"), float)
    assert_type(await shop.price.invalidate("a"), int)
    price: CachedFunction[[str], float] = shop.price
    assert await price("a")
    await shop.price(1)  # type: ignore[arg-type]
    await read("a", limit="b")  # type: ignore[arg-type]
    await read()  # type: ignore[call-arg]


async def _types_under_classmethod_and_staticmethod() -> None:
    """Never run: mypy and pyright read it. (With `Any` as its first parameter, `tax` would be taken for a method.)"""
    shop = Shop("s", 1)
    for found in (await Shop.find("a"), await shop.find("a"), await Bakery.find("a")):
        assert_type(found, str)
    assert_type(await Shop.count("a", deep=True), int)
    assert_type(await Shop.find.invalidate(Shop, "a"), int)
    assert_type(Shop.count.key_for(Shop, "a"), bytes)
    for rate in (await Shop.tax("a"), await shop.tax("a"), await Bakery.tax("a"), await Shop.duty(), await shop.duty()):
        assert_type(rate, float)
    assert_type(await shop.tax.invalidate("a"), int)
    await Shop.find(1)  # type: ignore[arg-type]
    await shop.find()  # type: ignore[call-arg]
    await shop.tax(1)  # type: ignore[arg-type]
    await Shop.find.invalidate("a")  # type: ignore[arg-type, call-arg]


# --- what a decorated function is -----------------------------------------------------------------------------------


@CACHE.cached
async def greeting(name: str) -> str:
    CALLS.append((name,))
    return f"hello {name} {len(CALLS)}"


@CACHE.cached
def shouted(name: str) -> str:
    return name.upper()


async def _types_without_parentheses() -> None:
    """Never run: mypy and pyright read it."""
    assert_type(await greeting("a"), str)
    assert_type(await greeting.refresh("a"), str)
    assert_type(await shouted("a"), str)
    await greeting(1)  # type: ignore[arg-type]


def test_the_decorator_works_without_parentheses_too() -> None:
    async def scenario() -> None:
        assert [await greeting("a"), await greeting("a")] == ["hello a 1"] * 2
        assert await shouted("a") == "A"

    asyncio.run(scenario())


def test_a_refreshed_function_is_called_and_its_value_takes_the_place_of_the_old_one() -> None:
    async def scenario() -> None:
        await greeting("a")
        await greeting("b")
        assert await greeting.refresh("a") == "hello a 3"
        assert [await greeting("a"), await greeting("b")] == ["hello a 3", "hello b 2"]
        shop = Shop("s", 1)
        assert await shop.price("x") == await shop.price.refresh("x")
        assert await Shop.find.refresh(Shop, "x") == await Shop.find("x")

    asyncio.run(scenario())


@CACHE.cached
def named(self: str, function: str, args: int = 1) -> list[object]:
    return [self, function, args]


def test_equal_calls_have_one_key_however_their_arguments_are_given() -> None:

    @CACHE.cached
    async def search(question: str, k: int = 5, *, lang: str = "en") -> int:
        return k

    @CACHE.cached
    async def simple(question: str, k: int = 5) -> int:
        return k

    @CACHE.cached
    async def many(*questions: str, **options: int) -> int:
        return len(questions)

    @CACHE.cached(key=lambda question="why": question)
    async def keyed(question: str = "why") -> int:
        return 1

    assert search.key_for("a") == search.key_for(question="a") == search.key_for("a", lang="en", k=5)
    assert simple.key_for("a") == simple.key_for(k=5, question="a") == simple.key_for("a", 5)
    assert simple.key_for("a", 6) == simple.key_for(k=6, question="a") != simple.key_for("a")
    assert len({many.key_for(), many.key_for("a"), many.key_for("a", "b"), many.key_for(a=1)}) == 4
    assert keyed.key_for() == keyed.key_for("why") != keyed.key_for("how")


@pytest.mark.parametrize(
    ("args", "kwargs", "why"),
    [
        ((), {}, "missing a required argument: 'question'"),
        (("a", 5, 6), {}, "too many positional arguments"),
        (("a",), {"question": "a"}, "multiple values for argument 'question'"),
        (("a",), {"j": 5}, "got an unexpected keyword argument 'j'"),
    ],
)
def test_a_call_that_does_not_fit_fails_as_the_function_itself_would(args: Any, kwargs: Any, why: str) -> None:
    @CACHE.cached
    async def search(question: str, k: int = 5) -> int:
        return k

    with pytest.raises(TypeError, match=why):
        search.key_for(*args, **kwargs)


def test_parameters_may_have_any_names() -> None:
    async def scenario() -> None:
        assert await named(self="a", function="b", args=2) == ["a", "b", 2]
        assert await named.refresh(self="a", function="b") == ["a", "b", 1]
        assert named.key_for(self="a", function="b") == named.key_for("a", "b")
        assert await named.invalidate(self="a", function="b") == 1

    asyncio.run(scenario())


def test_a_function_may_say_which_of_its_values_are_kept() -> None:
    async def scenario() -> None:
        @CACHE.cached(store_if=lambda found: len(found) > 0)
        async def search(text: str) -> list[str]:
            CALLS.append((text,))
            return [text] if text != "nothing" else []

        assert [await search("a"), await search("a")] == [["a"]] * 2
        assert [await search("nothing"), await search("nothing")] == [[]] * 2
        assert CALLS == [("a",), ("nothing",), ("nothing",)]

    asyncio.run(scenario())


def test_a_cached_function_says_what_it_is_to_who_prints_it_and_to_frameworks_that_ask() -> None:
    assert repr(greeting) == f"<cached {__name__}.greeting>"
    assert repr(Shop("s", 1).price) == f"<cached {__name__}.Shop.price>"
    shown: list[Any] = [greeting, shouted, Shop("s", 1).price]
    assert all(inspect.iscoroutinefunction(function) and inspect.isfunction(function) for function in shown)
    assert all(inspect.iscoroutinefunction(function.__call__) for function in shown)
    assert all(function.__globals__ is globals() and function.__closure__ is None for function in shown)


def test_a_cached_function_is_copied_and_pickled_as_functions_and_methods_are() -> None:
    assert copy.copy(read) is copy.deepcopy(read) is read
    shop = Shop("s", 1)
    assert copy.deepcopy(shop.price).key_for("tea") == shop.price.key_for("tea") != Shop("t", 1).price.key_for("tea")
    assert (read.__reduce__(), shop.price.__reduce__()) == ("read", (getattr, (shop, "price")))


def test_what_stands_for_a_calls_of_a_function_is_its_call() -> None:
    async def scenario() -> None:
        shop, called = Shop("s", 2), read.__call__
        assert await called("a", limit=1) == await read("a", limit=1) == ["a"]
        assert await shop.price.__call__("tea") == await shop.price("tea") == 3.0
        assert len(CALLS) == 2

    asyncio.run(scenario())


# --- methods --------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Shop:
    name: str
    level: int

    @CACHE.cached(tags=lambda self, item: (self.name, item))
    async def price(self, item: str) -> float:
        CALLS.append((self.name, item))
        return self.level * 1.5

    @CACHE.cached()
    def stock(self, item: str) -> int:
        CALLS.append(("stock", self.name, item))
        return len(item)

    @classmethod
    @CACHE.cached()
    async def find(cls, name: str) -> str:
        CALLS.append((cls, name))
        return f"{cls.__name__} {name}"

    @classmethod
    @CACHE.cached()
    def count(cls, name: str, *, deep: bool = False) -> int:
        CALLS.append((cls, name, deep))
        return len(name)

    @staticmethod
    @CACHE.cached()
    def tax(country: str) -> float:
        CALLS.append(("tax", country))
        return 0.19

    @staticmethod
    @CACHE.cached()
    async def duty() -> float:
        CALLS.append(("duty",))
        return 0.07


class Bakery(Shop):
    async def slices(self, item: str) -> float:
        return await super().price(item) / 10


class Record(msgspec.Struct):
    number: int

    @CACHE.cached()
    async def double(self) -> int:
        CALLS.append(("double", self.number))
        return self.number * 2


class Person(pydantic.BaseModel):
    name: str

    @CACHE.cached()
    async def greet(self) -> str:
        CALLS.append(("greet", self.name))
        return f"Hello {self.name}"


class Service:
    """It has a state without a stable form, as most services do."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()

    @CACHE.cached()
    async def unkeyed(self, question: str) -> str:
        raise AssertionError(question)

    @CACHE.cached(ignore=("self",))
    async def shared(self, question: str) -> str:
        CALLS.append((self.url, question))
        return question

    @CACHE.cached(key=lambda self, question, trace="": (self.url, question.lower()))
    async def keyed(self, question: str, trace: str = "") -> str:
        CALLS.append((self.url, question, trace))
        return f"{self.url} {question}"


def test_equal_instances_share_values_and_different_ones_never_do() -> None:
    async def scenario() -> None:
        one, same, other = Shop("a", 1), Shop("a", 1), Shop("b", 2)
        assert [await shop.price("x") for shop in (one, same, other)] == [1.5, 1.5, 3.0]
        assert await Shop.price(one, "x") == 1.5
        assert CALLS == [("a", "x"), ("b", "x")]
        one.level = 10
        assert await one.price("x") == 15
        assert await one.price("x") == 15
        assert len(CALLS) == 3

    asyncio.run(scenario())


def test_a_bound_method_has_keys_and_is_invalidated_by_the_arguments_that_are_left() -> None:
    async def scenario() -> None:
        shop = Shop("a", 1)
        await shop.price("x")
        assert shop.price.key_for("x") == Shop.price.key_for(shop, "x") != Shop("b", 1).price.key_for("x")
        assert await shop.price.invalidate("x") == 1
        await shop.price("x")
        assert await CACHE.invalidate(tag="a") == 1
        assert len(CALLS) == 2
        assert list(inspect.signature(shop.price).parameters) == ["item"]
        assert list(inspect.signature(Shop.price).parameters) == ["self", "item"]

    asyncio.run(scenario())


def test_plain_methods_class_methods_and_static_methods_are_cached_in_the_usual_order_of_decorators() -> None:
    async def scenario() -> None:
        shop, bakery = Shop("a", 1), Bakery("a", 1)
        assert [await shop.stock("abc"), await shop.stock("abc")] == [3, 3]
        assert [await Shop.find("x"), await Shop.find(name="x"), await shop.find("x")] == ["Shop x"] * 3
        assert [await Bakery.find("x"), await bakery.find("x")] == ["Bakery x"] * 2
        assert [await Shop.count("x", deep=True), await shop.count("x", deep=True)] == [1, 1]
        assert [await Shop.tax("de"), await shop.tax("de"), await bakery.tax("de")] == [0.19] * 3
        assert [await Shop.duty(), await shop.duty()] == [0.07] * 2
        loads = [("stock", "a", "abc"), (Shop, "x"), (Bakery, "x"), (Shop, "x", True), ("tax", "de"), ("duty",)]
        assert loads == CALLS
        assert await Shop.find.invalidate(Shop, "x") == await shop.tax.invalidate("de") == 1
        assert await CACHE.invalidate(key=Bakery.find.key_for(Bakery, "x")) == 1
        assert list(inspect.signature(Shop.find).parameters) == ["name"]

    asyncio.run(scenario())


def test_a_subclass_has_values_of_its_own_and_may_ask_for_its_bases() -> None:
    async def scenario() -> None:
        assert await Shop("a", 1).price("x") == 1.5
        assert await Bakery("a", 1).slices("x") == 0.15
        assert CALLS == [("a", "x"), ("a", "x")]

    asyncio.run(scenario())


def test_methods_of_structs_and_of_pydantic_models_are_cached() -> None:
    async def scenario() -> None:
        for _ in range(2):
            assert await Record(2).double() == 4
            assert await Person(name="Ann").greet() == "Hello Ann"
        assert await Record(3).double() == 6
        assert CALLS == [("double", 2), ("greet", "Ann"), ("double", 3)]

    asyncio.run(scenario())


def test_an_instance_without_a_stable_form_is_refused_with_the_ways_out() -> None:
    async def scenario() -> None:
        remedy = r"unkeyed: parameter 'self' cannot be part of a key .*Service has no stable form.*ignore=.*key="
        with pytest.raises(ConfigurationError, match=remedy):
            await Service("a").unkeyed("q")

    asyncio.run(scenario())


def test_ignored_parameters_are_not_part_of_the_key() -> None:
    async def scenario() -> None:
        assert [await Service(url).shared("q") for url in "ab"] == ["q", "q"]
        assert CALLS == [("a", "q")]

    asyncio.run(scenario())


def test_a_key_function_says_what_stands_for_the_arguments() -> None:
    async def scenario() -> None:
        a, b = Service("a"), Service("b")
        assert [await a.keyed("Q"), await a.keyed("q", trace="1"), await b.keyed("q")] == ["a Q", "a Q", "b q"]
        assert CALLS == [("a", "Q", ""), ("b", "q", "")]
        assert a.keyed.key_for("q") == a.keyed.key_for("Q", "2") != b.keyed.key_for("q")

    asyncio.run(scenario())


def test_a_bound_method_of_someone_elses_class_can_be_cached_and_keeps_its_instance() -> None:
    class Index:
        find = Shop("kept", 1).price

    async def scenario() -> None:
        one, other = (CACHE.cached(name="theirs")(Account(owner).balance) for owner in ("a", "b"))
        assert [await one(), await one(), await other()] == ["a", "a", "b"]
        assert CALLS == [("a",), ("b",)]
        find: Any = Index().find
        assert await find("x") == 1.5

    asyncio.run(scenario())


def test_a_bound_class_method_of_someone_elses_class_keeps_its_class() -> None:
    async def scenario() -> None:
        one, other = (CACHE.cached(name="theirs")(kind.named) for kind in (Account, Savings))
        assert [await one("a"), await one("a"), await other("a")] == ["Account a", "Account a", "Savings a"]
        assert await one.invalidate("a") == 1
        assert await one.refresh("a") == "Account a"
        assert [(Account, "a"), (Savings, "a"), (Account, "a")] == CALLS

    asyncio.run(scenario())


def test_a_method_of_a_metaclass_is_one_of_its_classes() -> None:
    async def scenario() -> None:
        kinds: list[Any] = [Table, View, Table]  # type checkers take it for a method of the metaclass itself
        assert [await kind.named("x") for kind in kinds] == ["Table x", "View x", "Table x"]
        assert [(Table, "x"), (View, "x")] == CALLS

    asyncio.run(scenario())


@dataclasses.dataclass
class Account:
    owner: str

    async def balance(self) -> str:
        CALLS.append((self.owner,))
        return self.owner

    @classmethod
    async def named(cls, item: str) -> str:
        CALLS.append((cls, item))
        return f"{cls.__name__} {item}"


class Savings(Account):
    pass


class Model(type):
    @CACHE.cached()
    async def named(cls, item: str) -> str:
        CALLS.append((cls, item))
        return f"{cls.__name__} {item}"


class Table(metaclass=Model):
    pass


class View(metaclass=Model):
    pass


# --- values ---------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Source:
    name: str
    pages: list[int]


class Passage(msgspec.Struct):
    text: str
    source: Source


class Answer(pydantic.BaseModel):
    text: str
    passages: list[str] = []


SOURCE = Source("pep", [8])
PASSAGE = Passage("style", SOURCE)
ANSWER = Answer(text="yes", passages=["a"])


@CACHE.cached()
async def source(question: str) -> Source:
    return SOURCE


@CACHE.cached()
async def passages(question: str) -> list[Passage]:
    return [PASSAGE]


@CACHE.cached()
def answer(question: str) -> Answer:
    return ANSWER


@CACHE.cached()
async def answers(question: str) -> dict[str, Answer]:
    return {"a": ANSWER}


@CACHE.cached()
def perhaps(question: str) -> Optional[Answer]:  # noqa: UP045 - it is still written so
    return None if question == "none" else ANSWER


@CACHE.cached()
async def either(question: str) -> Passage | None:
    return None if question == "none" else PASSAGE


@CACHE.cached()
async def anything(question: str) -> dict[str, object]:
    return {"a": [1, "x", None]}


@CACHE.cached(type=list[Source])
async def unannotated(question):  # type: ignore[no-untyped-def]
    return [SOURCE]


VALUES: list[tuple[CachedFunction[[str], Any], Any]] = [
    (source, SOURCE), (passages, [PASSAGE]), (answer, ANSWER), (answers, {"a": ANSWER}), (perhaps, ANSWER),
    (either, PASSAGE), (anything, {"a": [1, "x", None]}), (unannotated, [SOURCE]),
]  # fmt: skip


@pytest.mark.parametrize(("function", "expected"), VALUES)
def test_a_value_comes_back_as_its_annotated_type_and_each_caller_has_a_copy(
    function: CachedFunction[[str], Any], expected: Any
) -> None:
    async def scenario() -> None:
        first, second = [await function("q") for _ in range(2)]
        assert first == second == expected
        assert type(first) is type(second) is type(expected)
        assert len({id(first), id(second), id(expected)}) == 3
        counters = CACHE.counters.group(function._name)
        assert counters.requests()["hit", "memory"] >= 1

    asyncio.run(scenario())


def test_no_caller_can_change_the_copy_of_another() -> None:
    async def scenario() -> None:
        first = await answer("q")
        first.passages.append("poison")
        (await passages("q"))[0].source.pages.clear()
        assert (await answer("q")).passages == ["a"]
        assert (await passages("q"))[0].source.pages == [8]

    asyncio.run(scenario())


def test_nothing_is_a_value_that_is_kept_too() -> None:
    async def scenario() -> None:
        assert [await perhaps("none"), await either("none"), await perhaps("none")] == [None] * 3
        assert CACHE.counters.group(perhaps._name).requests()["hit", "memory"] >= 1

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("kind", "value"), [(list[Passage], [PASSAGE]), (dict[str, Answer], {"a": ANSWER}), (Source | None, SOURCE)]
)
def test_get_or_load_decodes_to_the_type_that_is_asked_for(kind: Any, value: Any) -> None:
    async def load() -> Any:
        CALLS.append(())
        return value

    async def scenario() -> None:
        found = [await CACHE.get_or_load("k", load, type=kind) for _ in range(2)]
        assert found == [value, value]
        assert len(CALLS) == 1
        assert found[0] is not found[1]

    asyncio.run(scenario())


# --- names, and what cannot be cached -------------------------------------------------------------------------------


def adder(number: int, **options: Any) -> CachedFunction[[int], int]:
    @CACHE.cached(**options)
    async def add(to: int) -> int:
        return number + to

    return add


def test_functions_of_one_name_that_close_over_different_variables_never_share_a_value() -> None:
    async def scenario() -> None:
        one, two = adder(1), adder(2)
        assert [await one(1), await two(1), await one(1)] == [2, 3, 2]
        assert one.key_for(1) != two.key_for(1)
        named = [adder(1, name="one"), adder(1, name="one")]
        assert named[0].key_for(1) == named[1].key_for(1)

    asyncio.run(scenario())


def local() -> Any:
    class Local(Service):
        @CACHE.cached(ignore=("self",))  # pyright wants `self` to be the same class: it takes it for an argument
        async def shared(self, question: str) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
            return await super().shared(question)

    return Local.shared


def wrapped() -> Any:
    @functools.lru_cache
    def plain() -> int:
        return 1

    return CACHE.cached()(plain)


def test_a_local_function_has_one_key_unless_it_may_differ_each_time_it_is_made() -> None:
    assert local().key_for(None, "q") == local().key_for(None, "q")
    assert wrapped().key_for() != wrapped().key_for()  # what is behind another decorator cannot be seen


async def words() -> AsyncIterator[str]:
    yield "a"


def lines() -> Iterator[str]:
    yield "a"


async def plain(x: int) -> int:
    return x


async def read_all(cls: type) -> int:
    return 1


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        (words, {}, "return them in a list"),
        (lines, {}, "return them in a list"),
        (7, {}, "is not a function"),
        (functools.partial(plain, 1), {}, "is not a function"),
        (Source, {}, "is not a function"),
        (classmethod(read_all), {}, "write @classmethod above"),
        (staticmethod(plain), {}, "write @staticmethod above"),
        (read, {}, r"test_cached\.read is cached already"),
        (lambda: 1, {}, "give name="),
        (plain, {"ignore": ("y",)}, r"plain: cached\(ignore=\['y'\]\): it has \['x'\]"),
        (plain, {"ignore": "self"}, r"ignore=\['self'\]"),
        (plain, {"ignore": "x", "key": str}, "leave ignore= out"),
        (plain, {"ttl": -1}, "ttl"),
    ],
)
def test_what_cannot_be_cached_is_refused_where_it_is_decorated(
    function: Callable[..., Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CACHE.cached(**options)(function)


def test_a_lambda_with_a_name_is_cached_and_one_parameter_can_be_ignored_by_its_name_alone() -> None:
    async def scenario() -> None:
        length = CACHE.cached(name="length", ignore="trace")(lambda text, trace: len(text))
        assert [await length("abc", 1), await length("abc", 2)] == [3, 3]
        assert length.key_for("abc", 1) == length.key_for("abc", 2)

    asyncio.run(scenario())
