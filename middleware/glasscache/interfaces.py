"""Every extension point on one page: what others may implement, and what the engine may rely on.

Nothing here decides anything. Eviction has no Protocol of ours: any `cachetools.Cache` plugs into `MemoryStore`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, runtime_checkable

from glasscache._clock import SystemClock
from glasscache._counters import Counters
from glasscache._entry import Entry, Key, entry_of
from glasscache._events import Cause, Event, Outcome, SpanRef, TierGauge, TierState, Work
from glasscache._lease import Claim, Holder, Lease, Lookup, Mark, Marks
from glasscache.errors import StoreError

# With what each of them needs: nobody has to import from a module that begins with an underscore.
__all__ = ["Cause", "Clock", "Entry", "Key", "NearStore", "RemovalHook", "Store", "StoreError", "TierGauge"]
__all__ += ["Stepping", "Steps"]
__all__ += ["SystemClock", "entry_of"]
__all__ += ["Bell", "Claim", "Glancing", "Holder", "Lease", "LeaseStore", "Lookup", "Middle", "SpanRef", "Told"]
__all__ += ["Backplane", "Listener", "Mark", "Marks"]
__all__ += ["Codec", "KeyBuilder"]
__all__ += ["Counters", "Event", "Observable", "Outcome", "Telemetry", "TierState", "Work"]

T = TypeVar("T")
RemovalHook = Callable[[Key, Entry, Cause], None]
Steps = tuple[Callable[[Key], Entry | None], Callable[[Key], None]]
Told = Callable[[Entry | StoreError | None], None]


class Clock(Protocol):
    """Two clocks: `now` never jumps and measures; `wall` is Unix time and only for dates that leave the process."""

    @property
    def now(self) -> Callable[[], float]:
        """Seconds on a clock that never jumps, and that goes on while the machine sleeps."""

    @property
    def wall(self) -> Callable[[], float]:
        """Seconds since the Unix epoch."""


@runtime_checkable
class Store(Protocol):
    """Keeps entries. A miss is `None`; `StoreError` means "could not answer".

    A store may forget anything at any time, and may return an entry past its lifetime (the engine judges it), but never
    one that was deleted or replaced before the call began.
    """

    @property
    def name(self) -> str:
        """`cache.tier` in telemetry: memory, redis, disk, or a word of your own."""

    async def get(self, key: Key) -> Entry | None:
        """The entry under `key`, or None."""

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry, in place of any other under `key`."""

    async def delete(self, key: Key) -> None:
        """Remove the entry under `key`, if there is one."""

    async def aclose(self) -> None:
        """Release everything. A closed store may be used again: it starts anew."""


@runtime_checkable
class NearStore(Store, Protocol):
    """A store in this process that answers at once, without awaiting."""

    def peek(self, key: Key) -> Entry | None:
        """The entry, counted as a use by the eviction policy."""

    def put(self, key: Key, entry: Entry) -> bool:
        """Keep the entry; False if it was refused (larger than the store)."""

    def drop(self, key: Key, cause: Cause = "invalidated") -> bool:
        """Remove one entry; True if it was there."""

    def drop_tag(self, tag: str) -> int:
        """Remove every entry that carries the tag; how many there were."""

    def clear(self) -> int:
        """Remove every entry as invalidated; how many there were."""

    def doubt(self, now: float) -> None:
        """`Entry.doubt` for all of them: this machine may have missed that some were told invalid."""

    def sweep(self, now: float) -> float | None:
        """Remove what is dead at `now`; when the next entry dies (None: none will)."""

    def gauge(self) -> TierGauge:
        """How full it is, and how full it may be."""

    def watch(self, hook: RemovalHook) -> None:
        """Call `hook` after every removal, with its cause."""


class Stepping(Protocol):
    """What a NearStore may have beside: `peek` in two steps, for the shortest way of a hit."""

    @property
    def steps(self) -> Steps | None:
        """What finds the entry under a key, and what counts that as a use; None: not now, `peek`. Asked for once."""


class Bell(Protocol):
    """Rings when another machine lets go of a key."""

    async def rung(self, seconds: float) -> bool:
        """Wait until it rings, or rang since it was last asked; False after `seconds`."""

    def close(self) -> None:
        """Listen no more. Twice does no harm."""


@runtime_checkable
class LeaseStore(Store, Protocol):
    """A store that machines share, and that grants one of them at a time the right to load a key.

    Every method but `listen` raises StoreError if the store cannot answer. None of them is disturbed by the
    cancellation of its caller.
    """

    async def look(self, key: Key, claim: Claim) -> Lookup:
        """The entry, or the lease, or who holds it: one round trip."""

    async def renew(self, key: Key, lease: Lease) -> bool:
        """Hold the lease for `lease.seconds` from now; False: it is lost (expired, invalidated, or another's)."""

    async def commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...] | None:
        """Keep the entry, give the lease back and wake who waits: what they told in their claims, at most 16.

        None: the lease is lost, and nothing was kept.
        """

    async def release(self, key: Key, lease: Lease, *, refuse_for: float = 0.0) -> tuple[SpanRef, ...]:
        """Give the lease back without an answer and wake who waits.

        For `refuse_for` seconds lookups are told that nothing will be stored; the next `commit` or `set` ends that.
        """

    def listen(self, key: Key) -> Bell:
        """A bell for this key: taken before `look`, so that no release goes unheard."""


class Glancing(Protocol):
    """What a LeaseStore may have beside: a lookup that is told instead of awaited, so that a hit needs no task."""

    def glance(self, key: Key, then: Told) -> bool:
        """Ask for the entry alone. False: there is nothing to be gained by it now, `look`.

        `then`, which must not raise, is called once, perhaps before this returns: with an entry that is fresh or within
        its `stale_while_revalidate`; with None, if there is none: `look`; or with what went wrong.
        """


