"""Values in code: from the near store, or loaded once for all who ask.

Decides when a stored value is the answer, and which loaded ones are kept. Must never hand out an object that somebody
else has or gets: values are kept encoded, and each caller decodes a copy of its own. What cannot be kept so is its
caller's, as if there were no cache.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from glasscache._ask import Ask, unwanted
from glasscache._climbing import Climbed
from glasscache._entry import sendable
from glasscache._flight import Flight
from glasscache._inside import climb
from glasscache._stream import Head
from glasscache._warming import Warmed, Warmth
from glasscache.errors import CodecError, ConfigurationError
from glasscache.policy import Share, Terms, is_amount

if TYPE_CHECKING:
    from glasscache._engine import Engine
    from glasscache._entry import Entry, Key
    from glasscache._events import Result
    from glasscache._reader import Reader
    from glasscache.interfaces import Codec
    from glasscache.keys import Keyring
    from glasscache.policy import Detail, Policy

log = logging.getLogger("glasscache")


class Values:
    """The values of one cache."""

    def __init__(self, engine: Engine, keyring: Keyring, codec: Codec, detail: Detail) -> None:
        self.keyring = keyring
        self.shows: bool = detail.clear_keys
        """Whether telemetry may show what was asked in clear text."""
        self.functions: dict[str, list[list[object]]] = {}
        """What the functions that are cached are made of, by their names."""
        self.codec = codec
        self._engine = engine
        self._told: set[tuple[str, str]] = set()
        self._now = engine.clock.now
        self._groups = engine.counters.groups
        self._looks = not detail.trace_hits  # else the engine does: hits that are to be told one by one
        self._peek: Callable[[Key], Entry | None] = engine.near.peek if self._looks else _nothing

    async def value(
        self,
        key: Key,
        loader: Callable[[], Awaitable[Any]],
        wanted: Any,
        group: str,
        policy: Policy,
        tags: Iterable[str],
        text: str,
        kept: Kept | None = None,
        *,
        refresh: bool = False,
    ) -> Any:
        """The value under `key`, as `wanted`, loaded if it is not there; with `refresh` though it is.

        `text`: what telemetry is to show of the question in clear text; empty unless `shows`.
        """
        engine = self._engine
        counters = self._groups.get(group) or engine.counters.group(group)
        begun, wish = self._now(), unwanted if refresh else None
        entry = None if refresh else self._peek(key)
        if entry is not None and begun < entry.settled_until:
            try:
                value = self.codec.decode(entry.body, wanted)
            except Exception:  # CodecError, and whatever a class's own code raises
                wish = unwanted  # another release of the app may have kept it
            else:
                counters.hits = hits = counters.hits + 1
                counters.saved_seconds += entry.cost
                counters.saved_price += entry.price
                counters.saved_bytes += entry.size
                if hits >= counters.timed_at:
                    counters.timed_at = hits + engine.tally.every
                    engine.tally.timed(counters, begun)
                if entry.tags:
                    climb(entry.tags)
                return value
        load = _Load(self, loader, wanted, group, policy, tags, kept)
        ask = Ask(key=key, counters=counters, policy=policy, load=load, wish=wish)
        ask.text, ask.is_missing = text, self._looks and entry is None and wish is None
        result, body = await self._ask(ask, begun)
        if result in _ITS_OWN:
            return load.value
        try:
            return self.codec.decode(body, wanted)
        except Exception:  # made by another release of the app, or for a caller that wants another type
            return await self._anew(ask, load, wanted, begun)

    async def warm(
        self,
        key: Key,
        loader: Callable[[], Awaitable[Any]],
        wanted: Any,
        group: str,
        policy: Policy,
        tags: Iterable[str],
        text: str,
        kept: Kept | None = None,
    ) -> Warmth:
        """See to it that there is a fresh value under `key`, as `value` would load it; nobody gets it."""
        load = _Load(self, loader, wanted, group, policy, tags, kept)
        ask = Ask(key=key, counters=self._engine.counters.group(group), policy=policy, load=load)
        ask.text = text
        return await self._engine.warm(ask)

    def warm_all(
        self, wanted: Iterable[Any], warm: Callable[[Any], Awaitable[Warmth]], concurrency: int
    ) -> Awaitable[Warmed]:
        """Warm one after the other, so many at once."""
        return self._engine.warm_all(wanted, warm, concurrency)

    async def _anew(self, ask: Ask, load: _Load, wanted: Any, begun: float) -> Any:
        """The value, by a load of its own: at last beside the cache, where others load what it has no use for."""
        again = Ask(key=ask.key, counters=ask.counters, policy=ask.policy, load=load, wish=unwanted)
        again.text = ask.text
        result, body = await self._ask(again, begun)
        if result not in _ITS_OWN:
            try:
                return self.codec.decode(body, wanted)
            except Exception:
                return await load.alone()
        return load.value

    async def _ask(self, ask: Ask, begun: float) -> tuple[Result, bytes]:
        """How it was answered, and the value as bytes."""
        answer = await self._engine.answer(ask)
        if answer.entry is not None:
            body, tags = answer.entry.body, answer.entry.tags
        else:
            assert answer.reader is not None
            head = answer.reader.stream.head
            body, tags = await whole(answer.reader), () if head is None or head.terms is None else head.terms.tags
        climb(tags)
        self._engine.tally.finished(ask, answer, self._now() - begun)
        return answer.result, body

    def not_kept(self, group: str, loader: object, error: Exception) -> None:
        """A value that was to be kept cannot be: it is counted each time, and told once of each function."""
        counters = self._engine.counters
        counters.reject(self._engine.near.name)
        name = (group, getattr(loader, "__qualname__", ""))
        if name not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add(name)
            where = f"{group} ({name[1]})" if name[1] else group
            why = error if isinstance(error, CodecError) else repr(error)
            log.warning("%s: what it gives is not stored, each call loads (told once): %s", where, why)

    async def invalidate(self, key: Key) -> int:
        """Remove the value under `key`; how many entries left this machine's memory."""
        return await self._engine.invalidate(key=key)


