"""Values that cannot be kept as what their function says it returns: no call fails for it, and the log says why."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import socket
from typing import Any

import pytest

from glasscache import Cache, Policy
from glasscache.stats import stats
from glasscache.testing import ManualClock
from tests.test_cache import Loader, Passage, Source, make, run


class Rude:
    """A class whose own code fails where it is compared, made again or shown."""

    @classmethod
    def model_validate_json(cls, text: str) -> Rude:
        raise KeyError(text)

    def model_dump_json(self, **_: Any) -> str:
        return "{}"


@dataclasses.dataclass
class Strict:
    number: int

    def __post_init__(self) -> None:
        if self.number < 0:
            raise KeyError("no such number")


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def rejected(cache: Cache) -> Any:
    evictions = stats(cache)["evictions"]
    assert isinstance(evictions, dict)
    return evictions["rejected"]


@pytest.mark.parametrize(
    ("value", "kind", "why"),
    [
        ({"a": 1, "b": None}, dict[str, int], "as dict[str, int] (Expected `int`, got `None` - at `$[...]`"),
        ({"name": "pep"}, Source, "cannot decode as Source (Object missing required field `pages`)"),
        (socket.socket, None, "cannot encode type"),
        ({"deep": [object()]}, None, "cannot encode dict (object is not supported): return JSON-like values"),
        (2**64, None, "cannot encode int"),
        (Rude(), Rude, "KeyError('{}')"),
        (1, socket.socket, "cannot decode as socket"),
    ],
)
def test_a_value_that_cannot_be_kept_is_its_callers_as_it_was_loaded_and_the_log_says_why_once(
    value: Any, kind: Any, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader(value)
        for calls in (1, 2, 3):
            assert await cache.get_or_load("k", loader, type=kind) is value
            assert loader.calls == calls
        assert (rejected(cache), stats(cache)["cache_size"]) == (3, 0)
        await cache.aclose()

    run(scenario)
    (warning,) = warnings(caplog)
    assert warning.startswith("get_or_load: what it gives is not stored, each call loads (told once): ")
    assert why in warning


def test_those_who_waited_for_a_value_that_cannot_be_kept_load_one_of_their_own() -> None:
    async def scenario() -> None:
        cache, made = make(), []

        async def load() -> object:
            made.append(mine := object())
            await asyncio.sleep(0)
            return mine

        found = await asyncio.gather(*(cache.get_or_load("k", load) for _ in range(5)))
        assert len(set(found)) == len(made) == 5  # an open connection, say, must not be in two hands
        figures = stats(cache)
        assert (figures["total_misses"], figures["bypass"], figures["errors"]) == (1, {"uncacheable": 4}, 0)
        await cache.aclose()

    run(scenario)


def test_a_value_that_can_be_kept_again_is() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader(object())
        await cache.get_or_load("k", loader)
        loader.value = 1
        assert [await cache.get_or_load("k", loader) for _ in range(3)] == [1, 1, 1]
        assert loader.calls == 2
        await cache.aclose()

    run(scenario)


def test_the_warning_names_the_cached_function_once_for_all_of_its_calls(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        cache = make()

        @cache.cached(name="prices")
        async def prices(day: int) -> dict[str, int]:
            return {"a": day, "b": None}  # type: ignore[dict-item]

        @cache.cached(name="plain")
        def plain(day: int) -> dict[str, int]:
            return {"c": None}  # type: ignore[dict-item]

        for day in range(3):
            assert await prices(day) == {"a": day, "b": None}
            assert await plain(day) == {"c": None}
        await cache.aclose()

    run(scenario)
    assert [warning.partition(":")[0] for warning in warnings(caplog)] == ["prices", "plain"]


def test_the_warning_names_the_loader_where_it_has_a_name(caplog: pytest.LogCaptureFixture) -> None:
    async def load() -> object:
        return object()

    async def scenario() -> None:
        cache = make()
        await cache.get_or_load("k", load, group="prices")
        await cache.aclose()

    run(scenario)
    (warning,) = warnings(caplog)
    assert warning.startswith("prices (test_the_warning_names_the_loader_where_it_has_a_name.<locals>.load): ")


def test_warnings_of_ever_new_functions_come_to_an_end(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader(object())
        for number in range(1_003):
            await cache.get_or_load("k", loader, group=f"of request {number}")
        await cache.aclose()

    run(scenario)
    assert len(warnings(caplog)) == 1_000


def test_nothing_is_told_of_a_value_that_was_not_to_be_kept(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader(object())
        assert await cache.get_or_load("k", loader, store_if=lambda value: False) is loader.value
        assert rejected(cache) == 0
        await cache.aclose()

    run(scenario)
    assert not warnings(caplog)


def test_a_stale_value_is_served_on_where_its_successor_cannot_be_kept() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        cache, loader = make(clock=clock, policy=Policy(ttl=1, stale_while_revalidate=60)), Loader({"a": 1})
        assert await cache.get_or_load("k", loader, type=dict[str, int]) == {"a": 1}
        loader.value = {"a": None}
        clock.advance(2)
        assert await cache.get_or_load("k", loader, type=dict[str, int]) == {"a": 1}
        await cache._engine.drain()
        assert (loader.calls, rejected(cache)) == (2, 1)
        await cache.aclose()

    run(scenario)


def test_a_stored_value_that_its_class_refuses_is_loaded_anew() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader({"number": -1})
        await cache.get_or_load("k", loader)
        assert await cache.get_or_load("k", loader, type=Strict) == {"number": -1}
        await cache.aclose()

    run(scenario)


def test_who_waits_for_a_value_of_another_type_loads_it_at_last_without_the_cache() -> None:
    async def scenario() -> None:
        cache = make()
        others = [asyncio.create_task(cache.get_or_load("k", Loader({"name": "pep"}))) for _ in range(1)]
        await asyncio.sleep(0)
        mine = Loader(Passage("text"))
        asking = asyncio.create_task(cache.get_or_load("k", mine, type=Passage))
        while not asking.done():  # whenever it looks, somebody else loads what it has no use for
            others.append(asyncio.create_task(cache.get_or_load("k", Loader({"name": "pep"}), refresh=True)))
            await asyncio.sleep(0)
        assert await asking == mine.value
        await asyncio.gather(*others)
        await cache.aclose()

    run(scenario)
