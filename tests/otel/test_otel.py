"""Metrics, collected by the real SDK and compared with a table written from telemetry.md alone."""

from __future__ import annotations

import asyncio
import gc
import os
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import Sum

from glasscache import Cache, otel
from glasscache._events import (
    ServedStale,
    TierGauge,
)
from glasscache._otel_metrics import Bounded, _made
from tests.support.otel_rig import Rig, Source, drive_everything, in_a_process_of_its_own

_LOAD_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)

# name: (what it is, unit, attributes beside cache.name, bucket boundaries)
CONTRACT: dict[str, tuple[str, str, set[str], tuple[float, ...]]] = {
    "glasscache.requests": ("total", "{request}", {"cache.result", "cache.tier", "cache.key_group"}, ()),
    "glasscache.request.bypasses": ("total", "{request}", {"cache.bypass.reason", "cache.key_group"}, ()),
    "glasscache.unstored.answers": ("total", "{answer}", {"cache.unstored.reason", "cache.key_group"}, ()),
    "glasscache.request.duration": (
        "histogram",
        "s",
        {"cache.result", "error.type"},
        (
            *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01),
            *(0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
        ),
    ),
    "glasscache.load.duration": (
        "histogram",
        "s",
        {"cache.key_group", "cache.load.trigger", "error.type"},
        _LOAD_BUCKETS,
    ),
    "glasscache.lock.wait.duration": (
        "histogram",
        "s",
        {"cache.key_group", "cache.lock.scope", "cache.lock.outcome"},
        (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
    ),
    "glasscache.lock.hold.duration": (
        "histogram",
        "s",
        {"cache.key_group", "cache.lock.scope", "cache.lock.release"},
        (*_LOAD_BUCKETS, 30),
    ),
    "glasscache.lock.acquisitions": ("total", "{acquisition}", {"cache.lock.scope", "cache.lock.result"}, ()),
    "glasscache.lock.waiter.count": ("level", "{waiter}", {"cache.lock.scope"}, ()),
    "glasscache.lock.holder.count": ("level", "{holder}", {"cache.lock.scope"}, ()),
    "glasscache.lock.queue.length": (
        "histogram",
        "{waiter}",
        {"cache.lock.scope"},
        (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024),
    ),
    "glasscache.evictions": ("total", "{eviction}", {"cache.tier", "cache.eviction.reason"}, ()),
    "glasscache.eviction.age": (
        "histogram",
        "s",
        {"cache.tier", "cache.eviction.reason"},
        (1, 10, 60, 300, 900, 3600, 14400, 86400),
    ),
    "glasscache.invalidations": ("total", "{entry}", {"cache.invalidation.source"}, ()),
    "glasscache.invalidation.lag": (
        "histogram",
        "s",
        set(),
        (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    ),
    "glasscache.entry.count": ("level", "{entry}", {"cache.tier"}, ()),
    "glasscache.entry.limit": ("level", "{entry}", {"cache.tier"}, ()),
    "glasscache.memory.usage": ("level", "By", {"cache.tier"}, ()),
    "glasscache.memory.limit": ("level", "By", {"cache.tier"}, ()),
    "glasscache.stale.age": (
        "histogram",
        "s",
        {"cache.stale.reason"},
        (1, 5, 15, 60, 300, 900, 3600, 86400),
    ),
    "glasscache.tier.operation.duration": (
        "histogram",
        "s",
        {"cache.tier", "cache.operation", "cache.result", "error.type"},
        (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
    ),
    "glasscache.tier.state": ("level", "{tier}", {"cache.tier", "cache.tier.state"}, ()),
    "glasscache.saved.time": ("total", "s", {"cache.key_group"}, ()),
    "glasscache.saved.price": ("total", "{currency}", {"cache.key_group"}, ()),
    "glasscache.saved.io": ("total", "By", {"cache.key_group"}, ()),
}


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_every_metric_has_the_name_kind_unit_attributes_and_buckets_of_the_contract(rig: Rig) -> None:
    source = Source()
    drive_everything(rig, source)
    told: dict[str, tuple[str, str, set[str], tuple[float, ...]]] = {}
    for name, metric in rig.metrics().items():
        kind, buckets = "histogram", ()
        if isinstance(metric.data, Sum):
            kind = "total" if metric.data.is_monotonic else "level"
        attributes: set[str] = set()
        for point in metric.data.data_points:
            assert point.attributes["cache.name"] == "knowledge"
            attributes |= set(point.attributes)
            buckets = getattr(point, "explicit_bounds", ())
        told[name] = (kind, metric.unit, attributes - {"cache.name"}, tuple(buckets))
        assert metric.description.endswith(".")
    assert told == CONTRACT


def test_the_tables_for_docs_say_the_same_as_the_contract() -> None:
    kinds = {"counter": "total", "observable_counter": "total", "observable_up_down_counter": "level"}
    assert {
        metric.name: (
            kinds.get(metric.kind, metric.kind),
            metric.unit,
            set(metric.attributes),
            metric.buckets,
        )
        for metric in otel.METRICS
    } == CONTRACT


def test_the_integers_of_a_cache_are_read_at_collection(rig: Rig) -> None:
    source = Source()
    drive_everything(rig, source)
    assert rig.values("glasscache.requests") == {
        ("/ask", "hit", "memory"): 5,
        ("/ask", "collapsed", "origin"): 2,
    }
    assert rig.values("glasscache.request.bypasses") == {("unscoped", "/ask"): 4}
    assert rig.values("glasscache.unstored.answers") == {("/ask", "set_cookie"): 3}
    assert rig.values("glasscache.evictions") == {("evicted", "memory"): 6}
    assert rig.values("glasscache.saved.time") == {("/ask",): 1.5}
    assert rig.values("glasscache.saved.price") == {("/ask",): 0.25}
    assert rig.values("glasscache.saved.io") == {("/ask",): 2048}
    assert rig.values("glasscache.lock.waiter.count") == {("process",): 3, ("cluster",): 1}
    assert rig.values("glasscache.lock.holder.count") == {("process",): 2, ("cluster",): 1}
    assert rig.values("glasscache.tier.state") == {("redis", "ok"): 1, ("redis", "degraded"): 0, ("redis", "open"): 0}
    assert rig.values("glasscache.entry.count") == {("memory",): 7}
    assert rig.values("glasscache.entry.limit") == {("memory",): 100}
    assert rig.values("glasscache.memory.usage") == {("memory",): 700}
    assert rig.values("glasscache.memory.limit") == {("memory",): 64_000}
    source.counters.group("/ask").hits += 1
    assert rig.values("glasscache.requests")["/ask", "hit", "memory"] == 6


def test_events_are_counted_and_measured_with_their_attributes(rig: Rig) -> None:
    drive_everything(rig, Source())
    assert rig.values("glasscache.lock.acquisitions") == {("immediate", "process"): 1}
    assert rig.values("glasscache.invalidations") == {("tag",): 9, ("backplane",): 2}
    durations = {tuple(sorted(p.attributes.values())): p.sum for p in rig.points("glasscache.request.duration")}
    assert durations == {("knowledge", "miss"): 0.3, ("ValueError", "error", "knowledge"): 0.3}
    (stale,) = rig.points("glasscache.stale.age")
    assert (stale.sum, stale.attributes["cache.stale.reason"]) == (12.0, "error")
    (removed,) = rig.points("glasscache.eviction.age")
    assert removed.sum == 400.0
    assert removed.attributes["cache.tier"] == "memory"
    assert removed.attributes["cache.eviction.reason"] == "expired"


def test_a_tier_without_a_limit_reports_none(rig: Rig) -> None:
    source = Source()
    source.levels = [TierGauge("redis", 0, 0, 0, 0)]
    rig.telemetry.observe(source)
    assert rig.values("glasscache.entry.count") == {("redis",): 0}
    assert {"glasscache.entry.limit", "glasscache.memory.limit"}.isdisjoint(rig.metrics())


def test_two_caches_report_to_one_meter_each_under_its_name(rig: Rig) -> None:
    first, second = Source("first"), Source("second")
    rig.telemetry.observe(first)
    rig.cache("second").observe(second)
    first.counters.group("/ask").bypasses["range"] = 1
    second.counters.group("/ask").bypasses["range"] = 2
    told = {p.attributes["cache.name"]: p.value for p in rig.points("glasscache.request.bypasses")}
    assert told == {"first": 1, "second": 2}


def test_caches_of_the_same_name_are_added_up(rig: Rig) -> None:
    sources = [Source(), Source()]
    for source in sources:
        rig.telemetry.observe(source)
        source.counters.group("/ask").bypasses["range"] = 2
    assert rig.values("glasscache.request.bypasses") == {("range", "/ask"): 4}


def test_caches_of_other_meters_do_not_mix() -> None:
    rigs, sources = [Rig(), Rig()], [Source("first"), Source("second")]
    for rig, source in zip(rigs, sources, strict=True):
        rig.telemetry.observe(source)
        source.counters.group("/ask").bypasses["range"] = 1
    names = [[p.attributes["cache.name"] for p in r.points("glasscache.request.bypasses")] for r in rigs]
    assert names == [["first"], ["second"]]


def test_a_collected_cache_disappears_from_the_metrics(rig: Rig) -> None:
    source = Source()
    rig.telemetry.observe(source)
    assert "glasscache.entry.count" in rig.metrics()
    del source
    gc.collect()
    assert "glasscache.entry.count" not in rig.metrics()


def test_a_meter_provider_is_not_held_by_its_registration() -> None:
    gc.collect()
    before = len(_made)
    rig = Rig()
    assert len(_made) == before + 1
    del rig
    gc.collect()
    assert len(_made) == before


def test_of_many_key_groups_a_hundred_keep_their_names() -> None:
    bounded = Bounded(100)
    groups = [f"/{number}" for number in range(150)]
    assert [bounded(group) for group in groups] == [*groups[:100], *["_other"] * 50]
    assert bounded("/99") == "/99"
    assert bounded("/100") == "_other"


def test_the_hundred_and_first_value_is_other_even_if_threads_race_for_the_last_place() -> None:
    class Late(dict[str, int]):
        """Seems to have room until the value is to be kept, as if other threads had come first."""

        def __len__(self) -> int:
            return 0

    bounded = Bounded(1)
    bounded._numbers = Late()
    assert [bounded("first"), bounded("second"), bounded("second")] == ["first", "_other", "_other"]


def test_the_limit_of_key_groups_holds_for_the_process_over_all_caches() -> None:
    """And what is over the limit is added up, not lost."""
    told = in_a_process_of_its_own("""
        rig = Rig()
        sources = [Source("first"), Source("second")]
        for source in sources:
            rig.telemetry.observe(source)
            for number in range(80):
                source.counters.group(f"{source.name} {number}").hits = 1
        values = {p.attributes["cache.key_group"]: 0 for p in rig.points("glasscache.requests")}
        for point in rig.points("glasscache.requests"):
            values[point.attributes["cache.key_group"]] += point.value
        print(len(values), values["_other"], sum(values.values()))
    """)
    assert told.split() == ["101", "60", "160"]


def test_durations_below_zero_are_measured_as_zero(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.telemetry.emit(ServedStale(reason="error", age=-1.0))
    (point,) = rig.points("glasscache.stale.age")
    assert (point.sum, caplog.records) == (0.0, [])


def test_caches_made_before_and_after_the_global_sdk_is_set_up_all_report() -> None:
    told = in_a_process_of_its_own("""
        rig = Rig()
        sources = {name: Source(name) for name in ("before", "explicit", "after")}
        def cache(name, **providers):
            telemetry = OtelTelemetry(name=name, label=repr, **providers)
            telemetry.observe(sources[name])
            return telemetry
        before = cache("before")
        explicit = cache("explicit", tracer_provider=rig.tracers, meter_provider=rig.meters)
        metrics.set_meter_provider(rig.meters)
        trace.set_tracer_provider(rig.tracers)
        after = cache("after")
        assert sorted(p.attributes["cache.name"] for p in rig.points("glasscache.entry.count")) == [
            "after", "before", "explicit"
        ]
        for telemetry in (before, explicit, after):
            telemetry.emit(Acquired(scope="process", result="immediate"))
            run_load(telemetry, load())
        counted = [(p.attributes["cache.name"], p.value) for p in rig.points("glasscache.lock.acquisitions")]
        assert sorted(counted) == [("after", 1), ("before", 1), ("explicit", 1)], counted
        print(len(rig.exporter.get_finished_spans()))
    """)
    assert told.split() == ["3"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_the_child_of_a_fork_tells_of_nothing_that_is_its_parents_which_goes_on() -> None:
    told = in_a_process_of_its_own("""
        import asyncio, logging
        from glasscache import Cache
        from glasscache.contention import contention

        logging.disable()
        rig, clock = Rig(), ManualClock()
        cache = Cache(clock=clock, meter_provider=rig.meters, key_secret="a secret of thirty-two characters")
        gate, loop = asyncio.Event(), asyncio.new_event_loop()

        async def slow():
            await gate.wait()
            return "from the parent"

        async def quick():
            return "from the child"

        async def crowd(key):
            asked = [asyncio.ensure_future(cache.get_or_load(key, slow, ttl=60)) for _ in range(3)]
            while cache.waiters < 2:
                await asyncio.sleep(0)
            clock.advance(5)
            return asked

        async def answered(asked):
            gate.set()
            return await asyncio.gather(*asked)

        async def before():
            await answered(await crowd("before"))
            gate.clear()
            return await crowd("during")

        def state():
            levels = sum(p.value for name in ("waiter", "holder") for p in rig.points(f"glasscache.lock.{name}.count"))
            counted = sum(sum(group.requests().values()) for group in cache.counters.groups.values())
            now = contention(cache)
            return levels, counted, now["seen"], len(now["contentions"]), len(now["loads"])

        asked = loop.run_until_complete(before())
        assert state() == (3, 3, 2, 2, 1), state()
        child = os.fork()
        if child == 0:
            assert state() == (0, 0, 0, 0, 0), state()
            assert asyncio.run(cache.get_or_load("during", quick, ttl=60)) == "from the child"
            assert state() == (0, 1, 0, 0, 0), state()
            sys.exit()
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, set(loop.run_until_complete(answered(asked))), state())
        loop.run_until_complete(cache.aclose())
        loop.close()
    """)
    assert told == "0 {'from the parent'} (0, 6, 4, 4, 0)\n"


@pytest.mark.parametrize(
    ("said", "source"), [({"key": "k"}, "api"), ({"tag": "t"}, "tag"), ({"all": True}, "api")], ids=repr
)
def test_a_removal_is_told_with_whether_it_went_by_a_tag(said: dict[str, Any], source: str) -> None:
    async def scenario() -> None:
        rig = Rig()
        cache = Cache(telemetry=rig.telemetry, key_secret="a secret of thirty-two characters")
        await cache.get_or_load("k", load_value, tags=("t",))
        assert await cache.invalidate(**said) == 1
        await cache.aclose()
        assert dict(rig.span("cache.invalidate").attributes or {}) == {
            "cache.invalidation.source": source,
            "cache.invalidation.entry.count": 1,
        }
        assert rig.values("glasscache.invalidations") == {(source,): 1}

    async def load_value() -> str:
        return "value"

    asyncio.run(scenario())
