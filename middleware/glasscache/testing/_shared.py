"""The server that machines share, inside one process: for tests of many machines by a clock moved by hand.

Does what `LeaseStore` and `Backplane` promise, and nothing that a real server would not: what one machine stores is
there for the others, leases run out by the server's clock, whoever waits is woken, messages arrive in order.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from glasscache._entry import Entry, Key
from glasscache._events import MOST_WAITERS_LINKED, SpanRef
from glasscache._lease import Claim, Holder, Lease, Lookup, Mark, Marks
from glasscache.errors import StoreError
from glasscache.interfaces import Clock, Listener, Told
from glasscache.policy import answers


@dataclass(slots=True)
class _Held:
    """A lease, as the server keeps it."""

    token: int
    machine: str
    claim: Claim
    since: float
    until: float


@dataclass(slots=True)
class _Slot:
    """All that the server has under one key: the entry, its lease, and who waits for that."""

    entry: Entry | None = None
    held: _Held | None = None
    queue: dict[str, SpanRef | None] = field(default_factory=dict)
    refused_until: float = 0.0


class SharedServer:
    """What the stores and backplanes of several machines have in common. `lease_seconds`: of every lease."""

    def __init__(self, clock: Clock, *, lease_seconds: float = 5.0) -> None:
        self.now: Callable[[], float] = clock.now
        self.lease_seconds = lease_seconds
        self.slots: dict[Key, _Slot] = {}
        self.stores: dict[str, SharedStore] = {}
        self.backplanes: dict[str, SharedBackplane] = {}
        self.marks: Marks = Marks(number=0, everything=0, floor=0, tags={})
        self.token = 0
        self.calls: Counter[str] = Counter()
        """How often each operation was asked for."""
        self.glances: bool = False
        """Whether its stores tell an entry without being awaited (`interfaces.Glancing`)."""
        self._failing: set[str] = set()

    def store(self, machine: str) -> SharedStore:
        """A machine's view of this server, as a `LeaseStore`."""
        store = self.stores[machine] = SharedStore(self, machine)
        return store

    def backplane(self, machine: str) -> SharedBackplane:
        """A machine's view of this server, as a `Backplane`."""
        backplane = self.backplanes[machine] = SharedBackplane(self, machine)
        return backplane

    def fail(self, *operations: str) -> None:
        """From now on these raise StoreError; without any named, all do."""
        self._failing |= set(operations) or {"all"}

    def heal(self) -> None:
        """Let all operations work again."""
        self._failing.clear()

    async def enter(self, operation: str) -> None:
        """Every operation takes a turn of the event loop, there and back."""
        self.calls[operation] += 1
        await asyncio.sleep(0)
        self.check(operation)

    def check(self, operation: str) -> None:
        """Raise StoreError if this operation was told to fail."""
        if self._failing & {operation, "all"}:
            raise StoreError(f"{operation} was told to fail")

    def slot(self, key: Key) -> _Slot:
        """What there is under the key, less what has run out."""
        slot, now = self.slots.setdefault(key, _Slot()), self.now()
        if slot.entry is not None and slot.entry.dead_from <= now:
            slot.entry = None
        if slot.held is not None and slot.held.until <= now:
            slot.held = None
        return slot

    def wake(self, key: Key, slot: _Slot) -> tuple[SpanRef, ...]:
        """Ring for every machine in the queue."""
        queue, slot.queue = slot.queue, {}
        loop = asyncio.get_running_loop()
        for machine in queue:
            for bell in tuple(self.stores[machine].bells.get(key, ())):
                loop.call_soon(bell.ring)
        return tuple(ref for ref in queue.values() if ref is not None)[:MOST_WAITERS_LINKED]

    def tell_others(self, machine: str, tell: Callable[[Listener], None]) -> None:
        """Tell every other machine that listens."""
        loop = asyncio.get_running_loop()
        for name, backplane in self.backplanes.items():
            if name != machine and backplane.hears:
                loop.call_soon(backplane.pass_on, tell)


