"""How commands are sent, and how Lua is run: by its digest, and in full where the server does not know it.

Decides when a cluster's client has to ask anew which node serves what, and when a server is one to leave. Whatever
talks to a server goes through `send`, but for what goes in batches (_redis_batches.py) and subscriptions.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Protocol

from redis.asyncio import RedisCluster
from redis.exceptions import NoScriptError, ReadOnlyError, SlotNotCoveredError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Redis


async def send(client: Redis | RedisCluster, *command: bytes | str | int) -> Any:
    """What the server answers. Raises what the client raises."""
    execute: Callable[..., Awaitable[Any]] = client.execute_command  # redis-py has no types for it
    if not isinstance(client, RedisCluster):
        try:
            return await execute(*command)
        except ReadOnlyError:  # a primary no more: by the same name there may be another one
            await client.connection_pool.disconnect(inuse_connections=False)
            raise
    # Before it knows the nodes, redis-py sends a command to any of them, whatever its key.
    await client.initialize()
    try:
        return await execute(*command)
    except (SlotNotCoveredError, KeyError):  # KeyError: what redis-py raises where it knows of no node for one slot
        await client.nodes_manager.initialize()  # by itself the client never asks again
        raise


class Request(Protocol):
    """What may be asked of a server, with the keys of one slot and perhaps arguments."""

    answers: int
    """How many there are to it: one or two."""

    def packed(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
        """As it goes over the wire, in RESP."""

    async def run(self, client: Redis | RedisCluster, keys: Sequence[bytes], arguments: Sequence[bytes]) -> Any:
        """Let the client ask. Raises what it raises."""


class Script:
    """One script."""

    answers = 1

    def __init__(self, text: str) -> None:
        self._text = text
        self._digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()  # what EVALSHA asks for
        self._named = b"$7\r\nEVALSHA\r\n$40\r\n%b\r\n" % self._digest.encode()

    def packed(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
        """The command in RESP that runs the script if the server knows it."""
        size, count = len(keys), b"%d" % len(keys)
        head = b"*%d\r\n%b$%d\r\n%b\r\n" % (3 + size + len(arguments), self._named, len(count), count)
        return head + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in (*keys, *arguments)])

    async def run(
        self, client: Redis | RedisCluster, keys: Sequence[bytes], arguments: Sequence[bytes | str | int]
    ) -> Any:
        """What the script returns. Raises what the client raises."""
        rest = (len(keys), *keys, *arguments)
        try:
            return await send(client, "EVALSHA", self._digest, *rest)
        except NoScriptError:
            return await send(client, "EVAL", self._text, *rest)


class Command:
    """One command, to be sent as scripts are: with others, over one connection. `keys` name its slot."""

    answers = 1

    def __init__(self, word: str) -> None:
        self._word = word

    def packed(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
        """The command in RESP."""
        parts = (self._word.encode(), *keys, *arguments)
        return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%b\r\n" % (len(part), part) for part in parts])

    async def run(
        self, client: Redis | RedisCluster, keys: Sequence[bytes], arguments: Sequence[bytes | str | int]
    ) -> Any:
        """What the server answers. Raises what the client raises."""
        return await send(client, self._word, *keys, *arguments)


def peek(size: int, key: bytes) -> bytes:
    """See Peek: of a key that has so many bytes, or of what stands for one in a template."""
    return b"*2\r\n$4\r\nPTTL\r\n$%d\r\n%b\r\n*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (size, key, size, key)


class Peek:
    """How many milliseconds a value lives, and the value: a server runs such plain commands faster than a script.

    Between them the value may be replaced. Who reads it believes neither this time nor the one that the value was
    stored with (`Envelope.seal`), but the shorter one, and counts it from before the question: so nothing ever lives
    longer than it may, whichever of the two it was.
    """

    answers = 2

    def packed(self, keys: Sequence[bytes], arguments: Sequence[bytes]) -> bytes:
        """The commands in RESP."""
        return peek(len(keys[0]), keys[0])

    async def run(
        self, client: Redis | RedisCluster, keys: Sequence[bytes], arguments: Sequence[bytes | str | int]
    ) -> tuple[Any, Any]:
        """What the server answers. Raises what the client raises."""
        left = await send(client, "PTTL", keys[0])
        return left, await send(client, "GET", keys[0])
