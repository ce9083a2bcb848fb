"""One connection that listens to channels, and knows when it has stopped hearing.

Decides when messages may be missing: from the moment the connection breaks or says nothing for too long, until the
server has confirmed a new subscription. A message that is not heard is never sent again, so nothing here may reconnect
in silence: redis-py's own reading does, and is not used. Must never raise, and never end before it is closed.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, cast

from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterPubSub
from redis.asyncio.connection import AbstractConnection

from glasscache.errors import StoreError
from glasscache.stores._redis_calls import Calls

log = logging.getLogger("glasscache")

PING_EVERY = 2.0
"""Seconds of silence after which the server is asked for a sign of life; after as many again it counts as gone."""
_MAX_PAUSE = 2.0
_FIRST_PAUSE = 0.05
_MAX_DOUBLINGS = 6
_CLOSE_TIMEOUT = 1.0


class Subscription:
    """Listens to `channels` until it is closed. The callbacks are synchronous; one that raises is logged.

    `pubsub`: makes a new one, for every connection. `hear(channel, data)`: a message, in the order of their arrival.
    `restored()`: the server has confirmed that messages arrive from now on. `lost()`: they may have been missing for up
    to two times `ping_every` seconds; each `restored` is followed by one `lost`, the last one when it is closed.
    `sharded`: on a cluster use sharded pub/sub (Redis 7), for channels of one slot.
    """

    def __init__(
        self,
        pubsub: Callable[[], PubSub],
        channels: Sequence[bytes],
        *,
        hear: Callable[[bytes, bytes], None],
        lost: Callable[[], None],
        restored: Callable[[], None],
        sharded: bool = False,
        ping_every: float = PING_EVERY,
    ) -> None:
        self._pubsub = pubsub
        self._channels = tuple(channels)
        self._hear = hear
        self._lost = lost
        self._restored = restored
        self._sharded = sharded
        self._ping_every = ping_every
        self._task: asyncio.Task[None] | None = None
        self._live = False
        self._failures = 0
        self._reported = False

    @property
    def live(self) -> bool:
        """Whether messages arrive, as far as is known."""
        return self._live

    def start(self) -> None:
        """Listen in the running event loop, if it does not already. What ran in another loop (of before) is left."""
        loop = asyncio.get_running_loop()
        if self._task is not None and self._task.get_loop() is loop and not self._task.done():
            return
        self._live, self._failures, self._reported = False, 0, False
        # A context of its own: the request that happens to start it is not the parent of what it does.
        self._task = loop.create_task(self._listen(), context=contextvars.Context())

    async def aclose(self) -> None:
        """Listen no more. It may be started again."""
        task, self._task = self._task, None
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            task.cancel()
            await asyncio.wait((task,))

    async def _listen(self) -> None:
        while True:
            await self._listen_once()
            pause = min(_MAX_PAUSE, _FIRST_PAUSE * 2.0**self._failures)
            self._failures = min(self._failures + 1, _MAX_DOUBLINGS)
            await asyncio.sleep(random.random() * pause)  # all machines lose a server in the same moment

    async def _listen_once(self) -> None:
        """Until the connection fails."""
        calls = Calls()
        pubsub: PubSub | None = None
        try:
            pubsub = self._pubsub()
            # In a task of its own: a connection that is cancelled while it shakes hands goes back to its pool dirty.
            await self._read(await calls.run(self._subscribe(pubsub)))
        except Exception as error:
            self._report(error)
        finally:
            if self._live:
                self._live = False
                self._tell(self._lost)
            await calls.aclose(_CLOSE_TIMEOUT)
            if pubsub is not None:
                with suppress(StoreError):
                    await calls.run(pubsub.aclose())  # type: ignore[no-untyped-call]

    async def _subscribe(self, pubsub: PubSub) -> AbstractConnection:
        """The connection, after the server has confirmed every channel."""
        if isinstance(pubsub, ClusterPubSub):
            await self._find_nodes(pubsub)
        if self._sharded and isinstance(pubsub, ClusterPubSub):
            await pubsub.ssubscribe(*self._channels)
            (pubsub,) = pubsub.node_pubsub_mapping.values()
        else:
            await pubsub.subscribe(*self._channels)
        connection = cast("AbstractConnection", pubsub.connection)
        unconfirmed = len(self._channels)
        while unconfirmed:
            answer = await self._next(connection)
            if answer is None:
                raise TimeoutError("the subscription is not confirmed")
            if answer[0] in (b"subscribe", b"ssubscribe"):
                unconfirmed -= 1
            else:
                self._heard(answer)
        return connection

    async def _find_nodes(self, pubsub: ClusterPubSub) -> None:
        """Know which node serves the channels: after a failure it may be another."""
        cluster = pubsub.cluster
        await cluster.initialize()
        if self._failures:
            await cluster.nodes_manager.initialize()

    async def _read(self, connection: AbstractConnection) -> None:
        self._live, self._reported = True, False
        self._tell(self._restored)
        asked, task = False, asyncio.current_task()
        assert task is not None
        while True:
            answer = await self._next(connection)
            if answer is not None:
                asked, self._failures = False, 0
                self._heard(answer)
            elif asked:
                raise TimeoutError(f"the server has said nothing for {2 * self._ping_every:g} s")
            else:
                asked = True
                await connection.send_command("PING", check_health=False)
                if task.cancelling():  # `wait_for` of Python 3.11, by which redis-py sends, swallows it now and then
                    raise asyncio.CancelledError

    async def _next(self, connection: AbstractConnection) -> Any:
        """What the server says; None if it says nothing for `ping_every` seconds."""
        # A task: a timeout that is thrown through our own frames hides them from the tracer of Python 3.11.
        return await asyncio.create_task(connection.read_response(timeout=self._ping_every, push_request=True))

    def _heard(self, answer: Any) -> None:
        match answer:
            case [b"message" | b"smessage", bytes(channel), bytes(data)]:
                self._tell(self._hear, channel, data)
            case [b"unsubscribe" | b"sunsubscribe", *_]:
                raise ConnectionError("the server has ended the subscription: the slot has moved")
            case _:  # an answer to PING
                pass

    def _tell(self, callback: Callable[..., None], *arguments: bytes) -> None:
        try:
            callback(*arguments)
        except Exception:
            log.exception("a listener to %r failed", self._channels)

    def _report(self, error: Exception) -> None:
        """Once for every outage."""
        if not self._reported:
            self._reported = True
            what = b", ".join(self._channels).decode(errors="replace")
            log.warning("Redis is not heard on %s, it is tried again: %s: %s", what, type(error).__name__, error)
