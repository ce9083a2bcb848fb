"""What docs/frameworks.md says of a framework beside its cells."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from falcon.asgi import App as FalconApp
from litestar import Litestar, get
from litestar.middleware import DefineMiddleware

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware, Rule
from tests.frameworks.layers import MOUNT, mounted
from tests.support.asgi import ASGIApp, Client, Message, Receive, Scope, Send

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_litestars_middleware_sees_no_lifespan_and_no_unknown_path() -> None:
    seen: list[str] = []

    class Watching(CacheMiddleware):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            seen.append(scope.get("path", scope["type"]))
            await super().__call__(scope, receive, send)

    @get("/known")
    async def known() -> str:
        return "an answer"

    caching = DefineMiddleware(Watching, cache=Cache(MemoryStore()), rules=[Rule("/*", ttl=60)])  # type: ignore[arg-type]
    app: Any = Litestar([known], middleware=[caching], logging_config=None)  # by default it logs in a thread, for good

    async def scenario() -> None:
        await run_lifespan(app)
        assert (await Client(app).request("GET", "/unknown")).status == 404
        assert (await Client(app).request("POST", "/known")).status == 405
        assert seen == []
        assert (await Client(app).request("GET", "/known")).text == "an answer"
        assert seen == ["/known"]

    asyncio.run(scenario())


def test_around_litestar_the_cache_sees_all_of_it_and_has_its_pages() -> None:
    @get("/known")
    async def known() -> str:
        return "an answer"

    inner: Any = Litestar([known], logging_config=None)
    app = CacheMiddleware(inner, cache=Cache(), rules=[Rule("/*", ttl=60)], stats_path="/stats")

    async def scenario() -> None:
        await run_lifespan(app)
        told = [(await Client(app).request("GET", path)).status for path in ("/known", "/known", "/unknown", "/stats")]
        assert told == [200, 200, 404, 200]
        assert app.cache._engine.counters.group("/*").hits == 1

    asyncio.run(scenario())


async def run_lifespan(app: ASGIApp) -> None:
    """A server's start and stop."""
    received = iter(("lifespan.startup", "lifespan.shutdown"))
    sent: list[str] = []

    async def receive() -> Message:
        return {"type": next(received)}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


@pytest.mark.parametrize(("strips", "status"), [(False, 404), (True, 200)])
def test_falcon_is_found_only_under_a_parent_that_takes_the_prefix_off(strips: bool, status: int) -> None:
    class Page:
        async def on_get(self, request: Any, response: Any) -> None:
            response.text = request.root_path

    falcon = FalconApp()
    falcon.add_route("/page", Page())
    cached = CacheMiddleware(falcon, cache=Cache(MemoryStore()), rules=[Rule("/page", ttl=60)])  # type: ignore[arg-type]

    client = Client(mounted(falcon, cached, strips=strips))  # type: ignore[arg-type]

    async def scenario() -> None:
        answers = [await client.request("GET", f"{MOUNT}/page") for _ in range(2)]
        assert [got.status for got in answers] == [status] * 2
        assert [got.text == MOUNT for got in answers] == [strips] * 2
        assert ("; hit" in (answers[1].header("cache-status") or "")) == strips

    asyncio.run(scenario())
