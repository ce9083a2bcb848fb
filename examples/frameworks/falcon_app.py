"""glasscache in Falcon: `uvicorn falcon_app:app`, then ask /search?q=cache twice."""

from falcon.asgi import App, Request, Response

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule


class Search:
    async def on_get(self, request: Request, response: Response) -> None:
        """Stand-in for what takes long in your app."""
        response.media = {"answer": f"what there is to know about {request.get_param('q')}"}


falcon_app = App()
falcon_app.add_route("/search", Search())
cache = Cache(MemoryStore(max_entries=100))
app = CacheMiddleware(falcon_app, cache=cache, rules=[Rule("/search", ttl=60)])  # type: ignore[arg-type]
