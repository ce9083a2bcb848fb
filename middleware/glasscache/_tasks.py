"""Tasks that nobody awaits: what is begun for a caller goes on when the caller has left.

Decides that an error which nobody is left to look at is told to nobody. Must never end a task.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Tasks(set[asyncio.Task[Any]]):
    """Those under way: asyncio itself holds them weakly."""

    def start(self, operation: Coroutine[Any, Any, T], context: contextvars.Context | None = None) -> asyncio.Task[T]:
        """In `context`, or in a copy of the present one."""
        task = asyncio.get_running_loop().create_task(operation, context=context)
        self.add(task)
        task.add_done_callback(self._done)
        return task

    def here(self) -> set[asyncio.Task[Any]]:
        """Those of the running event loop: what another one left behind may never end."""
        loop = asyncio.get_running_loop()
        return {task for task in self if task.get_loop() is loop}

    def _done(self, task: asyncio.Task[Any]) -> None:
        self.discard(task)
        if not task.cancelled():
            task.exception()  # looked at
