"""The live page, and the feed that it draws: what a cache does, as it does it, as server-sent events.

Decides what the page may load (nothing: it is whole), how often it is told, and when a feed ends: with its client,
with the server, after ten seconds (the page asks again). Must never hold up a server that wants to stop, nor serve
more than a few watchers; figures are read once for all of them.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import math
import os
import secrets
import signal
from contextlib import suppress
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import msgspec

from glasscache._durations import BOUNDS
from glasscache.asgi import _why
from glasscache.asgi._pages import respond
from glasscache.contention import contentions, loads_now
from glasscache.stats import declared_workers, stats

if TYPE_CHECKING:
    from glasscache.asgi.types import Receive, Scope, Send
    from glasscache.cache import Cache

MAX_WATCHERS = 8
_EVERY = 0.5  # seconds between two updates
_LONGEST = 10.0  # seconds: for a server that waits for its requests, and tells nobody
_PATIENCE = 5.0  # seconds that a client has to take an update
_HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep it back
)
_SCRIPTS = ("feed.js", "history.js", "charts.js", "waterfall.js", "reasons.js", "page.js")
_encode = msgspec.json.encode


async def live_page(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer GET and HEAD with the page. It knows nothing of the cache: it asks for the token, and then the feed."""
    page, policy = _page()
    await respond(
        scope,
        send,
        page,
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", policy),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cross-origin-opener-policy", b"same-origin"),
        (b"cross-origin-resource-policy", b"same-origin"),
    )


@functools.cache
def _page() -> tuple[bytes, bytes]:
    """The page with its style and its scripts inside, and the policy that lets in these and nothing else."""
    folder = files("glasscache.asgi") / "live"
    style = (folder / "page.css").read_text("utf-8")
    script = '"use strict";\n' + "\n".join((folder / name).read_text("utf-8") for name in _SCRIPTS)
    page = (folder / "page.html").read_text("utf-8").replace("/*style*/", style).replace("/*script*/", script)
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        "require-trusted-types-for 'script'; trusted-types 'none'"
    )
    return page.encode(), policy.encode()


def _digest(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


class LiveFeed:
    """Tells its watchers what a cache does, twice a second.

    Events: `hello` (once: whose figures), `figures` (as `stats`, with durations and loads under way), `contentions`
    (the long waits since the last ones; its id, sent back as Last-Event-ID, leaves out those that are known).
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._watching: set[asyncio.Task[None]] = set()
        self._figures: tuple[float, bytes] = (-math.inf, b"")
        self._birth = secrets.token_hex(4)  # in a container every process has the same id

    def close(self) -> None:
        """End all feeds: the app is shutting down."""
        for client in self._watching:
            client.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one watcher until it leaves, its time is over, or the server stops."""
        if len(self._watching) >= MAX_WATCHERS:
            fields = (b"content-type", b"application/json"), (b"retry-after", b"5")
            await respond(scope, send, b'{"error":"enough others are watching"}', *fields, status=503)
            return
        client = asyncio.get_running_loop().create_task(until_gone(receive))
        self._watching.add(client)
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS]})
            if scope["method"] != "HEAD":
                await self._tell(client, self._last_seen(scope), send)
            await send({"type": "http.response.body", "body": b""})
        except OSError:
            pass  # a client that takes nothing (TimeoutError), or is gone
        finally:
            self._watching.discard(client)
            client.cancel()

    async def _tell(self, client: asyncio.Task[None], seen: int, send: Send) -> None:
        now = asyncio.get_running_loop().time
        ends = now() + _LONGEST
        news = [self._hello()]
        while not client.done() and now() < ends and not server_is_stopping():
            latest = self._cache._engine.commons.contentions.seen
            if latest > seen:
                found = contentions(self._cache, since=seen)
                news.append(_event("contentions", found, id=f"{self._counts}-{latest}"))
                seen = latest
            news.append(self._now(now()))
            async with asyncio.timeout(_PATIENCE):
                await send({"type": "http.response.body", "body": b"".join(news), "more_body": True})
            news.clear()
            await asyncio.wait((client,), timeout=_EVERY)

    @property
    def _counts(self) -> str:
        """Whose counts these are: another process, or the next one, counts its own."""
        return f"{os.getpid()}.{self._birth}"

    def _last_seen(self, scope: Scope) -> int:
        """The number of the last contention that the client knows of these."""
        given = b"".join(value for name, value in scope["headers"] if name == b"last-event-id")
        counts, _, number = given.partition(b"-")
        return int(number) if counts == self._counts.encode() and number.isdigit() and len(number) < 16 else 0

    def _hello(self) -> bytes:
        cache = self._cache
        told = {
            "name": cache.name,
            "worker": os.getpid(),
            "counts": self._counts,
            "of": declared_workers(),
            "threshold": cache.limits.contention_threshold,
            "bounds": BOUNDS,
            "why": {"bypass": _why.BYPASSED, "not_stored": _why.UNSTORED},
        }
        return _event("hello", told)

    def _now(self, now: float) -> bytes:
        """What is true now, for all who watch: not read anew for each of them."""
        made, event = self._figures
        if now - made >= _EVERY / 2:
            cache = self._cache
            figures: dict[str, Any] = {
                "at": cache.clock.wall(),
                **stats(cache),
                "durations": cache.counters.durations.sparse(),
                "under_way": loads_now(cache, waiters=0),
            }
            event = _event("figures", figures)
            self._figures = now, event
        return event


def _event(name: str, data: object, *, id: str | None = None) -> bytes:  # noqa: A002 - the word of server-sent events
    identity = b"" if id is None else b"id: %s\n" % id.encode()
    return b"event: %s\n%sdata: %s\n\n" % (name.encode(), identity, _encode(data))


async def until_gone(receive: Receive) -> None:
    with suppress(Exception):  # a connection whose receive fails has nobody at its end either
        while (await receive())["type"] != "http.disconnect":
            pass


def server_is_stopping() -> bool:
    """Whether uvicorn waits for its requests to end, this one among them.

    It tells the app of the end (lifespan.shutdown) only after all requests are over, which a feed is not by itself;
    ASGI has no other word for it. But the process's handler of SIGTERM is a method of its server.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return getattr(server, "should_exit", False) is True
