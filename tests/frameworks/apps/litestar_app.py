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
Asked = Request[Any, Any, Any]


@get("/answer")
async def answer(request: Asked) -> dict[str, str]:
    return origin.load(request.query_params["q"], root=request.scope.get("root_path", ""))


@get("/private")
async def private(request: Asked) -> dict[str, str]:
    return origin.load(request.query_params["q"], user=request.scope["user_name"])  # type: ignore[typeddict-item]


@get("/slow")
async def slow(request: Asked) -> dict[str, str]:
    return await origin.slow(request.query_params["q"])


@get("/events")
async def events(request: Asked) -> Stream:
    return Stream(origin.events(request.query_params["q"]), media_type="text/event-stream")


@get("/endless")
async def endless(request: Asked) -> Stream:
    stream = origin.endless(request.query_params["q"])
    return Stream(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@get("/task")
async def task(request: Asked) -> Response[dict[str, str]]:
    name = request.query_params["q"]
    return Response(origin.load(name), background=BackgroundTask(origin.work, name))


@get("/fail")
async def fail(request: Asked) -> None:
    origin.fail(request.query_params["q"])


@get("/teapot")
async def teapot(request: Asked) -> None:
    origin.refuse(request.query_params["q"])


def explain(request: Asked, error: TooHardError) -> Response[dict[str, str]]:
    return Response(TEAPOT, status_code=418)


async def startup() -> None:
    origin.tell("startup")


async def shutdown() -> None:
    origin.tell("shutdown")


caching = DefineMiddleware(CacheMiddleware, cache=origin.cache, rules=rules())  # type: ignore[arg-type]
child = Litestar([answer], middleware=[caching])


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
        Authentication,  # type: ignore[list-item]
        DefineMiddleware(GZipMiddleware, minimum_size=500),  # type: ignore[arg-type]
        caching,
    ],
    cors_config=CORSConfig(allow_origins=ORIGINS),
    exception_handlers={TooHardError: explain},
    on_startup=[startup],
    on_shutdown=[origin.cache.aclose, shutdown],
)
app = origin.served(site)  # type: ignore[arg-type]
