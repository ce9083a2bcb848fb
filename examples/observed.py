"""See through it: spans, events and metrics as lines on this terminal, and the page that Prometheus reads.

.venv/bin/python examples/observed.py, then three questions at once, of which two wait for the third one's answer:

for n in 1 2 3; do curl -s 'http://127.0.0.1:8000/search?q=cache' & done; wait
curl -s -H 'Accept: application/openmetrics-text' http://127.0.0.1:8000/metrics/ | grep lock_wait
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule
from glasscache_exporters import configure, metrics_app

exporters = configure(service_name="observed", console=True)  # without console=True: OTLP, as the OTEL_* variables say


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    yield
    await asyncio.to_thread(exporters.shutdown)  # sends what is left, in 5 s at most


app = FastAPI(lifespan=lifespan)
cache = Cache(MemoryStore(max_entries=100), name="observed")
app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/search", ttl=60)])
app.mount("/metrics", metrics_app())


@app.get("/search")
async def search(q: str) -> dict[str, str]:
    """Stand-in for what takes long in your app; a wait for it of more than a second is an event."""
    await asyncio.sleep(1.5)
    return {"answer": f"what there is to know about {q}"}


if __name__ == "__main__":
    uvicorn.run(app)
