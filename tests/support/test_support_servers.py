"""Proves the live server, the raw connection and the check for leaks, over real sockets."""

from __future__ import annotations

import asyncio
import http.client
import socket
import struct
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

import pytest
from starlette.applications import Starlette

from tests.support.asgi import Receive, Scope, Send
from tests.support.leaks import leak_check
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.servers import CutOff, RawConnection, ServerDidNotStart, ServerDidNotStop, live_server

pytestmark = pytest.mark.usefixtures("no_leaks")


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """/chunks: three chunks. /cut: the promise of more than is sent. /flood: for ever. Else: the loop's module."""
    assert scope["type"] == "http", "no lifespan here"
    length = [(b"content-length", b"100")] if scope["path"] == "/cut" else []
    await send({"type": "http.response.start", "status": 200, "headers": length})
    if scope["path"] == "/chunks":
        for chunk in (b"one", b"two" * 1000, b"three"):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body"})
    elif scope["path"] == "/cut":
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise OSError("broken on purpose")
    elif scope["path"] == "/flood":
        await flood(receive, send, scope["state_of_test"])
    else:
        body = type(asyncio.get_running_loop()).__module__.encode()
        await send({"type": "http.response.body", "body": body})


async def flood(receive: Receive, send: Send, progress: Progress) -> None:
    """Send until the client is gone, and tell how far it came."""
    gone = asyncio.ensure_future(receive_disconnect(receive))
    while not gone.done():
        await send({"type": "http.response.body", "body": bytes(65_536), "more_body": True})
        progress.sent += 1
        await asyncio.sleep(0)
    progress.gone.set()


async def receive_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Progress:
    """What the flooding app tells the test's thread."""

    def __init__(self) -> None:
        self.sent = 0
        self.gone = threading.Event()

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state_of_test": self}, receive, send)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("protocol", ["h11", "httptools"])
def test_a_live_server_answers_on_the_loop_that_was_asked_for_and_is_gone_afterwards(
    loop: Literal["asyncio", "uvloop"], protocol: Literal["h11", "httptools"]
) -> None:
    with live_server(app, loop=loop, http=protocol) as server:
        assert server.url == f"http://127.0.0.1:{server.port}"
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", "/")
        assert connection.getresponse().read().decode().partition(".")[0] == loop
        connection.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def test_the_apps_own_error_at_startup_is_raised() -> None:
    @asynccontextmanager
    async def broken(_: Starlette) -> AsyncIterator[None]:
        await open_index()
        yield

    async def open_index() -> None:
        raise LookupError("no such index")

    with pytest.raises(ServerDidNotStart, match="no such index") as failure, live_server(Starlette(lifespan=broken)):
        pytest.fail("it must not start")
    assert isinstance(failure.value.__cause__, LookupError)


def test_a_server_that_cannot_run_raises_its_own_error() -> None:
    with (
        pytest.raises(FileNotFoundError),
        live_server(app, ssl_keyfile="absent.pem", ssl_certfile="absent.pem"),
    ):
        pytest.fail("it must not start")


def test_a_failing_test_stops_its_server_and_keeps_its_own_error() -> None:
    with pytest.raises(KeyError, match="own"), live_server(app):
        raise KeyError("the test's own")


def test_a_lifespan_runs_from_start_to_stop() -> None:
    told = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        told.append("up")
        yield
        told.append("down")

    with live_server(Starlette(lifespan=lifespan), lifespan="on"):
        assert told == ["up"]
    assert told == ["up", "down"]


def test_an_app_that_hangs_at_startup_or_shutdown_hangs_no_test() -> None:
    @asynccontextmanager
    async def hung_at_start(_: Starlette) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    @asynccontextmanager
    async def hung_at_stop(_: Starlette) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    with (
        pytest.raises(ServerDidNotStart, match="no start within"),
        live_server(Starlette(lifespan=hung_at_start), patience=0.2),
    ):
        pytest.fail("it must not start")
    with (
        pytest.raises(ServerDidNotStop, match="no stop within"),
        live_server(Starlette(lifespan=hung_at_stop), patience=2.0),  # for its start, too
    ):
        pass