class SharedBell:
    """Rings when another machine lets go of a key."""

    def __init__(self, bells: dict[Key, set[SharedBell]], key: Key) -> None:
        self._bells = bells
        self._key = key
        self._rung = asyncio.Event()
        bells.setdefault(key, set()).add(self)

    def ring(self) -> None:
        """Wake who waits."""
        self._rung.set()

    async def rung(self, seconds: float) -> bool:
        """Wait until it rings, or rang since it was last asked; False after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True

    def close(self) -> None:
        """Listen no more."""
        self._bells.get(self._key, set()).discard(self)


class SharedStore:
    """The `LeaseStore` of one machine."""

    name = "shared"

    def __init__(self, server: SharedServer, machine: str) -> None:
        self._server = server
        self._machine = machine
        self.bells: dict[Key, set[SharedBell]] = {}

    async def get(self, key: Key) -> Entry | None:
        """The entry under `key`, or None."""
        await self._server.enter("get")
        return self._server.slot(key).entry

    async def set(self, key: Key, entry: Entry) -> None:
        """Keep the entry."""
        await self._server.enter("set")
        slot = self._server.slot(key)
        slot.entry, slot.refused_until = entry.but(), 0.0

    async def delete(self, key: Key) -> None:
        """Remove the entry and its lease."""
        await self._server.enter("delete")
        slot = self._server.slot(key)
        slot.entry, slot.held, slot.refused_until = None, None, 0.0
        self._server.wake(key, slot)

    async def aclose(self) -> None:
        """The server goes on."""

    async def look(self, key: Key, claim: Claim) -> Lookup:
        """The entry, or the lease, or who holds it."""
        await self._server.enter("look")
        slot, now = self._server.slot(key), self._server.now()
        entry = slot.entry
        if entry is not None and entry.number < claim.newer_than:
            entry = None
        if entry is not None:
            entry = entry.but()
            if answers(entry, claim, now):
                return Lookup(entry=entry)
        if slot.refused_until > now:
            return Lookup(entry=entry, refused=True)
        held = slot.held
        is_left_behind = held is not None and claim.reclaims and held.machine == self._machine
        if held is not None and held.claim.number >= claim.newer_than and not is_left_behind:
            return Lookup(entry=entry, holder=self._holder(held, slot, claim, now))
        self._server.token += 1
        slot.held = _Held(self._server.token, self._machine, claim, now, now + self._server.lease_seconds)
        return Lookup(entry=entry, lease=Lease(token=self._server.token, seconds=self._server.lease_seconds))

    def glance(self, key: Key, then: Told) -> bool:
        """The entry alone, in the next turn of the event loop."""
        if self._server.glances:
            self._server.calls["glance"] += 1
            asyncio.get_running_loop().call_soon(self._glance, key, then)
        return self._server.glances

    def _glance(self, key: Key, then: Told) -> None:
        found: Entry | StoreError | None = self._server.slot(key).entry
        if isinstance(found, Entry):
            found = found.but() if answers(found, Claim(), self._server.now()) else None
        try:
            self._server.check("glance")
        except StoreError as error:
            found = error
        then(found)

    def _holder(self, held: _Held, slot: _Slot, claim: Claim, now: float) -> Holder:
        if claim.waits:
            slot.queue.setdefault(self._machine, claim.ref)
        queue = list(slot.queue)
        return Holder(
            token=held.token,
            machine=held.machine,
            ref=held.claim.ref,
            elapsed=now - held.since,
            remaining=held.until - now,
            position=queue.index(self._machine) + 1 if claim.waits else 0,
        )

    async def renew(self, key: Key, lease: Lease) -> bool:
        """Hold the lease for longer."""
        await self._server.enter("renew")
        held = self._server.slot(key).held
        if held is None or held.token != lease.token:
            return False
        held.until = self._server.now() + lease.seconds
        return True

    async def commit(self, key: Key, lease: Lease, entry: Entry) -> tuple[SpanRef, ...] | None:
        """Keep the entry, give the lease back and wake who waits."""
        await self._server.enter("commit")
        slot = self._server.slot(key)
        if slot.held is None or slot.held.token != lease.token:
            return None
        slot.entry, slot.held, slot.refused_until = entry.but(), None, 0.0
        return self._server.wake(key, slot)

    async def release(self, key: Key, lease: Lease, *, refuse_for: float = 0.0) -> tuple[SpanRef, ...]:
        """Give the lease back and wake who waits."""
        await self._server.enter("release")
        slot = self._server.slot(key)
        if slot.held is None or slot.held.token != lease.token:
            return ()
        slot.held = None
        if refuse_for:
            slot.refused_until = self._server.now() + refuse_for
        return self._server.wake(key, slot)

    def listen(self, key: Key) -> SharedBell:
        """A bell for this key."""
        return SharedBell(self.bells, key)


class SharedBackplane:
    """The `Backplane` of one machine."""

    def __init__(self, server: SharedServer, machine: str) -> None:
        self._server = server
        self._machine = machine
        self._listener: Listener | None = None
        self._is_cut = False

    @property
    def hears(self) -> bool:
        """Whether messages reach it."""
        return self._listener is not None and not self._is_cut

    def pass_on(self, tell: Callable[[Listener], None]) -> None:
        """A message has arrived, if the machine still listens."""
        if self._listener is not None and not self._is_cut:
            tell(self._listener)

    def cut(self) -> None:
        """Messages reach this machine no more."""
        self._is_cut = True
        if self._listener is not None:
            self._listener.lost()

    def join(self) -> None:
        """Messages reach this machine again."""
        self._is_cut = False
        if self._listener is not None:
            self._listener.restored()

    async def start(self, listener: Listener) -> None:
        """Listen."""
        self._listener = listener
        if not self._is_cut:
            asyncio.get_running_loop().call_soon(self.pass_on, lambda told: told.restored())

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        """Keep markers and tell all others."""
        await self._server.enter("mark")
        old = self._server.marks
        number = max(old.number, seen) + 1
        kept = {} if everything else {**old.tags, **dict.fromkeys(tags, number)}
        self._server.marks = Marks(
            number=number, everything=number if everything else old.everything, floor=old.floor, tags=kept
        )
        mark = Mark(number=number, tags=tuple(tags), everything=everything)
        self._server.tell_others(self._machine, lambda listener: listener.marked(mark, 0.0, source))
        return number

    async def tell_replaced(self, key: Key) -> None:
        """Tell all others."""
        await self._server.enter("tell_replaced")
        self._server.tell_others(self._machine, lambda listener: listener.replaced(key))

    async def read(self, since: int) -> Marks:
        """All markers above `since`."""
        await self._server.enter("read")
        marks = self._server.marks
        return replace(marks, tags={tag: number for tag, number in marks.tags.items() if number > since})

    async def aclose(self) -> None:
        """Listen no more."""
        listener, self._listener = self._listener, None
        if listener is not None and not self._is_cut:
            listener.lost()
