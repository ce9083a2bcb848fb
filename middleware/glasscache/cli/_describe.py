"""Settings in words, without their secrets."""

from __future__ import annotations

import re

from glasscache.settings import Settings

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")


def describe(settings: Settings) -> str:
    """Where answers are kept, on one line."""
    if not settings.enabled:
        return "the cache is switched off (GLASSCACHE_ENABLED): nothing is kept"
    places = []
    if settings.kind != "redis":
        places.append(f"memory ({settings.max_entries} entries, {size(settings.max_bytes)})")
    if settings.disk.path is not None:
        places.append(f"{settings.disk.directory(settings.name)} ({size(settings.disk.max_bytes)})")
    if settings.redis.url is not None and settings.kind not in ("memory", "disk"):
        places.append(f"Redis at {without_password(settings.redis.url)}")
    return f"answers are kept in {' before '.join(places)}"


def size(number: float) -> str:
    """Bytes, as people say them."""
    unit = 0
    while number >= 1024 and unit < len(_UNITS) - 1:
        number /= 1024
        unit += 1
    return f"{number:.4g} {_UNITS[unit]}"


def without_password(url: str) -> str:
    """A URL that can be shown."""
    return re.sub(r"://[^/]*@", "://***@", url).partition("?")[0]
