"""The tier that machines share, on a real server: a lookup against a bare GET of redis-py, and what a lease costs.

Decides what is compared: the same 2 KB, the same server, the same kind of socket, asked in the same way. Figures are
elapsed time, since the server's work is part of them; processor time of our own stands beside it. 64 at once are 64
tasks, each of which asks again as soon as it has its answer, as the clients of a server do: nobody waits until all have
theirs, and a sample is long enough that what was measured before it matters little.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from redis.asyncio import Redis, RedisCluster

from glasscache._clock import SystemClock
from glasscache._entry import Entry
from glasscache._lease import Claim
from glasscache.errors import StoreError
from glasscache.stores.disk import DiskStore
from glasscache.stores.redis import RedisStore
from glasscache.testing import entry
from tests.bench.measure import Case, Timings, Work
from tests.bench.report import Row
from tests.bench.traffic import ANSWER, HEADERS
from tests.support.redis_process import RedisProcess, cluster_options

AT_ONCE = 64
_IN_A_ROW = 10
"""Questions of each of them, in a sample."""
_OTHERS = 10_240
"""Answers that come again when a store has forgotten that it has read them (_redis_memo.py)."""
_PATIENCE = 30.0
GET, LOOK = "bare GET, one at a time", "lookup that finds 2 KB, one at a time"
SEEN = "lookup that finds 2 KB read before, one at a time"
GETS, LOOKS = f"bare GETs, {AT_ONCE} at once", f"lookups that find 2 KB, {AT_ONCE} at once"
SEENS = f"lookups that find 2 KB read before, {AT_ONCE} at once"
RARE_GETS = f"bare GETs of {_OTHERS:,} keys, {AT_ONCE} at once"
MISS, LEASED = "bare GET and SET", "lookup that misses, lease, commit"


class Place(NamedTuple):
    """A server, and how it is reached."""

    name: str
    url: str


@contextmanager
def places(redis_binary: str | None, env: dict[str, str] | None = None) -> Iterator[list[Place]]:
    """Over TCP, over a Unix socket, as a cluster; and Redis itself, where there is one beside Valkey."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (
            RedisProcess(folder, f"unixsocket {folder}/socket") as server,
            RedisProcess(folder, *cluster_options()) as cluster,
        ):
            cluster.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            cluster.until_cluster_ok()
            kind = server.do("INFO", "server").decode()
            what = "Valkey" if "valkey_version" in kind else "Redis"
            found = [
                Place(f"{what}, TCP", f"redis://127.0.0.1:{server.port}"),
                Place(f"{what}, Unix socket", f"unix://{folder}/socket"),
                Place(f"{what}, Cluster", f"redis+cluster://127.0.0.1:{cluster.port}"),
            ]
            if redis_binary is None or what == "Redis":
                yield found
                return
            with RedisProcess(folder, binary=redis_binary, env=env) as other:
                yield [*found, Place("Redis, TCP", f"redis://127.0.0.1:{other.port}")]


def store_of(place: Place, prefix: str) -> RedisStore:
    """A store there."""
    return RedisStore.from_url(place.url, prefix=prefix, timeout=_PATIENCE, connect_timeout=_PATIENCE)


class Lookups:
    """What a tier is asked in these figures. Belongs to one event loop."""

    def __init__(self, store: RedisStore | DiskStore) -> None:
        self.store = store
        self.keys = [os.urandom(16) for _ in range(AT_ONCE)]
        self._numbers = itertools.count()
        self.entry = entry(ANSWER, born=0.0, fresh_until=0.0, settled_until=0.0)

    async def fill(self) -> None:
        """Put in what is found later."""
        now = SystemClock().now()
        self.entry = entry(ANSWER, headers=HEADERS, born=now, fresh_until=now + 3600.0, settled_until=now + 3000.0)
        for key in self.keys:
            await self.store.set(key, self.entry)

    async def close(self) -> None:
        """Leave it."""
        await self.store.aclose()

    async def look(self, key: bytes) -> Entry:
        """What a hit of this tier takes."""
        found = (await self.store.look(key, Claim())).entry
        if found is None:
            raise RuntimeError("nothing was found")
        return found

    async def lease(self, key: bytes) -> None:
        """A miss: the lease is had by the lookup, and given back by the write."""
        lease = (await self.store.look(key, Claim())).lease
        if lease is None or await self.store.commit(key, lease, self.entry) is None:
            raise RuntimeError("there was no lease")

    def new(self) -> bytes:
        """A key that nobody has asked for."""
        return b"new %d" % next(self._numbers)

    def one_by_one(
        self, do: Callable[[bytes], Awaitable[object]], key: Callable[[], bytes] | None = None
    ) -> Callable[[int], Work]:
        """One after the other."""
        known = itertools.cycle(self.keys).__next__

        def prepare(count: int) -> Work:
            keys = [(key or known)() for _ in range(count)]

            async def work() -> None:
                for one in keys:
                    await do(one)

            return work

        return prepare

    def together(
        self, do: Callable[[bytes], Awaitable[object]], key: Callable[[], bytes] | None = None
    ) -> Callable[[int], Work]:
        """As many as there are keys at once: see above."""
        known = itertools.cycle(self.keys).__next__

        async def in_a_row(keys: Sequence[bytes]) -> None:
            for one in keys:
                await do(one)

        def prepare(count: int) -> Work:
            keys = [(key or known)() for _ in range(count)]
            return lambda: asyncio.gather(*[in_a_row(keys[first::AT_ONCE]) for first in range(AT_ONCE)])

        return prepare