class Listener(Protocol):
    """Who is told by a Backplane. Synchronous; must not raise."""

    def marked(self, mark: Mark, lag: float, source: SpanRef | None) -> None:
        """Another machine told something invalid, `lag` seconds ago, in the span `source`."""

    def replaced(self, key: Key) -> None:
        """Another machine has put a new answer into a tier that is shared."""

    def lost(self) -> None:
        """From now on (or from a little earlier) messages may be missing."""

    def restored(self) -> None:
        """From now on messages arrive again; what came in between is in `Backplane.read`."""


@runtime_checkable
class Backplane(Protocol):
    """Invalidations between the machines of one namespace. Raises StoreError where it cannot answer."""

    async def start(self, listener: Listener) -> None:
        """Listen, and go on trying to until `aclose`; tells `restored` as soon as messages arrive. Returns at once."""

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        """Keep markers under the next number above `seen` and above all that were given out; tell all others."""

    async def tell_replaced(self, key: Key) -> None:
        """Tell all others that there is a new answer."""

    async def read(self, since: int) -> Marks:
        """All markers above `since`."""

    async def aclose(self) -> None:
        """Listen no more. A closed backplane may be started again."""


@runtime_checkable
class Middle(Protocol):
    """What a Store between memory and a tier that machines share may have beside, if its entries outlive the process.

    They carry the numbers of that tier's namespace. Should the numbers have begun anew meanwhile, nobody could tell by
    them what is dead: so it remembers whose they are. Raises StoreError where it cannot answer.
    """

    def stand_between(self) -> None:
        """From now on keep nothing until `belong` was called."""

    async def recall(self) -> tuple[str, int]:
        """Which life of a namespace the entries belong to ("": there are none), and the highest number among them."""

    async def belong(self, life: str) -> None:
        """From now on they belong to this one: what is older was told invalid there. It is trusted."""

    def distrust(self) -> bool:
        """Answer nothing until it is clear whom they belong to; whether it was trusted so far."""

    def put_last(self, key: Key) -> int:
        """What tells the entry that this process has just put there from any other; 0: it has put none."""

    def spare(self, key: Key, copy: int) -> None:
        """The next removal of the key leaves this one: another process that shares the store has put it there."""


class Codec(Protocol):
    """Values to bytes and back (`get_or_load` keeps values encoded, so that no caller can change another's copy)."""

    def encode(self, value: object) -> bytes:
        """The bytes of a value. CodecError if it has none."""

    def decode(self, data: bytes, type: type[T]) -> T:  # noqa: A002 - the word of msgspec's own API
        """The value of bytes that `encode` made, as `type`. CodecError if they are not of that type."""


@runtime_checkable
class KeyBuilder(Protocol):
    """What of a request's content selects the answer: bytes for the key, or None to bypass.

    The rule itself adds method, scheme, host, path, query, chosen headers, tenant, and the content's type and encoding.
    `bypass_reason` says in one word why None was answered.
    """

    @property
    def bypass_reason(self) -> str:
        """`cache.bypass.reason`: why None was answered."""

    def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
        """The part of the key; None to bypass."""


class Observable(Protocol):
    """What Telemetry reads when it collects."""

    @property
    def name(self) -> str:
        """`cache.name`."""

    @property
    def counters(self) -> Counters:
        """The integers behind all figures."""

    def gauges(self) -> Iterable[TierGauge]:
        """How full each tier is that knows it, and how full it may be."""

    @property
    def waiters(self) -> int:
        """Requests that wait for another request's load, now."""

    @property
    def holders(self) -> int:
        """Loads under way, now."""

    @property
    def abroad(self) -> tuple[int, int] | None:
        """Loads that wait for another machine's, and leases held, now; None: no tier is shared."""

    def tier_states(self) -> Iterable[tuple[str, TierState]]:
        """The name and the state of each far tier: ok, degraded (some operations fail), or open (not asked)."""


class Telemetry(Protocol):
    """Where the engine tells what happens. Never raises, never blocks, never changes an answer."""

    def observe(self, source: Observable) -> None:
        """Read this cache's integers at every collection (held weakly)."""

    def span(self, work: Work) -> AbstractContextManager[object]:
        """Around the work. Reads the record when the work is over.

        For a `Load` and a `Revalidation`, `__enter__` makes the span current in a context that belongs to the load
        alone, and fills `work.ref` of a load; `__exit__` may come from any context.
        """

    def emit(self, event: Event) -> None:
        """Tell one event, after the fact: measure, count or log it."""

    def hears(self) -> bool:
        """Whether anybody gets spans and measurements: if not, nobody makes those that can be spared."""

    def annotate(self, outcome: Outcome) -> None:
        """Set the outcome on the current (server) span, if it is recording."""

    @property
    def annotates(self) -> bool:
        """Whether the current span is recording: if not, a request does not even build its outcome."""

    @property
    def on_hit(self) -> Callable[[str, Key], bool] | None:
        """What is called with the key group and the key of every hit from memory, in place of `annotate`, and says
        whether the current span is recording.

        None: nothing is. Asked for once. It runs on the shortest way that there is: it sets the outcome, no more.
        """

    def name_route(self, method: str, route: str) -> None:
        """Name the current (server) span by its route, as it is where the app's router is asked, unless it has one."""

    def current(self) -> SpanRef | None:
        """The current span, if there is one."""

    def hushed(self) -> AbstractContextManager[object]:
        """Around what is asked again and again: meanwhile instrumented clients make no spans of their own."""
