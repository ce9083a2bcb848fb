"""HTTP/1.1 as it stands on the wire: connections, methods, conditions, and bodies in every shape."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule, json_body
from tests.live.rig import STACKS, Signal, Stack, ask, ask_on, got, make_cache
from tests.support.asgi import ASGIApp, Message, Receive, Scope, Send
from tests.support.patience import PATIENCE
from tests.support.servers import LiveServer, RawConnection, live_server

pytestmark = pytest.mark.usefixtures("no_leaks")

JSON = {"Content-Type": "application/json"}
MODIFIED = b"Sat, 01 Nov 2025 12:00:00 GMT"


class Echo:
    """GET: a page with validators. POST: the body, whole, as it came; `bodies` has the messages of each load."""

    def __init__(self) -> None:
        self.bodies: list[list[bytes]] = []
        self.methods: list[str] = []
        self.called = Signal()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.methods.append(scope["method"])
        self.called.set()
        headers = [(b"content-type", b"text/plain"), (b"etag", b'"v1"'), (b"last-modified", MODIFIED)]
        if scope["method"] == "POST":
            pieces = await self._read(receive)
            self.bodies.append(pieces)
            answer = b"".join(pieces)
        else:
            answer = b"page of " + scope["path"].encode()
        headers.append((b"content-length", b"%d" % len(answer)))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else answer})

    async def _read(self, receive: Receive) -> list[bytes]:
        pieces = []
        while True:
            message: Message = await receive()
            assert message["type"] == "http.request"
            pieces.append(message.get("body", b""))
            if not message.get("more_body", False):
                return pieces

    def served_by(self, cache: Cache, **rule: float) -> ASGIApp:
        """This app behind a cache: GET anywhere, POST /ask by its question, POST /raw by its bytes."""
        terms = {"ttl": 60, **rule}
        return CacheMiddleware(
            self,
            cache=cache,
            rules=[
                Rule("/ask", methods=("POST",), key=json_body("question", ignore=("user",)), **terms),  # type: ignore[arg-type]
                Rule("/raw", methods=("POST",), **terms),  # type: ignore[arg-type]
                Rule("/*", ttl=60),
            ],
        )


def run(app: ASGIApp, scenario: Callable[[LiveServer], Awaitable[None]], stack: Stack = STACKS[0]) -> None:
    async def main(server: LiveServer) -> None:
        await scenario(server)

    with live_server(app, lifespan="off", **stack) as server:
        asyncio.run(main(server))


async def settle(server: LiveServer) -> None:
    """Let the server handle what it was sent: it answers this question after it."""
    await ask(server, "/settle")


def test_hits_follow_each_other_on_one_connection() -> None:
    echo = Echo()

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as raw:
            for turn in range(5):
                answer = await ask_on(raw, "/a")
                assert answer.body == b"page of /a"
                assert ("; hit" in (answer.cache_status or "")) == (turn > 0)
                assert (await ask_on(raw, "/ask", "POST", headers=JSON, body=b'{"question":1}')).body
        assert echo.methods == ["GET", "POST"]

    run(echo.served_by(make_cache()), scenario)


def test_pipelined_requests_are_answered_in_order(stack: Stack) -> None:
    echo = Echo()
    get = b"GET /%b HTTP/1.1\r\nHost: knowledge\r\n\r\n"
    post = b"POST /raw HTTP/1.1\r\nHost: knowledge\r\nContent-Length: 4\r\n\r\nwhy?"

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as raw:
            await raw.send(get % b"a")
            assert (await got(raw)).body == b"page of /a"
            await raw.send(get % b"a" + get % b"b" + post + get % b"a" + post + get % b"b")
            bodies = [(await got(raw)).body for _ in range(6)]
        assert bodies == [b"page of /a", b"page of /b", b"why?", b"page of /a", b"why?", b"page of /b"]
        assert echo.methods == ["GET", "GET", "POST"]

    run(echo.served_by(make_cache()), scenario, stack)


def test_a_head_is_answered_from_the_stored_get_and_the_connection_goes_on(stack: Stack) -> None:
    echo = Echo()

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as raw:
            assert (await ask_on(raw, "/a", "HEAD")).cache_status == "glasscache; fwd=method; detail=method"
            page = await ask_on(raw, "/a")
            head = await ask_on(raw, "/a", "HEAD")
            assert head.body == b""
            for name in ("content-length", "etag", "content-type"):
                assert head.header(name) == page.header(name) is not None
            assert "; hit" in (head.cache_status or "")
            assert (await ask_on(raw, "/a")).body == page.body
        assert echo.methods == ["HEAD", "GET"]

    run(echo.served_by(make_cache()), scenario, stack)


@pytest.mark.parametrize("condition", [{"If-None-Match": 'W/"v1"'}, {"If-Modified-Since": MODIFIED.decode()}])
def test_a_client_that_has_the_answer_gets_a_304_and_the_connection_goes_on(condition: dict[str, str]) -> None:
    echo = Echo()

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as raw:
            for method in ("GET", "GET", "HEAD"):  # the first one loads; its load is never conditional
                answer = await ask_on(raw, "/a", method, headers=condition)
                assert (answer.status, answer.body, answer.header("etag")) == (304, b"", '"v1"')
                assert answer.header("content-length") is answer.header("transfer-encoding") is None
            other = await ask_on(raw, "/a", headers={"If-None-Match": '"v0"'})
            assert (other.status, other.body) == (200, b"page of /a")
        assert echo.methods == ["GET"]

    run(echo.served_by(make_cache()), scenario)


def test_a_slow_clients_body_in_many_chunks_is_replayed_exactly_and_keyed_like_a_whole_one(stack: Stack) -> None:
    echo = Echo()
    pieces = [b'{"user": "a", ', b'"quest', b'ion": "w', b"hy?", b'"}']

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as slow:
            await slow.send(
                b"POST /ask HTTP/1.1\r\nHost: knowledge\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for piece in pieces:
                await slow.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                await settle(server)
            await slow.send(b"0\r\n\r\n")
            assert (await got(slow)).body == b"".join(pieces)
        assert len(echo.bodies) == 1
        assert [piece for piece in echo.bodies[0] if piece] == pieces
        again = await ask(
            server, "/ask", "POST", headers={**JSON, "Host": "knowledge"}, body=b'{"question":"why?", "user":"b"}'
        )
        assert "; hit" in (again.cache_status or "")
        assert json.loads(again.body)["user"] == "a"

    run(echo.served_by(make_cache()), scenario, stack)


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_over_the_limit_is_bypassed_and_reaches_the_app_whole(chunked: bool, stack: Stack) -> None:
    echo = Echo()
    body = bytes(range(256)) * 2000  # 512,000 bytes, in many messages

    async def scenario(server: LiveServer) -> None:
        for _ in range(2):
            async with RawConnection(server.port) as raw:
                if chunked:
                    pieces = [body[at : at + 10_000] for at in range(0, len(body), 10_000)]
                    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
                    await raw.send(
                        b"POST /raw HTTP/1.1\r\nHost: knowledge\r\nTransfer-Encoding: chunked\r\n\r\n" + framed
                    )
                    answer = await got(raw)
                else:
                    answer = await ask_on(raw, "/raw", "POST", body=body)
                assert answer.body == body
                assert answer.cache_status == "glasscache; fwd=bypass; detail=body_size"
        assert [b"".join(pieces) for pieces in echo.bodies] == [body, body]

    run(echo.served_by(make_cache(), max_body=100_000), scenario, stack)


def test_a_body_at_the_limit_is_cached() -> None:
    echo = Echo()

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as raw:
            for turn in range(2):
                answer = await ask_on(raw, "/raw", "POST", body=bytes(1000))
                assert ("; hit" in (answer.cache_status or "")) == (turn == 1)

    run(echo.served_by(make_cache(), max_body=1000), scenario)


def test_a_body_that_takes_too_long_is_bypassed_and_reaches_the_app_whole(stack: Stack) -> None:
    echo = Echo()

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as slow:
            await slow.send(b"POST /raw HTTP/1.1\r\nHost: knowledge\r\nContent-Length: 8\r\n\r\nquest")
            await echo.called.wait()  # past the deadline, the app is asked with what there is
            await slow.send(b"ion")
            answer = await got(slow)
            assert answer.body == b"question"
            assert answer.cache_status == "glasscache; fwd=bypass; detail=body_timeout"
        assert echo.bodies == [[b"quest", b"ion"]]

    run(echo.served_by(make_cache(), body_timeout=0.05), scenario, stack)


def test_a_client_that_expects_100_continue_is_told_to_go_on_before_its_body_is_looked_up(stack: Stack) -> None:
    echo = Echo()

    async def exchange(port: int) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            b"POST /raw HTTP/1.1\r\nHost: knowledge\r\nContent-Length: 8\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\n\r\n"
        )
        async with asyncio.timeout(PATIENCE):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
            writer.write(b"question")
            answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer

    async def scenario(server: LiveServer) -> None:
        first, second = [await exchange(server.port) for _ in range(2)]
        assert first.endswith(b"\r\n\r\nquestion")
        assert second.endswith(b"\r\n\r\nquestion")
        assert b"cache-status: glasscache; hit" in second
        assert len(echo.bodies) == 1

    run(echo.served_by(make_cache()), scenario, stack)


def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_nothing_behind() -> None:
    echo, cache = Echo(), make_cache()

    async def scenario(server: LiveServer) -> None:
        async with RawConnection(server.port) as raw:
            await raw.send(b"POST /raw HTTP/1.1\r\nHost: knowledge\r\nContent-Length: 8\r\n\r\nquest")
            await settle(server)
            raw.abort()
        assert (await ask(server, "/raw", "POST", body=b"question")).body == b"question"
        assert cache._engine.holders == 0

    app = echo.served_by(cache)

    async def tolerant(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except AssertionError:  # the echo's own: it is told http.disconnect, as without a cache
            assert echo.methods[-1] == "POST"

    run(tolerant, scenario)
