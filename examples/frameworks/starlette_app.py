"""glasscache in Starlette: `uvicorn starlette_app:app`, then ask /search?q=cache twice."""

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule


async def search(request: Request) -> JSONResponse:
    """Stand-in for what takes long in your app."""
    return JSONResponse({"answer": f"what there is to know about {request.query_params['q']}"})


cache = Cache(MemoryStore(max_entries=100))
app = Starlette(
    routes=[Route("/search", search)],
    middleware=[Middleware(CacheMiddleware, cache=cache, rules=[Rule("/search", ttl=60)])],
)
