"""glasscache around an app without a framework: `uvicorn raw_app:app`, then ask /search?q=cache twice."""

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.asgi.types import Receive, Scope, Send


async def search(scope: Scope, receive: Receive, send: Send) -> None:
    """Stand-in for what takes long in your app."""
    if scope["type"] == "http":
        body = b'{"answer": "what there is to know about %b"}' % scope["query_string"].removeprefix(b"q=")
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


cache = Cache(MemoryStore(max_entries=100))
app = CacheMiddleware(search, cache=cache, rules=[Rule("/search", ttl=60)])
