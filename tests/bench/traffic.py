"""Requests as a server makes them, and the raw app that everything is compared with.

Decides what a request holds: what uvicorn puts into a scope, with six header fields, and every string of it new, since
a string that was seen before has its hash computed already. Must never run inside the measured time, except `drive`.
Needs nothing but the standard library.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias

from tests.bench.measure import Work

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Receive, Send], Awaitable[None]]
Request: TypeAlias = tuple[dict[str, Any], Receive]
MakeRequest: TypeAlias = Callable[[int], Request]

ANSWER = json.dumps({"answer": "a" * 1970, "passages": [{"id": 7, "score": 0.5}]}).encode()
"""About 2 KB."""
HEADERS = ((b"content-type", b"application/json"), (b"content-length", b"%d" % len(ANSWER)))

_FIELDS = (
    (b"host", b"knowledge.example:8000"),
    (b"user-agent", b"python-httpx/0.28.1"),
    (b"accept", b"*/*"),
    (b"accept-encoding", b"gzip, deflate, br, zstd"),
    (b"connection", b"keep-alive"),
    (b"x-forwarded-for", b"192.0.2.17"),
)


async def raw(scope: Any, receive: Receive, send: Send) -> None:
    """The limit: a constant answer. Its messages are made anew, as they must be: they belong to whoever gets them."""
    await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
    await send({"type": "http.response.body", "body": ANSWER, "more_body": False})


_START: Message = {"type": "http.response.start", "status": 200, "headers": list(HEADERS)}
_BODY: Message = {"type": "http.response.body", "body": ANSWER, "more_body": False}


async def raw_unsafe(scope: Any, receive: Receive, send: Send) -> None:
    """Faster than any app may be: it hands the same mutable messages to everybody."""
    await send(_START)
    await send(_BODY)


async def raw_reading(scope: Any, receive: Receive, send: Send) -> None:
    """The same, after the request's body was read."""
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
    await send({"type": "http.response.body", "body": ANSWER, "more_body": False})


def ever_new() -> App:
    """An app none of whose answers is like another: of 1,000 to 3,047 bytes, each with a tag of its own."""
    numbers, letters = itertools.count(), b"a" * 4096

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        number = next(numbers)
        body = letters[: 1000 + number % 2048]
        tag = b"etag", b'"%x"' % number
        headers = [(b"content-type", b"text/plain"), (b"content-length", b"%d" % len(body)), tag]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


async def discard(message: Message) -> None:
    """A client that takes everything at once."""


def new(value: bytes) -> bytes:
    """An equal string that nobody has hashed yet."""
    return bytes(memoryview(value))


def scope(method: str, path: str, query: bytes, fields: Iterable[tuple[bytes, bytes]]) -> dict[str, Any]:
    """A connection scope as uvicorn makes it, all strings new."""
    raw_path = path.encode()
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50412),
        "scheme": "http",
        "method": method.encode().decode(),
        "root_path": "",
        "path": raw_path.decode(),
        "raw_path": raw_path,
        "query_string": new(query),
        "headers": [(new(name), new(value)) for name, value in fields],
        "state": {},
    }


def get(path: str = "/answer", query: Callable[[int], bytes] = lambda number: b"q=what+is+a+cache") -> MakeRequest:
    """GET requests; `query` of the request's number."""

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    return lambda number: (scope("GET", path, query(number), _FIELDS), receive)


def post(body: Callable[[int], bytes], path: str = "/ask") -> MakeRequest:
    """POST requests with a JSON body, of the request's number."""

    def make(number: int) -> Request:
        content = new(body(number))
        message: Message = {"type": "http.request", "body": content, "more_body": False}
        fields = (*_FIELDS, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(content)))

        async def receive() -> Message:
            return message

        return scope("POST", path, b"", fields), receive

    return make


def question(size: int) -> Callable[[int], bytes]:
    """JSON bodies of `size` bytes that ask one question; only a field without influence differs between them."""

    def body(number: int) -> bytes:
        shape = {
            "question": "How does a cache tell one question from another, and who decides that?",
            "filters": {"module": [f"asyncio.{part:04d}" for part in range(max(1, (size - 190) // 15))]},
            "user": "",
            "trace_id": f"{number:032x}",
        }
        shape["user"] = "u" * (size - len(json.dumps(shape, separators=(",", ":"))))
        return json.dumps(shape, separators=(",", ":")).encode()

    return body


def respelled(size: int) -> Callable[[int], bytes]:
    """The same, with the names in a keyed field in an order that comes back after 40,320 bodies only."""
    names = [f'"option_{letter}":1' for letter in "abcdefgh"]
    written = question(size - len(",".join(["", *names])))

    def body(asked: int) -> bytes:
        number, left, order = asked, list(names), []
        for radix in range(len(names), 0, -1):
            place = number % radix
            number //= radix
            order.append(left.pop(place))
        return written(asked).replace(b"]}", f"],{','.join(order)}}}".encode())

    return body


async def drive(app: App, requests: Iterable[Request]) -> None:
    """One request after the other."""
    for connection, receive in requests:
        await app(connection, receive, discard)


def one_by_one(app: App, make: MakeRequest) -> Callable[[int], Work]:
    """Work that sends requests to the app one after the other; no number comes twice."""
    numbers = itertools.count()

    def prepare(count: int) -> Work:
        requests = [make(next(numbers)) for _ in range(count)]
        return lambda: drive(app, requests)

    return prepare


async def ask(app: App, request: Request) -> tuple[dict[bytes, bytes], bytes]:
    """The header fields and the body that a request is answered with."""
    messages: list[Message] = []

    async def send(message: Message) -> None:
        messages.append(message)

    await app(*request, send)
    return dict(messages[0]["headers"]), b"".join(message["body"] for message in messages[1:])
