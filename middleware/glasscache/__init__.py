"""glasscache: a cache you can see through."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glasscache._tiers import TieredStore
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
from glasscache.stores import redis_store
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
]
# RedisStore is not among them: `from glasscache import *` must work without the extra.

if TYPE_CHECKING:
    from glasscache.stores.redis import RedisStore as RedisStore


def __getattr__(name: str) -> object:
    if name == "RedisStore":
        return redis_store()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