_ITS_OWN = frozenset({"miss", "bypass"})
"""How a call is answered by its own load."""
_MOST_TOLD = 1000  # functions: one may be made for each request


class _Load:
    """The load of one call."""

    __slots__ = ("_given", "value")

    def __init__(self, *given: Any) -> None:
        self._given = given
        self.value: Any = None
        """What the call gets, once it has loaded: as whoever finds it later gets it."""

    def alone(self) -> Awaitable[Any]:
        """What the loader gives, for nobody else."""
        return _called(self._given[1])

    async def __call__(self, flight: Flight) -> None:
        """Load, and keep it for others."""
        values, loader, wanted, group, policy, tags, kept = self._given
        names = names_of(tags)
        flight.chain.collector = below = Climbed()
        value = await _called(loader)
        ttl = policy.ttl if kept is None else kept.seconds(value, policy.ttl)
        reason = "store_if" if ttl is None else "too_many_tags" if below.is_full else ""
        share = Share.WHEN_COMPLETE if reason else Share.ALL
        try:
            data = values.codec.encode(value)
            self.value = values.codec.decode(data, wanted)
        except Exception as error:  # CodecError, and whatever a class's own code raises
            data, share, reason, self.value = b"", Share.NONE, "codec", value
            if ttl is not None:
                values.not_kept(group, loader, error)
        terms = Terms(
            ttl=ttl or 0.0,
            stale_while_revalidate=policy.stale_while_revalidate,
            stale_if_error=policy.stale_if_error,
            tags=tuple(dict.fromkeys((*names, *below))) if below else names,
        )
        flight.begin(Head(status=200, headers=(), share=share, terms=terms, reason=reason))
        await flight.write(data)
        flight.finish()


class LoadedAlways(Values):
    """Those of a cache that is switched off."""

    async def value(self, key: Key, loader: Callable[[], Awaitable[Any]], *_: Any, **__: Any) -> Any:
        """What the loader gives."""
        return await _called(loader)

    async def warm(self, *_: Any, **__: Any) -> Warmth:
        """There is no use in it."""
        return Warmth("not_stored", "disabled")


def _called(loader: Any) -> Awaitable[Any]:
    """What the loader gives to await. ConfigurationError for what is none."""
    if not callable(loader):
        raise ConfigurationError(f"loader={loader!r}: give a function, such as lambda: fetch(question)")
    loaded: Any = loader()
    if not inspect.isawaitable(loaded):
        raise ConfigurationError(f"{loader!r} gave {type(loaded).__name__}, nothing to await: use `async def`")
    return loaded


class Kept:
    """Which values are kept, and for how long, where that depends on the value.

    `store_if`: False, it is not kept. `ttl`: seconds. ConfigurationError for what cannot tell at once.
    """

    __slots__ = ("_store_if", "_ttl")

    def __init__(self, store_if: Any, ttl: Any) -> None:
        for name, function in (("store_if", store_if), ("ttl", ttl)):
            # what an async one gives at once is true, whatever it will say
            if function is not None and (not callable(function) or inspect.iscoroutinefunction(function)):
                raise ConfigurationError(f"{name}={function!r}: give a plain function of the value")
        self._store_if: Callable[[Any], object] | None = store_if
        self._ttl: Callable[[Any], float] | None = ttl

    def seconds(self, value: Any, default: float) -> float | None:
        """How long this value is fresh; None: it is not kept. What fails to tell is logged, and keeps nothing."""
        try:
            if self._store_if is not None and not self._store_if(value):
                return None
            ttl = default if self._ttl is None else self._ttl(value)
            if not is_amount(ttl):
                raise TypeError(f"ttl gave {ttl!r}: give a finite number of seconds, 0 or more")
        except Exception:
            log.exception("store_if or ttl failed: the value is not stored")
            return None
        return ttl


def terms_of(policy: Policy, ttl: Any, store_if: Any) -> tuple[Policy, Kept | None]:
    """What a call says beside its policy; None: all its values are kept alike."""
    if callable(ttl):
        return policy, Kept(store_if, ttl)
    return policy.but(ttl=ttl), None if store_if is None else Kept(store_if, None)


async def whole(reader: Reader) -> bytes:
    """What is produced, to its end."""
    chunks = []
    try:
        while (chunk := await reader.next()) is not None:
            chunks.append(chunk)
    finally:
        reader.leave()
    return b"".join(chunks)


def names_of(given: Iterable[str]) -> tuple[str, ...]:
    """Tags in a tuple. ConfigurationError for a string, whose letters would be the tags, and for what has none."""
    if not isinstance(given, str) and isinstance(given, Iterable):
        names = tuple(given)
        if all(isinstance(name, str) for name in names):
            return tuple(map(sendable, names)) if names else ()
    raise ConfigurationError(f"tags={given!r}: give a list of strings, such as ['doc:7']")


def _nothing(key: Key) -> None:
    """What the short way finds where all take the slow one."""
