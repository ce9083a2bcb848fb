"""Crowds over sockets: a thousand that ask the same, and tenants that must never see each other's answers."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from glasscache.asgi import CacheMiddleware, Rule, credential, json_body
from tests.live.rig import Signal, Stack, ask, eventually, make_cache
from tests.support.patience import PATIENCE
from tests.support.servers import LiveServer, RawConnection, live_server

pytestmark = pytest.mark.usefixtures("no_leaks")

THOUSAND = 1000
QUESTION = b'{"question": "why?"}'


async def post(port: int) -> bytes:
    """Ask on a connection of its own, without a client library: a thousand of them would be what is measured."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(
        b"POST /ask HTTP/1.1\r\nHost: knowledge\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(QUESTION), QUESTION)
    )
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.usefixtures("many_files")
def test_a_thousand_identical_questions_at_once_are_one_load(stack: Stack) -> None:
    cache, go_on, loads = make_cache(), Signal(), Counter[str]()

    async def answer(request: Request) -> Response:
        loads[(await request.json())["question"]] += 1
        await go_on.wait()
        return PlainTextResponse("because")

    app = Starlette(routes=[Route("/ask", answer, methods=["POST"])])
    app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/ask", methods=("POST",), key=json_body(), ttl=60)])

    async def scenario(port: int) -> None:
        async with asyncio.TaskGroup() as clients:
            asked = [clients.create_task(post(port)) for _ in range(THOUSAND)]
            await eventually(lambda: cache._engine.waiters == THOUSAND - 1)
            go_on.set()
        answers = [task.result() for task in asked]
        assert all(answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"\r\n\r\nbecause") for answer in answers)
        assert sum(b"cache-status: glasscache; fwd=uri-miss; stored" in answer for answer in answers) == 1
        assert sum(b"cache-status: glasscache; fwd=uri-miss; collapsed" in answer for answer in answers) == 999
        assert loads == {"why?": 1}
        assert cache._engine.waiters == cache._engine.holders == 0

    with live_server(app, **stack) as server:
        asyncio.run(scenario(server.port))


def test_a_crowd_whose_answer_varies_is_one_load_per_variant() -> None:
    cache, go_on, loads = make_cache(), Signal(), Counter[str]()

    async def answer(request: Request) -> Response:
        language = request.headers["accept-language"]
        loads[language] += 1
        await go_on.wait()
        return PlainTextResponse(language, headers={"Vary": "Accept-Language"})

    app = Starlette(routes=[Route("/page", answer)])
    app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/page", ttl=60)])

    async def scenario(server: LiveServer) -> None:
        async with asyncio.TaskGroup() as clients:
            asked = {
                clients.create_task(ask(server, "/page", headers={"Accept-Language": language})): language
                for language in ["de", "en", "fr"] * 20
            }
            await eventually(lambda: cache._engine.waiters == 59)
            go_on.set()
        assert all(task.result().body == language.encode() for task, language in asked.items())
        assert loads == {"de": 1, "en": 1, "fr": 1}

    with live_server(app) as server:
        asyncio.run(scenario(server))


