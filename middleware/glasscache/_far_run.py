"""One run of one load that asks a far tier first: far tier -> what any other does -> far tier.

Decides whether what the far tier has answers, and when it is told of an answer. The right to load, and all talk about
it, is in `_right.py`. It must never wait for a reader, and a store that cannot answer is a miss.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from contextvars import copy_context

from glasscache._ask import Ask
from glasscache._entry import Entry, Key
from glasscache._events import Load, Trigger
from glasscache._right import Right
from glasscache._run import Run
from glasscache._state import UNCACHEABLE_FOR, State
from glasscache._stream import Head
from glasscache.errors import LoadStoppedError
from glasscache.policy import Share, Verdict


class NotLoadedError(LoadStoppedError):
    """Nobody waits for this load, and there is no use in it: `reason` is one word."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"nobody waits for this load, and there is no use in it ({reason})")
        self.reason = reason


class FarRun(Run):
    """One load of one request's origin, unless a far tier has the answer."""

    __slots__ = ("_back", "_given", "_is_open", "_right", "_writes")

    _span: AbstractContextManager[object]

    def __init__(
        self, state: State, ask: Ask, trigger: Trigger, loop: asyncio.AbstractEventLoop, fresh_for: float
    ) -> None:
        """`fresh_for`: seconds, of the answer that a refresh is to take the place of."""
        super().__init__(state, ask, trigger, loop)
        self._is_direct = self.is_loading = False
        self._back: asyncio.Task[None] | None = None
        self._writes: dict[Key, tuple[Entry, Entry]] = {}
        """Where a lease is held: what is to be stored far, and how it was stored near."""
        self._span = self._commons.telemetry.span(self.work)
        self._is_open = trigger == "refresh"
        self._right = Right(state, ask, self.work, fresh_for)

    def start(self) -> bool:
        """Begin. The span of a refresh, a root of its own, is known before anybody knows who will load: it is what
        other machines link to.
        """
        context = copy_context()
        if self._is_open:
            context.run(self._span.__enter__)
        self._begin_task(context)
        return True

    async def _reaches_origin(self) -> bool:
        return not await self._find() and await super()._reaches_origin()

    async def _find(self) -> bool:
        """Whether a far tier has answered, or there is nothing left to do."""
        right, ask = self._right, self._ask
        entry = await right.seek(self)
        ask.stale = self.stand_in or ask.stale
        if right.insists:
            self.stand_in = None  # its request wants the origin's own word
        if self.ended:  # stopped meanwhile
            self._give_back()
            return True
        if entry is None and right.idle:
            self.fail(NotLoadedError(right.idle))
            return True
        return entry is not None and self._answers(entry)

    def _answers(self, entry: Entry) -> bool:
        """Whether what a far tier has is the answer, or may only stand in for one."""
        right, state = self._right, self._state
        verdict = self._ask.judge(entry, self._commons.clock.now(), beta=0.0, chance=1.0)
        if verdict in (Verdict.STAND_IN, Verdict.UNWANTED, Verdict.DEAD):
            self.stand_in = entry
            return False
        if not self.void and right.tier != state.near.name:
            state.keep_near(self.key, entry)
        self.found(entry, right.tier)
        return True

    def _begin_origin(self) -> None:
        work = self.work
        self.is_loading = True
        self.note_progress()
        if not self._is_open:
            self._is_open = True
            self._span.__enter__()
        super()._begin_origin()
        self._given = self._state.coherence.given
        work.begun = self._origin_begun
        if self.stale is not None and work.trigger == "miss":
            work.trigger = "revalidate"

    # --- as a flight ------------------------------------------------------------------------------------------------

    def _headed(self, head: Head) -> None:
        share = self.share
        if share is not Share.ALL:
            self._give_back(refuse_for=UNCACHEABLE_FOR if share is Share.NONE else 0.0)
        super()._headed(head)

    def _may_keep(self) -> bool:
        return self._right.keeps

    def _keep_near(self, key: Key, entry: Entry) -> Entry:
        return self._state.keep_near(key, entry, is_known=self._right.is_known)

    def _keep(self, key: Key, entry: Entry) -> None:
        kept = self._keep_near(key, entry)
        if self._right.holds:
            if entry.number > self._given:  # of our own: the others would take it for one of theirs
                entry = entry.but(number=self._given)
            self._writes[key] = (entry, kept)

    def _closed(self) -> None:
        super()._closed()
        if not self.ended:  # too large to be stored
            self._give_back(refuse_for=UNCACHEABLE_FOR)

    def outdate(self) -> None:
        """See Flight."""
        self._right.is_outdated = True

    def _voided(self) -> None:
        """Whoever waits on another machine need not wait for this."""
        super()._closed()
        self._give_back()

    def _close_span(self, work: Load) -> None:
        """When its waiters are known."""
        self._give_back()
        if self._back is None:
            self._end_span(work)
        else:
            self._back.add_done_callback(lambda _: self._end_span(work))

    def _end_span(self, work: Load) -> None:
        if self.is_loading:  # otherwise there was no load: a span that is not ended is not told
            if self._back is not None:
                work.told_after = self._commons.clock.now() - work.ended
            self._span.__exit__(None, None, None)

    def _give_back(self, *, refuse_for: float = 0.0) -> None:
        """The lease, if there is one: with what was stored near, or with nothing."""
        if self._right.holds:
            leased = self._writes.pop(self.key, None)
            back = self._right.give_back(leased[0] if leased else None, refuse_for=refuse_for)
            self._back = self._state.spawn(self._settle_far(back, leased))

    async def _settle_far(self, back: Awaitable[bool], leased: tuple[Entry, Entry] | None) -> None:
        state = self._state
        for key, (entry, _) in self._writes.items():  # a variant before the marker that leads to it
            await state.tell(state.storing(entry), state.far.set(key, entry))
        if not await back:
            if leased is not None and state.near.peek(self.key) is leased[1]:
                state.near.drop(self.key)
        elif leased is not None:
            state.has_replaced(self.key, leased[1])
            if state.is_shared:
                await state.tell_replaced(self.key)


def open_run(state: State, ask: Ask, trigger: Trigger, fresh_for: float = 0.0) -> Run:
    """A load of this request's origin, behind the far tier if there is one. Not started: who is to read it takes a
    place before. Under an eager task factory it may be over at once.
    """
    loop = state.settle()
    run = FarRun(state, ask, trigger, loop, fresh_for) if state.has_far else Run(state, ask, trigger, loop)
    run.grow_up()
    return run
