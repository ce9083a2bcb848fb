"""Finds what a test left running.

Decides: what counts as left: a pending task of an event loop that the test made, a thread that does not end within
its grace.
Never: ends anything itself; it only tells.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

THREAD_GRACE = 20.0  # seconds in which a thread that was told to end must have ended


@contextmanager
def leak_check(thread_grace: float = THREAD_GRACE) -> Iterator[None]:
    """Raise `AssertionError` if the block leaves a pending task or a living thread behind."""
    threads = set(threading.enumerate())
    with pytest.MonkeyPatch.context() as patch:
        loops = _loops_made(patch)
        yield
    leaked: list[Any] = sorted(str(task) for loop in list(loops) for task in asyncio.all_tasks(loop))
    for thread in set(threading.enumerate()) - threads:
        thread.join(thread_grace)
        if thread.is_alive():
            leaked.append(thread)
    assert not leaked, f"left behind: {leaked}"


def _loops_made(patch: pytest.MonkeyPatch) -> weakref.WeakSet[asyncio.AbstractEventLoop]:
    """Those made from now on, also by `asyncio.run()`: asyncio tells the tasks of a loop, and no loops."""
    loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()
    make = asyncio.new_event_loop

    def made() -> asyncio.AbstractEventLoop:
        loop = make()
        loops.add(loop)
        return loop

    for module in (asyncio, asyncio.events):
        patch.setattr(module, "new_event_loop", made)
    return loops
