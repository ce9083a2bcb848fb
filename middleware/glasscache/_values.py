"""Values in code: from the near store, or loaded once for all who ask.

Decides when a stored value is the answer, and which loaded ones are kept. Must never hand out an object that somebody
else has or gets: values are kept encoded, and each caller decodes a copy of its own. What cannot be kept so is its
caller's, as if there were no cache.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Awaitable, Callable, Iterable
from copy import copy
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from glasscache._ask import OPEN, Answer, Ask, Wish, unwanted
from glasscache._climbing import Climbed
from glasscache._entry import sendable
from glasscache._flight import Flight
from glasscache._inside import climb
from glasscache._namesakes import Known
from glasscache._stream import Head
from glasscache._warming import Warmed, Warmth
from glasscache.errors import CodecError, ConfigurationError
from glasscache.policy import Share, Terms, is_amount

if TYPE_CHECKING:
    from glasscache._engine import Engine
    from glasscache._entry import Entry, Key
    from glasscache._reader import Reader
    from glasscache.interfaces import Codec
    from glasscache.keys import Keyring
    from glasscache.policy import Detail, Policy

log = logging.getLogger("glasscache")


class Question(Ask):
    """One call for a value: what the engine is asked, and its load."""

    def __init__(
        self,
        values: Values,
        key: Key,
        loader: Callable[[], Awaitable[Any]],
        *,
        wanted: Any,
        group: str,
        policy: Policy,
        tags: Iterable[str],
        kept: Kept | None,
        text: str,
    ) -> None:
        """`wanted`: what the value is decoded to. `kept`: None, all its values are kept alike."""
        self.start()
        self.key = key
        self.at = key
        self.policy = policy
        self.gate = OPEN
        self.text = text
        self.loader = loader
        self.wanted = wanted
        self.group = group
        self.value: Any = None
        """What the call gets, once it has loaded: as whoever finds it later gets it."""
        self._values = values
        self._tags = tags
        self._kept = kept

    def again(self) -> Question:
        """The same call, which has no use for what it was given."""
        question = copy(self)
        question.start()
        question.at, question.text, question.wish = self.key, self.text, unwanted
        return question

    async def load(self, flight: Flight) -> None:
        """Load, and keep it for others."""
        values, kept, policy, names = self._values, self._kept, self.policy, names_of(self._tags)
        flight.chain.collector = below = Climbed()
        value = await _called(self.loader)
        ttl = policy.ttl if kept is None else kept.seconds(value, policy.ttl)
        reason = "store_if" if ttl is None else "too_many_tags" if below.is_full else ""
        share = Share.WHEN_COMPLETE if reason else Share.ALL
        try:
            data = values.codec.encode(value)
            self.value = values.codec.decode(data, self.wanted)
        except Exception as error:  # CodecError, and whatever a class's own code raises
            data, share, reason, self.value = b"", Share.NONE, "codec", value
            if ttl is not None:
                values.not_kept(self, error)
        terms = Terms(
            ttl=ttl or 0.0,
            stale_while_revalidate=policy.stale_while_revalidate,
            stale_if_error=policy.stale_if_error,
            tags=tuple(dict.fromkeys((*names, *below))) if below else names,
        )
        flight.begin(Head(status=200, headers=(), share=share, terms=terms, reason=reason))
        await flight.write(data)
        flight.finish()


class Absent(Struct, frozen=True, eq=False):
    """How a value is not there."""

    is_missing: bool
    wish: Wish | None


MISSING, DOUBTFUL, UNWANTED = Absent(True, None), Absent(False, None), Absent(False, unwanted)
"""Nothing is near; the engine is to look and to judge; there may be one, and it is of no use."""


class Values:
    """The values of one cache."""

    def __init__(self, engine: Engine, keyring: Keyring, codec: Codec, detail: Detail) -> None:
        self.keyring = keyring
        self.shows: bool = detail.clear_keys
        """Whether telemetry may show what was asked in clear text."""
        self.functions: Known = {}
        self.codec = codec
        self._engine = engine
        self._told: set[tuple[str, str]] = set()
        self._now = engine.clock.now
        self._counters = engine.counters
        looks = not detail.trace_hits  # else the engine does: hits that are to be told one by one
        self._peek: Callable[[Key], Entry | None] = engine.near.peek if looks else _unseen
        self._nothing = MISSING if looks else DOUBTFUL

    def find(self, key: Key, wanted: Any, group: str) -> Any:
        """The value under `key`, as `wanted`, if it is there and fresh; else how it is `Absent`."""
        begun, entry = self._now(), self._peek(key)
        if entry is None or begun >= entry.settled_until:
            return self._nothing if entry is None else DOUBTFUL
        try:
            value = self.codec.decode(entry.body, wanted)
        except Exception:  # CodecError, and whatever a class's own code raises
            return UNWANTED  # another release of the app may have kept it
        counters = self._counters.groups.get(group) or self._counters.group(group)
        counters.hits = hits = counters.hits + 1
        counters.saved_seconds += entry.cost
        counters.saved_price += entry.price
        counters.saved_bytes += entry.size
        if hits >= counters.timed_at:
            tally = self._engine.tally
            counters.timed_at = hits + tally.every
            tally.timed(counters, begun)
        if entry.tags:
            climb(entry.tags)
        return value

    async def load(self, question: Question, absent: Absent) -> Any:
        """The value that is asked for, where it is absent: loaded, unless the engine finds it after all."""
        begun, question.counters = self._now(), self._counters.group(question.group)
        question.wish, question.is_missing = absent.wish, absent.is_missing
        asked = question
        for _ in range(2):
            answer = await self._engine.answer(asked)
            body = answer.entry.body if answer.entry is not None else await whole(answer.reader)
            self._note(asked, answer, begun)
            if answer.result in _ITS_OWN:
                return asked.value
            try:
                return self.codec.decode(body, asked.wanted)
            except Exception:  # made by another release of the app, or for a caller that wants another type
                asked = asked.again()
        return await _called(question.loader)  # beside the cache: others load what this call has no use for

    def warm(self, question: Question) -> Awaitable[Warmth]:
        """See to it that there is a fresh value, as `load` would get it; nobody gets it."""
        question.counters = self._counters.group(question.group)
        return self._engine.warm(question)

    def warm_all(
        self, wanted: Iterable[Any], warm: Callable[[Any], Awaitable[Warmth]], concurrency: int
    ) -> Awaitable[Warmed]:
        """Warm one after the other, so many at once."""
        return self._engine.warm_all(wanted, warm, concurrency)

    def _note(self, question: Question, answer: Answer, begun: float) -> None:
        """It has been answered: count it, and hand on its tags."""
        if answer.entry is not None:
            tags = answer.entry.tags
        else:
            head = None if answer.reader is None else answer.reader.stream.head
            tags = () if head is None or head.terms is None else head.terms.tags
        if tags:
            climb(tags)
        self._engine.tally.finished(question, answer, self._now() - begun)

    def not_kept(self, question: Question, error: Exception) -> None:
        """A value that was to be kept cannot be: it is counted each time, and told once of each function."""
        self._counters.reject(self._engine.near.name)
        group, loader = question.group, getattr(question.loader, "__qualname__", "")
        if (group, loader) not in self._told and len(self._told) < _MOST_TOLD:
            self._told.add((group, loader))
            where = f"{group} ({loader})" if loader else group
            why = error if isinstance(error, CodecError) else repr(error)
            log.warning("%s: what it gives is not stored, each call loads (told once): %s", where, why)

    async def invalidate(self, key: Key) -> int:
        """Remove the value under `key`; how many entries left this machine's memory."""
        return await self._engine.invalidate(key=key)


_ITS_OWN = frozenset({"miss", "bypass"})
"""How a call is answered by its own load."""
_MOST_TOLD = 1000  # functions: one may be made for each request


class LoadedAlways(Values):
    """Those of a cache that is switched off."""

    def find(self, key: Key, wanted: Any, group: str) -> Absent:
        """Nothing."""
        return MISSING

    async def load(self, question: Question, absent: Absent) -> Any:
        """What the loader gives."""
        return await _called(question.loader)

    async def warm(self, question: Question) -> Warmth:
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


async def whole(reader: Reader | None) -> bytes:
    """What is produced, to its end."""
    chunks = []
    assert reader is not None  # an answer without an entry has one
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


def _unseen(key: Key) -> None:
    """What the short way finds where all take the slow one."""
