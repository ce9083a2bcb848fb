"""The connections to one server: how many there are, which one a call takes, and when one is given back.

Decides that one connection does for all, until it has too much to do or is held up by something large; then there are
more, and they go back to the pool of the client when they are not needed: others than us use it, too. Must never keep a
connection that is not as it should be.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from redis.exceptions import ConnectionError as Disconnected

from glasscache.errors import StoreError
from glasscache.stores._redis_line import Call, House, Line, writer_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager
    from typing import TypeAlias

    from redis.asyncio import Redis, RedisCluster
    from redis.asyncio.connection import AbstractConnection

    Connect: TypeAlias = Callable[[], AbstractAsyncContextManager[AbstractConnection]]

C = TypeVar("C", bound=Call)

CLOSED = "closed while the operation was under way"
TOGETHER = 32
"""Calls that are sent without waiting for more: the server works on them while the next are made."""
_KEPT = 60.0
"""Seconds after which a connection goes back to its pool, which may have to sign in anew or to connect elsewhere."""


class Server:
    """Sends calls over at most `house.limit` connections; who comes when all are busy waits for room."""

    def __init__(self, house: House, connect: Connect) -> None:
        self.waiting: deque[Call] = deque()
        self._house = house
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._lines: list[Line] = []
        self._is_opening = False
        self._is_flush_due = False
        self._is_plain = False

    def put(self, call: Call) -> None:
        """Send it: at once if nothing else is under way, else with others that come in this turn of the loop."""
        waiting = self.waiting
        waiting.append(call)
        if not self._is_flush_due:
            if self._lines and self._lines[0].is_idle:
                self.flush()
            else:
                self._is_flush_due = True
                self._loop.call_soon(self._flush_now)
        elif not len(waiting) % TOGETHER:
            self.flush()

    def _flush_now(self) -> None:
        self._is_flush_due = False
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as there is room."""
        waiting = self.waiting
        for line in self._lines:
            if waiting and (room := line.room) > 0:
                line.send([waiting.popleft() for _ in range(min(room, len(waiting)))])
        if waiting and self._is_plain:
            self._let_client_ask()
        elif waiting and not self._is_opening and len(self._lines) < self._house.limit:
            self._is_opening = True
            self._house.spawn(self._keep_line())

    def _let_client_ask(self) -> None:
        while self.waiting:
            self._house.refused(self.waiting.popleft())

    def _has_room(self, line: Line) -> None:
        """Send what waits. A connection that is not needed is given back: others than us have to use the pool, too."""
        if self.waiting:
            self.flush()
        if line.is_idle and (
            self._house.is_closing or line is not self._lines[0] or self._loop.time() - line.began > _KEPT
        ):
            line.leave()

    def let_go(self) -> None:
        """Of every connection, when it is not in use any more."""
        self.flush()
        for line in tuple(self._lines):
            self._has_room(line)

    async def _keep_line(self) -> None:
        is_open = False
        try:
            async with self._connect() as connection:
                is_open, self._is_opening = True, False
                if writer_of(connection) is None:
                    self._is_plain = True
                    self._let_client_ask()
                else:
                    await self._use(connection)
        except Exception as error:
            if not is_open and not self._lines:
                fail(self.waiting, error)
        finally:
            if not is_open:
                self._is_opening = False
        if self.waiting:
            self.flush()

    async def _use(self, connection: AbstractConnection) -> None:
        line = Line(connection, self._house, self._has_room)
        if not self._lines:
            self._house.trip = math.inf  # it may be another server now
        self._lines.append(line)
        try:
            self._has_room(line)
            if (error := await line.over) is not None:
                raise error
        finally:
            self._lines.remove(line)
            line.close(StoreError(CLOSED))


@asynccontextmanager
async def of_pool(client: Redis) -> AsyncIterator[AbstractConnection]:
    """A connection of a client of one server, ready for commands. One that was used with an error is closed."""
    pool = client.connection_pool
    connect: Callable[[], Awaitable[AbstractConnection]] = pool.get_connection  # redis-py has no types for it
    connection = await connect()
    try:
        yield connection
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


@asynccontextmanager
async def of_node(client: RedisCluster, name: str) -> AsyncIterator[AbstractConnection]:
    """The same of one node of a cluster. After an error the client looks anew for who serves what."""
    node = client.get_node(node_name=name)
    if node is None:
        raise Disconnected(f"{name} is no node of the cluster any more")
    connection = node.acquire_connection()
    connect: Callable[[], Awaitable[None]] = connection.connect  # redis-py has no types for it
    try:
        await node.disconnect_if_needed(connection)
        await connect()
        if await connection.can_read():  # the server has closed it
            await connection.disconnect()
            await connect()
        yield connection
    except BaseException as error:
        await connection.disconnect(nowait=True)
        if isinstance(error, Exception):
            # as redis-py does after a command of its own: the node's other connections are not trusted either
            node.update_active_connections_for_reconnect()
            await node.disconnect_free_connections()
            client.nodes_manager.move_node_to_end_of_cached_nodes(node.name)
            client._initialize = True
        raise
    finally:
        node.release(connection)


def fail(calls: deque[C], error: Exception) -> None:
    """All of them, each with an error of its own."""
    while calls:
        calls.popleft().fail(error)
