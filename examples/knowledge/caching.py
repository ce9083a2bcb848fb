"""glasscache in front of the knowledge service: all that the two have to do with each other.

Decides which answers may be shared and for how long.
"""

from fastapi import FastAPI

from glasscache import Cache, MemoryStore, Policy
from glasscache.asgi import CacheMiddleware, Rule, json_body


def add_cache(app: FastAPI, *, search_ttl: float = 60) -> None:
    """Answer repeated questions from memory: answers stay fresh for 300 s, searches for `search_ttl` seconds.

    `CACHE_MAX_SIZE`, `GLASSCACHE_*` and their like in the environment change the cache (README: settings).
    """
    cache = Cache(MemoryStore(max_entries=100, max_bytes=64 * 1024**2), policy=Policy(ttl=300), name="knowledge")
    key = json_body("question", "filters", ignore=("user", "trace_id"))
    app.add_middleware(
        CacheMiddleware,
        cache=cache,
        rules=[
            Rule(
                "/ask",
                methods=("POST", "QUERY"),
                key=key,
                ttl=300,
                stale_while_revalidate=60,
                stale_if_error=600,
            ),
            Rule("/ask/stream", methods=("POST",), key=key, ttl=300),
            Rule("/search", ttl=search_ttl, stale_while_revalidate=60),
        ],
        stats_path="/metrics/cache",
    )
