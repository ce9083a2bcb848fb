"""What stands for a call of a function in a key: its name and its arguments, whatever order they came in.

Must never let two different calls meet, and never take a value whose form differs between processes (a `repr`, an `id`,
the order of a set): such a call is refused, and the parameter named.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import pathlib
import sys
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from glasscache.errors import ConfigurationError

_pack = msgspec.msgpack.Encoder(order="deterministic").encode


def call_key(name: str, arguments: Mapping[str, object]) -> bytes:
    """What stands for a call in the key: `name` of the function and its bound arguments, by parameter.

    Types count (1, 1.0, True, "1" and b"1" are five calls), except list and tuple, set and frozenset; the
    order of dicts and sets does not. ConfigurationError names the parameter whose value has no stable form.
    """
    stable = []
    for parameter in sorted(arguments):
        try:
            stable.append((parameter, _pack(_stable(arguments[parameter]))))
        except (TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ConfigurationError(
                f"{name}: parameter {parameter!r} cannot be part of a key ({error}): "
                "pass JSON-like values (an array as `array.tolist()`), paths, dataclasses, Structs or pydantic models; "
                "or say cached(ignore=...) if the value does not depend on it, cached(key=...) if on a part of it"
            ) from error
    return _pack((name, stable))


_PLAIN = frozenset({bytes, bool, float, type(None)})
_TEXTUAL = frozenset(
    {datetime.datetime, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID}
    | {pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath}
)


def _stable(value: Any) -> object:
    """The value in types of msgpack; what msgpack lacks becomes an extension, which equals no plain value."""
    kind = type(value)
    if kind is str:
        return value if value.isascii() else _text(value)
    if kind in _PLAIN:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _tagged("int", hex(value))
    if kind is list or kind is tuple:
        return [_stable(item) for item in value]
    if kind is dict:
        return _tagged("dict", sorted((_pack(_stable(name)), _pack(_stable(value[name]))) for name in value))
    if kind is set or kind is frozenset:
        return _tagged("set", sorted(_pack(_stable(item)) for item in value))
    return _tagged(f"{kind.__module__}.{kind.__qualname__}", _inside(value, kind))


def _text(value: str) -> object:
    """Half a surrogate pair is no UTF-8: of a file's name that is none, or of an answer that was cut in two."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return _tagged("str", value.encode("utf-8", "surrogatepass"))
    return value


def _inside(value: Any, kind: Any) -> object:
    """The content of a value of a named type. Never its repr or id: they differ between equal values."""
    if isinstance(value, enum.Enum):
        return _stable(value.value)
    if kind in _TEXTUAL:
        zone = getattr(value, "tzinfo", None)
        return [_stable(str(value)), getattr(value, "fold", 0), *([] if zone is None else [_zone(zone)])]
    if isinstance(value, type):
        return _found_as(value)
    if dataclasses.is_dataclass(kind):
        names: Iterable[str] = [field.name for field in dataclasses.fields(kind)]
    elif isinstance(value, msgspec.Struct):
        names = value.__struct_fields__
    elif isinstance(value, tuple) and hasattr(kind, "_fields"):
        names = kind._fields
    elif hasattr(kind, "model_fields"):  # pydantic, which need not be installed
        names = (*kind.model_fields, "model_extra", "__pydantic_private__")
    else:
        raise TypeError(f"{kind.__module__}.{kind.__qualname__} has no stable form")
    return [(name, _stable(getattr(value, name))) for name in (*names, *_beside(value, kind, names))]


def _beside(value: Any, kind: Any, names: Iterable[str]) -> list[str]:
    """The attributes that are no fields, and that a function may look at: what `__post_init__` made of an InitVar, or a
    subclass added. Without what a `cached_property` has worked out: that follows from the others.
    """
    others = vars(value).keys() - names if hasattr(value, "__dict__") else ()
    return sorted(name for name in others if not _is_worked_out(getattr(kind, name, None)))


def _is_worked_out(found: object) -> bool:
    return hasattr(found, "__get__") and not callable(found)


def _zone(zone: datetime.tzinfo) -> object:
    """A time zone by its name: two that are alike today may differ in summer, and one alone may have a name to show."""
    name = str(zone)
    if " at 0x" in name:  # where it happens to be in memory
        raise TypeError(f"{type(zone).__qualname__} has no name")
    return (f"{type(zone).__module__}.{type(zone).__qualname__}", _stable(name))


def _found_as(value: type) -> str:
    """The name of a class, if it is the one that is found under it: others may have the same name."""
    found: Any = sys.modules.get(value.__module__)
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not value:
        raise TypeError(f"{value!r} is not found under its name")
    return f"{value.__module__}.{value.__qualname__}"


def _tagged(kind: str, content: object) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(1, _pack((kind, content)))
