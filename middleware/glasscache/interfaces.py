"""Every extension point on one page: what others may implement, and what the engine may rely on.

Nothing here decides anything. Eviction has no Protocol of ours: any `cachetools.Cache` plugs into `MemoryStore`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, runtime_checkable

from glasscache._entry import Entry, Key
from glasscache._events import Cause, Counters, Event, Outcome, SpanRef, TierGauge, Work

T = TypeVar("T")
RemovalHook = Callable[[Key, Entry, Cause], None]


class Clock(Protocol):
    """Two clocks: `now` never jumps and measures; `wall` is Unix time and only for dates that leave the process."""

    @property
    def now(self) -> Callable[[], float]:
        """Seconds on a clock that never jumps."""
        ...

    @property
    def wall(self) -> Callable[[], float]:
        """Seconds since the Unix epoch."""
        ...


@runtime_checkable
class Store(Protocol):
    """Keeps entries. A miss is `None`; `StoreError` means "could not answer".

    A store may forget anything at any time, and may return an entry past its lifetime (the engine judges it), but never
    one that was deleted or replaced before the call began.
    """

    @property
    def name(self) -> str:
        """`cache.tier` in telemetry: memory, redis, disk, or a word of your own."""
        ...

    async def get(self, key: Key) -> Entry | None:
        """The entry under `key`, or None."""
        ...

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry, in place of any other under `key`."""
        ...

    async def delete(self, key: Key) -> None:
        """Remove the entry under `key`, if there is one."""
        ...

    async def aclose(self) -> None:
        """Release everything. A closed store may be used again: it starts anew."""
        ...


@runtime_checkable
class NearStore(Store, Protocol):
    """A store in this process that answers at once, without awaiting."""

    def peek(self, key: Key) -> Entry | None:
        """The entry, counted as a use by the eviction policy."""
        ...

    def put(self, key: Key, entry: Entry) -> bool:
        """Keep the entry; False if it was refused (larger than the store)."""
        ...

    def drop(self, key: Key, cause: Cause = "invalidated") -> bool:
        """Remove one entry; True if it was there."""
        ...

    def drop_tag(self, tag: str) -> int:
        """Remove every entry that carries the tag; how many there were."""
        ...

    def clear(self) -> int:
        """Remove every entry as invalidated; how many there were."""
        ...

    def sweep(self, now: float) -> float | None:
        """Remove what is dead at `now`; when the next entry dies (None: none will)."""
        ...

    def gauge(self) -> TierGauge:
        """How full it is, and how full it may be."""
        ...

    def watch(self, hook: RemovalHook) -> None:
        """Call `hook` after every removal, with its cause."""
        ...


class Codec(Protocol):
    """Values to bytes and back (`get_or_load` keeps values encoded, so that no caller can change another's copy)."""

    def encode(self, value: object) -> bytes:
        """The bytes of a value. CodecError if it has none."""
        ...

    def decode(self, data: bytes, type: type[T]) -> T:  # noqa: A002 - the word of msgspec's own API
        """The value of bytes that `encode` made, as `type`. CodecError if they are not of that type."""
        ...


class KeyBuilder(Protocol):
    """What of a request's content selects the answer: bytes for the key, or None to bypass.

    The rule itself adds method, scheme, host, path, query, chosen headers, tenant, and the content's type and encoding.
    `bypass_reason` says in one word why None was answered.
    """

    @property
    def bypass_reason(self) -> str:
        """`cache.bypass.reason`: why None was answered."""
        ...

    def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
        """The part of the key; None to bypass."""
        ...


class Observable(Protocol):
    """What Telemetry reads when it collects."""

    @property
    def name(self) -> str:
        """`cache.name`."""
        ...

    @property
    def counters(self) -> Counters:
        """The integers."""
        ...

    def gauges(self) -> Iterable[TierGauge]:
        """How full each tier is."""
        ...

    @property
    def waiters(self) -> int:
        """Requests that wait for another request's load, now."""
        ...

    @property
    def holders(self) -> int:
        """Loads under way, now."""
        ...


class Telemetry(Protocol):
    """Where the engine tells what happens. Never raises, never blocks, never changes an answer."""

    def observe(self, source: Observable) -> None:
        """Read this cache's integers at every collection (held weakly)."""
        ...

    def span(self, work: Work) -> AbstractContextManager[object]:
        """Around the work. Reads the record when the work is over.

        For a `Load`, `__enter__` makes the span current in a context that belongs to the load alone and fills
        `work.ref`; `__exit__` may come from any context.
        """
        ...

    def emit(self, event: Event) -> None:
        """Something happened."""
        ...

    def annotate(self, outcome: Outcome) -> None:
        """Set the outcome on the current (server) span, if it is recording."""
        ...

    @property
    def annotates(self) -> bool:
        """Whether the current span is recording: if not, a request does not even build its outcome."""
        ...

    def current(self) -> SpanRef | None:
        """The current span, if there is one."""
        ...
