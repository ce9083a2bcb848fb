"""Values of cached functions that are loaded before anybody calls them."""

from __future__ import annotations

import asyncio

import pytest

from glasscache import Cache, ConfigurationError, Warmed
from glasscache._events import Load
from glasscache.policy import Detail
from glasscache.testing import RecordingTelemetry


def outcome(warmed: Warmed) -> tuple[int, int, dict[str, list[int]], dict[str, list[int]]]:
    return warmed.loaded, warmed.fresh, warmed.not_stored, warmed.failed


def test_the_first_call_is_a_hit_and_the_warming_was_none() -> None:
    async def scenario() -> None:
        telemetry = RecordingTelemetry()
        cache, called = Cache(telemetry=telemetry), list[tuple[str, int]]()

        @cache.cached(ttl=60)
        async def retrieve(question: str, top_k: int = 5) -> list[str]:
            called.append((question, top_k))
            return [question] * top_k

        assert await retrieve("b") == ["b"] * 5
        warmed = await retrieve.warm(["a", "b", ("c", 2)], concurrency=1)
        assert outcome(warmed) == (2, 1, {}, {})
        assert called == [("b", 5), ("a", 5), ("c", 2)]
        assert [work.trigger for work in telemetry.works if isinstance(work, Load)] == ["miss", "warm", "warm"]
        group = next(iter(cache.counters.groups.values()))
        assert group.requests() == {("miss", "origin"): 1}
        assert (await retrieve("a"), await retrieve("c", top_k=2)) == (["a"] * 5, ["c"] * 2)
        assert (group.hits, len(called)) == (2, 3)

    asyncio.run(scenario())


def test_plain_functions_methods_and_class_methods_are_warmed_too() -> None:
    async def scenario() -> None:
        cache, called = Cache(), list[str]()

        class Documents:
            @cache.cached(ttl=60, ignore=("self",))
            def find(self, name: str) -> str:
                called.append(name)
                return name

            @classmethod
            @cache.cached(ttl=60, ignore=("cls",))
            async def of(cls, name: str) -> str:
                called.append(f"{cls.__name__}.{name}")
                return name

        documents = Documents()
        assert outcome(await documents.find.warm(["a", "a"], concurrency=1)) == (1, 1, {}, {})
        assert outcome(await Documents.of.warm([(Documents, "b")])) == (1, 0, {}, {})
        assert (await documents.find("a"), await Documents.of("b")) == ("a", "b")
        assert called == ["a", "Documents.b"]

    asyncio.run(scenario())


@pytest.mark.filterwarnings("error")
def test_what_is_not_kept_is_told_with_its_reason() -> None:
    async def scenario() -> None:
        cache = Cache()

        @cache.cached(ttl=60, store_if=lambda value: value != "no")
        async def retrieve(question: str) -> object:
            if question == "raises":
                raise LookupError
            return {"no": "no", "object": object()}.get(question, question)

        warmed = await retrieve.warm(["no", "object", "raises", "yes"])
        assert outcome(warmed) == (1, 0, {"store_if": [0], "codec": [1]}, {"LookupError": [2]})
        assert await retrieve("no") == "no"
        with pytest.raises(ConfigurationError):
            await retrieve.warm([object()])

        @cache.cached(ttl=60)
        async def tagged(number: int) -> int:
            await asyncio.gather(*(many(at) for at in range(number)))
            return number

        @cache.cached(ttl=60, tags=lambda at: [f"{at} {place}" for place in range(40)])
        async def many(at: int) -> int:
            return at

        assert outcome(await tagged.warm([1, 100])) == (1, 0, {"too_many_tags": [1]}, {})

    asyncio.run(scenario())


@pytest.mark.parametrize("factory", ["none", "eager_task_factory"])
def test_what_cannot_be_called_is_refused_however_tasks_begin(factory: str) -> None:
    async def scenario() -> None:
        @Cache().cached(ttl=60)
        async def retrieve(question: str) -> str:
            return question

        with pytest.raises(ConfigurationError):
            await retrieve.warm([object()])
        assert outcome(await retrieve.warm(["a"])) == (1, 0, {}, {})

    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(getattr(asyncio, factory, None))  # the eager one: since Python 3.12
        runner.run(scenario())


def test_a_cache_that_is_switched_off_loads_nothing_ahead() -> None:
    async def scenario() -> None:
        cache = Cache(enabled=False)

        @cache.cached(ttl=60)
        async def retrieve(question: str) -> str:
            raise AssertionError(question)

        assert outcome(await retrieve.warm(["a", "b"])) == (0, 0, {"disabled": [0, 1]}, {})

    asyncio.run(scenario())


def test_what_was_called_is_told_in_clear_text_only_where_that_is_wanted() -> None:
    async def scenario() -> None:
        for clear_keys in (False, True):
            telemetry = RecordingTelemetry()
            cache = Cache(telemetry=telemetry, detail=Detail(clear_keys=clear_keys))

            @cache.cached(ttl=60, name="retrieve")
            async def retrieve(question: str) -> str:
                return question

            await retrieve.warm(["a"])
            (load,) = [work for work in telemetry.works if isinstance(work, Load)]
            assert load.text == ("retrieve('a')" if clear_keys else "")

    asyncio.run(scenario())
