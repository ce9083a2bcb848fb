"""What the tiers have for a request, and what is loaded anew behind it.

Decides what is served without a load: fresh, or stale on purpose; and when a far tier is glanced at. Must never wait
for anything.
"""

from __future__ import annotations

from glasscache._ask import Answer, Ask
from glasscache._entry import Entry
from glasscache._events import ServedStale, StaleReason, TierCall
from glasscache._far_run import open_run
from glasscache._glance import Glance
from glasscache._reader import copy_of
from glasscache._state import State
from glasscache._tally import Tally
from glasscache.errors import StoreError
from glasscache.policy import Verdict

_FRESH = Verdict.FRESH  # until Python 3.12 a name of an Enum costs a call


class Lookups:
    """The lookups of one cache."""

    def __init__(self, state: State, tally: Tally) -> None:
        self._state = state
        self._tally = tally
        self._near = state.near
        self._clock = state.commons.clock
        self._telemetry = state.commons.telemetry

    def look(self, ask: Ask) -> Answer | None:
        """What the near tier has."""
        ask.stand_in = ask.stale = None
        entry = self._near.peek(ask.at)
        if entry is not None and entry.vary:
            if self._clock.now() >= entry.dead_from:
                return None
            if entry.doubted is None:
                ask.select(entry)
                entry = self._near.peek(ask.at)
        if entry is None or entry.doubted is not None:
            return None
        return self.judge(ask, entry, self._near.name)

    def glance(self, ask: Ask) -> Glance | None:
        """Ask the far tier for the entry alone, if nobody does so yet. None: this is not the time for it, or there is
        nothing to be gained.
        """
        state, at = self._state, ask.at
        if ask.glanced is not None or ask.wish is not None or not state.coherence.in_step:
            return None
        if ask.stand_in is not None and ask.policy.soft_timeout is not None:  # it may not want to wait so long
            return None
        glance = state.glances.get(at)
        if glance is None:
            glance = state.glances[at] = Glance(at, ask.key, self._clock.now(), self._over)
            if not state.ask_far(at, glance.told):
                del state.glances[at]
                return None
        return glance

    def _over(self, glance: Glance, found: Entry | Exception | None) -> None:
        """It has been answered. What is alive is kept near at once: from here on nobody tells the glance of changes."""
        state = self._state
        state.glances.pop(glance.at, None)
        glance.ended, glance.found = self._clock.now(), found
        if type(found) is not Entry or glance.is_outdated or not state.coherence.in_step:
            return
        if found.number >= state.coherence.dead_below(found, glance.asked):
            glance.entry = found
            try:
                state.keep_near(glance.at, found)
            except Exception as error:  # of a store of a user's own
                glance.found, glance.entry = error, None

    def glanced(self, ask: Ask, glance: Glance) -> Answer | None:
        """The answer, from what the far tier has; None: look again. Raises the error that is no matter of that tier."""
        found, entry = glance.found, glance.entry
        if entry is None and isinstance(found, Exception) and not isinstance(found, StoreError):
            raise copy_of(found)
        if found is not None and not glance.is_told and self._telemetry.hears():
            self._tell(glance)
        if entry is not None and entry.vary:
            ask.select(entry)
            return None
        answer = None if entry is None else self.judge(ask, entry, self._state.glanced)
        if answer is None:
            ask.glanced = glance
        return answer

    def _tell(self, glance: Glance) -> None:
        """In the context of who asked first. That there is nothing is told with the lookup that follows."""
        glance.is_told = True
        error = glance.found if isinstance(glance.found, StoreError) else None
        call = TierCall(tier=self._state.glanced, operation="get", begun=glance.begun, ended=glance.ended, error=error)
        with self._telemetry.span(call):
            call.found = None if error else True

    def peek(self, ask: Ask) -> Answer | None:
        """A fresh answer from the near tier, if there is one; nothing is loaded or refreshed."""
        begun = self._clock.now()
        entry = self._near.peek(ask.at)
        if entry is not None and entry.vary:
            ask.select(entry)
            entry = self._near.peek(ask.at)
        if entry is None or entry.doubted is not None:
            return None
        if ask.judge(entry, self._clock.now(), beta=0.0, chance=1.0) is not _FRESH:
            return None
        answer = Answer(result="hit", tier=self._near.name, entry=entry)
        self._tally.answered(ask, answer, begun)
        return answer

    def judge(self, ask: Ask, entry: Entry, tier: str) -> Answer | None:
        """What may be served of an entry that this tier has; None: nothing, as it is."""
        now = self._clock.now()
        verdict = ask.judge(entry, now, beta=ask.policy.early_refresh, chance=1.0 - self._state.random.random())
        if verdict is _FRESH:
            return Answer(result="hit", tier=tier, entry=entry)
        ask.stale = entry
        ask.stand_in = None if verdict is Verdict.UNWANTED else entry
        if verdict is Verdict.EARLY:
            self.refresh(ask, entry.fresh_until - now)
            return Answer(result="hit", tier=tier, entry=entry)
        if verdict is Verdict.STALE:
            self.refresh(ask, 0.0)
            return self.stale(entry, tier, "revalidating")
        if verdict is Verdict.UNWANTED:
            return None
        if verdict is Verdict.STAND_IN:
            paused = ask.gate.paused_until > now and ask.can_stand_in(now)
            return self.stale(entry, tier, "error") if paused else None
        if tier == self._near.name:
            self._near.drop(ask.at, "expired")
        return None

    def stale(self, entry: Entry, tier: str, reason: StaleReason) -> Answer:
        """The answer to a request that is served an entry past its freshness."""
        self._telemetry.emit(ServedStale(reason=reason, age=self._clock.now() - entry.fresh_until))
        return Answer(result="stale", tier=tier, entry=entry, detail=reason)

    def refresh(self, ask: Ask, fresh_for: float) -> None:
        """Load anew behind the answer that is being served for `fresh_for` seconds more, unless somebody does."""
        state = self._state
        if ask.at not in state.flights and state.has_room(None) and ask.gate.paused_until <= self._clock.now():
            open_run(state, ask, "refresh", fresh_for).start()
