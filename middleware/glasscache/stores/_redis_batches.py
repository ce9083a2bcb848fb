"""Script calls on Redis: those of one turn of the event loop go together, over one connection, and are read in order.

A command that is cut off between its request and its answer leaves a connection on which the next reader finds the
answer of another: so calls are sent and read by workers of our own, which no caller's cancellation reaches. Decides
what goes together, over how many connections at once, and that a call fails with StoreError alone. Must never send a
call again, but for one that a server has refused to run: it does not know the script, or serves another slot.
"""

from __future__ import annotations

import asyncio
import contextvars
import math
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any

from redis.asyncio import RedisCluster
from redis.exceptions import (
    AskError,
    ClusterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)

from glasscache._sweep import Sweep
from glasscache.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import AbstractConnection, ConnectionPool

    from glasscache.stores._redis_clients import Client
    from glasscache.stores._redis_scripts import Command, Script

_MOST = 128
"""Calls that share one connection's fate."""
_RENEWED = 16
"""Answers after which the time for the others begins anew."""
_REFUSALS = (NoScriptError, MovedError, AskError, TryAgainError)
"""By which a server says that it has not run the script, and that another way may."""


class Call:
    """One run of a script, or one command: `keys` are of one slot."""

    __slots__ = ("arguments", "done", "error", "keys", "script")

    def __init__(
        self, script: Script | Command, keys: Sequence[bytes], arguments: Sequence[bytes], done: asyncio.Future[Any]
    ) -> None:
        self.script = script
        self.keys = keys
        self.arguments = arguments
        self.done = done
        self.error: BaseException | None = None

    @property
    def packed(self) -> bytes:
        """As it goes over the wire."""
        return self.script.packed(self.keys, self.arguments)

    def succeed(self, answer: object) -> None:
        """Tell the caller, if it is still there."""
        if not self.done.done():
            self.done.set_result(answer)

    def fail(self, error: BaseException) -> None:
        """Tell the caller, if it is still there; each gets an error of its own."""
        self.error = error
        if not self.done.done():
            failure = StoreError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error
            self.done.set_exception(failure)


