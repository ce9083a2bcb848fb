"""The variables of the environment: which there are, what each may say, and which contradict each other.

Decides names and what is refused. Must never print a secret, guess what a wrong value was meant to be, or stop at the
first of several mistakes.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from glasscache._switch import ENABLED, flag
from glasscache.errors import ConfigurationError
from glasscache.keys import Keyring
from glasscache.policy import Detail, Limits

Kind: TypeAlias = Literal["memory", "disk", "redis", "hybrid", "tiered"]
Part: TypeAlias = Literal["settings", "policy", "limits", "redis", "pool", "disk", "detail"]
"""Of the settings: which record a variable sets a field of."""


def read(environ: Mapping[str, str]) -> dict[Part, dict[str, Any]]:
    """What the environment says, by part and field; a variable that is empty counts as not set.

    ConfigurationError with every mistake at once: the variable, its value and the remedy.
    """
    found: dict[Part, dict[str, Any]] = {part: {} for part in get_args(Part)}
    problems = _unknown(environ)
    for name, variable in VARIABLES.items():
        text = environ.get(name)
        if not text:
            continue
        try:
            found[variable.part][variable.field] = variable.parse(text)
        except ValueError as error:
            problems.append(f"{name}: {error}" if variable.secret else f"{name}={text!r}: {error}")
    problems += _disagreeing(found["redis"], found["pool"]) + _missing(found["settings"], environ)
    problems += _misplaced_disk(found["settings"], found["disk"])
    if problems:
        raise ConfigurationError("\n".join(["the environment cannot work:", *problems]))
    return found


# --- what one says: each parser returns it, or raises ValueError with the remedy ---------------------------

_UNITS = {"": 1, "b": 1} | {
    f"{prefix}{suffix}": base**power
    for power, prefix in enumerate("kmgt", start=1)
    for suffix, base in (("b", 1000), ("ib", 1024))
}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*([a-z]*)", re.ASCII)


def _whole(text: str, *, least: int = 1) -> int:
    try:
        number = int(text)
    except ValueError:
        number = -1
    if number < least:
        raise ValueError(f"give a whole number, {least} or more")
    return number


def _count(text: str) -> int:
    return _whole(text, least=0)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _seconds(text: str) -> float:
    if not 0 <= (number := _number(text)) < math.inf:
        raise ValueError("give a number of seconds, 0 or more")
    return number


def _some_seconds(text: str) -> float:
    if not 0 < (number := _number(text)) < math.inf:
        raise ValueError("give a number of seconds above 0")
    return number


def _size(text: str) -> int:
    match = _SIZE.fullmatch(text.strip().lower())
    unit = _UNITS.get(match[2]) if match else None
    size = int(float(match[1]) * unit) if match and unit else 0
    if size < 1:
        raise ValueError("give a number of bytes, 1 or more, such as 64MiB, 64MB or 67108864")
    return size


def _size_or_none(text: str) -> int:
    return 0 if text.strip() == "0" else _size(text)


def _path(text: str) -> str:
    if not re.fullmatch(r"/[^\s?#]*", text):
        raise ValueError("give a path that begins with /, such as /metrics/cache")
    return text


def _secret(text: str) -> str:
    Keyring(text)
    return text


def _kind(text: str) -> str:
    kind = text.strip().lower()
    if kind not in get_args(Kind):
        raise ValueError(
            "choose memory (the default), disk (memory before a file), redis, "
            "or hybrid (memory before Redis; tiered is the same)"
        )
    return kind


def _redis_url(text: str) -> str:
    if not re.match(r"(rediss?(\+(sentinel|cluster))?|unix)://", text):
        raise ValueError(
            "give a URL such as redis://host:6379/0, rediss://, redis+sentinel://, redis+cluster:// or unix://"
        )
    return text


def _secrets(text: str) -> tuple[str, ...]:
    return tuple(secret for secret in map(str.strip, text.split(",")) if secret)


def _compression(text: str) -> str:
    if text not in ("zstd", "zlib", "none"):
        raise ValueError("choose zstd (the default), zlib or none")
    return text


# --- variables ----------------------------------------------------------------------------------------------


class Variable(NamedTuple):
    """One environment variable: how it is read, and which field of what it sets."""

    parse: Callable[[str], Any]
    part: Part
    field: str
    secret: bool = False


def _plain(field: dataclasses.Field[Any], part: Part) -> Variable:
    parse: Callable[[str], Any] = _some_seconds
    if isinstance(field.default, bool):
        parse = flag
    elif isinstance(field.default, int):
        parse = _size if field.name.endswith("_bytes") else _whole if field.default else _count
    return Variable(parse, part, field.name)


VARIABLES: Mapping[str, Variable] = {
    ENABLED: Variable(flag, "settings", "enabled"),
    "CACHE_TYPE": Variable(_kind, "settings", "kind"),
    "CACHE_MAX_SIZE": Variable(_whole, "settings", "max_entries"),
    "CACHE_TTL": Variable(_seconds, "policy", "ttl"),
    "REDIS_URL": Variable(_redis_url, "redis", "url", secret=True),
    "REDIS_CACHE_TTL": Variable(_some_seconds, "redis", "max_ttl"),
    "REDIS_MAX_CONNECTIONS": Variable(_whole, "redis", "max_connections"),
    "REDIS_POOL_SIZE": Variable(_whole, "pool", "max_connections"),
    "GLASSCACHE_REDIS_TIMEOUT": Variable(_some_seconds, "redis", "timeout"),
    "GLASSCACHE_REDIS_CONNECT_TIMEOUT": Variable(_some_seconds, "redis", "connect_timeout"),
    "GLASSCACHE_REDIS_MEMO_BYTES": Variable(_size_or_none, "redis", "memo_bytes"),
    "GLASSCACHE_PREFIX": Variable(str, "redis", "prefix"),
    "GLASSCACHE_LEASE_SECONDS": Variable(_some_seconds, "redis", "lease_seconds"),
    "GLASSCACHE_COMPRESSION": Variable(_compression, "redis", "compression"),
    "GLASSCACHE_SECRETS": Variable(_secrets, "redis", "secrets", secret=True),
    "GLASSCACHE_DISK_PATH": Variable(str, "disk", "path"),
    "GLASSCACHE_DISK_MAX_BYTES": Variable(_size, "disk", "max_bytes"),
    "GLASSCACHE_NAME": Variable(str, "settings", "name"),
    "GLASSCACHE_MAX_BYTES": Variable(_size, "settings", "max_bytes"),
    "GLASSCACHE_KEY": Variable(_secret, "settings", "key", secret=True),
    "GLASSCACHE_STATS_PATH": Variable(_path, "settings", "stats_path"),
    "GLASSCACHE_STATS_TOKEN": Variable(str, "settings", "stats_token", secret=True),
    "GLASSCACHE_STALE_WHILE_REVALIDATE": Variable(_seconds, "policy", "stale_while_revalidate"),
    "GLASSCACHE_STALE_IF_ERROR": Variable(_seconds, "policy", "stale_if_error"),
    **{f"GLASSCACHE_{field.name.upper()}": _plain(field, "limits") for field in dataclasses.fields(Limits)},
    **{f"GLASSCACHE_{field.name.upper()}": _plain(field, "detail") for field in dataclasses.fields(Detail)},
}
"""Everything that is read, by name."""

_ELSEWHERE = frozenset(
    {"GLASSCACHE_METRICS_PORT", "GLASSCACHE_METRICS_HOST", "GLASSCACHE_METRICS_TOKEN", "GLASSCACHE_SOAK"}
)
"""Ours, but read by others: exporters, the tests."""

# --- what they say together: each check returns what is wrong -----------------------------------------------


def _unknown(environ: Mapping[str, str]) -> list[str]:
    known = [name for name in VARIABLES if name.startswith("GLASSCACHE_")]
    problems = []
    for name in sorted(environ):
        if name.startswith("GLASSCACHE_") and name not in VARIABLES and name not in _ELSEWHERE:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            problems.append(f"{name}: no such setting; {hint}")
    return problems


def _disagreeing(redis: Mapping[str, Any], pool: Mapping[str, Any]) -> list[str]:
    """REDIS_POOL_SIZE is another name for REDIS_MAX_CONNECTIONS."""
    most, size = redis.get("max_connections"), pool.get("max_connections")
    if most is None or size is None or most == size:
        return []
    return [f"REDIS_MAX_CONNECTIONS={most} and REDIS_POOL_SIZE={size} are one setting: drop one of the two"]


def _missing(settings: Mapping[str, Any], environ: Mapping[str, str]) -> list[str]:
    """A tier that is shared needs to be found, and keys that mean the same to everybody, and after a restart."""
    if not settings.get("enabled", True):
        return []  # nothing is shared where nothing is cached
    kind = settings.get("kind", "memory")
    needed = {
        "REDIS_URL": (kind not in ("memory", "disk"), "such as redis://localhost:6379/0"),
        "GLASSCACHE_DISK_PATH": (kind == "disk", "a directory on a local disk, such as /var/cache/my-app"),
        "GLASSCACHE_KEY": (kind != "memory", "the same on every machine: make one with `glasscache key`"),
    }
    return [
        f"{name}: CACHE_TYPE={kind} needs it, {remedy}"
        for name, (is_needed, remedy) in needed.items()
        if is_needed and not environ.get(name)
    ]


def _misplaced_disk(settings: Mapping[str, Any], disk: Mapping[str, Any]) -> list[str]:
    """A disk that would not be used."""
    kind, path = settings.get("kind", "memory"), disk.get("path")
    if path is None or kind in ("disk", "hybrid", "tiered"):
        return []
    remedy = "choose disk, or hybrid for a disk between memory and Redis, or drop it"
    return [f"GLASSCACHE_DISK_PATH={path!r}: CACHE_TYPE={kind} uses no disk: {remedy}"]
