"""The stats page's figures: what each counts, and what none may show."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from glasscache._counters import Counters
from glasscache._events import TierGauge, TierState
from glasscache.cache import Cache
from glasscache.stats import declared_workers, stats, stats_json
from glasscache.stores.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterable

    from glasscache.interfaces import Observable


@dataclass
class Seen:
    """An `Observable` at rest."""

    name: str = "knowledge"
    counters: Counters = field(default_factory=Counters)
    tiers: tuple[TierGauge, ...] = (TierGauge("memory", 3, 100, 2048, 65536),)
    waiters: int = 2
    holders: int = 1
    abroad: tuple[int, int] | None = None
    states: tuple[tuple[str, TierState], ...] = ()

    def tier_states(self) -> Iterable[tuple[str, TierState]]:
        return self.states

    def gauges(self) -> Iterable[TierGauge]:
        return self.tiers


def busy() -> Seen:
    """A cache that saw 20 requests of two groups."""
    seen = Seen()
    ask, find = seen.counters.group("/ask"), seen.counters.group("app.find")
    ask.hits = 6
    ask.others.update({("hit", "redis"): 1, ("stale", "memory"): 2, ("miss", "origin"): 3, ("bypass", "none"): 3})
    ask.hit_seconds, ask.hit_samples = 0.003, 2
    ask.miss_seconds, ask.misses_timed = 1.5, 3
    ask.saved_seconds, ask.saved_bytes, ask.saved_price = 4.5, 900, 0.06
    find.others.update(
        {("collapsed", "origin"): 2, ("error", "none"): 1, ("revalidated", "memory"): 1, ("hit", "disk"): 1}
    )
    find.saved_seconds, find.saved_bytes = 0.5, 100
    ask.bypasses.update({"unkeyed_field": 2, "uncacheable": 1})
    ask.unstored.update({"set_cookie": 1})
    find.unstored.update({"set_cookie": 1, "codec": 3})
    seen.counters.removals.update({("memory", "evicted"): 4, ("redis", "evicted"): 1, ("memory", "expired"): 2})
    seen.counters.doubted = 4
    return seen


def test_each_figure_counts_what_its_description_says() -> None:
    assert stats(busy()) == {
        "hit_rate": 10 / 17,  # 8 hits and 2 stale ones; 20 requests less 3 bypasses
        "total_requests": 20,
        "total_hits": 10,
        "total_misses": 3,
        "stale": 2,
        "collapsed": 2,
        "revalidated": 1,
        "errors": 1,
        "bypass": {"unkeyed_field": 2, "uncacheable": 1},
        "not_stored": {"set_cookie": 2, "codec": 3},
        "avg_hit_time_ms": 1.5,
        "avg_miss_time_ms": 500.0,
        "saved_seconds": 5.0,
        "saved_bytes": 1000,
        "saved_price": 0.06,
        "cache_size": 3,
        "entries_limit": 100,
        "memory_bytes": 2048,
        "memory_limit_bytes": 65536,
        "evictions": {"evicted": 5, "expired": 2, "invalidated": 0, "replaced": 0, "rejected": 0},
        "waiters": 2,
        "loads": 1,
        "waiting_abroad": None,
        "leases": None,
        "tiers": {},
        "doubted": 4,
        "name": "knowledge",
        "worker": os.getpid(),
        "of": None,
    }


def test_machines_that_share_a_tier_see_how_it_is_and_what_they_hold() -> None:
    figures = stats(Seen(abroad=(3, 1), states=(("redis", "degraded"),)))
    assert (figures["waiting_abroad"], figures["leases"], figures["tiers"]) == (3, 1, {"redis": "degraded"})


def test_every_request_is_in_exactly_one_figure() -> None:
    figures: dict[str, Any] = stats(busy())
    parts = ("total_hits", "total_misses", "collapsed", "revalidated", "errors")
    assert figures["total_requests"] == sum(figures[part] for part in parts) + sum(figures["bypass"].values())


def test_collapsed_requests_lower_the_hit_rate_and_bypasses_do_not() -> None:
    seen = Seen()
    group = seen.counters.group("/ask")
    group.hits = 1
    group.others["collapsed", "origin"] = 3
    assert stats(seen)["hit_rate"] == 0.25
    group.others["bypass", "none"] = 100
    assert stats(seen)["hit_rate"] == 0.25


def test_before_the_first_request_nothing_is_divided_by_nothing() -> None:
    figures = stats(Seen(tiers=()))
    assert (figures["hit_rate"], figures["avg_hit_time_ms"], figures["avg_miss_time_ms"]) == (0.0, None, None)
    assert (figures["cache_size"], figures["entries_limit"], figures["memory_limit_bytes"]) == (0, None, None)


def test_bypasses_alone_make_no_hit_rate() -> None:
    seen = Seen()
    seen.counters.group("/ask").others["bypass", "none"] = 3
    assert stats(seen)["hit_rate"] == 0.0


def test_other_tiers_do_not_count_as_memory() -> None:
    seen = Seen(tiers=(TierGauge("memory", 1, 0, 10, 0), TierGauge("disk", 5, 7, 50, 70)))
    figures = stats(seen)
    assert (figures["cache_size"], figures["memory_bytes"]) == (1, 10)
    assert (figures["entries_limit"], figures["memory_limit_bytes"]) == (None, None)


def test_groups_are_shown_only_when_asked_for_and_add_up() -> None:
    assert "/ask" not in stats_json(busy()).decode()
    figures: dict[str, Any] = stats(busy(), groups=True)
    groups = figures["groups"]
    assert set(groups) == {"/ask", "app.find"}
    assert groups["/ask"]["hit_rate"] == 9 / 12
    assert groups["/ask"]["bypass"] == 3
    assert groups["app.find"]["avg_hit_time_ms"] is None
    for name in ("total_requests", "total_hits", "total_misses", "collapsed", "saved_bytes", "saved_seconds"):
        assert figures[name] == sum(group[name] for group in groups.values())


def test_json_says_the_same() -> None:
    assert json.loads(stats_json(busy(), groups=True, of=4)) == stats(busy(), groups=True, of=4)


def test_reading_changes_nothing() -> None:
    seen = busy()
    assert stats(seen, groups=True) == stats(seen, groups=True)


def test_a_real_cache_is_told_truly() -> None:
    async def scenario() -> dict[str, Any]:
        cache = Cache(MemoryStore(max_entries=5), name="real")
        observable: Observable = cache

        async def load() -> str:
            await asyncio.sleep(0)
            return "answer"

        await asyncio.gather(*(cache.get_or_load("a", load, ttl=60) for _ in range(3)))
        await cache.get_or_load("a", load, ttl=60)
        await cache.invalidate(all=True)
        figures = stats(observable)
        await cache.aclose()
        return figures

    figures = asyncio.run(scenario())
    assert (figures["total_misses"], figures["collapsed"], figures["total_hits"]) == (1, 2, 1)
    assert (figures["hit_rate"], figures["total_requests"]) == (0.25, 4)
    assert (figures["cache_size"], figures["entries_limit"], figures["evictions"]["invalidated"]) == (0, 5, 1)
    assert (figures["name"], figures["waiters"], figures["loads"]) == ("real", 0, 0)
    assert figures["avg_miss_time_ms"] > 0


@pytest.mark.parametrize(
    ("said", "workers"), [("4", 4), ("", None), ("0", None), ("four", None), ("-1", None), ("²", None)]
)
def test_of_how_many_workers_the_figures_are_one_s_is_what_web_concurrency_says(
    monkeypatch: pytest.MonkeyPatch, said: str, workers: int | None
) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", said)
    assert declared_workers() == workers
    assert (stats(Seen())["worker"], stats(Seen())["of"]) == (os.getpid(), workers)
    assert stats(Seen(), of=3)["of"] == 3