class Batches:
    """Runs scripts over at most `limit` connections at once; who comes when all are busy goes with the next batch.

    `context`: what workers run in. A batch is nobody's own: no request may be the parent of what it does.
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
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: deque[Call] = deque()
        self._workers: set[asyncio.Task[None]] = set()
        self._is_worker_due = False
        self._sweeps: dict[float, Sweep[asyncio.Task[Any]]] = {}

    def call(self, script: Script | Command, keys: Sequence[bytes], arguments: Sequence[bytes]) -> asyncio.Future[Any]:
        """What the script will have returned. It is run whether or not somebody waits for that."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # what another loop left behind has nobody who would read it
            self._loop, self._waiting, self._workers, self._is_worker_due = loop, deque(), set(), False
        call = Call(script, keys, arguments, loop.create_future())
        self._waiting.append(call)
        if not self._is_worker_due:
            self._need_worker(loop)
        return call.done

    def _need_worker(self, loop: asyncio.AbstractEventLoop) -> None:
        # A task begins with the loop's next turn: whatever is called in this one is there by then.
        if len(self._workers) < self._limit:
            self._is_worker_due = True
            worker = loop.create_task(self._work(loop), context=self._context())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        self._is_worker_due = False
        waiting = self._waiting
        try:
            while waiting:
                batch = [waiting.popleft() for _ in range(min(len(waiting), _MOST))]
                if waiting:
                    self._need_worker(loop)
                await self._answer(batch)
        finally:  # at once: a call that is made before the loop's next turn must not take this for a worker
            self._workers.discard(_current_task())

    async def _answer(self, batch: Sequence[Call]) -> None:
        try:
            await self._run(batch)
        except asyncio.CancelledError:
            for call in (*batch, *self._waiting):
                call.fail(StoreError("closed while the operation was under way"))
            self._waiting.clear()  # what has failed is not made when the store is used again
            raise
        except Exception as error:
            for call in batch:
                call.fail(error)

    async def _run(self, batch: Sequence[Call]) -> None:
        client = self._clients()
        if not isinstance(client, RedisCluster):
            refused = await self._over_pool(client.connection_pool, batch)
        else:
            ways = [self._over_node(client, node, calls) for node, calls in (await _nodes(client, batch)).items()]
            refused = await ways[0] if len(ways) == 1 else list(chain(*await asyncio.gather(*ways)))
        for call in refused:
            try:
                call.succeed(await call.script.run(client, call.keys, call.arguments))
            except Exception as error:
                call.fail(error)

    async def _over_pool(self, pool: ConnectionPool, calls: Sequence[Call]) -> Sequence[Call]:
        """The calls that the server refused."""
        connect: Callable[[], Awaitable[AbstractConnection]] = pool.get_connection  # redis-py has no types for it
        connection = await connect()
        try:
            return await self._exchange(connection, calls)
        finally:
            if any(isinstance(call.error, ReadOnlyError) for call in calls):
                await connection.disconnect()  # a primary no more: by the same name there may be another one
            await pool.release(connection)

    async def _over_node(self, client: RedisCluster, node: ClusterNode, calls: Sequence[Call]) -> Sequence[Call]:
        """The calls that the server refused. Nothing is raised: other nodes' calls may go well."""
        try:
            connection = node.acquire_connection()
            try:
                await node.disconnect_if_needed(connection)
                refused = await self._exchange(connection, calls)
            finally:
                node.release(connection)
        except Exception as error:
            # as redis-py does after a command of its own: the node's other connections are not trusted either
            node.update_active_connections_for_reconnect()
            await node.disconnect_free_connections()
            client.nodes_manager.move_node_to_end_of_cached_nodes(node.name)
            client._initialize = True  # who serves what is asked anew, before the next command
            for call in calls:
                call.fail(error)
            return ()
        if any(isinstance(call.error, ClusterDownError) for call in calls):
            client._initialize = True
        return refused

    async def _exchange(self, connection: AbstractConnection, calls: Sequence[Call]) -> Sequence[Call]:
        """Send all, then read all. The connection is closed unless every answer was read."""
        worker, refused, is_whole = _current_task(), [], False
        sweep = self._sweep(connection.socket_timeout)
        sweep.begin(worker)
        try:
            await _send(connection, [call.packed for call in calls])
            for number, call in enumerate(calls):
                try:
                    call.succeed(await connection.read_response(disable_decoding=True, timeout=math.inf))
                except _REFUSALS:
                    refused.append(call)
                except ResponseError as error:
                    call.fail(error)
                if number % _RENEWED == _RENEWED - 1:
                    sweep.begin(worker)  # it answers: the time is for what is left
            is_whole = True
        except asyncio.CancelledError:
            if _is_cancelled_by_others(worker, sweep):
                raise
            raise TimeoutError(f"no answer within {sweep.seconds:g} s") from None
        finally:
            _is_cancelled_by_others(worker, sweep)
            if not is_whole:  # redis-py closes it after most errors, but not when a write was cut off
                await connection.disconnect(nowait=True)
        return refused

    def _sweep(self, timeout: float | None) -> Sweep[asyncio.Task[Any]]:
        seconds = timeout or math.inf
        if seconds not in self._sweeps:
            self._sweeps[seconds] = Sweep(seconds, asyncio.Task.cancel)
        return self._sweeps[seconds]

    async def aclose(self, timeout: float) -> None:
        """Wait for the calls of this event loop; after `timeout` seconds end those that are left."""
        if self._loop is asyncio.get_running_loop() and self._workers:
            _, late = await asyncio.wait(tuple(self._workers), timeout=timeout)
            for worker in late:
                worker.cancel()
            if late:
                await asyncio.wait(late)
        for sweep in self._sweeps.values():
            sweep.rest()


def _current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _is_cancelled_by_others(worker: asyncio.Task[Any], sweep: Sweep[asyncio.Task[Any]]) -> bool:
    """End the sweep, and take its cancellations back: `wait_for` of Python 3.11 swallows one now and then."""
    for _ in range(sweep.end(worker)):
        worker.uncancel()
    return worker.cancelling() > 0


async def _nodes(client: RedisCluster, batch: Sequence[Call]) -> dict[ClusterNode, list[Call]]:
    """Who serves what, as far as the client knows."""
    await client.initialize()
    found: dict[ClusterNode, list[Call]] = {}
    for call in batch:
        try:
            node = client.nodes_manager.get_node_from_slot(client.keyslot(call.keys[0]))
        except (SlotNotCoveredError, KeyError):
            client._initialize = True  # by itself the client never asks again
            call.fail(SlotNotCoveredError("nobody serves the slot of this key"))
        else:
            found.setdefault(node, []).append(call)
    return found


async def _send(connection: AbstractConnection, commands: list[bytes]) -> None:
    """Send them. By itself redis-py would make a task for the timeout of a write, which costs more than the write."""
    if connection.health_check_interval or not connection.is_connected:
        await connection.send_packed_command(commands)
    else:
        await getattr(connection, "_send_packed_command", connection.send_packed_command)(commands)
