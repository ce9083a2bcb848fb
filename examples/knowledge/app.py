"""The knowledge service as it would run for real: `uvicorn knowledge.app:create --factory --workers 3`.

Decides that everything comes from the environment: the cache (CACHE_..., GLASSCACHE_...), where telemetry goes
(OTEL_...), how much of the corpus is served (KNOWLEDGE_PASSAGES). `python -m knowledge.app` makes the index alone.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

import glasscache_exporters
from knowledge.caching import add_cache, make_cache
from knowledge.corpus import load_corpus
from knowledge.retrieval import Retriever
from knowledge.service import build_app

VECTORS = Path(__file__).resolve().parents[2] / "build"


def index() -> Retriever:
    """Over the corpus; its vectors are kept, so that only the first start makes them."""
    limit = os.environ.get("KNOWLEDGE_PASSAGES")
    return Retriever(load_corpus(int(limit) if limit else None), folder=VECTORS)


def create() -> FastAPI:
    """The app of one worker."""
    exporters = glasscache_exporters.configure(service_name="knowledge")
    cache = make_cache()
    if os.environ.get("REDIS_URL"):
        measure_redis()
    app = build_app(index())
    add_cache(app, cache)
    serve = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with serve(app):
            yield
        await asyncio.to_thread(exporters.shutdown)

    app.router.lifespan_context = lifespan
    return app


def measure_redis() -> None:
    """redis-py's own metrics, through the same exporters: the row of the dashboard "Tiers and Redis"."""
    from redis.observability.config import MetricGroup, OTelConfig  # noqa: PLC0415 - only where there is a server
    from redis.observability.providers import get_observability_instance  # noqa: PLC0415

    groups = [
        MetricGroup.COMMAND,
        MetricGroup.CONNECTION_BASIC,
        MetricGroup.CONNECTION_ADVANCED,
        MetricGroup.RESILIENCY,
    ]
    get_observability_instance().init(OTelConfig(metric_groups=groups))


if __name__ == "__main__":
    index().close()
