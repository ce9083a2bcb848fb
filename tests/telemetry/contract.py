"""The contract of names as users' dashboards have it, written down a second time, and how what arrived is held to it.

Decides what may come and with which values. Must never read the names from the code that is tested here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tests.support.otlp_model import Log, Metric, Span

ANY = frozenset({"*"})
PREFIX = "glasscache."


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


RESULTS = words("hit stale revalidated collapsed miss bypass error")
GROUPS = words("/ask /page /documents/{id} /question /slow /broken /late /mine /ask/{name} /soon/{name}")
TIER = words("memory")
SHARED = words("redis")
SCOPE = words("process cluster")
CAUSES = words("evicted expired invalidated replaced rejected")
ERRORS = words("RuntimeError")


@dataclass(frozen=True)
class Kind:
    """How an instrument arrives: type of data, monotonic or not, unit, and the values of its attributes."""

    type: str
    monotonic: bool
    unit: str
    attributes: dict[str, frozenset[str]]
    bounds: tuple[float, ...] = ()


def counter(unit: str, **attributes: frozenset[str]) -> Kind:
    return Kind("sum", True, unit, dotted(attributes))


def level(unit: str, **attributes: frozenset[str]) -> Kind:
    return Kind("sum", False, unit, dotted(attributes))


def histogram(unit: str, bounds: str, **attributes: frozenset[str]) -> Kind:
    return Kind("histogram", False, unit, dotted(attributes), tuple(map(float, bounds.split())))


def dotted(attributes: dict[str, frozenset[str]]) -> dict[str, frozenset[str]]:
    return {name.replace("__", "."): values for name, values in attributes.items()}


LOAD = ".005 .01 .025 .05 .075 .1 .25 .5 .75 1 2.5 5 7.5 10"
METRICS: dict[str, Kind] = {
    "requests": counter(
        "{request}",
        cache__result=RESULTS,
        cache__tier=words("memory redis origin none"),
        cache__key_group=GROUPS,
    ),
    "request.bypasses": counter(
        "{request}", cache__bypass__reason=words("credentials range unscoped method"), cache__key_group=GROUPS
    ),
    "unstored.answers": counter("{answer}", cache__unstored__reason=words("private"), cache__key_group=GROUPS),
    "request.duration": histogram(
        "s",
        ".00005 .0001 .00025 .0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10",
        cache__result=RESULTS,
        error__type=ERRORS,
    ),
    "load.duration": histogram(
        "s",
        LOAD,
        cache__key_group=GROUPS,
        cache__load__trigger=words("miss refresh revalidate warm"),
        error__type=ERRORS,
    ),
    "lock.wait.duration": histogram(
        "s",
        ".0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10 30",
        cache__key_group=GROUPS,
        cache__lock__scope=SCOPE,
        cache__lock__outcome=words("served promoted acquired timeout holder_failed stale_served cancelled error"),
    ),
    "lock.hold.duration": histogram(
        "s",
        f"{LOAD} 30",
        cache__key_group=GROUPS,
        cache__lock__scope=SCOPE,
        cache__lock__release=words("released expired lost"),
    ),
    "lock.acquisitions": counter(
        "{acquisition}", cache__lock__scope=SCOPE, cache__lock__result=words("immediate contended timeout error")
    ),
    "lock.waiter.count": level("{waiter}", cache__lock__scope=SCOPE),
    "lock.holder.count": level("{holder}", cache__lock__scope=SCOPE),
    "lock.queue.length": histogram("{waiter}", "0 1 2 4 8 16 32 64 128 256 512 1024", cache__lock__scope=SCOPE),
    "evictions": counter("{eviction}", cache__tier=TIER | SHARED, cache__eviction__reason=CAUSES),
    "eviction.age": histogram(
        "s", "1 10 60 300 900 3600 14400 86400", cache__tier=TIER, cache__eviction__reason=CAUSES
    ),
    "invalidations": counter("{entry}", cache__invalidation__source=words("api tag unsafe_method backplane")),
    "invalidation.lag": histogram("s", ".001 .0025 .005 .01 .025 .05 .1 .25 .5 1 2.5 5 10"),
    "entry.count": level("{entry}", cache__tier=TIER),
    "entry.limit": level("{entry}", cache__tier=TIER),
    "memory.usage": level("By", cache__tier=TIER),
    "memory.limit": level("By", cache__tier=TIER),
    "stale.age": histogram(
        "s", "1 5 15 60 300 900 3600 86400", cache__stale__reason=words("revalidating error wait_timeout")
    ),
    "tier.operation.duration": histogram(
        "s",
        ".00025 .0005 .001 .0025 .005 .01 .025 .05 .1 .25 .5 1 5",
        cache__tier=SHARED,
        cache__operation=words("get set delete lease publish"),
        cache__result=words("hit miss"),
        error__type=words("glasscache.errors.StoreError redis.exceptions.ConnectionError TimeoutError"),
    ),
    "tier.state": level("{tier}", cache__tier=SHARED, cache__tier__state=words("ok degraded open")),
    "saved.time": counter("s", cache__key_group=GROUPS),
    "saved.price": counter("{currency}", cache__key_group=GROUPS),
    "saved.io": counter("By", cache__key_group=GROUPS),
}
OF_MACHINES = words("invalidation.lag tier.operation.duration tier.state")
"""What is told only where machines share a tier."""
SOMETIMES = {"error.type": None, "cache.result": "tier.operation.duration"}
"""Attributes that not every point has; of one metric alone, or of any."""

SPANS: dict[str, frozenset[str]] = {
    "cache.load": words(
        "cache.key_group cache.load.trigger cache.lock.waiter.count cache.fencing_token cache.unstored.reason"
        " error.type"
    ),
    "cache.lookup": words("cache.key_group cache.tier cache.item_size"),
    "cache.revalidate": words("cache.key_group cache.result error.type"),
    "cache.store": words("cache.tier cache.item_size cache.ttl error.type"),
    "cache.lock.wait": words(
        "cache.key_group cache.lock.scope cache.lock.outcome cache.lock.queue.position cache.lock.queue.length"
        " cache.lock.holder.id cache.lock.holder.trace_id cache.lock.holder.span_id cache.lock.holder.elapsed"
        " cache.lock.holder.sampled cache.fencing_token"
    ),
    "cache.invalidate": words("cache.invalidation.source cache.invalidation.entry.count"),
}
OF_ONE = words("cache.load cache.lock.wait cache.revalidate cache.invalidate")
"""Spans of one machine, ..."""
OF_SEVERAL = words("cache.load cache.lock.wait cache.store cache.invalidate")
"""... and of several, where the origin has nothing to confirm."""
CLEAR = words("cache.key")
"""On the server span, on `cache.load` and `cache.lock.wait`: by opt-in."""
LINKS = {
    "cache.load": words("lock_waiter refresh_trigger"),
    "cache.lock.wait": words("lock_holder"),
    "cache.invalidate": words("invalidation_source"),
}
_WAITED = (
    "cache.name cache.key_group cache.key_hash cache.lock.scope cache.lock.wait cache.lock.queue.length"
    " cache.lock.holder.id cache.lock.holder.trace_id cache.lock.holder.span_id"
)
EVENTS: dict[str, tuple[str, frozenset[str]]] = {
    "glasscache.lock.contention": ("WARNING", words(_WAITED)),
    "glasscache.lock.timeout": ("ERROR", words(_WAITED)),
    "glasscache.lock.lost": (
        "ERROR",
        words(
            "cache.name cache.key_group cache.key_hash cache.lock.scope cache.lock.hold cache.lock.release"
            " cache.lock.queue.length cache.lock.holder.trace_id cache.lock.holder.span_id cache.fencing_token"
        ),
    ),
    "glasscache.tier.degraded": ("WARNING", words("cache.name cache.tier cache.tier.state error.type")),
    "glasscache.tier.recovered": ("INFO", words("cache.name cache.tier cache.tier.state")),
    "glasscache.eviction.pressure": (
        "WARNING",
        words(
            "cache.name cache.tier cache.eviction.rate cache.entry.count cache.entry.limit cache.memory.usage"
            " cache.memory.limit"
        ),
    ),
}
SERVER_HIT = words("cache.result cache.tier cache.key_group cache.key_hash")
SERVER = SERVER_HIT | words("cache.name cache.age cache.ttl cache.bypass.reason")


def assert_metrics(metrics: dict[str, Metric], *, machines: bool = False) -> None:
    """All of ours, and each as the contract has it; `machines`: of those that share a tier."""
    ours = {name.removeprefix(PREFIX): metric for name, metric in metrics.items() if name.startswith(PREFIX)}
    assert set(ours) == set(METRICS) - (frozenset() if machines else OF_MACHINES)
    for name, metric in ours.items():
        kind = METRICS[name]
        arrived = (metric.type, metric.monotonic, metric.unit, metric.temporality)
        assert arrived == (kind.type, kind.monotonic, kind.unit, "cumulative"), name
        assert metric.description, name
        for point in metric.points:
            assert point.bounds == kind.bounds, name
            assert_attributes(name, point.attributes, kind)


def assert_attributes(name: str, attributes: dict[str, Any], kind: Kind) -> None:
    assert attributes["cache.name"] == "knowledge", name
    for attribute, value in attributes.items():
        if attribute != "cache.name":
            assert value in kind.attributes[attribute], (name, attribute, value)
    sometimes = {attribute for attribute, of in SOMETIMES.items() if of in (None, name)}
    assert set(kind.attributes) - sometimes <= set(attributes), name


def assert_spans(spans: list[Span], names: frozenset[str], *, clear: frozenset[str] = frozenset()) -> None:
    """Our spans, of these names: their kind, attributes and links; `clear`: what they may show beside."""
    ours = [span for span in spans if span.scope == "glasscache"]
    assert {span.name for span in ours} == names
    for span in ours:
        assert span.kind == "internal"
        assert set(span.attributes) - clear <= SPANS[span.name], span
        assert span.events == (), span
        assert span.status_message == "", span
        for link in span.links:
            assert link.attributes.keys() == {"cache.link.type"}, span
            assert link.attributes["cache.link.type"] in LINKS[span.name], span


def assert_event(told: dict[str, Any]) -> None:
    """A log record's level, and attributes: no others than the contract names."""
    level, attributes = EVENTS[told["event.name"]]
    assert told["level"] == level
    assert {name for name in told if "." in name} - {"event.name"} <= attributes


