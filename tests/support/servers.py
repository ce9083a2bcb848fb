"""Real servers and raw connections, for what only sockets can show.

Decides: how a uvicorn server is started on a free port of 127.0.0.1 in a thread of its own, and stopped again.
Never: leaves a socket, a thread or a task behind, or hides why a server did not start. Never talks to another host.

    with live_server(app, loop="uvloop", http="httptools") as server:
        async with RawConnection(server.port) as raw:
            await raw.request("GET", "/events")
            head = await raw.head()
            raw.abort()
"""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal, Self

import h11
import uvicorn

from tests.support.asgi import ASGIApp, Head, Message, Receive, Scope, Send
from tests.support.patience import PATIENCE


class ServerDidNotStart(RuntimeError):
    """The app refused to start; its own error is chained where it raised one."""


class ServerDidNotStop(RuntimeError):
    """The server had to be torn down: the app held up its shutdown."""


class CutOff(ConnectionError):
    """The connection ended inside a response."""


@dataclasses.dataclass(frozen=True)
class LiveServer:
    """A running server. `url` has no trailing slash."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class _Server(uvicorn.Server):
    """uvicorn's server, telling when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.settled = threading.Event()  # it has started, or never will
        self.failure: BaseException | None = None
        self._abort: Callable[[], object] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        loop, main = asyncio.get_running_loop(), asyncio.current_task()
        assert main is not None
        self._abort = lambda: loop.call_soon_threadsafe(main.cancel)
        await super().startup(sockets=sockets)
        self.settled.set()

    def run_on(self, listener: socket.socket) -> None:
        """Serve until told to stop; what ended it otherwise is kept in `failure`."""
        try:
            self.run(sockets=[listener])
        except BaseException as error:  # SystemExit is how uvicorn says that startup failed
            self.failure = error
        finally:
            self.settled.set()

    def stop(self, thread: threading.Thread, patience: float) -> bool:
        """Stop the server in `thread`; return False if it had to be torn down after `patience` seconds."""
        self.should_exit = True
        thread.join(patience if self.started else 0.0)
        stopped = not thread.is_alive()
        if not stopped:
            with suppress(RuntimeError):  # its loop is closed: it has just ended by itself
                self._abort()
            thread.join()
        return stopped


@contextmanager
def live_server(
    app: ASGIApp,
    *,
    loop: Literal["asyncio", "uvloop"] = "asyncio",
    http: Literal["h11", "httptools"] = "h11",
    lifespan: Literal["auto", "on", "off"] = "auto",
    graceful: int = 5,
    patience: float = PATIENCE,
    **settings: Any,
) -> Iterator[LiveServer]:
    """Serve `app` while the block runs. Raises what kept the server from starting, and what ended it early.

    `graceful`: seconds that running requests get at the end before they are cancelled. `patience`: seconds to start
    in, and to stop in. `settings`: further ones of `uvicorn.Config`.
    """
    refusals: list[BaseException | str] = []
    options: dict[str, Any] = {"ws": "none", "access_log": False, "log_config": None, **settings}
    config = uvicorn.Config(
        _watched(app, refusals),
        loop=loop,
        http=http,
        lifespan=lifespan,
        interface="asgi3",
        timeout_graceful_shutdown=graceful,
        **options,
    )
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run_on, args=(listener,), name=f"server on {port}")
        thread.start()
        try:
            if not server.settled.wait(patience):
                raise ServerDidNotStart(f"no start within {patience} s")
            _raise_failure(server, refusals)
            yield LiveServer(port)
        finally:
            stopped = server.stop(thread, patience)
    if not stopped:
        raise ServerDidNotStop(f"no stop within {patience} s")
    _raise_failure(server, refusals)


def _raise_failure(server: _Server, refusals: list[BaseException | str]) -> None:
    if isinstance(server.failure, SystemExit):
        cause = next((refusal for refusal in refusals if isinstance(refusal, BaseException)), None)
        raise ServerDidNotStart("; ".join(map(str, refusals)) or "see the log of uvicorn.error") from cause
    if server.failure is not None:
        raise server.failure


