"""Machines that share a real server load an answer once, whatever it is and however it is asked for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache.asgi import CacheMiddleware, Rule, answer
from glasscache.keys import credential, json_body
from tests.support.asgi import Client, Receive, Scope, Send
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")

GERMAN = ((b"accept-language", b"de"),)
VARY = ((b"vary", b"accept-language"),)
FRESH = (b"cache-control", b"max-age=60")


@dataclass(frozen=True)
class Question:
    """How it is asked, and answered."""

    rule: dict[str, Any]
    method: str = "GET"
    asked: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    status: int = 200
    answered: tuple[tuple[bytes, bytes], ...] = ()
    size: int = 10
    pieces: int = 1
    notes: dict[str, Any] = field(default_factory=dict)


JSON = ((b"content-type", b"application/json"),)
QUESTIONS = {
    "plain": Question({"ttl": 60}),
    "of two languages, for less time than a load may take": Question({"ttl": 60}, asked=GERMAN, answered=VARY),
    "of two languages, for longer": Question({"ttl": 300}, asked=GERMAN, answered=VARY),
    "of two languages, as the origin says": Question({}, asked=GERMAN, answered=(FRESH, *VARY)),
    "as the origin says": Question({}, answered=(FRESH, (b"etag", b'"x"'))),
    "an error": Question({"ttl": 60, "statuses": (200, 404), "negative_ttl": 30}, status=404),
    "elsewhere": Question({}, status=301, answered=(FRESH, (b"location", b"/x"))),
    "by its content": Question(
        {"ttl": 60, "methods": ("POST",), "key": json_body("q")}, method="POST", asked=JSON, body=b'{"q": 1}'
    ),
    "a query": Question({"ttl": 60, "methods": ("QUERY",)}, method="QUERY", asked=JSON, body=b'{"q": 1}'),
    "large": Question({"ttl": 60}, size=700_000),
    "in pieces": Question({"ttl": 60}, answered=((b"content-type", b"text/event-stream"),), pieces=20),
    "tagged": Question({"ttl": 60}, notes={"tag": "t", "ttl": 5}),
    "of a tenant": Question(
        {"ttl": 60, "tenant": credential("authorization")}, asked=((b"authorization", b"x"), *GERMAN), answered=VARY
    ),
    "for one at a time": Question({"ttl": 60, "max_loads": 1}),
    "empty": Question({"ttl": 60, "statuses": (204,)}, status=204, size=0),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(Path(tmp_path_factory.mktemp("sharing"))) as process:
        yield process


class Origin:
    """Counts how often it is asked."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.loads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.loads += 1
        question = self.question
        for word, said in question.notes.items():
            getattr(answer(), word)(said)
        await asyncio.sleep(0.02)  # while the others ask
        await send({"type": "http.response.start", "status": question.status, "headers": [*question.answered]})
        for piece in range(question.pieces):
            body = {"body": b"x" * question.size, "more_body": piece < question.pieces - 1}
            await send({"type": "http.response.body", **body})


@pytest.mark.parametrize("name", QUESTIONS)
def test_two_machines_load_it_once(server: RedisProcess, name: str) -> None:
    question = QUESTIONS[name]
    origin = Origin(question)

    async def scenario() -> None:
        url, rules = f"redis://127.0.0.1:{server.port}", [Rule("/ask", **question.rule)]
        limits = Limits(far_timeout=10.0, max_entry_bytes=1024**2)
        caches = [
            Cache(
                TieredStore([MemoryStore(), RedisStore.from_url(url, **UNHURRIED)]), limits=limits, key_secret="k" * 32
            )
            for _ in range(2)
        ]
        clients = [Client(CacheMiddleware(origin, cache=cache, rules=rules)) for cache in caches]

        async def ask(client: Client) -> bytes:
            return (await client.request(question.method, "/ask", headers=question.asked, body=question.body)).body

        async with asyncio.timeout(PATIENCE):
            for one, other in (clients, reversed(clients)):  # one after the other, whoever comes first
                origin.loads = 0
                assert await ask(one) == await ask(other) == await ask(one)
                assert origin.loads == 1
                await caches[0].invalidate(all=True)
                await caches[1].invalidate(all=True)  # nothing is on its way to it any more
            origin.loads = 0
            answers = await asyncio.gather(*(ask(client) for client in clients * 4))
            assert (len(set(answers)), origin.loads) == (1, 1)
        for cache in caches:
            await cache.invalidate(all=True)
            await cache.aclose()

    asyncio.run(scenario())
