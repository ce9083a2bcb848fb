"""What the tiers outside of a process are made of, as settings say it.

Decides where a cache's entries lie there. Must never show a secret.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from glasscache.errors import ConfigurationError
from glasscache.stores import import_disk_store, import_redis_store

if TYPE_CHECKING:
    from glasscache.stores.disk import DiskStore
    from glasscache.stores.redis import RedisStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisSettings:
    """What the tier that machines share needs. Times in seconds; secrets stay out of `repr`."""

    url: str | None = field(default=None, repr=False)
    """`REDIS_URL`"""
    max_ttl: float | None = None
    """`REDIS_CACHE_TTL`: nothing lives longer there; None: as long as it is meant to"""
    max_connections: int = 16
    """`REDIS_MAX_CONNECTIONS`, also called `REDIS_POOL_SIZE`: of each process"""
    timeout: float = 0.25
    """`GLASSCACHE_REDIS_TIMEOUT`: of one command"""
    connect_timeout: float = 0.25
    """`GLASSCACHE_REDIS_CONNECT_TIMEOUT`"""
    prefix: str | None = None
    """`GLASSCACHE_PREFIX` of all keys and channels there; by default glasscache: and the name of the cache"""
    lease_seconds: float = 5.0
    """`GLASSCACHE_LEASE_SECONDS`: how long a machine that has died can hold up the others"""
    compression: str = "zstd"
    """`GLASSCACHE_COMPRESSION`: zstd, zlib or none"""
    memo_bytes: int = 8 * 1024**2
    """`GLASSCACHE_REDIS_MEMO_BYTES`: of what was read from there lately; 0: none"""
    secrets: tuple[str, ...] = field(default=(), repr=False)
    """`GLASSCACHE_SECRETS`: encrypts what is stored there; the first one writes, all read"""

    def store(self, name: str) -> RedisStore:
        """A new store for the cache of this name.

        ConfigurationError if there is no URL, or if the redis extra is not installed.
        """
        if self.url is None:
            raise ConfigurationError("RedisSettings(url=None): give a URL, such as redis://localhost:6379/0")
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.name != "url"}
        options["prefix"] = self.prefix or f"glasscache:{name}"
        try:
            return import_redis_store().from_url(self.url, **options)
        except ConfigurationError as error:
            raise ConfigurationError(f"REDIS_URL and what goes with it: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskSettings:
    """What the tier that outlives a process needs. Sizes in bytes."""

    path: str | None = None
    """`GLASSCACHE_DISK_PATH`: a directory; each cache has one of its own name below it"""
    max_bytes: int = 1024**3
    """`GLASSCACHE_DISK_MAX_BYTES`"""

    def directory(self, name: str) -> Path:
        """That of the cache of this name. ConfigurationError if there is no path."""
        if self.path is None:
            raise ConfigurationError("DiskSettings(path=None): give a directory, such as /var/cache/my-app")
        return Path(self.path, quote(name, safe=" ").replace(".", "%2E"))

    def store(self, name: str, redis: RedisSettings) -> DiskStore:
        """A new store for the cache of this name. `redis`: leases, compression and secrets are the same there."""
        try:
            return import_disk_store()(
                self.directory(name),
                max_bytes=self.max_bytes,
                lease_seconds=redis.lease_seconds,
                secrets=redis.secrets,
                compression=None if redis.compression == "zstd" else redis.compression,  # the default needs an extra
            )
        except ConfigurationError as error:
            raise ConfigurationError(f"GLASSCACHE_DISK_PATH and what goes with it: {error}") from None
