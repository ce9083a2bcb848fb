"""glasscache in front of the knowledge service: all that the two have to do with each other.

Decides which answers may be shared and for how long. How large the cache is comes from the environment
(CACHE_MAX_SIZE, CACHE_TTL, GLASSCACHE_...), where nothing is said: 100 entries, 64 MiB.
"""

import os

from fastapi import FastAPI

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule, json_body
from glasscache.settings import Settings


def make_cache() -> Cache:
    """The cache that the environment describes. Raises ConfigurationError with every mistake in it."""
    return Settings.from_env({"GLASSCACHE_NAME": "knowledge"} | dict(os.environ)).cache()


def add_cache(app: FastAPI, cache: Cache, *, search_ttl: float = 60) -> None:
    """Answer repeated questions from memory; searches stay fresh for `search_ttl` seconds.

    By whichever name or port the service is reached, its answers are the same (`host=False`): machines share them.
    """
    key = json_body("question", "filters", ignore=("user", "trace_id"))
    app.add_middleware(
        CacheMiddleware,
        cache=cache,
        rules=[
            Rule(
                "/ask",
                methods=("POST", "QUERY"),
                key=key,
                host=False,
                ttl=300,
                stale_while_revalidate=60,
                stale_if_error=600,
            ),
            Rule("/ask/stream", methods=("POST",), key=key, host=False, ttl=300),
            Rule("/search", host=False, ttl=search_ttl, stale_while_revalidate=60),
        ],
        stats_path="/metrics/cache",
    )
