"""glasscache: a cache you can see through."""

from __future__ import annotations

from glasscache.cache import Cache, CachedFunction
from glasscache.errors import (
    CodecError,
    ConfigurationError,
    GlasscacheError,
    LoadStoppedError,
    LoadTimeoutError,
    ReaderCutError,
    RecursiveLoadError,
    StoreError,
)
from glasscache.policy import Limits, Policy
from glasscache.stores.memory import MemoryStore

__all__ = [
    "Cache",
    "CachedFunction",
    "CodecError",
    "ConfigurationError",
    "GlasscacheError",
    "Limits",
    "LoadStoppedError",
    "LoadTimeoutError",
    "MemoryStore",
    "Policy",
    "ReaderCutError",
    "RecursiveLoadError",
    "StoreError",
]
