"""The site in Falcon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from falcon.asgi import App, Request, Response

from glasscache.asgi import CacheMiddleware
from tests.frameworks.layers import around, mounted, rules
from tests.frameworks.origin import TEAPOT, Origin, TooHardError

origin = Origin()


async def answer(request: Request, response: Response, name: str) -> None:
    response.media = origin.load(name, root=request.root_path)


async def private(request: Request, response: Response, name: str) -> None:
    response.media = origin.load(name, user=request.scope["user_name"])


async def slow(request: Request, response: Response, name: str) -> None:
    response.media = await origin.slow(name)


async def events(request: Request, response: Response, name: str) -> None:
    response.content_type = "text/event-stream"
    response.stream = origin.events(name)


async def endless(request: Request, response: Response, name: str) -> None:
    response.content_type = "text/event-stream"
    response.cache_control = ["no-store"]
    response.stream = origin.endless(name)


async def task(request: Request, response: Response, name: str) -> None:
    async def work() -> None:
        await origin.work(name)

    response.schedule(work)
    response.media = origin.load(name)


async def fail(request: Request, response: Response, name: str) -> None:
    origin.fail(name)


async def teapot(request: Request, response: Response, name: str) -> None:
    origin.refuse(name)


async def explain(request: Request, response: Response | None, error: Exception, params: dict[str, Any]) -> None:
    assert response is not None
    response.status, response.media = 418, TEAPOT


class Resource:
    """What answers GET on one path."""

    def __init__(self, work: Callable[[Request, Response, str], Awaitable[None]]) -> None:
        self._work = work

    async def on_get(self, request: Request, response: Response) -> None:
        await self._work(request, response, request.get_param("q", required=True))


class Moments:
    """Falcon's kind of lifespan."""

    async def process_startup(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        origin.tell("startup")

    async def process_shutdown(self, scope: dict[str, Any], event: dict[str, Any]) -> None:
        origin.tell("shutdown")


site = App(middleware=[Moments()])  # type: ignore[arg-type]
for work in (answer, private, slow, events, endless, task, fail, teapot):
    site.add_route(f"/{work.__name__}", Resource(work))
for work in (fail, teapot):
    site.add_route(f"/bare/{work.__name__}", Resource(work))
site.add_error_handler(TooHardError, explain)
main = CacheMiddleware(site, cache=origin.cache, rules=rules())  # type: ignore[arg-type]
app = origin.served(mounted(around(main), main, strips=True))