def assert_record(log: Log, name: str, *, without: frozenset[str] = frozenset()) -> None:
    """A log record that arrived: that event, with all that the contract names for it but these."""
    level, attributes = EVENTS[name]
    assert log.event_name == name
    assert log.severity == {"WARNING": "WARN"}.get(level, level)
    assert {attribute for attribute in log.attributes if attribute.startswith("cache.")} == attributes - without


def assert_server_spans(spans: list[Span], *, clear: frozenset[str] = frozenset()) -> None:
    """What server spans carry of ours: of a hit four attributes, of all else no more than the contract names."""
    for span in spans:
        if span.kind == "server":
            ours = {name for name in span.attributes if name.startswith("cache.")}
            if span.attributes["cache.result"] == "hit":
                assert ours == SERVER_HIT | clear, span
            else:
                assert ours <= SERVER | clear, span
                assert {"cache.result", "cache.tier", "cache.key_group"} <= ours


def assert_no_orphans(spans: list[Span], *callers: str) -> None:
    """Every parent was exported, or is a caller's span."""
    found = orphans(spans, callers)
    assert not found, found


def orphans(spans: list[Span], callers: Iterable[str]) -> list[tuple[str, str]]:
    """Spans whose parent was not exported (yet), and is no caller's."""
    known = {span.span_id for span in spans} | set(callers) | {""}
    return [(span.name, span.parent) for span in spans if span.parent not in known]
