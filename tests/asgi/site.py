"""A whole site in one process: an origin, the middleware before it, clients before that, and time that is virtual.

Decides: that a test's seconds cost nothing (`run`), and what an origin of these tests can be told to answer.
Never: replaces a part of glasscache by a stand-in; only time, telemetry and the random secret are handed in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from random import Random
from typing import Any

from glasscache.asgi import CacheMiddleware, Rule
from glasscache.cache import Cache
from glasscache.interfaces import Clock, Store
from glasscache.policy import Detail, Limits, Policy
from glasscache.stores.memory import MemoryStore
from glasscache.testing import RecordingTelemetry
from tests.support.asgi import ASGIApp, Client, Message, Receive, Response, Scope, Send
from tests.support.seeded_loop import run_seed

SECRET = "a secret for the tests, long enough"
HeaderList = list[tuple[bytes, bytes]]

FIRST = "glasscache; fwd=uri-miss; stored"
UNSTORED = "glasscache; fwd=uri-miss; detail="
"""And why."""
COLLAPSED = "glasscache; fwd=uri-miss; collapsed"


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a scenario on virtual time. Fails if it leaves a task, or an exception that nobody saw, behind."""
    run_seed(0, lambda world: scenario(), order="fifo", timers=False)


class LoopClock:
    """The running loop's time, so that the cache and its timers live in one time."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return 1_700_000_000.0 + self.now()


class Origin:
    """A plain ASGI app: answers every request with the same chunks, one message each, and remembers what it saw."""

    def __init__(
        self, *chunks: bytes, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = (), takes: float = 0.0
    ) -> None:
        self.chunks = chunks or (b"an answer",)
        self.status = status
        self.headers: HeaderList = list(headers)
        self.takes = takes
        self.scopes: list[Scope] = []
        self.bodies: list[list[Message]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        self.bodies.append(await read(receive))
        await asyncio.sleep(self.takes)
        await respond(send, *self.chunks, status=self.status, headers=self.headers)

    @property
    def loads(self) -> int:
        """How often it was asked."""
        return len(self.scopes)


class Echo(Origin):
    """Answers with the number of the load and what it was asked, so that no two loads give the same body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        number = len(self.scopes)
        self.bodies.append(await read(receive))
        await asyncio.sleep(self.takes)
        content = b"".join(message.get("body", b"") for message in self.bodies[-1])
        body = b"%d %s %s" % (number, scope["path"].encode(), content)
        await respond(send, body.strip(), status=self.status, headers=self.headers)


async def read(receive: Receive) -> list[Message]:
    """The messages of a request's body, as they come."""
    messages = [await receive()]
    while messages[-1].get("more_body", False):
        messages.append(await receive())
    return messages


async def respond(send: Send, *chunks: bytes, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """A whole response, one message for each chunk."""
    await send({"type": "http.response.start", "status": status, "headers": list(headers)})
    for chunk in chunks[:-1]:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": chunks[-1] if chunks else b"", "more_body": False})


class Site:
    """An origin behind the middleware. Made inside a scenario."""

    def __init__(
        self,
        app: ASGIApp,
        *rules: Rule,
        policy: Policy | None = None,
        limits: Limits | None = None,
        detail: Detail | None = None,
        telemetry: Any = None,
        store: Store | None = None,
        clock: Clock | None = None,
        **options: Any,
    ) -> None:
        self.telemetry = RecordingTelemetry()
        self.cache = Cache(
            store or MemoryStore(),
            policy=policy,
            limits=limits,
            detail=detail,
            clock=clock or LoopClock(),
            telemetry=telemetry or self.telemetry,
            key_secret=SECRET,
            random=Random(1),
        )
        self.middleware = CacheMiddleware(app, cache=self.cache, rules=rules, **options)
        self.client = Client(self.middleware)

    async def get(self, path: str = "/page", **request: Any) -> Response:
        """One GET."""
        return await self.client.request("GET", path, **request)

    async def post(self, path: str = "/ask", body: bytes | Sequence[bytes] = b"{}", **request: Any) -> Response:
        """One POST of JSON."""
        headers = [(b"content-type", b"application/json"), *request.pop("headers", ())]
        return await self.client.request("POST", path, body=body, headers=headers, **request)

    async def crowd(self, count: int, path: str = "/page", **request: Any) -> list[Response]:
        """The same GET from many clients at once."""
        return await asyncio.gather(*(self.get(path, **request) for _ in range(count)))

    @property
    def bypasses(self) -> dict[str, int]:
        """Bypasses by reason."""
        return dict(self.cache.counters.bypasses)

    @property
    def results(self) -> dict[str, int]:
        """Requests by result."""
        counts: dict[str, int] = {}
        for group in self.cache.counters.groups.values():
            for (result, _), count in group.requests().items():
                counts[result] = counts.get(result, 0) + count
        return counts
