"""The site in FastAPI."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import APIRouter, BackgroundTasks, FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse, StreamingResponse

from glasscache.asgi import CacheMiddleware
from tests.frameworks.layers import MOUNT, ORIGINS, Authentication, rules
from tests.frameworks.origin import TEAPOT, Origin, TooHardError

origin = Origin()


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    origin.tell("startup")
    yield
    origin.tell("shutdown")


site, child, errors = FastAPI(lifespan=lifespan), FastAPI(), APIRouter()


@child.get("/answer")
@site.get("/answer")
async def answer(q: str, request: Request) -> dict[str, str]:
    return origin.load(q, root=request.scope["root_path"])


@site.get("/private")
async def private(q: str, request: Request) -> dict[str, str]:
    return origin.load(q, user=request.scope["user_name"])


@site.get("/slow")
async def slow(q: str) -> dict[str, str]:
    return await origin.slow(q)


@site.get("/events")
async def events(q: str) -> StreamingResponse:
    return StreamingResponse(origin.events(q), media_type="text/event-stream")


@site.get("/endless")
async def endless(q: str) -> StreamingResponse:
    return StreamingResponse(origin.endless(q), media_type="text/event-stream", headers={"Cache-Control": "no-store"})


@site.get("/task")
async def task(q: str, tasks: BackgroundTasks) -> dict[str, str]:
    tasks.add_task(origin.work, q)
    return origin.load(q)


@errors.get("/fail")
async def fail(q: str) -> None:
    origin.fail(q)


@errors.get("/teapot")
async def teapot(q: str) -> None:
    origin.refuse(q)


@site.exception_handler(TooHardError)
async def explain(request: Request, error: TooHardError) -> JSONResponse:
    return JSONResponse(TEAPOT, 418)


site.include_router(errors)
site.include_router(errors, prefix="/bare")
site.mount(MOUNT, child)
child.add_middleware(CacheMiddleware, cache=origin.cache, rules=rules())
site.add_middleware(CacheMiddleware, cache=origin.cache, rules=rules())
site.add_middleware(GZipMiddleware, minimum_size=500)
site.add_middleware(CORSMiddleware, allow_origins=ORIGINS)
site.add_middleware(Authentication)
app = origin.served(site)
