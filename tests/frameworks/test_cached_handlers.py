"""`@cache.cached` under the decorators of frameworks, in the way each of them looks at what it is given."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Any

import blacksheep
import httpx
import litestar
import pytest
from fastapi import Depends, FastAPI
from litestar.di import NamedDependency, Provide
from litestar.params import FromPath
from quart import Quart
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from glasscache import Cache
from tests.support.null_telemetry import NullTelemetry

CACHE = Cache(telemetry=NullTelemetry())
CALLS: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _anew() -> None:
    CALLS.clear()
    asyncio.run(CACHE.invalidate(all=True))


def twice(app: Any, path: str = "/double/2") -> list[Any]:
    """What two equal requests get."""

    async def scenario() -> list[Any]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
            return [(await client.get(path)).json() for _ in range(2)]

    return asyncio.run(scenario())


@CACHE.cached(ttl=60)
async def double(number: FromPath[int]) -> dict[str, int]:
    """Twice the number."""
    CALLS["double"] += 1
    return {"double": 2 * number}


@CACHE.cached(ttl=60)
def halve(number: FromPath[int]) -> int:
    CALLS["halve"] += 1
    return number // 2


class Service:
    @CACHE.cached(ttl=60, ignore=("self",))
    async def double(self, number: FromPath[int]) -> int:
        CALLS["service"] += 1
        return 2 * number


SERVICE = Service()


def test_fastapi_takes_cached_endpoints_and_dependencies_and_knows_their_parameters() -> None:
    app = FastAPI()
    app.get("/double/{number}")(double)

    @app.get("/sum/{number}")
    async def total(one: Annotated[int, Depends(halve)], two: Annotated[int, Depends(SERVICE.double)]) -> int:
        return one + two

    assert twice(app) == [{"double": 4}] * 2
    assert twice(app, "/sum/2") == [5, 5]
    assert CALLS == {"double": 1, "halve": 1, "service": 1}
    assert app.openapi()["paths"]["/double/{number}"]["get"]["parameters"][0]["schema"]["type"] == "integer"


def test_starlette_takes_a_cached_function_for_an_endpoint_and_not_for_an_app() -> None:
    @CACHE.cached(ttl=60, key=lambda request: request.path_params["number"])
    async def endpoint(request: Request) -> JSONResponse:  # a response itself cannot be kept
        return JSONResponse(await double(request.path_params["number"]))

    assert twice(Starlette(routes=[Route("/double/{number:int}", endpoint)])) == [{"double": 4}] * 2
    assert CALLS == {"double": 1}


def test_litestar_takes_cached_handlers_dependencies_and_methods_of_controllers() -> None:
    @litestar.get("/sum/{number:int}", dependencies={"one": Provide(halve), "two": Provide(SERVICE.double)})
    async def total(one: NamedDependency[int], two: NamedDependency[int]) -> int:
        return one + two

    class Doubling(litestar.Controller):
        path = "/doubling"

        @litestar.get("/{number:int}")
        @CACHE.cached(ttl=60, ignore=("self",))
        async def find(self, number: FromPath[int]) -> list[int]:
            CALLS["controller"] += 1
            return [2 * number]

    app = litestar.Litestar([litestar.get("/double/{number:int}")(double), total, Doubling])
    assert twice(app) == [{"double": 4}] * 2
    assert twice(app, "/sum/2") == [5, 5]
    assert twice(app, "/doubling/2") == [[4], [4]]
    assert CALLS == {"double": 1, "halve": 1, "service": 1, "controller": 1}


def test_quart_awaits_a_cached_view() -> None:
    app = Quart(__name__)
    app.get("/double/<int:number>")(double)
    assert twice(app) == [{"double": 4}] * 2
    assert CALLS == {"double": 1}


def test_blacksheep_awaits_a_cached_handler() -> None:
    app = blacksheep.Application(router=blacksheep.Router())
    app.router.add_get("/double/{number}", double)
    asyncio.run(app.start())  # type: ignore[no-untyped-call]
    assert twice(app) == [{"double": 4}] * 2
    assert CALLS == {"double": 1}
