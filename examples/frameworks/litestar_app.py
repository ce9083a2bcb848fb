"""glasscache in Litestar: `uvicorn litestar_app:app`, then ask /search?q=cache twice.

Litestar keeps its lifespan from middleware, so the cache is closed by name.
"""

from typing import Any

from litestar import Litestar, Request, get
from litestar.middleware import DefineMiddleware

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule


@get("/search")
async def search(request: Request[Any, Any, Any]) -> dict[str, str]:
    """Stand-in for what takes long in your app."""
    return {"answer": f"what there is to know about {request.query_params['q']}"}


cache = Cache(MemoryStore(max_entries=100))
caching = DefineMiddleware(CacheMiddleware, cache=cache, rules=[Rule("/search", ttl=60)])  # type: ignore[arg-type]
app = Litestar([search], middleware=[caching], on_shutdown=[cache.aclose])
