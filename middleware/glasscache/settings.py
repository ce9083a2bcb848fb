"""The environment, as a cache: the settings, and what they make.

Decides defaults, and which stores a cache of each kind has; the variables are those of `_variables.py`. Must never show
a secret.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from glasscache._tier_settings import DiskSettings, RedisSettings
from glasscache._tiers import TieredStore
from glasscache._variables import Kind, read
from glasscache.cache import Cache
from glasscache.errors import ConfigurationError
from glasscache.interfaces import Store
from glasscache.policy import Detail, Limits, Policy
from glasscache.stores.memory import MemoryStore

if TYPE_CHECKING:
    from glasscache.stores.disk import DiskStore
    from glasscache.stores.redis import RedisStore

_log = logging.getLogger("glasscache")

_UNUSED = "REDIS_URL is set and not used: set CACHE_TYPE=hybrid, or CACHE_TYPE=memory if it is not for this cache"

__all__ = ["DiskSettings", "Kind", "RedisSettings", "Settings"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a cache and its stats page need. Times in seconds, sizes in bytes; secrets stay out of `repr`."""

    kind: Kind = "memory"
    """`CACHE_TYPE`: memory; disk (memory before a file); redis (every request asks it); hybrid (memory before
    Redis), also called tiered"""
    redis: RedisSettings = field(default_factory=RedisSettings)
    """Where `kind` is not memory; of a disk, too, what does not name Redis"""
    disk: DiskSettings = field(default_factory=DiskSettings)
    """Where `kind` is disk; with hybrid, a disk between memory and Redis"""
    max_entries: int = 100
    """`CACHE_MAX_SIZE`"""
    max_bytes: int = 64 * 1024**2
    """`GLASSCACHE_MAX_BYTES`"""
    policy: Policy = field(default_factory=Policy)
    """`CACHE_TTL`, `GLASSCACHE_STALE_WHILE_REVALIDATE`, `GLASSCACHE_STALE_IF_ERROR`"""
    limits: Limits = field(default_factory=Limits)
    """`GLASSCACHE_` and the name of the field"""
    detail: Detail = field(default_factory=Detail)
    """`GLASSCACHE_` and the name of the field"""
    name: str = "default"
    """`GLASSCACHE_NAME`"""
    key: str | None = field(default=None, repr=False)
    """`GLASSCACHE_KEY`, the secret of all keys"""
    stats_path: str | None = None
    """`GLASSCACHE_STATS_PATH`; None: no stats page"""
    stats_token: str | None = field(default=None, repr=False)
    """`GLASSCACHE_STATS_TOKEN`; None: the stats page shows totals only"""
    enabled: bool = True
    """`GLASSCACHE_ENABLED`; False: nothing is cached, by a `Cache` made in code neither"""

    hint: str = field(default="", repr=False)
    """What the environment says and nothing uses; the log tells it when a cache is made"""

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ConfigurationError(f"Settings(kind={self.kind!r}): choose one of {', '.join(get_args(Kind))}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Read the environment; a variable that is empty counts as not set.

        Raises ConfigurationError with every mistake at once: the variable, its value and the remedy.
        """
        found = read(environ)
        return cls(
            hint=_UNUSED if "kind" not in found["settings"] and "url" in found["redis"] else "",
            redis=RedisSettings(**found["pool"] | found["redis"]),
            disk=DiskSettings(**found["disk"]),
            policy=Policy(**found["policy"]),
            limits=Limits(**found["limits"]),
            detail=Detail(**found["detail"]),
            **found["settings"],
        )

    def cache(self) -> Cache:
        """A new cache with the stores of its kind."""
        if self.hint and self.enabled:
            _log.warning(self.hint)
        kind = self.kind if self.enabled else "memory"
        stores: list[Store] = []
        if kind != "redis":
            stores.append(MemoryStore(max_entries=self.max_entries, max_bytes=self.max_bytes))
        if kind == "disk" or (kind != "memory" and self.disk.path is not None):
            stores.append(self.disk.store(self.name, self.redis))
        if kind not in ("memory", "disk"):
            stores.append(self.redis.store(self.name))
        return Cache(
            TieredStore(stores),
            policy=self.policy,
            limits=self.limits,
            detail=self.detail,
            name=self.name,
            key_secret=self.key,
            enabled=self.enabled,
        )

    def shared(self) -> DiskStore | RedisStore | None:
        """A new store for what processes share; None: there is nothing."""
        if self.kind == "memory":
            return None
        return self.disk.store(self.name, self.redis) if self.kind == "disk" else self.redis.store(self.name)
