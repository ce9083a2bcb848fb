"""The instruments: one set per meter provider, over all caches of the process.

Decides what is registered where, and which caches a collection reads. Instruments of one provider read all
caches that report there, since a second observable of the same name would silently lose its callback. The
integers of caches are read at collection, often in another thread: so only copies that are made in one step
are walked. Must never hold a cache or a provider alive, nor take a lock (a fork could leave it locked for
ever).
"""

from __future__ import annotations

import weakref
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from typing import TYPE_CHECKING, TypeAlias, get_args

from opentelemetry import metrics
from opentelemetry.metrics import Observation

from glasscache import _otel_names as names
from glasscache._events import TierState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackOptions, Counter, Histogram, Meter, MeterProvider

    from glasscache._otel_names import Metric
    from glasscache.interfaces import Observable

Attributes: TypeAlias = dict[str, str]
_Reader: TypeAlias = "Callable[[Observable], Iterator[tuple[float, Attributes]]]"


@cache
def release_of(distribution: str) -> str:
    """The installed release of a distribution; "" if it runs from a source tree that nobody installed.

    To read it takes milliseconds: not at import, and once.
    """
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""


class Bounded:
    """The first `limit` different values as they are, `_other` for all that come later."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers: dict[str, int] = {}
        self._next = count()

    def __call__(self, value: str) -> str:
        number = self._numbers.get(value)
        if number is None:
            if len(self._numbers) >= self._limit:
                return names.OTHER
            # Two threads that come here at once get two numbers, so that the limit holds without a lock.
            number = self._numbers.setdefault(value, next(self._next))
        return value if number < self._limit else names.OTHER


bounded_group = Bounded(names.MAX_GROUPS)
"""The `cache.key_group` of a metric, for the whole process."""


# --- what is read at collection -----------------------------------------------------------------------------


def _requests(source: Observable) -> Iterator[tuple[float, Attributes]]:
    for group in list(source.counters.groups.values()):
        for (result, tier), number in group.requests().items():
            yield number, {names.RESULT: result, names.TIER: tier, names.GROUP: bounded_group(group.name)}


def _reasons(field: str, attribute: str) -> _Reader:
    def read(source: Observable) -> Iterator[tuple[float, Attributes]]:
        for group in list(source.counters.groups.values()):
            for reason, number in list(getattr(group, field).items()):
                yield number, {attribute: reason, names.GROUP: bounded_group(group.name)}

    return read


def _evictions(source: Observable) -> Iterator[tuple[float, Attributes]]:
    for (tier, cause), number in list(source.counters.removals.items()):
        yield number, {names.TIER: tier, names.EVICTION_REASON: cause}


def _saved(field: str) -> _Reader:
    def read(source: Observable) -> Iterator[tuple[float, Attributes]]:
        for group in list(source.counters.groups.values()):
            yield getattr(group, field), {names.GROUP: bounded_group(group.name)}

    return read


def _waiters(source: Observable) -> Iterator[tuple[float, Attributes]]:
    yield source.waiters, {names.LOCK_SCOPE: "process"}
    if source.abroad is not None:
        yield source.abroad[0], {names.LOCK_SCOPE: "cluster"}


def _holders(source: Observable) -> Iterator[tuple[float, Attributes]]:
    yield source.holders, {names.LOCK_SCOPE: "process"}
    if source.abroad is not None:
        yield source.abroad[1], {names.LOCK_SCOPE: "cluster"}


def _tier_states(source: Observable) -> Iterator[tuple[float, Attributes]]:
    for tier, state in source.tier_states():
        for one in get_args(TierState):
            yield one == state, {names.TIER: tier, names.TIER_STATE: one}


def _gauge(field: str, *, is_limit: bool = False) -> _Reader:
    def read(source: Observable) -> Iterator[tuple[float, Attributes]]:
        for gauge in source.gauges():
            value: int = getattr(gauge, field)
            if value or not is_limit:  # a limit of 0 says: not bounded that way
                yield value, {names.TIER: gauge.tier}

    return read


_READERS: dict[Metric, _Reader] = {
    names.REQUESTS: _requests,
    names.REQUEST_BYPASSES: _reasons("bypasses", names.BYPASS_REASON),
    names.UNSTORED_ANSWERS: _reasons("unstored", names.UNSTORED_REASON),
    names.LOCK_WAITERS: _waiters,
    names.LOCK_HOLDERS: _holders,
    names.TIER_STATES: _tier_states,
    names.EVICTIONS: _evictions,
    names.ENTRY_COUNT: _gauge("entries"),
    names.ENTRY_LIMIT: _gauge("entry_limit", is_limit=True),
    names.MEMORY_USAGE: _gauge("size"),
    names.MEMORY_LIMIT: _gauge("size_limit", is_limit=True),
    names.SAVED_TIME: _saved("saved_seconds"),
    names.SAVED_PRICE: _saved("saved_price"),
    names.SAVED_IO: _saved("saved_bytes"),
}


# --- the instruments ----------------------------------------------------------------------------------------


class Instruments:
    """All instruments of one meter provider. Get them by `Instruments.of`; errors are the provider's own."""

    @classmethod
    def of(cls, provider: MeterProvider | None) -> Instruments:
        """The instruments of this provider, made on first use. None: the global one, even if set later."""
        chosen = metrics.get_meter_provider() if provider is None else provider
        found = _made.get(id(chosen))
        if found is None:
            found = _made[id(chosen)] = cls(chosen)
        return found

    def __init__(self, provider: MeterProvider) -> None:
        # Held, so that its id stays its own as long as these instruments are known by it.
        self._provider = provider
        self._is_global = provider is metrics.get_meter_provider()
        self._counters: dict[Metric, Counter] = {}
        self._histograms: dict[Metric, Histogram] = {}
        meter = provider.get_meter(names.SCOPE, release_of("glasscache"))
        for metric in names.METRICS:
            self._register(meter, metric)

    def _register(self, meter: Meter, metric: Metric) -> None:
        about = (metric.unit, metric.description)
        match metric.kind:
            case "counter":
                self._counters[metric] = meter.create_counter(metric.name, *about)
            case "histogram":
                self._histograms[metric] = meter.create_histogram(
                    metric.name, *about, explicit_bucket_boundaries_advisory=metric.buckets
                )
            case "observable_counter":
                meter.create_observable_counter(metric.name, [self._callback(metric)], *about)
            case _:
                meter.create_observable_up_down_counter(metric.name, [self._callback(metric)], *about)

    def add(self, metric: Metric, amount: int, attributes: Attributes) -> None:
        """Add to a counter."""
        self._counters[metric].add(amount, attributes)

    def record(self, metric: Metric, value: float, attributes: Attributes, context: Context | None) -> None:
        """Measure; `context` holds the span that an exemplar leads to (None: the current one)."""
        self._histograms[metric].record(max(value, 0.0), attributes, context)

    def observe(self, source: Observable) -> None:
        """Report this cache at every collection, as long as it lives."""
        key, forget = id(source), _observed.pop
        _observed[key] = (weakref.ref(source, lambda _: forget(key, None)), self)

    def _callback(self, metric: Metric) -> Callable[[CallbackOptions], Iterable[Observation]]:
        read = _READERS[metric]

        def collect(_: CallbackOptions) -> Iterable[Observation]:
            # Caches of one name, and groups beyond the limit, share attributes: their numbers are added.
            totals: dict[tuple[tuple[str, str], ...], float] = {}
            for source in self._sources():
                for value, attributes in read(source):
                    key = ((names.NAME, source.name), *attributes.items())
                    totals[key] = totals.get(key, 0) + value
            return [Observation(value, dict(key)) for key, value in totals.items()]

        return collect

    def _target(self) -> MeterProvider:
        return metrics.get_meter_provider() if self._is_global else self._provider

    def _sources(self) -> list[Observable]:
        """All living caches whose numbers go where ours go.

        That can be said only now: before the SDK is set up a cache is registered with the API's proxy,
        after that with the SDK's provider, and of both registrations the SDK keeps one.
        """
        target = self._target()
        return [source for source, home in _living() if home._target() is target]


_made: weakref.WeakValueDictionary[int, Instruments] = weakref.WeakValueDictionary()
_observed: dict[int, tuple[weakref.ref[Observable], Instruments]] = {}


def _living() -> list[tuple[Observable, Instruments]]:
    return [(source, home) for reference, home in list(_observed.values()) if (source := reference()) is not None]
