"""The public Cache: the engine with its defaults, and the ways to use it in code.

Decides which tier is near and which is far, what a value's key is, and how values become bytes. Everything about
requests, flights and staleness is the engine's.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from glasscache._arguments import check, check_policy, check_secret_is_shared
from glasscache._cached import CachedFunction, Decorator, Unbound, cached_function
from glasscache._clock import SystemClock
from glasscache._engine import Engine
from glasscache._entry import Key, sendable
from glasscache._events import TierChanged
from glasscache._guard import Guard
from glasscache._returned import returned_type
from glasscache._state import Tiers
from glasscache._switch import is_enabled
from glasscache._tiers import TieredStore
from glasscache._values import UNWANTED, Absent, LoadedAlways, Question, Values, terms_of
from glasscache.codecs import MsgspecCodec
from glasscache.errors import ConfigurationError
from glasscache.keys import Keyring
from glasscache.otel import OtelTelemetry
from glasscache.policy import Detail, Limits, Policy
from glasscache.stores.memory import MemoryStore

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from glasscache._counters import Counters
    from glasscache._events import Source, TierGauge, TierState
    from glasscache.interfaces import Clock, Codec, LeaseStore, Store, Telemetry

__all__ = ["Cache", "CachedFunction"]

_log = logging.getLogger("glasscache")

T = TypeVar("T")
P = ParamSpec("P")


class Cache:
    """A cache for answers and for values, with one load per key however many ask. For one event loop at a time.

    - `store`: a `MemoryStore` (the default), a `DiskStore`, a `RedisStore`, or a `TieredStore` of them.
    - `policy`: how long values live unless a call says otherwise. `limits`: bounds on sizes and waiting.
    - `name`: `cache.name` in telemetry. `detail`: what telemetry tells beyond what costs a hit nothing.
    - `telemetry`: by default OpenTelemetry, through `tracer_provider` and `meter_provider` or the global ones.
    - `key_secret`: the secret of all keys, 32 characters or more; by default `GLASSCACHE_KEY`, else random.
    - `codec`: how values become bytes; by default msgpack.
    - `enabled`: False: as if there were no cache; by default `GLASSCACHE_ENABLED`, else True.
    - `clock`, `random`: for tests (`glasscache.testing.ManualClock`).

    Raises ConfigurationError for values that cannot work.
    """

    def __init__(
        self,
        store: Store | None = None,
        *,
        policy: Policy | None = None,
        name: str = "default",
        limits: Limits | None = None,
        telemetry: Telemetry | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        clock: Clock | None = None,
        key_secret: str | bytes | None = None,
        codec: Codec | None = None,
        detail: Detail | None = None,
        random: Random | None = None,
        enabled: bool | None = None,
    ) -> None:
        if not name:
            raise ConfigurationError(f"Cache(name={name!r}): give the cache a name; telemetry tells caches apart by it")
        check(name=name, policy=policy, limits=limits, detail=detail, random=random, enabled=enabled)
        check(clock=clock, codec=codec, telemetry=telemetry)
        check(tracer_provider=tracer_provider, meter_provider=meter_provider)
        store = MemoryStore() if store is None else store
        tiers = store if isinstance(store, TieredStore) else TieredStore([store])
        self.name = name
        self.policy: Policy = policy or Policy()
        self.limits: Limits = limits or Limits()
        self.detail: Detail = detail or Detail()
        self.clock: Clock = SystemClock() if clock is None else clock
        self.enabled: bool = is_enabled() if enabled is None else enabled
        if not self.enabled:
            _log.warning("cache %r is switched off: nothing is kept, every request and call loads", name)
        self.keyring: Keyring = Keyring.from_env() if key_secret is None else Keyring(key_secret)
        """What makes all keys of this cache; `keyring.label(key)` is what telemetry shows of one (`cache.key_hash`)."""
        if tiers.backplane is not None and self.enabled and key_secret is None:
            check_secret_is_shared(store)
        if telemetry is None:
            telemetry = self._open_telemetry(tracer_provider, meter_provider)
        self.telemetry: Telemetry = telemetry
        random = Random() if random is None else random
        self._guards: list[Guard] = []
        self._engine: Engine = Engine(
            Tiers(
                near=tiers.near,
                near_max_ttl=math.inf if tiers.near is None else tiers.max_ttl(tiers.near),
                far=self._guarded(tiers, random),
                backplane=tiers.backplane,
            ),
            limits=self.limits,
            clock=self.clock,
            telemetry=self.telemetry,
            random=random,
            detail=self.detail,
        )
        for store in tiers.stores:  # what those outside of this process cannot know by themselves
            if hasattr(store, "told_rejected"):
                store.told_rejected = self.counters.reject
            if hasattr(store, "fit"):
                store.fit(self.limits.max_entry_bytes)
        kind = Values if self.enabled else LoadedAlways
        self._values = kind(self._engine, self.keyring, MsgspecCodec() if codec is None else codec, self.detail)
        self.telemetry.observe(self)

    def _open_telemetry(self, tracers: TracerProvider | None, meters: MeterProvider | None) -> OtelTelemetry:
        return OtelTelemetry(
            name=self.name,
            label=self.keyring.label,
            tracer_provider=tracers,
            meter_provider=meters,
            contention_threshold=self.limits.contention_threshold,
            clock=self.clock,
        )

    def _guarded(self, tiers: TieredStore, random: Random) -> Guard | None:
        """The tiers outside of this process, so that they hold up nobody; those with copies for half of the time."""

        def guard(store: LeaseStore, *, has_copies: bool = True) -> Guard:
            budget = self.limits.far_timeout / (2 if has_copies else 1)
            guard = Guard(store, clock=self.clock, budget=budget, random=random, has_copies=has_copies)
            guard.told = functools.partial(self._tier_changed, store.name)
            self._guards.append(guard)
            return guard

        far = tiers.far(self.clock, guard)
        return None if far is None else guard(far, has_copies=False)

    # --- values -----------------------------------------------------------------------------------------------------

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[T]],
        *,
        ttl: float | Callable[[T], float] | None = None,
        tags: Iterable[str] = (),
        type: Any = None,  # noqa: A002 - msgspec's own word for it
        policy: Policy | None = None,
        group: str = "get_or_load",
        store_if: Callable[[T], object] | None = None,
        refresh: bool = False,
    ) -> T:
        """The value under `key`, loaded by `loader` if it is not there; concurrent callers share one load.

        Each call gets a copy of its own. A value that cannot be kept, or not as `type`, is given as it was loaded, to
        each who asks one of its own; a warning says why.

        - `ttl`: seconds, or a function of the loaded value that gives them; by default the policy's.
        - `tags`: names for `invalidate(tag=)`, which removes what was made of the value as well.
        - `type`: what it is decoded to; by default the loader's annotated return type, else JSON-like values.
        - `policy`: how long it lives, in place of the cache's.
        - `group`: `cache.key_group` in telemetry; no part of the key.
        - `store_if`: a function of the loaded value; False: those who wait get it, and it is not kept.
        - `refresh`: load although a value is there (a load under way counts: after a change `invalidate`).

        Raises what the loader raised, LoadTimeoutError and RecursiveLoadError.
        """
        if not isinstance(key, str):
            raise ConfigurationError(f"get_or_load(key={key!r}): give a string")
        values, terms, kept = self._values, self.policy, None
        if policy is not None:
            check_policy("get_or_load", policy)
            terms = policy
        if ttl is not None or store_if is not None:
            terms, kept = terms_of(terms, ttl, store_if)
        try:  # as `_bytes_of`, which would take 2 % of a hit
            name = key.encode()
        except UnicodeEncodeError:
            name = _bytes_of(key)
        digest, wanted = self.keyring.digest(b"value", name), returned_type(loader, type)
        value = UNWANTED if refresh else values.find(digest, wanted, group)
        if value.__class__ is Absent:
            question = Question(
                values,
                digest,
                loader,
                wanted=wanted,
                group=group,
                policy=terms,
                tags=tags,
                kept=kept,
                text=sendable(key) if values.shows else "",  # one span that cannot be sent takes all others with it
            )
            value = await values.load(question, value)
        return cast("T", value)

    @overload
    def cached(self, function: Callable[P, Awaitable[T]], /) -> Unbound[P, T, Callable[P, None]]: ...
    @overload
    def cached(self, function: Callable[P, T], /) -> Unbound[P, T, Callable[P, None]]: ...
    @overload
    def cached(
        self,
        function: None = None,
        /,
        *,
        ttl: float | Callable[[Any], float] | None = None,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
        type: Any = None,
        key: Callable[..., object] | None = None,
        ignore: Iterable[str] = (),
        policy: Policy | None = None,
        name: str | None = None,
        store_if: Callable[[Any], object] | None = None,
    ) -> Decorator: ...
    def cached(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        ttl: float | Callable[[Any], float] | None = None,
        tags: Iterable[str] | Callable[..., Iterable[str]] = (),
        type: Any = None,  # noqa: A002 - msgspec's own word for it
        key: Callable[..., object] | None = None,
        ignore: Iterable[str] = (),
        policy: Policy | None = None,
        name: str | None = None,
        store_if: Callable[[Any], object] | None = None,
    ) -> Any:
        """Decorate an async function, or a plain one (it runs in a thread): equal arguments get the stored value.

        What comes out is awaited: `await retrieve(question)`. `retrieve.invalidate(question)` removes a value,
        `retrieve.refresh(question)` loads it anew, `retrieve.warm(questions)` loads those that are missing,
        `retrieve.__wrapped__` is the function itself. Each call gets a copy of its own, of the annotated return type;
        what cannot be kept as that is given as it was loaded, and a warning says why. Arguments, and the instance of a
        method, must be JSON-like values, dataclasses, msgspec Structs or pydantic models, unless they are left out of
        the key.

        - `ttl`: seconds, or a function of the loaded value that gives them. `policy`: in place of the cache's.
        - `tags`: names, or a function of the arguments that gives them.
        - `type`: what values are decoded to, instead of what is annotated.
        - `key`: a function of the arguments; what it returns stands for all of them in the key.
        - `ignore`: parameters that values do not depend on, such as `("self",)`.
        - `name`: stands for the function in keys and telemetry; by default its module and qualified name. A function
          that closes over variables has keys of its own each time it is made, unless it has a `name`.
        - `store_if`: a function of the loaded value; False: those who wait get it, and it is not kept.

        @classmethod and @staticmethod stand above; a class method's value is removed by
        `Documents.find.invalidate(Documents, ...)`. A plain function runs in a copy of the caller's context, in the
        threads of `asyncio.to_thread`, and cannot be cancelled. Raises ConfigurationError for what cannot be cached;
        calls raise it for arguments that cannot be keyed.
        """
        check_policy("cached", policy)
        terms, kept = terms_of(policy or self.policy, ttl, store_if)
        options: dict[str, Any] = {"policy": terms, "kept": kept, "name": name, "tags": tags, "key": key}
        options |= {"ignore": ignore, "type": type}
        if function is not None:
            return cached_function(self._values, function, **options)
        return functools.partial(cached_function, self._values, **options)

    # --- removal and the end ----------------------------------------------------------------------------------------

    async def invalidate(
        self,
        *,
        key: str | Key | None = None,
        tag: str | None = None,
        all: bool = False,  # noqa: A002 - the public name
    ) -> int:
        """Remove what is stored; how many entries left this machine's memory.

        `key`: the string given to `get_or_load`, or a digest from `CacheMiddleware.key_for` or
        `CachedFunction.key_for`. `tag`: everything that carries it. `all`: everything. Loads that are under way are
        not stored, and later requests do not join them.
        """
        if key is None and tag is None and not all:
            raise ConfigurationError("invalidate(): say what: key=, tag= or all=True")
        said: tuple[Any, Any] = key, tag
        if not (isinstance(said[0], str | bytes | None) and isinstance(said[1], str | None)):
            raise ConfigurationError(f"invalidate(key={key!r}, tag={tag!r}): give a string")
        digest = self.keyring.digest(b"value", _bytes_of(key)) if isinstance(key, str) else key
        source: Source = "api" if tag is None else "tag"
        return await self._engine.invalidate(key=digest, tag=tag, everything=all, source=source)

    async def bump_epoch(self) -> int:
        """Begin a new epoch: nothing that was stored before is served again, on any machine; its number.

        What `invalidate(all=True)` does, for who wants to compare: a number is larger than all before it, whichever
        machine gave it out.
        """
        await self.invalidate(all=True)
        return self._engine.epoch

    async def aclose(self) -> None:
        """Let running loads end (`Limits.drain`), then close the stores. The cache may be used again."""
        await self._engine.aclose()

    # --- what telemetry and the stats page read ---------------------------------------------------------------------

    @property
    def counters(self) -> Counters:
        """The integers behind all figures; `glasscache.stats.stats(cache)` says what they come to."""
        return self._engine.counters

    @property
    def waiters(self) -> int:
        """Requests that wait for another request's load, now."""
        return self._engine.waiters

    @property
    def holders(self) -> int:
        """Loads under way, now."""
        return self._engine.holders

    @property
    def abroad(self) -> tuple[int, int] | None:
        """Loads that wait for another machine's, and leases held, now; None: no tier is shared."""
        return self._engine.abroad

    def tier_states(self) -> Iterable[tuple[str, TierState]]:
        """The name and the state of each far tier: ok, degraded (some operations fail), or open (not asked)."""
        return [(guard.name, guard.state) for guard in self._guards]

    def _tier_changed(self, tier: str, state: TierState, error: BaseException | None) -> None:
        self.telemetry.emit(TierChanged(tier=tier, state=state, error=error))

    def gauges(self) -> Iterable[TierGauge]:
        """How full the memory tier is, and how full it may be."""
        return self._engine.gauges()


def _bytes_of(key: str) -> bytes:
    """Of whatever a str can hold: a question may come out of a client's JSON with half a surrogate pair in it."""
    return key.encode("utf-8", "surrogatepass")
