"""A small world for flights: an origin that is never twice the same, an engine before it, requests that check.

Decides what a right answer is: of the key that was asked for, from one load, whole, in order, not older than the
last invalidation that had returned when the request began. Must never forgive one that is not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from random import Random
from typing import Any

from glasscache._ask import Answer, Ask
from glasscache._engine import Engine
from glasscache._entry import Entry
from glasscache._flight import Flight
from glasscache._gate import Gate
from glasscache._state import Tiers
from glasscache._stream import Head
from glasscache._tiers import Unleased
from glasscache.interfaces import Backplane, LeaseStore, NearStore, Store, Telemetry
from glasscache.policy import Detail, Limits, Policy, Share, Terms
from glasscache.stores.memory import MemoryStore
from tests.support.null_telemetry import NullTelemetry
from tests.support.seeded_loop import Chaos, World, explore

Origin = Callable[["Load"], Awaitable[None]]


def prove(scenario: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    """Explore; an exploration that cancelled nobody has shown nothing."""
    assert explore(scenario, chaos=Chaos(horizon=48)).cancellations > 0


class OriginError(Exception):
    """What an origin raises. Its constructor takes other arguments than it keeps, as many clients' errors do."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class LoopClock:
    """The clock of the seeded loop: virtual, like everything in it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.now = loop.time
        self.wall = loop.time


class Load:
    """One run of the origin, and what it can do."""

    def __init__(self, site: Site, flight: Flight, key: bytes, asked_by: str) -> None:
        self.site = site
        self.flight = flight
        self.key = key
        self.asked_by = asked_by
        self.number = sum(site.loads.values())
        """0 is the first load of all."""
        self.version = site.version
        self.length = site.random.randint(1, 3)

    @property
    def body(self) -> list[bytes]:
        """Chunks that say where they come from and how many there are."""
        head = b"%s v%d load%d" % (self.key, self.version, self.number)
        return [b"%s %d/%d;" % (head, index, self.length) for index in range(self.length)]

    def begin(self, share: Share = Share.ALL, *, status: int = 200, vary: tuple[bytes, ...] = ()) -> None:
        """Tell the head."""
        policy, stored = self.site.policy, share is Share.ALL
        terms = Terms(
            ttl=policy.ttl,
            stale_while_revalidate=policy.stale_while_revalidate,
            stale_if_error=policy.stale_if_error,
            tags=(f"tag:{self.key.decode()}",),
        )
        self.flight.begin(Head(status=status, headers=(), share=share, terms=terms if stored else None, vary=vary))

    async def answer(self, share: Share = Share.ALL, *, status: int = 200, vary: tuple[bytes, ...] = ()) -> None:
        """Answer as a well-behaved origin does: with pauses anywhere."""
        await self.site.pause()
        self.begin(share, status=status, vary=vary)
        await self.site.pause()
        for chunk in self.body:
            await self.flight.write(chunk)
            await self.site.pause()
        self.flight.finish()
        self.over()
        await self.site.pause()  # what an app does after its answer is not the load

    def over(self) -> None:
        """The load is over; more than once does no harm."""
        self.site.active.discard(self)


class Asked(Ask):
    """What a request wants, by the names of `Ask`."""

    load: Any = None

    def __init__(self, **wanted: Any) -> None:
        self.start()
        vars(self).update(wanted)


class Site:
    """One engine, its origin, and the books."""

    def __init__(
        self,
        world: World,
        *,
        limits: Limits | None = None,
        policy: Policy | None = None,
        near: NearStore | None = None,
        far: Store | None = None,
        backplane: Backplane | None = None,
        telemetry: Telemetry | None = None,
        origin: Origin = Load.answer,
        max_loads: int | None = None,
        detail: Detail | None = None,
        looks_first: bool = True,
    ) -> None:
        self.world = world
        self.looks_first = looks_first
        """Whether a request comes with the word that the near tier has nothing, as the fronts' do."""
        self.random = world.random
        self.policy = policy or Policy(ttl=1000.0, early_refresh=0.0)
        clock = LoopClock(world.loop)
        leased = far if far is None or isinstance(far, LeaseStore) else Unleased(far, clock=clock)
        self.engine = Engine(
            Tiers(near=near or MemoryStore(), far=leased, backplane=backplane),
            limits=limits or Limits(),
            clock=clock,
            telemetry=telemetry or NullTelemetry(),
            random=Random(world.seed),
            detail=detail,
        )
        self.state = self.engine._state
        self.gate = Gate(max_loads)
        self.origin = origin
        self.troubles = 0
        """How many loads have trouble, where an origin has some."""
        self.version = 0
        """Of the knowledge behind the origin."""
        self.invalidated = 0
        """The version that the last invalidation to have returned was about."""
        self.loads: Counter[bytes] = Counter()
        self.active: set[Load] = set()
        self.most_active = 0
        self.served: list[tuple[str, bytes]] = []
        """(who, load) of every right answer."""
        self.failed: list[BaseException] = []

    async def pause(self, longest: float = 0.02) -> None:
        """Anything from nothing to `longest` seconds."""
        choice = self.random.random()
        if choice < 0.5:
            for _ in range(int(choice * 6)):
                await asyncio.sleep(0)
        else:
            await asyncio.sleep((choice - 0.5) * 2 * longest)

    async def _load(self, key: bytes, who: str, flight: Flight) -> None:
        load = Load(self, flight, key, who)
        self.loads[key] += 1
        self.active.add(load)
        self.most_active = max(self.most_active, len(self.active))
        try:
            await self.origin(load)
        finally:
            load.over()

    def ask(self, key: bytes, who: str = "anybody", **options: Any) -> Ask:
        """What a request for `key` wants."""
        return Asked(
            key=key,
            at=key,
            counters=self.engine.counters.group("site"),
            policy=self.policy,
            load=partial(self._load, key, who),
            gate=self.gate,
            **options,
        )

    async def request(self, key: bytes = b"k", who: str = "anybody", *, after: float = 0.0, **options: Any) -> Answer:
        """One request, from its beginning to its end; its answer is checked."""
        if after:
            await asyncio.sleep(self.random.random() * after)
        floor, ask = self.invalidated, self.ask(key, who, **options)
        ask.is_missing = self.looks_first and self.stored(key) is None
        try:
            answer = await self.engine.answer(ask)
            chunks = list(answer.entry.chunks) if answer.entry else await self.read(answer)
        except Exception as error:
            self.failed.append(error)
            raise
        self.check(chunks, key, floor, who)
        self.engine.tally.finished(ask, answer, 0.0)
        return answer

    async def read(self, answer: Answer) -> list[bytes]:
        """Take the answer from byte 0 to its end."""
        assert answer.reader is not None
        chunks = []
        try:
            while (chunk := await answer.reader.next()) is not None:
                chunks.append(chunk)
                await self.pause()
        finally:
            answer.reader.leave()
        return chunks

    def check(self, chunks: list[bytes], key: bytes, floor: int, who: str) -> None:
        """The right key, one load, not too old, whole, in order."""
        told, version, load, _ = chunks[0].split(b" ")
        assert told == key, f"{who} asked for {key!r} and got {chunks}"
        assert int(version[1:]) >= floor, f"{who} began after version {floor} was told and got {chunks}"
        length = int(chunks[0].rstrip(b";").split(b"/")[1])
        assert chunks == [b"%s %s %s %d/%d;" % (told, version, load, i, length) for i in range(length)]
        self.served.append((who, load))

    def crowd(self, size: int, *keys: bytes, after: float = 0.05, victims: bool = True) -> list[asyncio.Task[Answer]]:
        """Requests that come within `after` seconds."""
        keys = keys or (b"k",)
        return [
            self.world.spawn(self.request(keys[i % len(keys)], f"r{i}", after=after), victim=victims, name=f"r{i}")
            for i in range(size)
        ]

    async def survivors(self, tasks: list[asyncio.Task[Any]]) -> list[Any]:
        """What those answered that were not cancelled; anybody's error is raised."""
        await asyncio.wait(tasks)
        return [task.result() for task in tasks if not task.cancelled()]

    async def losers(self, tasks: list[asyncio.Task[Any]]) -> list[BaseException]:
        """The errors of those who were not cancelled; that they had an answer is an error here."""
        await asyncio.wait(tasks)
        errors = [task.exception() for task in tasks if not task.cancelled()]
        assert None not in errors, "somebody had an answer"
        return [error for error in errors if error is not None]

    async def rest(self) -> None:
        """Let everything end by itself, and see that nothing is left."""
        await self.rest_of_loads()
        self.check_rest()
        await self.engine.aclose()

    async def rest_of_loads(self) -> None:
        """Let everything end that runs behind."""
        while self.state.tasks:
            await asyncio.wait(tuple(self.state.tasks))

    def check_rest(self) -> None:
        """Nothing is left."""
        engine = self.engine
        assert not self.state.flights
        assert engine.holders == 0
        assert engine.waiters == 0
        assert engine.commons.held_bytes == 0
        assert len(self.state.slots) == 0
        assert not self.active
        assert self.gate.users == 0

    def stored(self, key: bytes = b"k") -> Entry | None:
        """What the near tier has."""
        return self.engine.near.peek(key)
