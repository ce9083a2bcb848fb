"""glasscache in BlackSheep: `uvicorn blacksheep_app:app`, then ask /search?q=cache twice."""

from blacksheep import Application

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule

sheep = Application()


@sheep.router.get("/search")
async def search(q: str) -> dict[str, str]:
    """Stand-in for what takes long in your app."""
    return {"answer": f"what there is to know about {q}"}


cache = Cache(MemoryStore(max_entries=100))
app = CacheMiddleware(sheep, cache=cache, rules=[Rule("/search", ttl=60)])
