"""What this machine knows of invalidations, its own and those of the others.

Decides when that knowledge is complete, and what happens where it is not: entries of the near tier are doubted, and
every lookup in a far tier costs a second trip, which reads what was missed. An invalidation that cannot be told now
holds on this machine at once, and is told when the others can be reached again. Must never fail a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

from glasscache._entry import Entry, Key
from glasscache._events import Invalidation, SpanRef, TierCall
from glasscache._lease import Mark, Marks
from glasscache._markers import Markers
from glasscache._wait import Commons
from glasscache.interfaces import Backplane

_MAX_UNTOLD = 10_000
"""Tags that wait for the others to be reached; with more, everything is told invalid."""


def variant_tag(key: Key) -> str:
    """The tag that all variants of a key carry, and that its invalidation is remembered and told under."""
    return f"\0{key.hex()}"


def key_of(tag: str) -> Key | None:
    """The key that a variant tag was made of; None: another tag."""
    if tag[:1] == "\0":
        try:
            return bytes.fromhex(tag[1:])
        except ValueError:  # a user's own tag, however odd
            return None
    return None


class Reach(Protocol):
    """What an invalidation reaches on this machine."""

    def forget(self, tags: Iterable[str], *, everything: bool) -> int:
        """Drop what has these tags from the near tier and from the table of flights; how many entries there were."""

    def forget_replaced(self, key: Key) -> None:
        """Drop the entry under `key` from the near tier: another machine has stored a newer one."""

    def doubt(self) -> None:
        """Serve nothing from the near tier before a far tier was asked: any of it may have been told invalid."""


class Coherence:
    """The invalidations of one namespace, on this machine (a `Listener`)."""

    def __init__(self, backplane: Backplane, reach: Reach, commons: Commons, *, alone: bool, tier: str) -> None:
        self.markers = Markers()
        self.given = 0
        """The highest number that was given out to all, as far as is known here. What could not be told has numbers
        above it, which only count on this machine: to the others they are those of other invalidations.
        """
        self.backplane = backplane
        self._reach = reach
        self._commons = commons
        self._tier = tier
        self._alone = alone
        self._hears = alone
        self._gaps = 0
        self._has_read = alone
        self._read_to = 0
        self._untold: dict[str, int] = {}
        self._all_untold = 0
        self._kept = 0
        """How often something could not be told: behind each tag, and all, stands which time it was last."""
        self._telling: asyncio.AbstractEventLoop | None = None
        self.when_restored: Callable[[], None] = lambda: None
        """Called when messages arrive again: what came in between should be read."""
        self.when_untold: Callable[[], None] = lambda: None
        """Called when something could not be told: it should be tried again soon, whether or not anybody looks."""

    @property
    def in_step(self) -> bool:
        """Whether all invalidations told anywhere so far are known here, but for messages on their way."""
        return self._hears and self._has_read and not (self._all_untold or self._untold)  # asked by every lookup

    @property
    def has_untold(self) -> bool:
        """Whether the others have to be told something yet."""
        return bool(self._all_untold or self._untold)

    def dead_below(self, entry: Entry, asked: Key) -> int:
        """The number that an entry must have to be alive; `asked`: its key, whatever the variant."""
        markers = self.markers
        if entry.number >= markers.number:
            return markers.everything
        return markers.dead_below(entry, variant_tag(asked))

    # --- told here --------------------------------------------------------------------------------------------------

    async def invalidate(self, tags: tuple[str, ...], *, everything: bool, source: SpanRef | None) -> int:
        """Tell it everyone; how many entries this machine had."""
        count = self._reach.forget(tags, everything=everything)
        try:
            number = await self._mark(tags, everything=everything, source=source)
        except Exception:
            return count + self.invalidate_here(tags, everything=everything)
        except asyncio.CancelledError:  # whether it was told, and by which number, who leaves does not learn
            self.invalidate_here(tags, everything=everything)
            raise
        self._hear(Mark(number=number, tags=tags, everything=everything))
        # what came from another tier while the mark was on its way may be older than it
        return count + self._reach.forget(tags, everything=everything)

    def invalidate_here(self, tags: tuple[str, ...], *, everything: bool) -> int:
        """At once on this machine, and by and by on all others; how many entries this machine had."""
        self._note(Mark(number=self.markers.number + 1, tags=tags, everything=everything))
        count = self._reach.forget(tags, everything=everything)
        self._keep_untold(tags, everything=everything)  # last: another thread may tell it, and forget, from here on
        return count

    async def _mark(self, tags: tuple[str, ...], *, everything: bool, source: SpanRef | None) -> int:
        seen = self.markers.number
        if self._alone:
            return seen + 1
        call = TierCall(tier=self._tier, operation="publish")
        with self._commons.telemetry.span(call):
            call.begun = self._commons.clock.now()
            try:
                return await self.backplane.mark(tags, everything=everything, seen=seen, source=source)
            except Exception as error:
                call.error = error
                raise
            finally:
                call.ended = self._commons.clock.now()

    def _keep_untold(self, tags: tuple[str, ...], *, everything: bool) -> None:
        self._kept += 1
        self._untold.update(dict.fromkeys(tags, self._kept))
        if everything or self._all_untold or len(self._untold) > _MAX_UNTOLD:
            self._all_untold = self._kept
            self._untold.clear()
        self.when_untold()

    def _hear(self, mark: Mark) -> bool:
        """As `_note`, of a number that was given out to all."""
        self.given = max(self.given, mark.number)
        return self._note(mark)

    def _note(self, mark: Mark) -> bool:
        """Remember it; whether there was anything new in it."""
        news = mark.everything and self.markers.mark_all(mark.number)
        for tag in mark.tags:
            news = self.markers.mark_tag(tag, mark.number) or news
        return news

    # --- reading what was missed ------------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Tell what could not be told, read what was not heard. StoreError if that cannot be done now."""
        gaps, loop = self._gaps, asyncio.get_running_loop()
        if self.has_untold and self._telling is not loop:  # one call for all who ask meanwhile
            await self._tell_untold(loop)
        self._apply(await self.backplane.read(self._read_to))
        if gaps == self._gaps:
            self._has_read = True

    async def _tell_untold(self, loop: asyncio.AbstractEventLoop) -> None:
        self._telling = loop
        tags, everything, told = tuple(self._untold), bool(self._all_untold), self._kept
        try:
            number = await self._mark(tags, everything=everything, source=None)
        except BaseException:
            self.when_untold()
            raise
        finally:
            self._telling = None
        self._untold = {tag: kept for tag, kept in self._untold.items() if kept > told}
        if self._all_untold <= told:
            self._all_untold = 0
        self._hear(Mark(number=number, tags=tags, everything=everything))
        # what others have told of these meanwhile, below this number, is no news any more when it is heard
        self._reach.forget(tags, everything=everything)

    def _apply(self, marks: Marks) -> None:
        self.markers.raise_floor(marks.floor)
        if self._hear(Mark(number=marks.everything, everything=True)):
            self._reach.forget((), everything=True)
        news = tuple(tag for tag, number in marks.tags.items() if self.markers.mark_tag(tag, number))
        self._reach.forget(news, everything=False)
        self.markers.number = max(self.markers.number, marks.number)
        self.given = max(self.given, marks.number)
        self._read_to = max(self._read_to, marks.number)

    # --- told by others: as a `Listener` ----------------------------------------------------------------------------

    def marked(self, mark: Mark, lag: float, source: SpanRef | None) -> None:
        """Another machine told something invalid."""
        if not self._hear(mark) and not self.has_untold:  # else it may be known by a number of our own alone
            return
        if self.in_step:
            self._read_to = max(self._read_to, mark.number)
        work = Invalidation(source="backplane", cause=source, lag=lag)
        with self._commons.telemetry.span(work):
            work.count = self._reach.forget(mark.tags, everything=mark.everything)

    def replaced(self, key: Key) -> None:
        """Another machine has put a new answer into a tier that is shared."""
        self._reach.forget_replaced(key)

    def lost(self) -> None:
        """Messages may be missing from here on."""
        self._gaps += 1
        self._hears = self._has_read = False
        self._reach.doubt()

    def restored(self) -> None:
        """Messages arrive again; what was missed in between has still to be read (`catch_up`)."""
        self._gaps += 1
        self._hears, self._has_read = True, False
        self.when_restored()
