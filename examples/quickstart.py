"""The smallest app with glasscache: `.venv/bin/python examples/quickstart.py`, then ask twice.

curl -i 'http://127.0.0.1:8000/search?q=cache'
"""

import asyncio

import uvicorn
from fastapi import FastAPI

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule

app = FastAPI()
cache = Cache(MemoryStore(max_entries=100))
app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/search", ttl=60)])


@app.get("/search")
async def search(q: str) -> dict[str, str]:
    """Stand-in for what takes long in your app."""
    await asyncio.sleep(0.3)
    return {"answer": f"what there is to know about {q}"}


if __name__ == "__main__":
    uvicorn.run(app)
