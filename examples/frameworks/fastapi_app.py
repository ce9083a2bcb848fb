"""glasscache in FastAPI: `uvicorn fastapi_app:app`, then ask /search?q=cache twice."""

from fastapi import FastAPI

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule

app = FastAPI()
cache = Cache(MemoryStore(max_entries=100))
app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/search", ttl=60)])


@app.get("/search")
async def search(q: str) -> dict[str, str]:
    """Stand-in for what takes long in your app."""
    return {"answer": f"what there is to know about {q}"}