class Tenants:
    """An app whose every answer names who asked and what, and a crowd of clients that check it."""

    def __init__(self, seed: int) -> None:
        self.loads = Counter[tuple[str, str]]()
        self.results = Counter[str]()
        self._chance = random.Random(seed)
        self._server_chance = random.Random(seed + 1)

    async def endpoint(self, request: Request) -> Response:
        """Answer in pieces: `tenant|question|` many times."""
        who = request.headers.get("authorization", "nobody")
        posted = request.method == "POST"
        what = (await request.json())["question"] if posted else f"search {request.url.query}"
        self.loads[who, what] += 1
        await asyncio.sleep(self._server_chance.random() * 0.01)  # so that loads overlap in many ways

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(8):
                yield piece_of(who, what)
                await asyncio.sleep(self._server_chance.random() * 0.002)

        return StreamingResponse(pieces())

    async def crowd(self, server: LiveServer, tenant: int, requests: int) -> None:
        """One tenant's requests, three at a time; some reset their connection early or in the middle."""
        lanes = asyncio.Semaphore(3)

        async def one() -> None:
            who = None if tenant == 0 and self._chance.random() < 0.3 else f"Bearer tenant-{tenant}"
            what = f"{self._chance.choice(('question', 'search'))} {self._chance.randrange(3)}"
            leaves = self._chance.random()
            async with lanes:
                await self._ask(server, who, what, leaves)

        async with asyncio.TaskGroup() as group:
            for _ in range(requests):
                group.create_task(one())

    async def _ask(self, server: LiveServer, who: str | None, what: str, leaves: float) -> None:
        headers = {"Content-Type": "application/json"} | ({} if who is None else {"Authorization": who})
        async with RawConnection(server.port) as raw, asyncio.timeout(PATIENCE):
            if what.startswith("search "):
                await raw.request("GET", f"/search?{what.removeprefix('search ')}", headers=headers)
            else:
                await raw.request("POST", "/ask", headers=headers, body=b'{"question": "%b"}' % what.encode())
            if leaves < 0.1:
                raw.abort()
                self.results["left early"] += 1
                return
            head = await raw.head()
            piece = piece_of(who or "nobody", what)
            if leaves < 0.2:
                assert (await raw.chunk() or b"").startswith(piece)
                raw.abort()
                self.results["left in the middle"] += 1
                return
            assert head.status == 200
            assert await raw.body() == piece * 8
            status = head.cache_status or ""
            self.results["hit" if "; hit" in status else status] += 1


def piece_of(who: str, what: str) -> bytes:
    return f"{who}|{what}|".encode()


def test_eight_tenants_in_parallel_never_see_each_others_answers(stack: Stack) -> None:
    tenants, cache = Tenants(seed=8), make_cache()
    app = Starlette(
        routes=[Route("/ask", tenants.endpoint, methods=["POST"]), Route("/search", tenants.endpoint)],
    )
    tenant = credential("authorization")
    rules = [
        Rule("/ask", methods=("POST",), key=json_body("question"), ttl=60, tenant=tenant),
        Rule("/search", ttl=60, tenant=tenant),
    ]
    app.add_middleware(CacheMiddleware, cache=cache, rules=rules)

    async def scenario(server: LiveServer) -> None:
        async with asyncio.TaskGroup() as group:
            for tenant in range(8):
                group.create_task(tenants.crowd(server, tenant, requests=50))
        await eventually(lambda: not cache._engine.holders)

    with live_server(app, **stack) as server:
        asyncio.run(scenario(server))
    nameless = {asked: count for asked, count in tenants.loads.items() if asked[0] == "nobody"}
    named = {asked: count for asked, count in tenants.loads.items() if asked[0] != "nobody"}
    assert set(named.values()) == {1}  # each tenant loads each question once, whoever left
    assert sum(nameless.values()) == cache.counters.bypasses["unscoped"] > 4
    assert tenants.results["hit"] > 200
    assert tenants.results["glasscache; fwd=uri-miss; collapsed"] > 0
    assert tenants.results["glasscache; fwd=bypass; detail=unscoped"] > 0
    assert sum(tenants.results.values()) == 400


def test_clients_of_httpx_that_give_up_leave_the_others_their_answer() -> None:
    cache, go_on, loads = make_cache(), Signal(), Counter[str]()

    async def answer(request: Request) -> Response:
        loads[request.url.path] += 1
        await go_on.wait()
        return PlainTextResponse("answer")

    app = Starlette(routes=[Route("/a", answer)])
    app.add_middleware(CacheMiddleware, cache=cache, rules=[Rule("/a", ttl=60)])

    async def scenario(server: LiveServer) -> None:
        async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE) as client:
            asked = [asyncio.create_task(client.get("/a")) for _ in range(40)]
            await eventually(lambda: cache._engine.waiters == 39)
            for task in asked[::2]:
                task.cancel()
            for task in asked[::2]:
                with suppress(asyncio.CancelledError):
                    await task
            go_on.set()
            answers = [await task for task in asked[1::2]]
        assert [answer.text for answer in answers] == ["answer"] * 20
        assert loads == {"/a": 1}

    with live_server(app) as server:
        asyncio.run(scenario(server))
