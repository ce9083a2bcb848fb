"""The site in Litestar, whose middleware is given to the app and built once per route."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, Response, Router, asgi, get
from litestar.background_tasks import BackgroundTask
from litestar.config.cors import CORSConfig
from litestar.middleware import DefineMiddleware
from litestar.response import Stream
from litestar.types import Receive, Scope, Send
from starlette.middleware.gzip import GZipMiddleware

from glasscache.asgi import CacheMiddleware
from tests.frameworks.layers import MOUNT, ORIGINS, Authentication, rules
from tests.frameworks.origin import TEAPOT, Origin, TooHardError

origin = Origin()


@get("/answer")
async def answer(q: str, request: Request[Any, Any, Any]) -> dict[str, str]:
    return origin.load(q, root=request.scope.get("root_path", ""))


@get("/private")
async def private(q: str, request: Request[Any, Any, Any]) -> dict[str, str]:
    return origin.load(q, user=request.scope["user_name"])  # type: ignore[typeddict-item]


@get("/slow")
async def slow(q: str) -> dict[str, str]:
    return await origin.slow(q)


@get("/events")
async def events(q: str) -> Stream:
    return Stream(origin.events(q), media_type="text/event-stream")


@get("/endless")
async def endless(q: str) -> Stream:
    return Stream(origin.endless(q), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@get("/task")
async def task(q: str) -> Response[dict[str, str]]:
    return Response(origin.load(q), background=BackgroundTask(origin.work, q))


@get("/fail")
async def fail(q: str) -> None:
    origin.fail(q)


@get("/teapot")
async def teapot(q: str) -> None:
    origin.refuse(q)


def explain(request: Request[Any, Any, Any], error: TooHardError) -> Response[dict[str, str]]:
    return Response(TEAPOT, status_code=418)


async def startup() -> None:
    origin.tell("startup")


async def shutdown() -> None:
    origin.tell("shutdown")


child = Litestar([answer], middleware=[DefineMiddleware(CacheMiddleware, cache=origin.cache, rules=rules())])


@asgi(MOUNT, is_mount=True, copy_scope=True)
async def mounted(scope: Scope, receive: Receive, send: Send) -> None:
    await child(scope, receive, send)


site = Litestar(
    [
        answer,
        private,
        slow,
        events,
        endless,
        task,
        fail,
        teapot,
        Router("/bare", route_handlers=[fail, teapot]),
        mounted,
    ],
    middleware=[
        Authentication,
        DefineMiddleware(GZipMiddleware, minimum_size=500),
        DefineMiddleware(CacheMiddleware, cache=origin.cache, rules=rules()),
    ],
    cors_config=CORSConfig(allow_origins=ORIGINS),
    exception_handlers={TooHardError: explain},
    on_startup=[startup],
    on_shutdown=[origin.cache.aclose, shutdown],
)
app = origin.served(site)  # type: ignore[arg-type]
