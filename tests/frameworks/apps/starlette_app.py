"""The site in Starlette."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from glasscache.asgi import CacheMiddleware
from tests.frameworks.layers import MOUNT, ORIGINS, Authentication, rules
from tests.frameworks.origin import TEAPOT, Origin, TooHardError

origin = Origin()
cached = Middleware(CacheMiddleware, cache=origin.cache, rules=rules())


async def answer(request: Request) -> Response:
    return JSONResponse(origin.load(request.query_params["q"], root=request.scope["root_path"]))


async def private(request: Request) -> Response:
    return JSONResponse(origin.load(request.query_params["q"], user=request.scope["user_name"]))


async def slow(request: Request) -> Response:
    return JSONResponse(await origin.slow(request.query_params["q"]))


async def events(request: Request) -> Response:
    return StreamingResponse(origin.events(request.query_params["q"]), media_type="text/event-stream")


async def endless(request: Request) -> Response:
    stream = origin.endless(request.query_params["q"])
    return StreamingResponse(stream, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def fail(request: Request) -> None:
    origin.fail(request.query_params["q"])


async def teapot(request: Request) -> None:
    origin.refuse(request.query_params["q"])


async def task(request: Request) -> Response:
    name = request.query_params["q"]
    return JSONResponse(origin.load(name), background=BackgroundTask(origin.work, name))


async def explain(request: Request, error: Exception) -> Response:
    return JSONResponse(TEAPOT, 418)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    origin.tell("startup")
    yield
    origin.tell("shutdown")


errors = [Route("/fail", fail), Route("/teapot", teapot)]
site = Starlette(
    routes=[
        Route("/answer", answer),
        Route("/private", private),
        Route("/slow", slow),
        Route("/events", events),
        Route("/endless", endless),
        Route("/task", task),
        *errors,
        Mount("/bare", routes=errors),
        Mount(MOUNT, Starlette(routes=[Route("/answer", answer)], middleware=[cached])),
    ],
    middleware=[
        Middleware(Authentication),
        Middleware(CORSMiddleware, allow_origins=ORIGINS),
        Middleware(GZipMiddleware, minimum_size=500),
        cached,
    ],
    exception_handlers={TooHardError: explain},
    lifespan=lifespan,
)
app = origin.served(site)
