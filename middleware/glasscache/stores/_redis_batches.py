"""Requests to Redis: those of one turn of the event loop go together, and all over few connections.

Decides what goes over which connection, when another one is opened, and that a call fails with StoreError alone. No
caller's cancellation reaches what was called for (see `_redis_line.py`). Must never send a call again, but for one that
a server has refused to run: it does not know the script, or serves another slot.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from abc import ABC, abstractmethod
from asyncio import get_running_loop
from binascii import hexlify
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from redis.asyncio import RedisCluster
from redis.crc import key_slot
from redis.exceptions import ClusterDownError, SlotNotCoveredError

from glasscache.errors import StoreError
from glasscache.stores._redis_line import Awaited, Call
from glasscache.stores._redis_server import CLOSED, Server, fail, of_node, of_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from redis.asyncio import Redis

    from glasscache._entry import Key
    from glasscache.stores._redis_clients import Client
    from glasscache.stores._redis_scripts import Request


_NEAR = 0.005
"""Seconds there and back, below which a server is near: in the same region. Any load takes longer."""

_AGAIN = 0.1
"""Seconds after which a task is cancelled anew: `wait_for` of Python 3.11, by which redis-py sends, may lose it."""

T = TypeVar("T", bound="Redis | RedisCluster")


class Batches:
    """Runs requests over at most `limit` connections to a server; who comes when all are busy waits for room.

    `context`: what is done for nobody in particular belongs there. No request may be the parent of a connection.
    """

    def __init__(
        self,
        clients: Callable[[], Client],
        limit: int,
        context: Callable[[], contextvars.Context] = contextvars.Context,
    ) -> None:
        self._clients = clients
        self._limit = limit
        self._context = context
        self._house: _House[Any] | None = None

    def call(self, request: Request, keys: Sequence[bytes], arguments: Sequence[bytes]) -> asyncio.Future[Any]:
        """What the server will have answered. It is asked whether or not somebody waits for that."""
        loop = asyncio.get_running_loop()
        call = Awaited(request, keys, arguments, loop.create_future())
        house = self._house
        if house is None or house.loop is not loop:
            try:  # what another loop left behind has nobody who would read it
                house = self._house = self._house_of(loop)
            except Exception as error:
                call.fail(error)
                return call.done
        house.put(call)
        return call.done

    def near(self, key: Key) -> Server | None:
        """Who serves this entry's slot, if a second question costs next to nothing there, as far as is known."""
        house = self._house
        if house is None or house.trip >= _NEAR or house.loop is not get_running_loop():
            return None
        return house.near(key)

    def _house_of(self, loop: asyncio.AbstractEventLoop) -> _House[Any]:
        client = self._clients()
        what = self._clients, client, loop, self._limit, self._context
        return _Cluster(*what) if isinstance(client, RedisCluster) else _One(*what)

    async def aclose(self, timeout: float) -> None:
        """Wait for the calls of this event loop; after `timeout` seconds end those that are left."""
        house, self._house = self._house, None
        if house is not None and house.loop is asyncio.get_running_loop():
            await house.aclose(timeout)


class _House(ABC, Generic[T]):
    """What one client of one event loop connects to."""

    def __init__(
        self,
        clients: Callable[[], Client],
        client: T,
        loop: asyncio.AbstractEventLoop,
        limit: int,
        context: Callable[[], contextvars.Context],
    ) -> None:
        self.clients = clients
        self.client = client
        self.loop = loop
        self.limit = limit
        self.is_closing = False
        self.trip = math.inf
        self.servers: dict[str, Server] = {}
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self._refused: deque[Call] = deque()

    @abstractmethod
    def put(self, call: Awaited) -> None:
        """Send it with the next batch."""

    @abstractmethod
    def near(self, key: Key) -> Server | None:
        """Who serves this entry's slot, if that need not be asked first."""

    def failed(self, error: Exception) -> None:
        """A server has refused a call for good."""

    def refused(self, call: Call) -> None:
        """Let the client itself ask: it follows slots that have moved, and sends scripts in full."""
        self._refused.append(call)
        if len(self._refused) == 1:
            self.spawn(self._ask_again())

    async def _ask_again(self) -> None:
        while self._refused:
            call = self._refused[0]
            try:
                call.hear(await call.run(self.client), 0, lambda one, error: one.fail(error))
            except Exception as error:
                call.fail(error)
            self._refused.popleft()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """For nobody in particular."""
        task = self.loop.create_task(work, context=self._context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self, timeout: float) -> None:
        """See Batches."""
        self.is_closing, until = True, self.loop.time() + timeout
        for server in self.servers.values():
            server.let_go()
        while self._tasks and (left := until - self.loop.time()) > 0:
            await asyncio.wait(tuple(self._tasks), timeout=left)
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(tuple(self._tasks), timeout=_AGAIN)
        for calls in (self._refused, *[server.waiting for server in self.servers.values()]):
            fail(calls, StoreError(CLOSED))


class _One(_House["Redis"]):
    """One server, or whichever one a Sentinel names."""

    def __init__(self, *what: Any) -> None:
        super().__init__(*what)
        self._server = self.servers[""] = Server(self, partial(of_pool, self.client))

    def put(self, call: Awaited) -> None:
        """See _House."""
        self._server.put(call)

    def near(self, key: Key) -> Server:
        """See _House."""
        return self._server


class _Cluster(_House["RedisCluster"]):
    """Each node gets its calls, and fails for its own alone."""

    def __init__(self, *what: Any) -> None:
        super().__init__(*what)
        self._homeless: deque[Awaited] = deque()
        """Calls for which the nodes have to be asked first who serves what."""

    def put(self, call: Awaited) -> None:
        """See _House."""
        if self.client._initialize or self._homeless:
            self._homeless.append(call)
            if len(self._homeless) == 1:
                self.spawn(self._find_nodes())
        else:
            self._route(call)

    def _route(self, call: Awaited) -> None:
        server = self._server_of(call.slot_key)
        if server is None:
            self.client._initialize = True  # by itself the client never asks again
            call.fail(SlotNotCoveredError("nobody serves the slot of this key"))
        else:
            server.put(call)

    def near(self, key: Key) -> Server | None:
        """See _House."""
        return None if self.client._initialize or self._homeless else self._server_of(hexlify(key))

    def _server_of(self, slot_key: bytes) -> Server | None:
        client = self.client
        try:
            node = client.nodes_manager.slots_cache[key_slot(slot_key)][0]
        except (IndexError, KeyError):
            return None
        server = self.servers.get(node.name)
        if server is None:
            server = self.servers[node.name] = Server(self, partial(of_node, client, node.name))
        return server

    async def _find_nodes(self) -> None:
        try:
            self.clients()  # which gives it back the addresses that it may have forgotten
            await self.client.initialize()
        except Exception as error:
            fail(self._homeless, error)
        while self._homeless:
            self._route(self._homeless.popleft())

    async def aclose(self, timeout: float) -> None:
        """See _House."""
        await super().aclose(timeout)
        fail(self._homeless, StoreError(CLOSED))

    def failed(self, error: Exception) -> None:
        """A cluster that is down may be another one when it is back."""
        if isinstance(error, ClusterDownError):
            self.client._initialize = True
