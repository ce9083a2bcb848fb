"""What caches of whole answers do with a crowd, a stream, and what is one user's: see `habits.py`.

Decides what each is asked, by ASGI. Must not import glasscache where the peers are.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench.peer_apps import hishel_storage
from tests.bench.traffic import App, Message

CROWD = 50
Headers = list[tuple[bytes, bytes]]


class Site:
    """An app whose answers say what they were: the number of the load, and what the request brought."""

    def __init__(self, *headers: tuple[bytes, bytes]) -> None:
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.headers: Headers = [(b"cache-control", b"max-age=60"), *headers]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.loads += 1
        brought = await receive()
        user = dict(scope["headers"]).get(b"authorization", b"nobody")
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": user + brought.get("body", b""), "more_body": True})
        await self.gate.wait()
        await send({"type": "http.response.body", "body": b".", "more_body": False})


class Got:
    """One request and its answer, as it comes."""

    def __init__(self, app: App, method: str = "GET", headers: Headers | None = None, body: bytes = b"") -> None:
        self.body = b""
        self.headers: Headers = []
        self.first = asyncio.Event()
        self._request: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        scope = {
            "type": "http",
            "method": method,
            "path": "/a",
            "raw_path": b"/a",
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [(b"host", b"example.com"), *(headers or ())],
            "extensions": {},
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "client": None,
            "server": None,
        }
        self.done = asyncio.ensure_future(app(scope, self._receive, self._send))

    async def _receive(self) -> Message:
        if self._request:
            return self._request.pop()
        await asyncio.Event().wait()
        raise AssertionError

    async def _send(self, message: Message) -> None:
        self.headers += message.get("headers", ())
        self.body += message.get("body", b"")
        if self.body:
            self.first.set()


def by_ttl(site: Site) -> App:
    glasscache, asgi = importlib.import_module("glasscache"), importlib.import_module("glasscache.asgi")
    app: App = asgi.CacheMiddleware(
        site, cache=glasscache.Cache(), rules=[asgi.Rule("/a", methods=("GET", "POST"), ttl=60)]
    )
    return app


def by_rfc(site: Site) -> App:
    glasscache, asgi = importlib.import_module("glasscache"), importlib.import_module("glasscache.asgi")
    app: App = asgi.CacheMiddleware(site, cache=glasscache.Cache())
    return app


def _hishel(site: Site, *, rfc: bool) -> App:
    app: App = importlib.import_module("hishel.asgi").ASGICacheMiddleware(site, storage=hishel_storage(), rfc=rfc)
    return app


Kind = Callable[[Site], App]
OURS: dict[str, Kind] = {"glasscache, `ttl`": by_ttl, "glasscache, HTTP": by_rfc}
PEERS: dict[str, Kind] = {
    "hishel, `rfc=False`": lambda site: _hishel(site, rfc=False),
    "hishel, HTTP": lambda site: _hishel(site, rfc=True),
}


async def crowd(kind: Kind) -> str:
    site = Site()
    app = kind(site)
    site.gate.clear()
    asked = [Got(app) for _ in range(CROWD)]
    await asyncio.sleep(0.05)  # for those who load as well
    site.gate.set()
    await asyncio.gather(*(one.done for one in asked))
    return str(site.loads)


async def stream(kind: Kind) -> str:
    site = Site((b"content-type", b"text/event-stream"))
    site.gate.clear()
    one = Got(kind(site))
    begun = asyncio.ensure_future(one.first.wait())
    came, _ = await asyncio.wait([begun], timeout=2.0)
    site.gate.set()
    await asyncio.gather(one.done, begun)
    return "as it is produced" if came else "when all of it is there"


async def two_users(kind: Kind) -> str:
    app = kind(Site())
    await Got(app, headers=[(b"authorization", b"ann")]).done
    got = Got(app, headers=[(b"authorization", b"bob")])
    await got.done
    return "an answer of its own" if got.body.startswith(b"bob") else "the first one's answer"


async def cookie(kind: Kind) -> str:
    site = Site((b"set-cookie", b"session=1"))
    app = kind(site)
    for _ in range(2):
        await Got(app).done
    return "the same cookie" if site.loads == 1 else "one of its own"


async def post(kind: Kind) -> str:
    site = Site()
    app = kind(site)
    for body in (b"a", b"b", b"a"):
        await Got(app, "POST", [(b"content-type", b"text/plain")], body).done
    return {2: "cached by its body", 3: "not cached"}[site.loads]


HABITS: dict[str, Callable[[Kind], Awaitable[str]]] = {
    f"{CROWD} ask the same at once: loads": crowd,
    "an event of a stream is sent on": stream,
    "another `Authorization` gets": two_users,
    "who asks after a `Set-Cookie` gets": cookie,
    "POST": post,
}
