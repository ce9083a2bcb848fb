"""One request passed on, and its answer passed back, over one connection: the one may still go out while the other
comes in.

Decides what of an answer is passed on when: the last bytes together with the end, all others at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeAlias

import h11

from glasscache.asgi.types import Receive, Scope, Send
from glasscache.interfaces import Clock
from glasscache.proxy import _fields
from glasscache.proxy._connection import Connection, ConnectionBroken
from glasscache.proxy.errors import ProxyError

# RFC 9110, section 9.2.2: may be sent again
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE", "QUERY"})
_CONTINUE = 100  # it is the server's to say: the upstream was not asked (section 10.1.1)
_STATUSES = range(200, 600)  # section 15; what is beyond, servers cannot send


Interim: TypeAlias = "Callable[[int, list[tuple[bytes, bytes]]], None]"
INTERIM = "glasscache.interim"
"""The extension of a scope whose `send` passes an interim response to the client, unless it has got more already."""


def _ignore(_status: int, _fields: list[tuple[bytes, bytes]]) -> None:
    """The server cannot send interim responses."""


class RestedTooLong(Exception):
    """The upstream had closed the connection before it saw the request: another one may do."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Forwarding:
    """One client's request on its way to the upstream, and the answer on its way back. The request's content may not
    pause for longer than `body_timeout` seconds.
    """

    def __init__(
        self, request: h11.Request, scope: Scope, receive: Receive, send: Send, *, clock: Clock, body_timeout: float
    ) -> None:
        self._request = request
        self._has_body = _fields.framing(scope) is not None
        self._may_repeat = not self._has_body and scope["method"] in _IDEMPOTENT
        self._receive = receive
        self._send = send
        self._clock = clock
        self._body_timeout = body_timeout
        # RFC 9110, section 15.2: passed on if the server can, and asks for it
        self._interim: Interim = (scope.get("extensions") or {}).get(INTERIM, {}).get("send", _ignore)
        self._failure: Exception | None = None
        """Why the listener has closed the connection."""

    async def run(self, connection: Connection) -> None:
        """Ask, and pass the answer on. ProxyError if there is no whole one; RestedTooLong; ClientGone."""
        await connection.send(self._request)
        if self._has_body:
            connection.upload(is_over=False)
        else:
            await connection.send(h11.EndOfMessage())
        listener = asyncio.get_running_loop().create_task(self._listen(connection))
        try:
            await self._answer(connection)
        except ProxyError as error:
            if self._failure is not None:
                raise self._failure from error
            if self._may_repeat and connection.is_reused and not connection.has_answered:
                raise RestedTooLong from error
            raise
        finally:
            listener.cancel()
            await asyncio.wait([listener])

    # --- the request ------------------------------------------------------------------------------------------------

    async def _listen(self, connection: Connection) -> None:
        """Pass the request's content on, then wait for the client's disconnect; what ends the exchange closes the
        connection, which ends the wait for an answer.
        """
        try:
            if self._has_body:
                await self._upload(connection)
                connection.upload(is_over=True)
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._failure = ClientGone()
        except Exception as error:
            self._failure = error
        connection.close()

    async def _upload(self, connection: Connection) -> None:
        more = True
        while more:
            try:
                async with asyncio.timeout(self._body_timeout):
                    message = await self._receive()
            except TimeoutError:
                raise ProxyError(408, f"the client sent nothing of its request for {self._body_timeout:g} s") from None
            if message["type"] == "http.disconnect":
                raise ClientGone
            more = message.get("more_body", False)
            events = [h11.Data(data=message.get("body", b"")), *([] if more else [h11.EndOfMessage()])]
            try:
                for event in events:
                    await connection.send(event)
            except ConnectionBroken:
                return  # the upstream may have answered without reading all of it

    # --- the answer -------------------------------------------------------------------------------------------------

    async def _answer(self, connection: Connection) -> None:
        event = await connection.next_event()
        while isinstance(event, h11.InformationalResponse):
            if event.status_code != _CONTINUE:
                self._interim(event.status_code, _fields.end_to_end(event.headers))
            event = await connection.next_event()
        assert isinstance(event, h11.Response)
        if event.status_code not in _STATUSES:
            raise ProxyError(502, f"the upstream answered with status {event.status_code}, and there is no such class")
        start = {
            "type": "http.response.start",
            "status": event.status_code,
            "headers": _fields.to_client(event.status_code, event.headers, event.http_version, self._clock.wall()),
        }
        await self._send(start)
        following = await connection.next_event()
        while isinstance(following, h11.Data):
            data, after = bytes(following.data), connection.event()
            is_last = isinstance(after, h11.EndOfMessage)
            await self._send({"type": "http.response.body", "body": data, "more_body": not is_last})
            if is_last:
                return
            following = after or await connection.next_event()
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})
