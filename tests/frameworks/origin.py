"""What the handlers of all eight apps do, and the desk at which the test, in another process, watches and steers it.

Decides: when a handler goes on (the test opens its gate), what is counted and told. Must never know a framework, nor
stand between a framework and the cache: the desk is outside of everything.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from glasscache import Cache, MemoryStore
from glasscache.asgi.types import ASGIApp, Receive, Scope, Send
from glasscache.stats import stats

TOLD = "FRAMEWORK_CELL_TOLD"
"""Environment variable: the file in which is told what must outlive the server."""

DESK = "/_desk"
PAGE = "a page that is worth compressing " * 50
EVENTS = [b"data: %d\n\n" % number for number in range(3)]
ENDLESS = b"data: more\n\n"
TEAPOT = {"error": "short and stout"}


class TooHardError(Exception):
    """What each app's own exception handler turns into a 418 with `TEAPOT`."""


class Origin:
    """The work of one app: counted, told, and let go on by the test."""

    def __init__(self) -> None:
        self.cache = Cache(MemoryStore(max_entries=1_000))
        self.loads: Counter[str] = Counter()
        self.told: list[str] = []
        self.lifespan = "never offered"
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def tell(self, what: str) -> None:
        """Note that something happened, also for after this process."""
        self.told.append(what)
        if path := os.environ.get(TOLD):
            with Path(path).open("a") as file:
                file.write(what + "\n")

    def load(self, name: str, **seen: str) -> dict[str, str]:
        """The answer of a handler that has nothing to wait for. `seen`: what else of the request it saw."""
        self.loads[name] += 1
        return {"answer": name, "page": PAGE, **seen}

    async def slow(self, name: str) -> dict[str, str]:
        """The answer of a handler that waits for the test."""
        self.loads[name] += 1
        await self._gates[name].wait()
        return {"answer": name}

    async def events(self, name: str) -> AsyncIterator[bytes]:
        """Events that the test lets out one by one."""
        self.loads[name] += 1
        for number, event in enumerate(EVENTS):
            await self._gates[f"{name}-{number}"].wait()
            yield event

    async def endless(self, name: str) -> AsyncIterator[bytes]:
        """Events without end, for one client alone; how it ends is told."""
        try:
            while True:
                yield ENDLESS
                await asyncio.sleep(0.002)
        finally:
            self.tell(f"{name} stopped")

    async def work(self, name: str) -> None:
        """What an app does after its answer."""
        self.tell(f"{name} begun")
        await self._gates[name].wait()
        self.tell(f"{name} done")

    def fail(self, name: str) -> None:
        """An error that the app does not expect."""
        self.loads[name] += 1
        raise RuntimeError("broken on purpose")

    def refuse(self, name: str) -> None:
        """An error that the app has a handler for."""
        self.loads[name] += 1
        raise TooHardError(name)

    def served(self, app: ASGIApp) -> ASGIApp:
        """The app, and the desk in front of it."""

        async def front(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["path"] == DESK:
                await self._answer_desk(scope, send)
                return
            if scope["type"] == "lifespan":
                self.lifespan = "offered"
            try:
                await app(scope, receive, send)
            except Exception:
                if scope["type"] == "lifespan":
                    self.lifespan = "refused"
                raise

        return front

    async def _answer_desk(self, scope: Scope, send: Send) -> None:
        asked = parse_qs(scope["query_string"].decode())
        for gate in asked.get("open", ()):
            self._gates[gate].set()
        if "collect" in asked:
            gc.collect()
        figures: Any = stats(self.cache)
        now = {
            "loads": self.loads,
            "told": self.told,
            "lifespan": self.lifespan,
            "waiters": figures["waiters"],
            "under_way": figures["loads"],
        }
        body = json.dumps(now).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
