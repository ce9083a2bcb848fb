"""The visitors' side of HTTP: asks, reads to the end, and notes how long it took and what the cache said.

Decides which outcome a `Cache-Status` header stands for (RFC 9211). Must never know more than a client sees.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import quote_plus

import httpx

from traffic.questions import Ask

Outcome = Literal["hit", "stale", "collapsed", "miss", "bypass", "error", "uncached"]
OUTCOMES: Final[tuple[Outcome, ...]] = ("hit", "stale", "collapsed", "miss", "bypass", "error", "uncached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What one request came to; seconds from its start to the first byte of the body and to its end."""

    outcome: Outcome
    first: float
    total: float
    body: bytes


Done: TypeAlias = Callable[[Reply], object]


class Visitors:
    """A crowd with connections of its own to one service."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def send(self, method: str, path: str, ask: Ask | None = None) -> Reply:
        """Send one request and read its answer to the end."""
        start = time.perf_counter()
        first = 0.0
        parts = []
        body, headers = (ask.body, ask.headers) if ask else (None, None)
        async with self._http.stream(method, path, json=body, headers=headers) as response:
            async for part in response.aiter_raw():
                first = first or time.perf_counter() - start
                parts.append(part)
        total = time.perf_counter() - start
        outcome = outcome_of(response.status_code, response.headers.get("cache-status", ""))
        return Reply(outcome=outcome, first=first or total, total=total, body=b"".join(parts))

    async def questions(self, asks: Iterable[Ask], *, at_once: int, done: Done) -> None:
        """Ask them all: `at_once` visitors side by side, each waiting for its answer before it asks again."""
        waiting = iter(asks)

        async def visitor() -> None:
            for ask in waiting:
                done(await self.send("POST", "/ask", ask))

        async with asyncio.TaskGroup() as crowd:
            for _ in range(at_once):
                crowd.create_task(visitor())

    async def searches(self, queries: Iterable[str], *, per_second: float, done: Done) -> None:
        """Search for them all, one every `1 / per_second` s whether or not the last one was answered."""

        async def visitor(query: str) -> None:
            done(await self.send("GET", f"/search?q={quote_plus(query)}"))

        start = time.perf_counter()
        async with asyncio.TaskGroup() as crowd:
            for number, query in enumerate(queries):
                await asyncio.sleep(start + number / per_second - time.perf_counter())
                crowd.create_task(visitor(query))

    async def burst(self, ask: Ask, times: int, path: str = "/ask") -> list[Reply]:
        """The same question `times` times at once: on open connections, before any answer is read.

        Plain sockets, since an HTTP client takes longer to send 200 requests than the service to answer one.
        """
        url = self._http.base_url
        body = json.dumps(ask.body).encode()
        head = f"POST {path} HTTP/1.0\r\nhost: {url.netloc.decode()}\r\ncontent-type: application/json\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        opening = (asyncio.open_connection(url.host, url.port) for _ in range(times))
        connections = await asyncio.gather(*opening)
        start = time.perf_counter()
        for _, writer in connections:
            writer.write(request)
        return await asyncio.gather(*(_read(*connection, start) for connection in connections))

    async def read(self, path: str) -> dict[str, Any]:
        """GET a JSON object."""
        response = await self._http.get(path)
        response.raise_for_status()
        found: dict[str, Any] = response.json()
        return found


@asynccontextmanager
async def visitors(url: str) -> AsyncIterator[Visitors]:
    """Visitors to the service at `url`, their connections closed at the end."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=120, trust_env=False) as http:
        yield Visitors(http)


async def _read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, start: float) -> Reply:
    """An answer of HTTP/1.0: its body ends where the connection does."""
    status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    body = await reader.read(1)
    first = time.perf_counter() - start
    body += await reader.read()
    total = time.perf_counter() - start
    writer.close()
    outcome = outcome_of(int(status.split()[1]), headers.get("cache-status", ""))
    return Reply(outcome=outcome, first=first, total=total, body=body)


def outcome_of(status: int, cache_status: str) -> Outcome:
    """What glasscache's member of a `Cache-Status` field stands for; "uncached" where there is none."""
    if status >= 500:
        return "error"
    members = (member.strip().split(";") for member in cache_status.split(","))
    params = {
        key.strip(): value.strip()
        for name, *rest in members
        if name.strip() == "glasscache"
        for key, _, value in (param.partition("=") for param in rest)
    }
    if not params:
        return "uncached"
    if "hit" in params:
        return "stale" if params.get("ttl", "").startswith("-") else "hit"
    if "collapsed" in params:
        return "collapsed"
    return "bypass" if params.get("fwd") in {"bypass", "method", "request"} else "miss"
