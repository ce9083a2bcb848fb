"""Where suspended tasks stand, for the messages of failed runs.

Decides: how a chain of awaits is told. Never: raises, or touches a task.
"""

from __future__ import annotations

import asyncio
from typing import Any


def describe_all(tasks: list[asyncio.Task[Any]]) -> str:
    """Return one line per task: its name and where it is suspended, outermost first."""
    return "".join(f"\n  {task.get_name()}: {where(task)}" for task in tasks) or "no task is pending"


def where(task: asyncio.Task[Any]) -> str:
    """Return the chain of awaits of a suspended task, as `function (file:line)` joined by ` > `."""
    places: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None and len(places) < 20:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(awaited, f"{kind}_frame")), None)
        if kind is None:
            places.append(type(awaited).__name__)
            break
        frame = getattr(awaited, f"{kind}_frame")
        line = f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}" if frame else "finished"
        places.append(f"{awaited.__qualname__} ({line})")
        awaited = getattr(awaited, "gi_yieldfrom" if kind == "gi" else f"{kind}_await")
    return " > ".join(places)
