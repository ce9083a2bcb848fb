"""Waiting for a load on another machine: who is woken by it, and asks again from time to time.

Decides how long to wait, for how many machines one after the other, and how often to ask. Must never ask itself.
"""

from __future__ import annotations

import math

from glasscache._entry import Key
from glasscache._events import Load, WaitOutcome
from glasscache._lease import Holder
from glasscache._state import State
from glasscache._wait import Waiting
from glasscache.interfaces import Bell

_POLL = 1.0  # seconds: who waits asks no more often, unless it is woken
_MAX_HOLDERS = 2  # machines that may fail before a waiting one loads by itself


class Abroad:
    """The waits of one run for other machines, one after the other."""

    def __init__(self, state: State, key: Key, work: Load, bell: Bell) -> None:
        self._state = state
        self._commons = state.commons
        self._key = key
        self._work = work
        self._bell = bell
        self._began = -math.inf
        self._tokens: list[int] = []
        self._waiting: Waiting | None = None

    @property
    def has_waited(self) -> bool:
        """Whether there was anything to wait for."""
        return bool(self._tokens)

    async def wait(self, holder: Holder) -> bool:
        """Until there is reason to look again; False: no more waiting, load."""
        now = self._commons.clock.now()
        if holder.token not in self._tokens:
            if self._tokens:
                self._end("holder_failed")
            else:
                self._began = now
            self._begin(holder, now)
        patience = self._began + self._commons.limits.wait_timeout - now
        if patience <= 0 or len(self._tokens) > _MAX_HOLDERS:
            self.over("timeout")
            return False
        await self._bell.rung(min(patience, self._pause(holder)))
        return True

    def _pause(self, holder: Holder) -> float:
        """Who waits asks about once a second, and just after the lease has run out, should nobody renew it."""
        jitter = self._state.random.random()
        if holder.remaining <= 2 * _POLL:  # of the usual 5 s there is more left, as long as somebody renews it
            return max(holder.remaining, _POLL / 2) + jitter / 20
        return _POLL + jitter / 4

    def _begin(self, holder: Holder, now: float) -> None:
        self._tokens.append(holder.token)
        group = self._work.group
        there = Load(group=group, key=self._key, trigger="miss", text=self._work.text, unnamed=None)
        there.ref, there.machine = holder.ref, holder.machine
        there.begun, there.fencing_token = now - holder.elapsed, holder.token
        self._work.waits_for = there
        self._work.named()
        if self._work.trigger == "warm":
            return  # nobody waits yet; its followers, should some come, have waits of their own
        self._waiting = self._commons.begin_wait(there, group, self._key, holder.position, "cluster")

    def over(self, outcome: WaitOutcome) -> None:
        """The last wait, if any, ended like this; the first word counts."""
        self._end(outcome)
        if outcome != "served":
            self._work.waits_for = None  # from here on its followers wait for this load

    def leave(self) -> None:
        """Wait no more, for whatever reason."""
        self._end("cancelled")

    def _end(self, outcome: WaitOutcome) -> None:
        if self._waiting is not None:
            self._waiting.over(outcome)
