"""What the near tier has for a request, and what is loaded anew behind it.

Decides what is served without a load: fresh, or stale on purpose. Must never wait for anything.
"""

from __future__ import annotations

from glasscache._ask import Answer, Ask
from glasscache._entry import Entry
from glasscache._events import ServedStale, StaleReason, Trigger
from glasscache._far_run import FarRun
from glasscache._run import Run
from glasscache._upkeep import Upkeep
from glasscache.policy import Verdict

_FRESH = Verdict.FRESH  # until Python 3.12 a name of an Enum costs a call


class Looking(Upkeep):
    """The lookups of one cache."""

    def _look(self, ask: Ask) -> Answer | None:
        """What the near tier has."""
        ask.stand_in = ask.stale = None
        entry = self.near.peek(ask.at)
        if entry is not None and entry.vary:
            if self.clock.now() >= entry.dead_from:
                return None
            if entry.doubted is None:
                ask.select(entry)
                entry = self.near.peek(ask.at)
        if entry is None or entry.doubted is not None:
            return None
        return self._judge(ask, entry, self.near.name)

    def peek(self, ask: Ask) -> Answer | None:
        """A fresh answer from the near tier, if there is one; nothing is loaded or refreshed."""
        begun = self.clock.now()
        entry = self.near.peek(ask.at)
        if entry is not None and entry.vary:
            ask.select(entry)
            entry = self.near.peek(ask.at)
        if entry is None or entry.doubted is not None:
            return None
        if ask.judge(entry, self.clock.now(), beta=0.0, chance=1.0) is not _FRESH:
            return None
        answer = Answer(result="hit", tier=self.near.name, entry=entry)
        self.tally.answered(ask, answer, begun)
        return answer

    def _judge(self, ask: Ask, entry: Entry, tier: str) -> Answer | None:
        now = self.clock.now()
        verdict = ask.judge(entry, now, beta=ask.policy.early_refresh, chance=1.0 - self._random.random())
        if verdict is _FRESH:
            return Answer(result="hit", tier=tier, entry=entry)
        ask.stale = entry
        ask.stand_in = None if verdict is Verdict.UNWANTED else entry
        if verdict is Verdict.EARLY:
            self._refresh(ask, entry.fresh_until - now)
            return Answer(result="hit", tier=tier, entry=entry)
        if verdict is Verdict.STALE:
            self._refresh(ask, 0.0)
            return self._stale(entry, tier, "revalidating")
        if verdict is Verdict.UNWANTED:
            return None
        if verdict is Verdict.STAND_IN:
            paused = ask.gate.paused_until > now and ask.can_stand_in(now)
            return self._stale(entry, tier, "error") if paused else None
        if tier == self.near.name:
            self.near.drop(ask.at, "expired")
        return None

    def _stale(self, entry: Entry, tier: str, reason: StaleReason) -> Answer:
        self.telemetry.emit(ServedStale(reason=reason, age=self.clock.now() - entry.fresh_until))
        return Answer(result="stale", tier=tier, entry=entry, detail=reason)

    def _refresh(self, ask: Ask, fresh_for: float) -> None:
        """Load anew behind the answer that is being served for `fresh_for` seconds more, unless somebody does."""
        state = self._state
        if ask.at not in self.flights and state.has_room(None) and ask.gate.paused_until <= self.clock.now():
            self._opened(ask, "refresh", fresh_for).start()

    def _opened(self, ask: Ask, trigger: Trigger, fresh_for: float = 0.0) -> Run:
        """Not started: who is to read it takes a place before. Under an eager task factory it may be over at once."""
        state = self._state
        loop = state.settle()
        run = FarRun(state, ask, trigger, loop, fresh_for) if state.has_far else Run(state, ask, trigger, loop)
        run.grow_up()
        return run
