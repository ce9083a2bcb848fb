"""What an engine counts, and tells, of its answers and of what leaves its near tier.

Decides which hits are told (by default none: they are counted, no more), and how many removals stand for all of them.
Must never decide about an answer, nor be asked by a hit that takes the short way.
"""

from __future__ import annotations

from glasscache._ask import Answer, Ask
from glasscache._counters import Counters, GroupCounters
from glasscache._entry import Entry, Key
from glasscache._events import Answered, Cause, LookedUp, Pressed, Removed
from glasscache._wait import Commons
from glasscache.interfaces import NearStore
from glasscache.policy import Detail, Pressure

_REMOVALS_PER_SAMPLE = 16
_HITS_PER_SAMPLE = 64


class Tally:
    """Counts what one engine does, and tells telemetry the part of it that is told."""

    def __init__(self, near: NearStore, commons: Commons, counters: Counters, detail: Detail) -> None:
        self.counters = counters
        self._near = near
        self._clock = commons.clock
        self._telemetry = commons.telemetry
        self._detail = detail
        self.every: int = detail.time_hits or _HITS_PER_SAMPLE
        """Of this many hits that take the short way one is timed, the first of them: see `timed`."""
        self._removals = 0
        self._pressure = Pressure()
        near.watch(self._removed)

    def timed(self, counters: GroupCounters, begun: float) -> None:
        """A hit that took the short way, and began then, has been answered."""
        seconds = self._clock.now() - begun
        counters.hit_seconds += seconds
        counters.hit_samples += 1
        self.counters.durations.note(("hit", self._near.name), seconds, self.every)
        if self._detail.time_hits:
            self._telemetry.emit(Answered(result="hit", duration=seconds))

    def answered(self, ask: Ask, answer: Answer, begun: float) -> None:
        """A request that began then has its answer."""
        counters, entry = ask.counters, answer.entry
        counters.others[answer.result, answer.tier] += 1
        if answer.bypass is not None:
            counters.bypasses[answer.bypass] += 1
        if entry is not None:
            counters.save(entry.cost, entry.price, entry.size)
            if self._detail.trace_hits:
                seconds = self._clock.now() - begun
                found = LookedUp(group=counters.name, tier=answer.tier, size=entry.size, seconds=seconds)
                self._telemetry.emit(found)

    def failed(self, ask: Ask, error: Exception, begun: float) -> None:
        """A request that began then has none."""
        ask.counters.others["error", "none"] += 1
        self._telemetry.emit(Answered(result="error", duration=self._clock.now() - begun, error=error))

    def finished(self, ask: Ask, answer: Answer, seconds: float) -> None:
        """The answer has been passed on to its end, `seconds` after the request came."""
        counters, result = ask.counters, answer.result
        if result == "miss":
            counters.miss_seconds += seconds
            counters.misses_timed += 1
        elif result == "collapsed":
            entry = answer.reader.stream.entry if answer.reader else None
            if entry is not None:
                counters.save(entry.cost, entry.price, entry.size)
        self.counters.durations.note((result, answer.tier), seconds)
        every = self._detail.time_hits
        if result == "hit" and not (every and counters.others["hit", answer.tier] % every == 0):
            return
        if self._telemetry.hears():
            self._telemetry.emit(Answered(result=result, duration=seconds))

    def _removed(self, key: Key, entry: Entry, cause: Cause) -> None:
        self.counters.removals[self._near.name, cause] += 1
        self._removals += 1
        now = self._clock.now()
        if self._removals % _REMOVALS_PER_SAMPLE == 1:
            self._telemetry.emit(Removed(tier=self._near.name, cause=cause, age=now - entry.born))
        if cause == "evicted" and entry.fresh_until > now:
            gauge = self._near.gauge()
            rate = self._pressure.evicted(now, gauge.entries)
            if rate is not None:
                self._telemetry.emit(Pressed(rate=rate, gauge=gauge))