def _watched(app: ASGIApp, refusals: list[BaseException | str]) -> ASGIApp:
    """Note why a lifespan failed: uvicorn only logs it."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await app(scope, receive, send)
            return

        async def watched_send(message: Message) -> None:
            if message["type"] == "lifespan.startup.failed":
                refusals.append(message.get("message", ""))
            await send(message)

        try:
            await app(scope, receive, watched_send)
        except BaseException as error:
            refusals.append(error)
            raise

    return watched


class RawConnection:
    """One HTTP/1.1 connection to 127.0.0.1, read as slowly as the test likes.

    `receive_buffer`: bytes of SO_RCVBUF, so that a server notices soon that nobody reads; this side then reads ahead
    no more than about twice `limit` bytes.
    """

    def __init__(self, port: int, *, receive_buffer: int | None = None, limit: int = 2**16) -> None:
        self._port = port
        self._receive_buffer = receive_buffer
        self._limit = limit
        self._parser = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if self._receive_buffer is not None:  # before connect: it decides the window that is offered
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._port))
            self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=self._limit)
        except BaseException:
            sock.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()
        with suppress(ConnectionError):  # aborted by either side: closed is closed
            await self._writer.wait_closed()

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(data)
        await self._writer.drain()

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> None:
        """Send a request, framed by Content-Length if it has a body. After a complete response the next may follow."""
        if self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
        fields = {"Host": f"127.0.0.1:{self._port}", **(headers or {})}
        if body:
            fields["Content-Length"] = str(len(body))
        request = h11.Request(method=method, target=path, headers=list(fields.items()))
        events = [request, *([h11.Data(data=body)] if body else []), h11.EndOfMessage()]
        await self.send(b"".join(self._parser.send(event) or b"" for event in events))

    async def head(self) -> Head:
        """Read the response's status and headers, past any 1xx."""
        self._expect_response()
        while True:
            event = await self._event()
            if isinstance(event, h11.Response):
                return Head(event.status_code, [(bytes(name), bytes(value)) for name, value in event.headers])

    async def chunk(self) -> bytes | None:
        """Read the next chunk of a chunked body, whole, or the next bytes of another; None at the end. Raises
        `CutOff` when the connection ends before."""
        parts: list[bytes] = []
        while True:
            event = await self._event()
            if isinstance(event, h11.EndOfMessage):
                return None
            assert isinstance(event, h11.Data), f"{event!r} is no part of a body"
            parts.append(bytes(event.data))
            if event.chunk_end or not (event.chunk_start or len(parts) > 1):
                return b"".join(parts)

    async def body(self) -> bytes:
        """Read the rest of the body."""
        chunks = []
        while (chunk := await self.chunk()) is not None:
            chunks.append(chunk)
        return b"".join(chunks)

    def abort(self) -> None:
        """Reset the connection (RST), with what was not sent or read yet thrown away."""
        linger_zero = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_zero)
        self._writer.transport.abort()

    def _expect_response(self) -> None:
        """Tell the parser of a request that went out through `send`."""
        if self._parser.their_state is h11.DONE:
            self._parser.start_next_cycle()
        if self._parser.our_state is h11.IDLE:
            self._parser.send(h11.Request(method="GET", target="/", headers=[("Host", "raw")]))
            self._parser.send(h11.EndOfMessage())

    async def _event(self) -> Any:
        while True:
            try:
                event = self._parser.next_event()
            except h11.RemoteProtocolError as error:
                raise CutOff(str(error)) from error
            if isinstance(event, h11.ConnectionClosed):
                raise CutOff("the connection ended before the response")
            if event is not h11.NEED_DATA:
                return event
            try:
                self._parser.receive_data(await self._reader.read(self._limit))
            except ConnectionError as error:
                raise CutOff(str(error)) from error