@pytest.mark.parametrize("protocol", ["h11", "httptools"])
def test_a_raw_connection_reads_chunk_by_chunk_and_can_be_used_again(protocol: Literal["h11", "httptools"]) -> None:
    async def scenario(port: int) -> None:
        async with RawConnection(port) as raw:
            await raw.send(b"GET /chunks HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await raw.head()
            assert (head.status, head.header("transfer-encoding")) == (200, "chunked")
            assert [await raw.chunk() for _ in range(4)] == [b"one", b"two" * 1000, b"three", None]
            await raw.request("POST", "/", headers={"X-A": "b"}, body=b"12345")
            await raw.head()
            assert (await raw.body()).startswith(b"asyncio")
            await raw.send(b"GET /chunks HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await raw.head()).status == 200
            assert (await raw.body()).endswith(b"three")

    with live_server(app, http=protocol) as server:
        asyncio.run(scenario(server.port))


def test_a_response_that_is_cut_is_never_taken_for_a_complete_one() -> None:
    async def scenario(port: int) -> None:
        async with RawConnection(port) as raw:
            await raw.request("GET", "/cut")
            await raw.head()
            assert await raw.chunk() == b"part"
            with pytest.raises(CutOff):
                await raw.chunk()

    with live_server(app) as server:
        asyncio.run(scenario(server.port))


def reset(writer: asyncio.StreamWriter) -> None:
    linger_zero = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
    writer.transport.abort()


def test_a_connection_that_ends_before_the_response_is_cut_off() -> None:
    async def scenario() -> None:
        async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            endings.pop()(writer)

        endings = [asyncio.StreamWriter.close, reset]
        server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
        async with server:
            while endings:
                async with RawConnection(server.sockets[0].getsockname()[1]) as raw:
                    await raw.request("GET", "/")
                    with pytest.raises(CutOff):
                        await raw.head()

    asyncio.run(scenario())


def test_interim_responses_are_passed_over_and_nothing_comes_after_the_end() -> None:
    async def scenario() -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server, RawConnection(server.sockets[0].getsockname()[1]) as raw:
            await raw.request("GET", "/")
            assert (await raw.head()).status == 200
            assert await raw.body() == b"ok"
            with pytest.raises(CutOff):
                await raw.chunk()

    asyncio.run(scenario())


def test_connecting_to_nobody_leaks_no_socket() -> None:
    async def scenario(port: int) -> None:
        with pytest.raises(ConnectionRefusedError):
            await RawConnection(port).__aenter__()

    with free_port() as port:
        asyncio.run(scenario(port))


@pytest.mark.parametrize("protocol", ["h11", "httptools"])
def test_a_reader_that_stops_reading_stops_the_server_and_its_abort_is_noticed(
    protocol: Literal["h11", "httptools"],
) -> None:
    progress = Progress()

    async def scenario(port: int) -> None:
        async with RawConnection(port, receive_buffer=4096, limit=4096) as raw:
            await raw.request("GET", "/flood")
            await raw.head()
            assert await raw.chunk()
            before = -1
            while progress.sent != before:  # until a fifth of a second brought nothing new
                before = progress.sent
                await asyncio.to_thread(progress.gone.wait, 0.2)
            assert not progress.gone.is_set()
            assert progress.sent < 500  # 32 MB: far more than the buffers between the two hold
            raw.abort()
            assert await asyncio.to_thread(progress.gone.wait, PATIENCE)

    with live_server(progress.app, http=protocol) as server:
        asyncio.run(scenario(server.port))


def test_the_check_for_leaks_finds_a_pending_task() -> None:
    tasks = []
    with pytest.raises(AssertionError, match=r"left behind: .*the lingering one"), leak_check():
        tasks.append(asyncio.new_event_loop().create_task(asyncio.sleep(60), name="the lingering one"))
    with leak_check():
        loop = tasks[0].get_loop()
        tasks[0].cancel()
        loop.run_until_complete(asyncio.wait(tasks))
    loop.close()


def test_the_check_for_leaks_finds_a_living_thread_and_waits_for_an_ending_one() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait, name="the lingering one")
    with pytest.raises(AssertionError, match=r"left behind: .*the lingering one"), leak_check(thread_grace=0.01):
        thread.start()
    with leak_check():
        ending = threading.Thread(target=release.wait)
        ending.start()
        release.set()
    thread.join()
