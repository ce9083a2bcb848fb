"""The peers, each in its own way to the same 2 KB answer from memory: measured in their environment, not in ours.

Decides how each is used: as its documentation shows, with its store in memory and without logging. A peer that cannot
be imported or set up, or that does not answer from its cache, is left out and told why. Prints one JSON object:
`{"timings": {name: [us, ...]}, "missing": {name: reason}}`. Must never import glasscache: it is not there.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

from tests.bench.measure import Case, measure
from tests.bench.traffic import ANSWER, App, ask, get, one_by_one, raw

RAW = "raw ASGI constant"
TTL = 3600
DOCUMENT = json.loads(ANSWER)


class Origin:
    """What stands behind a peer; knows how often it was asked."""

    def __init__(self) -> None:
        self.loads = 0

    async def answer(self) -> bytes:
        """The answer."""
        self.loads += 1
        return ANSWER


async def starlette_route(origin: Origin) -> App:
    return _starlette(origin.answer)


def _starlette(content: Callable[[], Awaitable[bytes]]) -> App:
    applications, responses, routing = (
        importlib.import_module(f"starlette.{name}") for name in ("applications", "responses", "routing")
    )

    async def endpoint(request: Any) -> Any:
        return responses.Response(await content(), media_type="application/json")

    app: App = applications.Starlette(routes=[routing.Route("/answer", endpoint)])
    return app


async def fastapi_route(origin: Origin) -> App:
    application = importlib.import_module("fastapi").FastAPI()

    async def endpoint() -> dict[str, Any]:
        await origin.answer()
        return dict(DOCUMENT)

    application.get("/answer")(endpoint)
    app: App = application
    return app


async def aiocache_in_starlette(origin: Origin) -> App:
    aiocache = importlib.import_module("aiocache")
    return _starlette(aiocache.cached(ttl=TTL, cache=aiocache.SimpleMemoryCache, namespace="bench")(origin.answer))


async def cashews_in_starlette(origin: Origin) -> App:
    cache = importlib.import_module("cashews").Cache()
    cache.setup("mem://")

    @cache(ttl=TTL, key="answer")
    async def answer() -> bytes:
        return await origin.answer()

    return _starlette(answer)


async def fastapi_cache2(origin: Origin) -> App:
    module = importlib.import_module("fastapi_cache")
    backend = importlib.import_module("fastapi_cache.backends.inmemory").InMemoryBackend()
    module.FastAPICache.init(backend, prefix="bench")
    application = importlib.import_module("fastapi").FastAPI()

    @importlib.import_module("fastapi_cache.decorator").cache(expire=TTL)
    async def endpoint() -> dict[str, Any]:
        await origin.answer()
        return dict(DOCUMENT)

    application.get("/answer")(endpoint)
    app: App = application
    return app


async def hishel_plain(origin: Origin) -> App:
    return _hishel(origin, rfc=False)


async def hishel_rfc(origin: Origin) -> App:
    return _hishel(origin, rfc=True)


def hishel_storage() -> Any:
    """The least that hishel's interface asks for: its own storages are on disk."""
    hishel = importlib.import_module("hishel")

    class Memory(hishel.AsyncBaseStorage):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.kept: dict[str, tuple[Any, bytes]] = {}

        async def create_entry(self, request: Any, response: Any, key: str, **_: Any) -> Any:
            body = b"".join([chunk async for chunk in response.stream])
            entry = hishel.Entry(id=uuid.uuid4(), request=request, response=response)
            self.kept[key] = entry, body
            return self._streamed(entry, body)

        async def get_entries(self, key: str) -> list[Any]:
            return [self._streamed(*self.kept[key])] if key in self.kept else []

        async def update_headers(self, id: uuid.UUID, headers: Any) -> None:  # noqa: A002 - its word
            raise NotImplementedError

        async def remove_entry(self, id: uuid.UUID) -> None:  # noqa: A002 - its word
            raise NotImplementedError

        def _streamed(self, entry: Any, body: bytes) -> Any:
            async def stream() -> AsyncIterator[bytes]:
                yield body

            return replace(entry, response=replace(entry.response, stream=stream()))

    return Memory()


def _hishel(origin: Origin, *, rfc: bool) -> App:
    fresh = (b"cache-control", b"max-age=%d" % TTL), (b"content-type", b"application/json")

    async def origin_app(scope: Any, receive: Any, send: Any) -> None:
        body = await origin.answer()
        await send({"type": "http.response.start", "status": 200, "headers": list(fresh)})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    app: App = importlib.import_module("hishel.asgi").ASGICacheMiddleware(origin_app, storage=hishel_storage(), rfc=rfc)
    return app


CACHES: dict[str, Callable[[Origin], Awaitable[App]]] = {
    "hishel, rfc=False, dict as storage": hishel_plain,
    "hishel, RFC mode, dict as storage": hishel_rfc,
    "aiocache in a Starlette route": aiocache_in_starlette,
    "cashews in a Starlette route": cashews_in_starlette,
    "fastapi-cache2 in a FastAPI route": fastapi_cache2,
}
BARE: dict[str, Callable[[Origin], Awaitable[App]]] = {
    "Starlette route, no cache": starlette_route,
    "FastAPI route, no cache": fastapi_route,
}


async def checked(name: str, build: Callable[[Origin], Awaitable[App]]) -> Case:
    """The peer as a case, after its answer was looked at. Raises if it is not what it should be."""
    origin = Origin()
    app = await build(origin)
    for number in range(3):
        _, body = await ask(app, get()(number))
        if json.loads(body) != DOCUMENT:
            raise RuntimeError(f"answered {body[:80]!r}")
    if origin.loads != (1 if name in CACHES else 3):
        raise RuntimeError(f"its origin was asked {origin.loads} times by 3 requests")
    return Case(name=name, prepare=one_by_one(app, get()), count=20)


async def main(rounds: int, seed: int, scale: float) -> dict[str, Any]:
    """Measure what works."""
    cases, missing = [Case(name=RAW, prepare=one_by_one(raw, get()))], {}
    for name, build in {**BARE, **CACHES}.items():
        try:
            cases.append(await checked(name, build))
        except Exception as error:  # somebody else's package may fail in any way
            missing[name] = f"{type(error).__name__}: {error}"
    timings = await measure(cases, rounds=rounds, seed=seed, scale=scale)
    return {"timings": timings.rounds, "missing": missing}


if __name__ == "__main__":
    found = asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
    sys.stdout.write(json.dumps(found))
