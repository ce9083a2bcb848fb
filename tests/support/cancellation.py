"""Readers that are cancelled all the time, and whether the others still get what they asked for.

Run as a program it reads with redis-py itself, of whatever version: `python cancellation.py PORT OPERATIONS`; that
version 4.5.1 fails proves that this can tell (its connections went back to the pool with an answer still to come).
Imports nothing but the standard library and redis.
"""

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable
from typing import Any

CANCELLED = 0.7
"""Share of the operations."""
KEYS = 64
_AT_ONCE = 32
_LATEST = 0.006
"""Seconds after which an operation is cancelled, at most: the proxy lets most of them take about that long."""


async def wrong_values(read: Callable[[int], Awaitable[bytes | None]], operations: int, seed: int = 7) -> list[str]:
    """Read keys at random; every value that was not the key's own. `read` answers the value of a key by number."""
    chance, wrong = random.Random(seed), list[str]()
    numbers = iter(range(operations))

    async def reader() -> None:
        loop = asyncio.get_running_loop()
        for _ in numbers:
            key = chance.randrange(KEYS)
            task = asyncio.ensure_future(read(key))
            if chance.random() < CANCELLED:
                loop.call_later(chance.random() * _LATEST, task.cancel)
            try:
                found = await task
            except asyncio.CancelledError:
                continue
            except Exception as error:
                wrong.append(f"{key}: {error!r}")
                continue
            if found != value_of(key):
                wrong.append(f"{key}: {found!r}")

    await asyncio.gather(*(reader() for _ in range(_AT_ONCE)))
    return wrong


def value_of(key: int) -> bytes:
    """What belongs to it."""
    return f"value of {key}".encode()


async def with_redis_alone(port: int, operations: int) -> int:
    """How many values were wrong."""
    from redis.asyncio import BlockingConnectionPool, Redis  # noqa: PLC0415 - of this process, whichever that is

    pool = BlockingConnectionPool(host="127.0.0.1", port=port, max_connections=16)
    client: Any = Redis(connection_pool=pool)
    for key in range(KEYS):
        await client.set(f"key {key}", value_of(key))

    async def read(key: int) -> bytes | None:
        found: bytes | None = await client.get(f"key {key}")
        return found

    wrong = await wrong_values(read, operations)
    await pool.disconnect()
    return len(wrong)


if __name__ == "__main__":
    print(asyncio.run(with_redis_alone(int(sys.argv[1]), int(sys.argv[2]))))
