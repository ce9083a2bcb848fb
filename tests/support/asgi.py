"""An ASGI server without a network: drives an app in process and holds it to the protocol.

Decides: what the app receives, how fast its messages are taken, when its client is gone.
Never: forgives a breach of the ASGI rules. A breach raises in the app, and again in the test, so that an app which
swallows errors cannot hide it (`tests.support.asgi_rules` knows the rules).

    response = await Client(app).request("POST", "/ask", body=[b'{"question":', b'"why?"}'])
    async with Client(app).stream("GET", "/events") as stream:
        head = await stream.head()
        first = await stream.chunk()
        stream.disconnect()
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, unquote, urlencode

from tests.support.asgi_rules import ProtocolRules
from tests.support.asgi_stream import ASGIApp, Body, Head, Message, Receive, Scope, Send, Stream

__all__ = ["ASGIApp", "Client", "Head", "Message", "Receive", "Response", "Scope", "Send", "Stream"]

HeaderPairs = Iterable[tuple[str | bytes, str | bytes]]
Headers = Mapping[str, str] | HeaderPairs
Query = str | bytes | Mapping[str, str] | Sequence[tuple[str, str]]

PATIENCE = 10.0  # seconds an app gets to return after its client is gone


@dataclasses.dataclass(frozen=True)
class Response(Head):
    """A complete response: its body, and every message the app sent."""

    body: bytes
    messages: list[Message]

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """Sends requests to `app`. `scope` is merged into every request's scope; `strict_length=False` lets an app send
    a body that is shorter or longer than its Content-Length."""

    def __init__(self, app: ASGIApp, *, scope: Mapping[str, Any] | None = None, strict_length: bool = True) -> None:
        self.app = app
        self._scope = dict(scope or {})
        self._strict_length = strict_length

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Headers = (),
        body: Body = b"",
        query: Query = b"",
        scope: Mapping[str, Any] | None = None,
    ) -> Response:
        """Send a request and return the whole response, after the app has returned. The app runs in the caller's
        own task: to cancel the caller is to cancel the app."""
        stream = self._open(method, path, headers, body, query, scope, window=float("inf"))
        await stream.run(self.app)
        stream.rules.check()
        head = await stream.head()
        return Response(head.status, head.headers, await stream.body(), stream.sent)

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        headers: Headers = (),
        body: Body = b"",
        query: Query = b"",
        scope: Mapping[str, Any] | None = None,
        window: float = 0,
    ) -> AsyncIterator[Stream]:
        """Send a request and yield the response as it comes, with the app in a task of its own. Leaving the block
        disconnects; an app that has not returned `PATIENCE` seconds later is cancelled, which is an error."""
        stream = self._open(method, path, headers, body, query, scope, window=window)
        task = stream.start(self.app)
        try:
            yield stream
        except BaseException:
            await _end(stream, task)
            raise
        if not await _end(stream, task):
            raise AssertionError(f"the app ran on {PATIENCE} s after its client was gone")
        if not task.cancelled() and (error := task.exception()) is not None and not _excused(stream, error):
            raise error
        stream.rules.check()

    def _open(
        self,
        method: str,
        path: str,
        headers: Headers,
        body: Body,
        query: Query,
        scope: Mapping[str, Any] | None,
        *,
        window: float,
    ) -> Stream:
        path, _, inline = path.partition("?")
        merged: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": quote(path, safe="/%:@!$&'()*+,;=-._~").encode("ascii"),
            "query_string": _query(query or inline),
            "root_path": "",
            "headers": _headers(headers, body),
            "client": ("127.0.0.1", 50_000),
            "server": ("testserver", 80),
            "state": {},
            **self._scope,
            **(scope or {}),
        }
        rules = ProtocolRules(method, merged.get("extensions") or {}, strict_length=self._strict_length)
        return Stream(merged, body, window=window, rules=rules)


async def _end(stream: Stream, task: asyncio.Task[None]) -> bool:
    """Disconnect and wait for the app; return False if it had to be cancelled."""
    if not task.done():
        stream.disconnect(stream.send_error)
        await asyncio.wait([task], timeout=PATIENCE)
    if task.done():
        return True
    task.cancel()
    await asyncio.wait([task], timeout=PATIENCE)
    return False


def _excused(stream: Stream, error: BaseException) -> bool:
    """An app may let the OSError of its vanished client pass."""
    return stream.disconnected and stream.send_error is not None and isinstance(error, stream.send_error)


def _headers(headers: Headers, body: Body) -> list[tuple[bytes, bytes]]:
    """Return lower-case byte pairs, with the Host and the body's framing that an HTTP client would add."""
    given = headers.items() if isinstance(headers, Mapping) else headers
    pairs = [(_bytes(name).lower(), _bytes(value)) for name, value in given]
    names = {name for name, _ in pairs}
    if b"host" not in names:
        pairs.insert(0, (b"host", b"testserver"))
    if body and not names & {b"content-length", b"transfer-encoding"}:
        length = (b"content-length", b"%d" % len(body))
        pairs.append(length if isinstance(body, bytes) else (b"transfer-encoding", b"chunked"))
    return pairs


def _query(query: Query) -> bytes:
    return _bytes(query) if isinstance(query, str | bytes) else urlencode(query).encode("ascii")


def _bytes(text: str | bytes) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else text
