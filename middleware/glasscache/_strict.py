"""JSON that all readers understand alike.

Decides what is strict: a body that is not may say something else to the app than to us. Must never take two numbers, or
two equal names in one object, for one.
"""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import msgspec

MAX_DEPTH = 64
"""Levels of arrays and objects in a body, beyond which it is not strict."""
MAX_CANONICAL = 1024**2
"""Bytes of a body beyond which it is not parsed."""

# Numbers with a point or an exponent stay as written: as floats, two that some app tells apart could meet.
read = msgspec.json.Decoder(float_hook=msgspec.Raw).decode
write = msgspec.json.Encoder(order="deterministic").encode
_rewrite = msgspec.json.Encoder().encode


def parse_strictly(body: bytes) -> object:
    """The value of a JSON text that all readers understand alike; ValueError or RecursionError for any other.

    Strict: at most 1 MiB of UTF-8, no name twice in an object, no NaN or Infinity, at most 64 levels.
    """
    if len(body) > MAX_CANONICAL:
        raise ValueError("too long")
    value = _parse_fast(body)
    if value is None:  # not proven strict, or null
        value = parse_slowly(body)
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(MAX_DEPTH, value):
        raise ValueError("too deep")
    return value


def _parse_fast(body: bytes) -> object:
    """The value, if it is proven that no name comes twice; None if not.

    The decoder keeps the last of two equal names. Without a backslash every quote delimits a string, so a
    name that was dropped shows as quotes that are missing when the value is written again.
    """
    if b"\\" in body:
        return None
    try:
        value = read(body)
        return value if _rewrite(value).count(b'"') == body.count(b'"') else None
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def parse_slowly(body: bytes) -> object:
    """What strict means, but for length and depth: the standard library, told to refuse what is loose."""
    return _reader.decode(body.decode("utf-8"))


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name comes twice")
    return found


def _refuse(constant: str) -> object:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> object:
    return 0 if digits == "-0" else msgspec.Raw(digits)  # not int(): it refuses thousands of digits


_reader = json.JSONDecoder(
    object_pairs_hook=_unique, parse_float=msgspec.Raw, parse_int=_integer, parse_constant=_refuse
)


def _deeper_than(limit: int, value: object) -> bool:
    level: list[Any] = [[value]]  # arrays and objects at one depth, from 0
    for _ in range(limit + 1):
        items = chain.from_iterable(outer.values() if isinstance(outer, dict) else outer for outer in level)
        level = [item for item in items if isinstance(item, dict | list)]
    return bool(level)