class Tier(Lookups):
    """What is measured at one place."""

    store: RedisStore

    def __init__(self, place: Place) -> None:
        prefix = f"bench-{os.urandom(4).hex()}"  # one server may be reached in two ways
        super().__init__(store_of(place, prefix))
        kind = RedisCluster if "cluster" in place.url else Redis
        self.client: Any = kind.from_url(place.url.replace("redis+cluster", "redis"), driver_info=None)
        self._others = [os.urandom(16) for _ in range(_OTHERS)]
        self._other = itertools.cycle(self._others).__next__

    async def fill(self) -> None:
        """Put in what is found later."""
        await super().fill()
        await asyncio.gather(*[self.store.set(key, self.entry) for key in self._others])
        for key in (*self.keys, *self._others):
            await self.client.set(b"bare:" + key, ANSWER)

    async def close(self) -> None:
        """Leave the server."""
        await super().close()
        await self.client.aclose()

    async def get(self, key: bytes) -> None:
        """As bare as redis-py has it."""
        if await self.client.get(b"bare:" + key) is None:
            raise RuntimeError("nothing was found")

    async def verify(self) -> None:
        """What was forgotten is opened anew, and what is read all along is not."""
        seen, other = self.keys[0], self._others[0]
        befores: list[Entry] = []
        for _ in range(3):
            befores.append(await self.told(other))
            for key in self._others[1:]:
                await self.told(key)
        nows = [await self.told(seen) for _ in range(AT_ONCE)]
        if len(set(map(id, befores))) < len(befores) or len(set(map(id, nows))) > AT_ONCE / 2:
            raise RuntimeError("read before is what was not, or the other way round")

    def told(self, key: bytes) -> asyncio.Future[Entry]:
        """A hit is told, as to the engine, but for the first one after a miss."""
        answer: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()

        def told(found: Entry | StoreError | None) -> None:
            if isinstance(found, Entry):
                answer.set_result(found)
            else:
                answer.set_exception(found or RuntimeError("nothing was found"))

        return answer if self.store.glance(key, told) else asyncio.ensure_future(self.look(key))

    async def get_and_set(self, key: bytes) -> None:
        """What a miss takes where nobody waits for anybody."""
        await self.client.get(b"none:" + key)
        await self.client.set(b"none:" + key, ANSWER, px=60_000)

    def cases(self) -> Sequence[Case]:
        """All of them."""
        return [
            Case(name=GET, prepare=self.one_by_one(self.get)),
            Case(name=LOOK, prepare=self.one_by_one(self.told, self._other), verify=self.verify),
            Case(name=SEEN, prepare=self.one_by_one(self.told)),
            Case(name=GETS, prepare=self.together(self.get), count=AT_ONCE * _IN_A_ROW),
            Case(name=RARE_GETS, prepare=self.together(self.get, self._other), count=AT_ONCE * _IN_A_ROW),
            Case(name=LOOKS, prepare=self.together(self.told, self._other), count=AT_ONCE * _IN_A_ROW),
            Case(name=SEENS, prepare=self.together(self.told), count=AT_ONCE * _IN_A_ROW),
            Case(name=MISS, prepare=self.one_by_one(self.get_and_set, self.new)),
            Case(name=LEASED, prepare=self.one_by_one(self.lease, self.new)),
        ]


def rows(found: Timings) -> list[Row]:
    """What was found at one place."""
    clock = found.by_the_clock
    miss, trip = clock.added(LEASED, MISS), clock.us(GET)
    return [
        Row(name=GET, us=trip),
        *[_alone(found, name) for name in (LOOK, SEEN)],
        Row(name=GETS, us=clock.us(GETS)),
        _together(found, SEENS, GETS),
        Row(name=RARE_GETS, us=clock.us(RARE_GETS)),
        _together(found, LOOKS, RARE_GETS),
        Row(name=MISS, us=clock.us(MISS)),
        Row(
            name=LEASED,
            us=clock.us(LEASED),
            goal=f"bare GET and SET + one round trip ({trip:.0f} us)",
            found=f"{miss:+.0f} us",
            met=miss <= trip,
        ),
    ]


def _alone(found: Timings, name: str) -> Row:
    clock = found.by_the_clock
    times = clock.times(name, GET)
    told = f"{times:.2f} x (processor time {found.times(name, GET):.2f} x)"
    return Row(name=name, us=clock.us(name), goal="1.3 x bare GET", found=told, met=times <= 1.3)


def _together(found: Timings, name: str, bare: str) -> Row:
    clock = found.by_the_clock
    times = clock.times(bare, name)
    told = f"{times:.2f} x (by processor time {found.times(bare, name):.2f} x)"
    return Row(name=name, us=clock.us(name), goal="8 x the throughput of bare GETs", found=told, met=times >= 8)
