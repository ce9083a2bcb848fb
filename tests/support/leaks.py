"""Finds what a test left running.

Decides: what counts as left: a pending asyncio task of any loop, a thread that does not end within its grace.
Never: ends anything itself; it only tells.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

THREAD_GRACE = 20.0  # seconds in which a thread that was told to end must have ended


@contextmanager
def leak_check(thread_grace: float = THREAD_GRACE) -> Iterator[None]:
    """Raise `AssertionError` if the block leaves a pending task or a living thread behind."""
    threads = set(threading.enumerate())
    tasks = pending_tasks()
    yield
    leaked: list[Any] = sorted(str(task) for task in pending_tasks() - tasks)
    for thread in set(threading.enumerate()) - threads:
        thread.join(thread_grace)
        if thread.is_alive():
            leaked.append(thread)
    assert not leaked, f"left behind: {leaked}"


def pending_tasks() -> set[asyncio.Task[Any]]:
    """Return the pending tasks of all loops; asyncio keeps them in one set, whose name changed with Python 3.12."""
    every: Any = getattr(asyncio.tasks, "_scheduled_tasks", getattr(asyncio.tasks, "_all_tasks", ()))
    return {task for task in list(every) if not task.done()}
