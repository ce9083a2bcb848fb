"""Invalidations between the processes of one machine, kept and told by the file that they share (a `Backplane`).

Decides the numbers: the file gives them out, and they only ever rise. When it has been lost (set aside, removed), the
first process that remembers more takes the next number above all that it knows and tells everything invalid with it;
so does whoever finds entries that carry the numbers of another tier (see `DiskStore.recall`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from sqlite3 import Connection

from glasscache._entry import Key
from glasscache._events import SpanRef
from glasscache._lease import Marks
from glasscache.errors import StoreError
from glasscache.interfaces import Clock, Listener
from glasscache.stores._disk_bus import Ear, tell
from glasscache.stores._disk_thread import DiskThread, Write
from glasscache.stores._hearing import Hearing, ServerTime
from glasscache.stores._messages import MAX_NUMBER, VERSION, Marked, Message, Replaced, encode
from glasscache.stores._traceparent import to_traceparent

MAX_TAGS = 65_536
"""Tags that are remembered; when more are, the oldest go, and the highest number among them becomes the floor."""

_STATE = "SELECT birth, life, number, everything, floor, tags, highest FROM state"
_MARK = "INSERT INTO marks (tag, number) VALUES (?, ?) ON CONFLICT (tag) DO UPDATE SET number = excluded.number"


@dataclass(frozen=True, slots=True)
class _Known:
    """What a process remembers of the file."""

    birth: str
    given: int
    """The highest number that it knows."""


@dataclass(slots=True)
class _State:
    """What the file remembers."""

    birth: str
    life: str
    number: int
    everything: int
    floor: int
    tags: int
    highest: int

    @classmethod
    def of(cls, db: Connection) -> _State:
        return cls(*db.execute(_STATE).fetchone())

    def forgot(self, known: _Known) -> bool:
        """Whether something was told invalid that the file does not know of."""
        is_other = known.birth not in ("", self.birth)
        is_behind = self.everything <= known.given and (self.number < known.given or is_other)
        return is_behind or self.life not in ("", self.birth)

    @property
    def is_named(self) -> bool:
        """Whether it is clear whose numbers the entries carry."""
        return self.life == self.birth


class _OneClock(ServerTime):
    """That of the machine: there is nothing to learn of it."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock.now)
        self._wall = clock.wall

    def since(self, shown: int) -> float:
        """See ServerTime."""
        return max(0.0, self._wall() - shown / 1e6)


class DiskBackplane:
    """A `Backplane` over the file of a disk store. `machine` names this process among all others."""

    def __init__(
        self, thread: DiskThread, ear: Ear, *, machine: Callable[[], str], clock: Clock, max_tags: int = MAX_TAGS
    ) -> None:
        self._thread = thread
        self._ear = ear
        self._machine = machine
        self._wall = clock.wall
        self._max_tags = max_tags
        self._known = _Known("", 0)
        self._time = _OneClock(clock)
        self._hearing: Hearing | None = None

    @property
    def ignored(self) -> int:
        """Messages that were not understood."""
        return self._hearing.ignored if self._hearing else 0

    async def start(self, listener: Listener) -> None:
        """Listen, in this event loop."""
        self._hearing = Hearing(listener, self._machine(), self._time)
        self._ear.listen(self._hearing, copy_context())

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        """Keep markers under the next number above `seen`, and tell all others."""
        told = Marked(tuple(tags), everything, self._machine(), to_traceparent(source))
        marks = await self._thread.write(partial(self._mark, told, seen, self._known))
        return self._remember(*marks).number

    async def tell_replaced(self, key: Key) -> None:
        """Tell all others that there is a new answer."""
        told = encode(Message(VERSION, 0, 0, "", 0, Replaced(key, self._machine())))
        await self._thread.write(lambda db: tell(db, told, self._micros()))

    async def read(self, since: int) -> Marks:
        """All markers above `since`."""
        known = _Known(self._known.birth, max(self._known.given, since))
        birth, marks = await self._thread.call(partial(self._read, since, known))
        if self._hearing is not None:
            self._hearing.has_read(birth, marks.number)
        return self._remember(birth, marks)

    async def aclose(self) -> None:
        """Listen no more."""
        self._ear.deafen()

    def _micros(self) -> int:
        return int(self._wall() * 1e6)

    def _remember(self, birth: str, marks: Marks) -> Marks:
        self._known = _Known(birth, max(self._known.given, marks.number))
        return marks

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _read(self, since: int, known: _Known, db: Connection) -> tuple[str, Marks] | Write[tuple[str, Marks]]:
        state = _State.of(db)
        if state.is_named and not state.forgot(known):
            return _marks(db, state, since)
        return Write(partial(self._read_anew, since, known))

    def _read_anew(self, since: int, known: _Known, db: Connection) -> tuple[str, Marks]:
        state = _State.of(db)
        if state.forgot(known):
            self._mark(Marked((), True, self._machine(), ""), since, known, db)
        else:
            db.execute("UPDATE state SET life = birth")
        return _marks(db, _State.of(db), since)

    def _mark(self, told: Marked, seen: int, known: _Known, db: Connection) -> tuple[str, Marks]:
        """The next number, and what is dead below it."""
        state = _State.of(db)
        previous, forgot = state.number, state.forgot(known)
        number = max(previous, seen, known.given, state.highest if forgot else 0) + 1
        if number > MAX_NUMBER:
            raise StoreError("no numbers are left")
        if forgot or told.everything:
            db.execute("DELETE FROM marks")
            state.everything, state.floor = number, 0
        else:
            db.executemany(_MARK, [(tag.encode(), number) for tag in told.tags])
            state.floor = self._bound(db, state.floor)
        values = (number, state.everything, state.floor)
        db.execute("UPDATE state SET number = ?, everything = ?, floor = ?, life = birth", values)
        previous = number if forgot else previous  # then they read everything
        tell(db, encode(Message(VERSION, number, previous, state.birth, self._micros(), told)), self._micros())
        return state.birth, Marks(number=number, everything=state.everything, floor=state.floor, tags={})

    def _bound(self, db: Connection, floor: int) -> int:
        """The floor, after the oldest of too many tags have gone."""
        excess = _State.of(db).tags - self._max_tags
        if excess <= 0:
            return floor
        gone: list[tuple[bytes, int]] = db.execute(
            "SELECT tag, number FROM marks ORDER BY number, tag LIMIT ?", (excess,)
        ).fetchall()
        db.executemany("DELETE FROM marks WHERE tag = ?", [(tag,) for tag, _ in gone])
        return max(floor, gone[-1][1])


def _marks(db: Connection, state: _State, since: int) -> tuple[str, Marks]:
    rows = db.execute("SELECT tag, number FROM marks WHERE number > ?", (since,))
    tags = {bytes(tag).decode(errors="replace"): number for tag, number in rows}
    return state.birth, Marks(number=state.number, everything=state.everything, floor=state.floor, tags=tags)


def recall(db: Connection) -> tuple[str, int]:
    """See Middle. Entries that nobody has named yet belong to somebody else."""
    state = _State.of(db)
    (has_entries,) = db.execute("SELECT EXISTS (SELECT 1 FROM entries)").fetchone()
    return state.life or ("unknown" if has_entries else ""), state.highest


def belong(life: str, db: Connection) -> None:
    """See Middle."""
    db.execute("UPDATE state SET life = ?", (life,))


def belong_still(life: str, db: Connection) -> None:
    """The same in a file that was begun anew meanwhile: otherwise what is kept in it would be nobody's."""
    db.execute("UPDATE state SET life = ? WHERE life = ''", (life,))
