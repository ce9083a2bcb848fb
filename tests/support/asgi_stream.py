"""One request in flight: what the app receives, and how its messages are taken.

Decides: when `send` blocks, when `receive` says that the client is gone.
Never: lets a message through that `tests.support.asgi_rules` has not seen.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from tests.support.asgi_rules import ProtocolRules

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Body = bytes | Sequence[bytes]


@dataclasses.dataclass(frozen=True)
class Head:
    """Status and headers, as the app sent them."""

    status: int
    headers: list[tuple[bytes, bytes]]

    def header(self, name: str) -> str | None:
        """Return the header's value, several of one name joined by ", " (RFC 9110, 5.2), or None."""
        values = self.header_list(name)
        return ", ".join(values) if values else None

    def header_list(self, name: str) -> list[str]:
        """Return every value of the header, in order."""
        wanted = name.lower().encode("latin-1")
        return [value.decode("latin-1") for key, value in self.headers if key == wanted]

    @property
    def cache_status(self) -> str | None:
        """The Cache-Status header (RFC 9211)."""
        return self.header("cache-status")


class Stream:
    """One request in flight. `window` messages may lie unread before the app's `send` blocks (0: until it is taken).

    After `disconnect`, `receive` answers http.disconnect and `send` does nothing, or raises OSError if so asked.
    """

    def __init__(self, scope: Scope, body: Body, *, window: float, rules: ProtocolRules) -> None:
        chunks = [body] if isinstance(body, bytes) else list(body) or [b""]
        self.scope = scope
        self.rules = rules
        self.sent: list[Message] = []
        self.disconnected = False
        self._requests = deque(
            {"type": "http.request", "body": chunk, "more_body": index < len(chunks)}
            for index, chunk in enumerate(chunks, 1)
        )
        self._window = window
        self.send_error: type[OSError] | None = None
        self._unread: deque[Message] = deque()
        self._taken = 0
        self._news = asyncio.Event()  # something came, was taken, or ended: waiters look again
        self._head: Head | None = None
        self._task: asyncio.Task[None] | None = None

    def disconnect(self, error: type[OSError] | None = None) -> None:
        """The client is gone. `error`: what the app's `send` raises from now on (ASGI 2.4); None: it is ignored."""
        self.disconnected = True
        self.send_error = error
        self._notify()

    async def next(self) -> Message | None:
        """Take the app's next message, or None after its last. Raises what the app raised."""
        while not self._unread and not self._ended():
            await self._changed()
        if self._unread:
            self._taken += 1
            self._notify()
            return self._unread.popleft()
        if self._task is not None and self._task.done():
            self._task.result()
        self.rules.check()
        return None

    async def head(self) -> Head:
        """Take the start of the response, past any hints before it."""
        while self._head is None:
            message = await self.next()
            assert message is not None, "there is no response"
            if message["type"] == "http.response.start":
                self._head = Head(message["status"], [(name, value) for name, value in message["headers"]])
        return self._head

    async def chunk(self) -> bytes | None:
        """Take the next body message's bytes, or None after the last."""
        await self.head()
        while (message := await self.next()) is not None:
            if message["type"] == "http.response.body":
                return bytes(message.get("body", b""))
        return None

    async def body(self) -> bytes:
        """Take the rest of the body."""
        chunks = []
        while (chunk := await self.chunk()) is not None:
            chunks.append(chunk)
        return b"".join(chunks)

    async def receive(self) -> Message:
        """What the app calls."""
        with self.rules.receiving():
            if self._requests and not self.disconnected:
                return self._requests.popleft()
            while not self.disconnected and not self.rules.complete:
                await self._changed()
            return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """What the app calls."""
        if not self.disconnected:
            self.rules.sending(message)
            self.sent.append(message)
            self._unread.append(message)
            self._notify()
            position = len(self.sent)
            while position - self._taken > self._window and not self.disconnected:
                await self._changed()
        if self.disconnected and self.send_error is not None:
            raise self.send_error("the client is gone")

    async def run(self, app: ASGIApp) -> None:
        """Run the app for this request, to its return."""
        try:
            await app(self.scope, self.receive, self.send)
            self.rules.returned(disconnected=self.disconnected)
        finally:
            self._notify()

    def start(self, app: ASGIApp) -> asyncio.Task[None]:
        """Run the app in a task of its own."""
        self._task = asyncio.create_task(self.run(app), name=f"app {self.scope['method']} {self.scope['path']}")
        self._task.add_done_callback(lambda _: self._notify())
        return self._task

    def _ended(self) -> bool:
        return self.rules.complete or self.disconnected or (self._task is not None and self._task.done())

    def _notify(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _changed(self) -> None:
        await self._news.wait()
