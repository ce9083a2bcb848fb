"""One connection to the upstream as HTTP/1.1: h11 over a wire.

Decides when a connection may carry another request: only when both messages ended as their framing says, and not one
byte more has come. Must never hand out a message that h11, which is strict, does not accept. Error messages say what
was wrong, and are for logs: a client sees the status alone.
"""

from __future__ import annotations

import asyncio
import math
import re
from typing import TypeAlias, cast

import h11

from glasscache.proxy._head import HeadFilter
from glasscache.proxy._wire import Wire
from glasscache.proxy.errors import ProxyError

_MAX_HEAD = 64 * 1024
"""Bytes of a status line with all its fields, or of a trailer section."""

_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")

Event: TypeAlias = "h11.InformationalResponse | h11.Response | h11.Data | h11.EndOfMessage"


class ConnectionBroken(ProxyError):
    """The upstream has closed or reset the connection; it may have answered before."""


class Connection:
    """A connection, for one exchange after another."""

    def __init__(self, wire: Wire, *, read_timeout: float, write_timeout: float) -> None:
        self._wire = wire
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self._head = HeadFilter(_MAX_HEAD)
        self._read_timeout = read_timeout
        self._write_timeout = write_timeout
        self.is_reused: bool = False
        self.has_answered: bool = False
        """Whether a byte of an answer has come in this exchange."""
        self.answer_due: float = 0.0
        """Loop time before which the upstream cannot be late: it still gets the request."""
        self.rests_until: float = 0.0
        """Loop time after which it is not used again."""

    @property
    def is_quiet(self) -> bool:
        """Whether it may be used: nobody has said anything since its last answer."""
        return self._wire.is_quiet

    def upload(self, *, is_over: bool) -> None:
        """A request with content begins, or is over: from then on its answer may take `read_timeout`."""
        self.answer_due = asyncio.get_running_loop().time() + self._read_timeout if is_over else math.inf

    async def send(self, event: h11.Event) -> None:
        """Send a request, or a piece of its body. ProxyError if that cannot be done."""
        try:
            data = self._http.send(event)
        except h11.LocalProtocolError as error:
            raise ProxyError(502, f"the request cannot be sent as HTTP/1.1: {error}") from error
        if not data:
            return
        try:
            async with asyncio.timeout(self._write_timeout):
                await self._wire.write(data)
        except TimeoutError:
            raise ProxyError(504, f"the upstream took no bytes for {self._write_timeout:g} s") from None
        except OSError as error:
            raise ConnectionBroken(502, f"the connection broke while a request was sent: {error}") from error

    async def next_event(self) -> Event:
        """The next piece of the answer. ProxyError if none comes, or nonsense."""
        while (event := self.event()) is None:
            data = await self._read()
            if not (data or self.has_answered):
                raise ProxyError(502, "the upstream ended the connection without an answer")
            self.has_answered = True
            if plain := self._head.take(data):
                self._http.receive_data(plain)
            if not data:
                self._http.receive_data(b"")
        return event

    async def _read(self) -> bytes:
        while True:
            try:
                async with asyncio.timeout(self._read_timeout):
                    return await self._wire.read()
            except TimeoutError:
                if asyncio.get_running_loop().time() >= self.answer_due:
                    raise ProxyError(504, f"the upstream sent nothing for {self._read_timeout:g} s") from None
            except OSError as error:
                raise ProxyError(502, f"the connection broke before the end of the answer: {error}") from error

    def event(self) -> Event | None:
        """The next piece of the answer if it has come; None: not yet. ProxyError if it is nonsense."""
        try:
            event = self._http.next_event()
        except h11.RemoteProtocolError as error:
            raise ProxyError(502, f"the answer is no HTTP/1.1, or was cut short: {error}") from error
        # RFC 9110, section 5.5; h11 lets some pass, servers refuse to send them, and what is stored would stay refused
        fields = event.headers if isinstance(event, h11.InformationalResponse | h11.Response) else ()
        if any(_CONTROL.search(value) for _, value in fields):
            raise ProxyError(502, "a field of the answer has a control character in it")
        # of a server that nobody asked for another protocol, h11 accepts nothing else before the end of a message
        return None if event is h11.NEED_DATA else cast("Event", event)

    def renew(self) -> bool:
        """Make ready for another request; False if there can be none on this connection."""
        http = self._http
        if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
            return False
        left_over, _ = http.trailing_data
        if left_over or not self.is_quiet:
            return False
        http.start_next_cycle()
        self._head = HeadFilter(_MAX_HEAD)
        self.is_reused, self.has_answered, self.answer_due = True, False, 0.0
        return True

    def close(self) -> None:
        """Close the connection at once."""
        self._wire.close()
