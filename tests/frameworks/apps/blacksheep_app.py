"""The site in BlackSheep."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from blacksheep import Application, Request, Response, Router, StreamedContent, json

from glasscache.asgi import CacheMiddleware
from tests.frameworks.layers import MOUNT, around, rules
from tests.frameworks.origin import TEAPOT, Origin, TooHardError

origin = Origin()
site, child = Application(router=Router()), Application(router=Router())
tasks: set[asyncio.Task[None]] = set()


@child.router.get("/answer")
@site.router.get("/answer")
async def answer(q: str, request: Request) -> Response:
    return json(origin.load(q, root=request.scope["root_path"]))


@site.router.get("/private")
async def private(q: str, request: Request) -> Response:
    return json(origin.load(q, user=request.scope["user_name"]))  # type: ignore[typeddict-item]


@site.router.get("/slow")
async def slow(q: str) -> Response:
    return json(await origin.slow(q))


@site.router.get("/events")
async def events(q: str) -> Response:
    async def provide() -> AsyncIterator[bytes]:
        async for event in origin.events(q):
            yield event

    return Response(200, content=StreamedContent(b"text/event-stream", provide))


@site.router.get("/endless")
async def endless(q: str) -> Response:
    async def provide() -> AsyncIterator[bytes]:
        async for event in origin.endless(q):
            yield event

    return Response(200, [(b"cache-control", b"no-store")], StreamedContent(b"text/event-stream", provide))


@site.router.get("/task")
async def task(q: str) -> Response:
    work = asyncio.create_task(origin.work(q))
    tasks.add(work)
    work.add_done_callback(tasks.discard)
    return json(origin.load(q))


@site.router.get("/bare/fail")
@site.router.get("/fail")
async def fail(q: str) -> Response:
    origin.fail(q)
    return Response(204)


@site.router.get("/bare/teapot")
@site.router.get("/teapot")
async def teapot(q: str) -> Response:
    origin.refuse(q)
    return Response(204)


async def explain(app: Application, request: Request, error: TooHardError) -> Response:
    return json(TEAPOT, 418)


async def startup(_: Application) -> None:
    origin.tell("startup")


async def shutdown(_: Application) -> None:
    origin.tell("shutdown")


site.exceptions_handlers[TooHardError] = explain
site.on_start += startup
site.on_stop += shutdown
site.mount(MOUNT, CacheMiddleware(child, cache=origin.cache, rules=rules()))
main = CacheMiddleware(site, cache=origin.cache, rules=rules())
app = origin.served(around(main))
