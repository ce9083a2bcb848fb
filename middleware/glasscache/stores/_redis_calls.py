"""How an operation on Redis is run: in a task of its own, that its caller's cancellation does not reach; or without,
where it waits only for what `Batches` were called for.

A command that is cut off between its request and its answer leaves a connection on which the next reader finds the
answer of another: so no command is ever cut off by who waits for it. Decides which errors come out: StoreError, and
nothing else but what is already an error of ours. Must never retry.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, TypeVar

from glasscache._tasks import Tasks
from glasscache.errors import GlasscacheError, StoreError
from glasscache.stores._redis_line import failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine

T = TypeVar("T")


async def plainly(operation: Awaitable[T]) -> T:
    """What an operation returns that needs no task. Errors come out as from `Calls.run`."""
    try:
        return await operation
    except GlasscacheError:
        raise
    except Exception as error:
        raise failure(error) from error


class Calls:
    """The operations under way."""

    def __init__(self) -> None:
        self._tasks = Tasks()

    async def run(self, operation: Coroutine[Any, Any, T]) -> T:
        """What the operation returns. If the caller is cancelled, the operation goes on to its end.

        Raises StoreError, chained, for every error that is not a GlasscacheError: the client's, the network's, a
        timeout, and whatever nonsense from a server makes of our own code.
        """
        task = self._tasks.start(operation)
        await asyncio.wait((task,))
        try:
            return task.result()
        except GlasscacheError:
            raise
        except asyncio.CancelledError:
            raise StoreError("closed while the operation was under way") from None
        except Exception as error:
            raise failure(error) from error

    def soon(self, operation: Coroutine[Any, Any, T], context: contextvars.Context) -> asyncio.Task[T]:
        """Run it with nobody waiting, in a copy of `context`. If it fails, it fails unseen."""
        return self._tasks.start(operation, context.copy())

    async def aclose(self, timeout: float) -> None:
        """Wait for the operations of this event loop; after `timeout` seconds end those that are left."""
        mine = self._tasks.here()
        if not mine:
            return
        _, late = await asyncio.wait(mine, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
