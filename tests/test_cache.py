"""The cache in code: values, decorated functions, keys, event loops."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from glasscache import Cache, Limits, MemoryStore, Policy
from glasscache._climbing import MOST_TAGS
from glasscache.codecs import MsgspecCodec
from glasscache.errors import ConfigurationError, RecursiveLoadError
from glasscache.otel import OtelTelemetry
from glasscache.testing import FlakyStore, ManualClock, RecordingTelemetry
from tests.support.null_telemetry import NullTelemetry

SECRET = "a secret of thirty-two characters"


class Passage(msgspec.Struct):
    text: str
    score: float = 0.0


@dataclasses.dataclass
class Source:
    name: str
    pages: list[int]


def make(**options: Any) -> Cache:
    options.setdefault("telemetry", RecordingTelemetry())
    return Cache(options.pop("store", None), key_secret=options.pop("key_secret", SECRET), **options)


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(scenario())  # type: ignore[arg-type]


class Loader:
    """Counts how often it is asked."""

    def __init__(self, value: Any = "value") -> None:
        self.calls = 0
        self.value = value

    async def __call__(self) -> Any:
        self.calls += 1
        await asyncio.sleep(0)
        return self.value


# --- get_or_load ----------------------------------------------------------------------------------------------------


def test_a_value_is_loaded_once_however_many_ask_and_each_gets_a_copy_of_its_own() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader({"list": [1, 2]})
        found = await asyncio.gather(*(cache.get_or_load("k", loader) for _ in range(3)))
        found.append(await cache.get_or_load("k", loader))
        assert found == [{"list": [1, 2]}] * 4
        assert len({id(value["list"]) for value in found}) == 4
        found[0]["list"].append(3)
        assert await cache.get_or_load("k", loader) == {"list": [1, 2]}
        assert loader.calls == 1
        requests = cache.counters.group("get_or_load").requests()
        assert requests == {("miss", "origin"): 1, ("collapsed", "origin"): 2, ("hit", "memory"): 2}
        assert cache.holders == cache.waiters == 0
        assert [gauge.entries for gauge in cache.gauges()] == [1]
        await cache.aclose()

    run(scenario)


def test_a_value_lives_as_long_as_its_ttl_says() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        cache, loader = make(clock=clock, policy=Policy(ttl=100.0)), Loader()
        await cache.get_or_load("default", loader)
        await cache.get_or_load("short", loader, ttl=10.0, group="short")
        await cache.get_or_load("own", loader, policy=Policy(ttl=1000.0))
        clock.advance(99)
        for key in ("default", "short", "own"):
            await cache.get_or_load(key, loader)
        assert loader.calls == 4
        clock.advance(900)
        await cache.get_or_load("own", loader)
        assert loader.calls == 4
        assert cache.counters.group("short").requests() == {("miss", "origin"): 1}
        await cache.aclose()

    run(scenario)


def test_a_stale_value_is_served_while_it_is_loaded_anew() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        policy = Policy(ttl=10.0, stale_while_revalidate=10.0)
        cache, loader = make(clock=clock, policy=policy), Loader("old")
        await cache.get_or_load("k", loader)
        clock.advance(15)
        loader.value = "new"
        assert await cache.get_or_load("k", loader) == "old"
        await asyncio.wait(tuple(cache._engine._state.tasks))
        assert await cache.get_or_load("k", loader) == "new"
        await cache.aclose()

    run(scenario)


async def structs() -> list[Passage]:
    return [Passage("a", 1.0)]


async def source() -> Source:
    return Source("pep", [8])


async def plain():  # type: ignore[no-untyped-def]
    return Source("pep", [8])


async def unknown() -> nowhere.Type:  # type: ignore[name-defined]  # noqa: F821
    return {"a": 1}


@pytest.mark.parametrize(
    ("loader", "kind", "expected"),
    [
        (structs, None, [Passage("a", 1.0)]),
        (source, None, Source("pep", [8])),
        (plain, None, {"name": "pep", "pages": [8]}),
        (plain, Source, Source("pep", [8])),
        (unknown, None, {"a": 1}),
        (functools.partial(source), None, Source("pep", [8])),
    ],
)
def test_a_value_comes_back_in_the_type_that_is_asked_for_or_annotated(loader: Any, kind: Any, expected: Any) -> None:
    async def scenario() -> None:
        cache = make()
        for _ in range(2):
            assert await cache.get_or_load("k", loader, type=kind) == expected
        await cache.aclose()

    run(scenario)


def test_a_value_that_another_release_has_kept_in_another_form_is_loaded_anew_by_one_for_all() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader({"name": "pep"})
        assert await cache.get_or_load("k", loader) == {"name": "pep"}
        loader.value = {"name": "pep", "pages": [8]}
        values = await asyncio.gather(*(cache.get_or_load("k", loader, type=Source) for _ in range(3)))
        assert values == [Source("pep", [8])] * 3
        assert loader.calls == 2
        assert await cache.get_or_load("k", loader, type=Source) == Source("pep", [8])
        assert loader.calls == 2
        await cache.aclose()

    run(scenario)


def test_a_value_larger_than_an_entry_may_be_is_passed_on_and_not_kept() -> None:
    async def scenario() -> None:
        cache, loader = make(limits=Limits(max_entry_bytes=10)), Loader("x" * 100)
        found = await asyncio.gather(*(cache.get_or_load("k", loader) for _ in range(2)))
        assert found == ["x" * 100] * 2
        await cache.get_or_load("k", loader)
        assert loader.calls == 2
        await cache.aclose()

    run(scenario)


def test_a_load_that_asks_for_its_own_key_is_told_so() -> None:
    async def scenario() -> None:
        cache = make()

        async def load() -> Any:
            return await cache.get_or_load("k", load)

        with pytest.raises(RecursiveLoadError):
            await cache.get_or_load("k", load)
        await cache.aclose()

    run(scenario)


def test_values_are_removed_by_key_by_tag_and_all_together() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader()
        for key in ("a", "b", "c"):
            await cache.get_or_load(key, loader, tags=("t", key))
        assert await cache.invalidate(key="a") == 1
        assert await cache.invalidate(key="a") == 0
        assert await cache.invalidate(tag="b") == 1
        assert await cache.invalidate(all=True) == 1
        await cache.get_or_load("a", loader)
        assert loader.calls == 4
        with pytest.raises(ConfigurationError, match="say what"):
            await cache.invalidate()
        for wrong in ({"key": 7}, {"tag": 7}, {"tag": ["b"]}):
            with pytest.raises(ConfigurationError, match="give a string"):
                await cache.invalidate(**wrong)
        await cache.aclose()

    run(scenario)


# --- cached ---------------------------------------------------------------------------------------------------------


def test_equal_arguments_are_one_call_however_they_are_given() -> None:
    async def scenario() -> None:
        cache = make()
        calls: list[tuple[str, int]] = []

        @cache.cached(ttl=60)
        async def retrieve(question: str, top: int = 3) -> list[Passage]:
            """Find passages."""
            calls.append((question, top))
            return [Passage(question)] * top

        first = await retrieve("q")
        assert first == await retrieve("q", 3) == await retrieve(question="q") == await retrieve(top=3, question="q")
        assert first is not await retrieve("q")
        await retrieve("q", top=4)
        assert calls == [("q", 3), ("q", 4)]
        assert retrieve.__doc__ == "Find passages."
        assert await retrieve.invalidate("q") == 1
        await retrieve("q")
        assert len(calls) == 3
        assert retrieve.key_for("q") == retrieve.key_for(question="q", top=3) != retrieve.key_for("r")
        assert await cache.invalidate(key=retrieve.key_for("q", 4)) == 1
        await cache.aclose()

    run(scenario)


def test_tags_may_follow_from_the_arguments() -> None:
    async def scenario() -> None:
        cache = make()
        calls: list[str] = []

        @cache.cached(tags=lambda name: (f"doc:{name}",), name="documents")
        async def read(name: str) -> str:
            calls.append(name)
            return name

        @cache.cached(tags=("doc:a",))
        async def count(name: str) -> int:
            return len(name)

        await read("a")
        await read("b")
        await count("a")
        assert await cache.invalidate(tag="doc:a") == 2
        assert [await read("a"), await read("b")] == ["a", "b"]
        assert calls == ["a", "b", "a"]
        assert "documents" in cache.counters.groups
        await cache.aclose()

    run(scenario)


# --- construction ---------------------------------------------------------------------------------------------------


def test_a_cache_has_a_name() -> None:
    with pytest.raises(ConfigurationError, match="give the cache a name"):
        Cache(name="")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"policy": 60}, r"Cache\(policy=60\): give a Policy"),
        ({"limits": {"drain": 1}}, "give a Limits"),
        ({"detail": True}, "give a Detail"),
        ({"name": 7}, r"Cache\(name=7\): give a text"),
        ({"enabled": "no"}, r"enabled='no'\): give True or False"),
        ({"random": 5}, "give a random.Random"),
        ({"codec": "json"}, r"codec='json'\): it has no decode"),
        ({"clock": object()}, "it has no now and no wall"),
        ({"telemetry": True}, "it has no observe and no span"),
        ({"tracer_provider": "otlp"}, r"tracer_provider='otlp'\): it has no get_tracer"),
        ({"meter_provider": "otlp"}, "it has no get_meter"),
        ({"store": MemoryStore}, "MemoryStore'> is no store: give MemoryStore"),
        ({"store": "redis://localhost"}, "'redis://localhost' is no store: .*from_url"),
    ],
)
def test_what_a_cache_cannot_be_made_of_is_refused_with_the_remedy(options: dict[str, Any], remedy: str) -> None:
    with pytest.raises(ConfigurationError, match=remedy):
        Cache(**options)


def test_the_policy_of_a_call_is_a_policy() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader()
        wrong: Any = {"ttl": 60}
        with pytest.raises(ConfigurationError, match=r"get_or_load\(policy={'ttl': 60}\): give a Policy"):
            await cache.get_or_load("k", loader, policy=wrong)
        with pytest.raises(ConfigurationError, match=r"cached\(policy=.*give a Policy"):
            cache.cached(policy=wrong)
        await cache.get_or_load("k", loader, policy=Policy(ttl=60))
        assert loader.calls == 1
        await cache.aclose()

    run(scenario)


@pytest.mark.parametrize("tags", ["doc:7", 7, ["doc:7", 7]])
def test_tags_are_a_list_of_strings(tags: Any) -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader()
        with pytest.raises(ConfigurationError, match=r"tags=.*: give a list of strings, such as \['doc:7'\]"):
            await cache.get_or_load("k", loader, tags=tags)
        assert loader.calls == 0
        with pytest.raises(ConfigurationError, match="give a list of strings"):
            cache.cached(tags=tags)(loader.__call__)
        await cache.aclose()

    run(scenario)


def test_a_loader_that_gives_nothing_to_await_is_told_so() -> None:
    async def scenario() -> None:
        cache: Any = make()
        with pytest.raises(ConfigurationError, match=r"<lambda>.* gave int, nothing to await: use `async def`"):
            await cache.get_or_load("k", lambda: 3)
        await cache.aclose()

    run(scenario)


def test_a_coroutine_in_place_of_its_function_is_refused_with_the_remedy() -> None:
    async def scenario() -> None:
        cache: Any = make()
        coroutine = structs()
        with pytest.raises(ConfigurationError, match=r"loader=<coroutine .*: give a function, such as lambda: fetch"):
            await cache.get_or_load("k", coroutine)
        coroutine.close()
        await cache.aclose()

    run(scenario)


def test_where_no_event_loop_of_asyncio_runs_a_load_says_what_it_needs() -> None:
    """Under trio, for one: its tasks are driven by something else."""
    with pytest.raises(ConfigurationError, match="event loop of asyncio or uvloop, and none is running"):
        make().get_or_load("k", Loader()).send(None)


# --- tags that climb ------------------------------------------------------------------------------------------------


def test_what_is_made_of_a_tagged_value_is_removed_with_it_whether_the_value_was_loaded_or_there() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader("passage")
        outer_loads = 0

        async def inner() -> str:
            found: str = await cache.get_or_load("inner", loader, tags=("doc:7",))
            return found

        async def outer() -> str:
            nonlocal outer_loads
            outer_loads += 1
            return f"answer {outer_loads} from {await inner()}"

        for key in ("first", "second"):  # the second finds the inner value
            await cache.get_or_load(key, outer, tags=("answers",))
        assert (outer_loads, loader.calls) == (2, 1)
        assert await cache.invalidate(tag="doc:7") == 3
        assert await cache.get_or_load("first", outer) == "answer 3 from passage"
        assert await cache.invalidate(tag="answers") == 0
        assert await inner() == "passage"
        assert await cache.invalidate(tag="doc:7") == 2
        await cache.aclose()

    run(scenario)


def test_who_waits_for_a_value_or_gets_one_that_is_not_kept_has_its_tags_too() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader("")

        async def outer() -> str:
            found: str = await cache.get_or_load("inner", loader, tags=("doc:7",), store_if=bool)
            return f"from {found!r}"

        await asyncio.gather(*(cache.get_or_load(key, outer) for key in "abc"))
        assert loader.calls == 1
        assert await cache.invalidate(tag="doc:7") == 3
        await cache.aclose()

    run(scenario)


@pytest.mark.parametrize("factory", ["none", "eager_task_factory"])
def test_what_is_made_of_too_much_to_be_told_invalid_is_not_kept(factory: str) -> None:
    async def scenario() -> None:
        cache, loader = make(store=MemoryStore(max_entries=10_000)), Loader(0)

        async def outer(count: int) -> int:
            for number in range(count):
                await cache.get_or_load(f"inner {number}", loader, tags=(f"doc:{number}",))
            return count

        for count, kept in ((MOST_TAGS, 1), (MOST_TAGS + 2, 0)):
            assert await cache.get_or_load(f"outer {count}", lambda count=count: outer(count)) == count  # type: ignore[misc]
            assert await cache.invalidate(key=f"outer {count}") == kept
        above = functools.partial(cache.get_or_load, "outer", lambda: outer(MOST_TAGS + 2))
        await cache.get_or_load("above", above)
        assert await cache.invalidate(key="above") == 0
        await cache.aclose()

    with asyncio.Runner() as runner:
        runner.get_loop().set_task_factory(getattr(asyncio, factory, None))  # the eager one: since Python 3.12
        runner.run(scenario())


# --- switched off ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("said", ["code", "environment"])
def test_a_cache_that_is_switched_off_loads_always_and_keeps_nothing(
    said: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("GLASSCACHE_ENABLED", "off" if said == "environment" else "on")

    async def scenario() -> None:
        cache, loader = make(enabled=False if said == "code" else None), Loader()
        plain = cache.cached(name="plain", tags=("t",))(lambda text: text.upper())
        for _ in range(2):
            assert await cache.get_or_load("k", loader, tags=("t",)) == "value"
            assert await plain("a") == "A"
        assert loader.calls == 2
        assert await cache.invalidate(tag="t") == await plain.invalidate("a") == 0
        with pytest.raises(ConfigurationError, match="nothing to await"):
            await cache.get_or_load("k", lambda: 3)  # type: ignore[arg-type, return-value]
        await cache.aclose()

    run(scenario)
    assert "cache 'default' is switched off" in caplog.text


def test_a_switch_that_says_neither_yes_nor_no_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLASSCACHE_ENABLED", "perhaps")
    with pytest.raises(ConfigurationError, match="GLASSCACHE_ENABLED='perhaps': give true or false"):
        make()
    assert make(enabled=True).enabled


# --- which values are kept ------------------------------------------------------------------------------------------


def test_a_value_that_store_if_declines_reaches_all_who_wait_and_is_not_kept() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader([])
        ask = functools.partial(cache.get_or_load, "k", loader, store_if=bool)
        assert await asyncio.gather(*(ask() for _ in range(3))) == [[], [], []]
        assert loader.calls == 1
        loader.value = ["found"]
        assert [await ask(), await ask()] == [["found"], ["found"]]
        assert loader.calls == 2
        await cache.aclose()

    run(scenario)


def test_a_value_may_say_itself_for_how_long_it_is_kept() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        cache, loader = make(clock=clock, policy=Policy(ttl=1)), Loader({"expires_in": 60})
        ask = functools.partial(cache.get_or_load, "k", loader, ttl=lambda token: token["expires_in"] - 10)
        await ask()
        clock.advance(49)
        await ask()
        assert loader.calls == 1
        clock.advance(2)
        await ask()
        assert loader.calls == 2
        await cache.aclose()

    run(scenario)


@pytest.mark.parametrize(
    "said",
    [
        {"store_if": lambda value: value.missing},
        {"ttl": lambda value: value.missing},
        {"ttl": lambda value: -1},
        {"ttl": lambda value: None},
        {"ttl": lambda value: 60, "store_if": lambda value: value.missing},
    ],
)
def test_what_cannot_say_whether_a_value_is_kept_fails_nobody_and_keeps_nothing(
    said: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader("v")
        for _ in range(2):
            assert await cache.get_or_load("k", loader, **said) == "v"
        assert loader.calls == 2
        await cache.aclose()

    run(scenario)
    assert [record.message for record in caplog.records] == ["store_if or ttl failed: the value is not stored"] * 2


async def always(value: object) -> bool:
    return True


@pytest.mark.parametrize("said", [{"store_if": always}, {"store_if": "yes"}, {"ttl": always}])
def test_what_depends_on_a_value_is_said_by_a_plain_function(said: dict[str, Any]) -> None:
    async def scenario() -> None:
        cache = make()
        with pytest.raises(ConfigurationError, match=r"(store_if|ttl)=.*: give a plain function of the value"):
            await cache.get_or_load("k", Loader(), **said)
        with pytest.raises(ConfigurationError, match=r"(store_if|ttl)=.*: give a plain function of the value"):
            cache.cached(**said)

    run(scenario)


def test_a_refresh_loads_though_a_value_is_there_and_later_calls_have_the_new_one() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader("old")
        assert await cache.get_or_load("k", loader) == "old"
        loader.value = "new"
        assert await cache.get_or_load("k", loader) == "old"
        assert await cache.get_or_load("k", loader, refresh=True) == "new"
        assert await cache.get_or_load("k", loader) == "new"
        assert loader.calls == 2
        await cache.aclose()

    run(scenario)


def test_those_who_refresh_at_once_and_a_load_that_is_under_way_are_one_load() -> None:
    async def scenario() -> None:
        cache, loader = make(), Loader()
        ask = functools.partial(cache.get_or_load, "k", loader)
        await asyncio.gather(ask(), *(ask(refresh=True) for _ in range(5)))
        assert loader.calls == 1
        await asyncio.gather(*(ask(refresh=True) for _ in range(5)))
        assert loader.calls == 2
        await cache.aclose()

    run(scenario)


def test_a_refresh_that_fails_is_an_error_and_the_value_that_is_there_stays() -> None:
    async def scenario() -> None:
        cache, loader = make(policy=Policy(ttl=60, stale_if_error=60)), Loader("old")
        await cache.get_or_load("k", loader)

        async def fails() -> str:
            raise ConnectionError("down")

        with pytest.raises(ConnectionError, match="down"):
            await cache.get_or_load("k", fails, refresh=True)
        assert await cache.get_or_load("k", loader) == "old"
        await cache.aclose()

    run(scenario)


def test_a_key_is_a_string() -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigurationError, match="give a string"):
            await make().get_or_load(7, Loader())  # type: ignore[arg-type]

    run(scenario)


@pytest.mark.parametrize("secret", ["short", ""])
def test_a_short_secret_is_refused(secret: str) -> None:
    with pytest.raises(ConfigurationError):
        make(key_secret=secret)


def test_keys_follow_from_the_secret_given_or_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLASSCACHE_KEY", raising=False)
    anyones = [make(key_secret=None).keyring.digest(b"a") for _ in range(2)]
    assert anyones[0] != anyones[1]
    monkeypatch.setenv("GLASSCACHE_KEY", SECRET)
    assert make(key_secret=None).keyring.digest(b"a") == make().keyring.digest(b"a")
    assert make(key_secret="another secret of thirty-two chars").keyring.digest(b"a") != make().keyring.digest(b"a")


def test_a_cache_tells_opentelemetry_unless_told_otherwise() -> None:
    assert isinstance(Cache().telemetry, OtelTelemetry)
    telemetry = RecordingTelemetry()
    cache = Cache(telemetry=telemetry)
    assert set(telemetry.sources) == {cache}


def test_what_is_handed_in_is_used_though_it_be_empty_and_so_pass_for_false() -> None:
    class Empty:
        def __len__(self) -> int:
            return 0

    class Telling(Empty, RecordingTelemetry): ...

    class Ticking(Empty, ManualClock): ...

    class Keeping(Empty, MemoryStore): ...

    class Coding(Empty, MsgspecCodec):
        encoded = 0

        def encode(self, value: object) -> bytes:
            self.encoded += 1
            return super().encode(value)

    async def scenario() -> None:
        telemetry, clock, store, codec = Telling(), Ticking(), Keeping(), Coding()
        cache = Cache(store, telemetry=telemetry, clock=clock, codec=codec, policy=Policy(ttl=60), key_secret=SECRET)
        assert cache.telemetry is telemetry
        assert cache.clock is clock
        loader = Loader()
        assert [await cache.get_or_load("k", loader) for _ in range(2)] == ["value", "value"]
        assert loader.calls == 1  # so it is kept
        assert store.gauge().entries == 1
        assert codec.encoded == 1

    asyncio.run(scenario())


def test_a_store_that_has_to_be_awaited_is_the_far_tier() -> None:
    async def scenario() -> None:
        store = FlakyStore(MemoryStore())
        cache, loader = make(store=store, telemetry=NullTelemetry()), Loader()
        assert [await cache.get_or_load("k", loader) for _ in range(2)] == ["value", "value"]
        assert loader.calls == 1
        assert store.calls == {"get": 2, "set": 1}
        await cache.aclose()
        assert store.calls["aclose"] == 1

    run(scenario)


# --- event loops ----------------------------------------------------------------------------------------------------


def test_a_cache_goes_on_over_several_event_loops() -> None:
    cache, loader = make(), Loader()

    async def ask(key: str) -> Any:
        return await asyncio.gather(*(cache.get_or_load(key, loader) for _ in range(2)))

    assert [asyncio.run(ask(key)) for key in ("a", "a", "b")] == [["value", "value"]] * 3
    assert loader.calls == 2
    asyncio.run(cache.aclose())


def test_a_load_that_was_cancelled_with_its_event_loop_is_over() -> None:
    cache = make()

    async def hang() -> None:
        await asyncio.Event().wait()

    async def begin() -> None:
        task = asyncio.ensure_future(cache.get_or_load("k", hang))
        await asyncio.sleep(0.01)
        assert not task.done()

    asyncio.run(begin())
    assert cache.holders == 0
    assert asyncio.run(cache.get_or_load("k", Loader())) == "value"
    asyncio.run(cache.aclose())


def test_telemetry_for_who_wants_none_never_links_a_refresh_to_anything() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        policy = Policy(ttl=10.0, stale_while_revalidate=10.0)
        cache, loader = make(clock=clock, policy=policy, telemetry=NullTelemetry()), Loader()
        await cache.get_or_load("k", loader)
        clock.advance(15)
        await cache.get_or_load("k", loader)
        await cache.aclose()
        assert loader.calls == 2

    run(scenario)
