"""glasscache in Quart: `hypercorn quart_app:app`, then ask /search?q=cache twice."""

from quart import Quart, request

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule

app = Quart(__name__)
cache = Cache(MemoryStore(max_entries=100))
app.asgi_app = CacheMiddleware(app.asgi_app, cache=cache, rules=[Rule("/search", ttl=60)])  # type: ignore[arg-type, assignment, method-assign]


@app.get("/search")
async def search() -> dict[str, str]:
    """Stand-in for what takes long in your app."""
    return {"answer": f"what there is to know about {request.args['q']}"}
