"""What happens where the cache stands in the wrong place of the stack: each statement of docs/order.md, shown.

The layers are Starlette's own; outermost comes first.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response

from glasscache import Cache, MemoryStore
from glasscache.asgi import CREDENTIALS, credential
from tests.frameworks.stack import PAGE, Site, TokenAuthentication, Tracing, authenticating, outcome, run
from tests.support.otel_rig import Rig, parent

pytestmark = pytest.mark.usefixtures("no_leaks")

DOC = Path(__file__).parents[2] / "docs" / "order.md"
ORIGINS = ["https://a.example", "https://b.example"]


# --- Inside BaseHTTPMiddleware, or around it


def test_inside_base_http_middleware_answers_are_right_and_a_hit_that_needs_no_task_pays_for_its() -> None:
    async def passing(request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)

    def tasks_of_a_hit(*before: Middleware) -> int:
        site, made, during = Site(before=before), list[object](), 0

        def factory(loop: asyncio.AbstractEventLoop, work: Any, **given: Any) -> asyncio.Task[Any]:
            made.append(work)
            return asyncio.Task(work, loop=loop, **given)

        async def scenario() -> None:
            nonlocal during
            first = await site.get()
            asyncio.get_running_loop().set_task_factory(factory)
            second = await site.get()
            during = len(made)
            assert (outcome(first), outcome(second), second.body) == ("stored", "hit", first.body)

        run(scenario)
        return during

    assert tasks_of_a_hit() == 0
    assert tasks_of_a_hit(Middleware(BaseHTTPMiddleware, dispatch=passing)) > 0


def test_function_middleware_inside_the_cache_runs_for_loads_only_and_its_header_is_everybodys() -> None:
    passed = 0

    async def counting(request: Request, call_next: RequestResponseEndpoint) -> Response:
        nonlocal passed
        passed += 1
        response = await call_next(request)
        response.headers.update({"X-Passed": str(passed), "X-Request-ID": str(passed)})
        return response

    site = Site(after=(Middleware(BaseHTTPMiddleware, dispatch=counting),))

    async def scenario() -> None:
        answers = [await site.get() for _ in range(3)]
        assert passed == 1
        assert [got.header("x-passed") for got in answers] == ["1"] * 3
        assert [got.header("x-request-id") for got in answers[1:]] == [None] * 2

    run(scenario)


# --- Outside of authentication


def test_outside_of_authentication_requests_with_known_credentials_are_bypassed() -> None:
    site = Site(after=(authenticating(ann="t1", bob="t2"),))

    async def scenario() -> None:
        for token, name in (("t1", "ann"), ("t1", "ann"), ("t2", "bob")):
            got = await site.get(Authorization=token)
            assert (got.text.partition(":")[0], outcome(got)) == (name, "fwd=bypass; detail=credentials")
        assert (await site.get()).status == 401
        assert site.loads == 3

    run(scenario)


def test_outside_of_authentication_a_header_that_is_not_known_as_a_credential_gives_one_users_answer_to_all() -> None:
    layer = authenticating("x-team-token", ann="t1", bob="t2")

    async def scenario() -> None:
        wrong = Site(after=(layer,))
        assert (await wrong.get(X_Team_Token="t1")).text.startswith("ann")
        for headers in ({"X_Team_Token": "t2"}, {}):  # bob, and somebody without a name
            leaked = await wrong.get(**headers)
            assert (leaked.status, leaked.text.partition(":")[0], outcome(leaked)) == (200, "ann", "hit")

        named = Site(after=(layer,), credentials=(*CREDENTIALS, "x-team-token"))
        for token, name in (("t1", "ann"), ("t2", "bob")):
            got = await named.get(X_Team_Token=token)
            assert (got.text.partition(":")[0], outcome(got)) == (name, "fwd=bypass; detail=credentials")

    run(scenario)


def test_outside_of_authentication_shared_hides_the_credentials_and_everybody_is_refused() -> None:
    site = Site(after=(authenticating(ann="t1"),), shared=True)

    async def scenario() -> None:
        assert [(await site.get(Authorization="t1")).status for _ in range(2)] == [401, 401]
        assert site.loads == 0

    run(scenario)


def test_outside_of_authentication_a_revoked_token_is_served_until_its_answers_expire() -> None:
    tokens = {b"t1": "ann"}
    layer = Middleware(TokenAuthentication, header=b"authorization", tokens=tokens)

    async def statuses(site: Site) -> list[int]:
        tokens[b"t1"] = "ann"
        first = await site.get(Authorization="t1")
        del tokens[b"t1"]
        return [first.status, (await site.get(Authorization="t1")).status]

    async def scenario() -> None:
        tenant = credential("authorization")
        assert await statuses(Site(after=(layer,), tenant=tenant)) == [200, 200]
        assert await statuses(Site(before=(layer,), tenant=tenant)) == [200, 401]

    run(scenario)


def test_inside_of_authentication_each_user_has_answers_of_their_own() -> None:
    site = Site(before=(authenticating(ann="t1", bob="t2"),), tenant=lambda scope: scope["user_name"])

    async def scenario() -> None:
        for due in ("stored", "hit"):
            for token, name in (("t1", "ann"), ("t2", "bob")):
                got = await site.get(Authorization=token)
                assert (got.text.partition(":")[0], outcome(got)) == (name, due)
        assert (await site.get()).status == 401

    run(scenario)


# --- gzip


def test_gzip_outside_loads_once_and_compresses_every_answer_again() -> None:
    site = Site(before=(Middleware(GZipMiddleware),))

    async def scenario() -> None:
        codings = ["gzip", "gzip, deflate, br", "identity"]
        answers = [await site.get(Accept_Encoding=coding) for coding in codings]
        assert [outcome(got) for got in answers] == ["stored", "hit", "hit"]
        assert [got.header("content-encoding") for got in answers] == ["gzip", "gzip", None]
        stored = site.cache._engine.near.gauge().size
        assert stored > len(PAGE)

    run(scenario)


def test_gzip_inside_stores_what_is_compressed_and_loads_once_per_wording_of_accept_encoding() -> None:
    site = Site(after=(Middleware(GZipMiddleware),))

    async def scenario() -> None:
        codings = ["gzip", "gzip, deflate, br", "gzip,deflate,br", "identity"]
        for due in (["stored", "fwd=vary-miss; stored", "hit", "fwd=vary-miss; stored"], ["hit"] * 4):
            answers = [await site.get(Accept_Encoding=coding) for coding in codings]
            assert [outcome(got) for got in answers] == due
            assert [got.header("content-encoding") for got in answers] == ["gzip", "gzip", "gzip", None]
        assert site.loads == 3

    run(scenario)


# --- CORS


def allowing(*origins: str) -> Middleware:
    return Middleware(CORSMiddleware, allow_origins=origins)


def test_cors_inside_with_specific_origins_loads_once_per_origin() -> None:
    site = Site(after=(allowing(*ORIGINS),))

    async def scenario() -> None:
        for due in ("stored", "hit"):
            for origin in ORIGINS:
                got = await site.get(Origin=origin)
                assert got.header("access-control-allow-origin") == origin
                assert due in outcome(got)
        assert site.loads == len(ORIGINS)

    run(scenario)


def test_cors_inside_that_varies_only_for_browsers_answers_one_with_what_it_may_not_read() -> None:
    async def sharing(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        if origin := request.headers.get("Origin"):
            response.headers.update({"Access-Control-Allow-Origin": origin, "Vary": "Origin"})
        return response

    layer = Middleware(BaseHTTPMiddleware, dispatch=sharing)

    async def scenario() -> None:
        for site, seen in ((Site(after=(layer,)), None), (Site(before=(layer,)), ORIGINS[0])):
            assert outcome(await site.get()) == "stored"
            got = await site.get(Origin=ORIGINS[0])
            assert (outcome(got), got.header("access-control-allow-origin")) == ("hit", seen)

    run(scenario)


def test_a_specific_origin_without_vary_is_neither_stored_nor_shared() -> None:
    async def forgetful(request: Request, call_next: RequestResponseEndpoint) -> Response:
        response = await call_next(request)
        response.headers["Access-Control-Allow-Origin"] = request.headers["Origin"]
        return response

    site = Site(after=(Middleware(BaseHTTPMiddleware, dispatch=forgetful),))

    async def scenario() -> None:
        for number, origin in enumerate([*ORIGINS, *ORIGINS], 1):
            got = await site.get(Origin=origin)
            assert got.header("access-control-allow-origin") == origin
            assert site.loads == number

    run(scenario)


# --- tracing


def test_tracing_outside_shows_every_request_with_its_outcome() -> None:
    rig = Rig()
    cache = Cache(MemoryStore(), tracer_provider=rig.tracers, meter_provider=rig.meters)
    site = Site(before=(Middleware(Tracing, rig=rig),), cache=cache)

    async def scenario() -> None:
        for _ in range(2):
            await site.get()

    run(scenario)
    servers = [span for span in rig.exporter.get_finished_spans() if span.kind is SpanKind.SERVER]
    assert [(span.attributes or {})["cache.result"] for span in servers] == ["miss", "hit"]
    assert rig.span("cache.load").parent == servers[0].get_span_context()


def test_tracing_inside_shows_no_hit_and_takes_the_load_for_the_client() -> None:
    rig = Rig()
    cache = Cache(MemoryStore(), tracer_provider=rig.tracers, meter_provider=rig.meters)
    site = Site(after=(Middleware(Tracing, rig=rig),), cache=cache)

    async def scenario() -> None:
        for _ in range(2):
            await site.get()

    run(scenario)
    server, load = rig.span("GET /page"), rig.span("cache.load")
    assert load.parent is None
    context = load.get_span_context()
    assert context is not None
    assert parent(server) == context.span_id
    assert "cache.result" not in (server.attributes or {})


# --- the page


def test_every_test_that_the_page_names_is_here_and_every_test_here_is_named() -> None:
    named = re.findall(r"`(test_\w+)`", DOC.read_text("utf-8"))
    here = {name for name in globals() if name.startswith("test_")}
    assert set(named) == here - {test_every_test_that_the_page_names_is_here_and_every_test_here_is_named.__name__}
    assert len(named) == len(set(named))
