"""Functions of one name: two routes that are called `get`, one function under a decorator for two languages.

Decides what a function's name has to be told apart by in keys. Must never let two closures, or two functions of one
name, meet in one key; nor remember without bound.
"""

from __future__ import annotations

import secrets
from types import CellType, CodeType
from typing import Any, TypeAlias

Known: TypeAlias = dict[str, list[list[object]]]
"""What the functions of one cache are made of, by their names."""

_MOST_NAMESAKES = 64  # that are remembered: one may be made for each request
_BY_VALUE = frozenset({CodeType, str, bytes, int, float, bool})


def mark_of(function: Any, known: Known) -> str:
    """What stands beside the name of a function in its keys; nothing for most."""
    return _closure_mark(function) or _namesake(function, known)


def _closure_mark(function: Any) -> str:
    """Nothing for a function that its name tells from all others, else something that no other one has.

    A function inside a function may be made many times, and differ by the variables around it.
    """
    if "<locals>" not in function.__qualname__:
        return ""
    code = getattr(function, "__code__", None)
    if code is not None and not set(code.co_freevars) - {"__class__"}:  # __class__: it uses super()
        return ""
    return f" {secrets.token_hex(8)}"


def _namesake(function: Any, known: Known) -> str:
    """Nothing for the first function of its name, and for the same one when it is made again; for another one how many
    came before it.
    """
    before = known.setdefault(f"{function.__module__}.{function.__qualname__}", [])
    parts = _parts_of(function)
    place = next((place for place, others in enumerate(before) if _are_same(parts, others)), len(before))
    if place == _MOST_NAMESAKES:
        return f" {secrets.token_hex(8)}"
    if place == len(before):
        before.append(parts)
    return f" {place}" if place else ""


def _parts_of(function: Any) -> list[object]:
    """The code of a function and of all that it wraps, and what they close over."""
    parts: list[object] = []
    while function is not None:
        inner, code = getattr(function, "__wrapped__", None), getattr(function, "__code__", None)
        cells = zip(getattr(code, "co_freevars", ()), getattr(function, "__closure__", None) or (), strict=False)
        contents = [_content(cell) for name, cell in cells if name != "__class__"]
        parts += [code, *(content for content in contents if content is not inner)]
        function = inner
    return parts


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # nothing yet
        return None


def _are_same(parts: list[object], others: list[object]) -> bool:
    return len(parts) == len(others) and all(
        one is other or (type(one) is type(other) and type(one) in _BY_VALUE and one == other)
        for one, other in zip(parts, others, strict=True)
    )
