"""glasscache: a cache you can see through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glasscache._tiers import TieredStore
from glasscache._warming import Warmed
from glasscache.cache import Cache, CachedFunction
from glasscache.errors import (
    CodecError,
    ConfigurationError,
    GlasscacheError,
    LoadStoppedError,
    LoadTimeoutError,
    MissingExtraError,
    ReaderCutError,
    RecursiveLoadError,
    StoreError,
)
from glasscache.policy import Detail, Limits, Policy
from glasscache.stores import import_disk_store, import_redis_store
from glasscache.stores.memory import MemoryStore

__all__ = [
    "Cache",
    "CachedFunction",
    "CodecError",
    "ConfigurationError",
    "Detail",
    "GlasscacheError",
    "Limits",
    "LoadStoppedError",
    "LoadTimeoutError",
    "MemoryStore",
    "MissingExtraError",
    "Policy",
    "ReaderCutError",
    "RecursiveLoadError",
    "StoreError",
    "TieredStore",
    "Warmed",
]
# DiskStore and RedisStore are not among them: `from glasscache import *` must work without what they need.

if TYPE_CHECKING:
    from glasscache.stores.disk import DiskStore as DiskStore
    from glasscache.stores.redis import RedisStore as RedisStore


def __getattr__(name: str) -> object:
    if name == "DiskStore":
        return import_disk_store()
    if name == "RedisStore":
        return import_redis_store()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
