"""One connection to Redis that many calls share: they go one after another, and their answers come in this order.

Decides which answer is whose, and when a connection is given up: what comes too late, is cut off, makes no sense or was
not asked for closes it, and fails every call on it. So no call can ever be given the answer of another, whoever has
stopped waiting. redis-py connects, signs in and encrypts; its reader in Python takes longer than the server, and one
connection for each command longer still. Must never send a call again.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast

import hiredis
from redis.asyncio.connection import DefaultParser
from redis.exceptions import (
    AskError,
    InvalidResponse,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as Disconnected

from glasscache.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from redis.asyncio.connection import AbstractConnection

    from glasscache.stores._redis_clients import Client
    from glasscache.stores._redis_scripts import Request

_MOST = 128
"""Calls that share one connection's fate."""
_LARGE = 64 * 1024
"""Bytes of an answer that is not whole yet, which others had better not wait for."""
_BUFFER = 64 * 1024
"""Bytes that are read at once."""
_FOR_EVER = 86_400.0
_REFUSALS = (NoScriptError, MovedError, AskError, TryAgainError)
"""By which a server says that it has not run the script, and that another way may."""
_NOTHING = object()
PLAIN = frozenset({int, bytes, list, type(None)})
"""What nearly all answers are, and no error is."""


class Call(ABC):
    """What goes as one: a request, or several of a kind. Whoever asked is told as soon as the answer is there, once."""

    __slots__ = ("is_told", "sent")

    is_told: bool
    """Whether it has all its answers."""
    sent: float
    """When, once it is."""

    @abstractmethod
    def packed(self) -> bytes:
        """As it goes over the wire, in RESP."""

    @abstractmethod
    def hear(self, answers: Sequence[Any], at: int, failed: Failed) -> int:
        """Tell what has come: answers from `at` on may be its own. Returns where those begin that it has not taken: at
        `at`, if more have to come first. `failed` is called for what a server has refused. Must not raise.
        """

    @abstractmethod
    async def run(self, client: Client) -> list[Any]:
        """Let the client ask; all answers. Raises what the client raises."""

    @abstractmethod
    def fail(self, error: BaseException) -> None:
        """Tell an error; whoever asked has one of their own. Must not raise."""


Failed: TypeAlias = "Callable[[Call, RedisError], None]"
"""Told of a call that a server has refused."""


def failure(error: BaseException) -> StoreError:
    """The error, as it is told."""
    told = StoreError(f"{type(error).__name__}: {error}")
    told.__cause__ = error
    return told


class Awaited(Call):
    """A call whose caller awaits `done`, and may have left. Two answers are told as a pair. `keys` are of one slot."""

    __slots__ = ("_arguments", "_keys", "_request", "done")

    def __init__(
        self, request: Request, keys: Sequence[bytes], arguments: Sequence[bytes], done: asyncio.Future[Any]
    ) -> None:
        self.is_told = False
        self.done = done
        self._request = request
        self._keys = keys
        self._arguments = arguments

    @property
    def slot_key(self) -> bytes:
        """A key of the slot that it asks."""
        return self._keys[0]

    def packed(self) -> bytes:
        """See Call."""
        return self._request.packed(self._keys, self._arguments)

    def hear(self, answers: Sequence[Any], at: int, failed: Failed) -> int:
        """See Call."""
        behind = at + self._request.answers
        if behind > len(answers):
            return at
        self.is_told = True
        mine = answers[at:behind]
        for answer in mine:
            if type(answer) not in PLAIN and isinstance(answer, RedisError):
                failed(self, answer)
                break
        else:
            if not self.done.done():
                self.done.set_result(mine[0] if len(mine) == 1 else tuple(mine))
        return behind

    async def run(self, client: Client) -> list[Any]:
        """See Call."""
        answer = await self._request.run(client, self._keys, self._arguments)
        return [answer] if self._request.answers == 1 else list(answer)

    def fail(self, error: BaseException) -> None:
        """See Call."""
        if not self.done.done():
            self.done.set_exception(failure(error))
            self.done.exception()  # looked at: its caller may leave in this very moment


class House(Protocol):
    """What the connections of one client have in common."""

    limit: int
    """Of the connections to one server."""
    is_closing: bool
    trip: float
    """Seconds from a request to its answer, at least; infinite while that is not known."""

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it for nobody in particular."""

    def refused(self, call: Call) -> None:
        """The server has not run it; another way may."""

    def failed(self, error: Exception) -> None:
        """The server has refused a call for good."""


class Line(asyncio.BufferedProtocol):
    """Takes over what a connection of redis-py that has just connected would read.

    It reads into one buffer: else asyncio makes a new one of 256 KB each time, which takes longer than all that is done
    for one answer.

    `has_room` is called when answers have come; perhaps there is nothing left that is waited for.
    """

    def __init__(self, connection: AbstractConnection, house: House, has_room: Callable[[Line], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._house = house
        self._has_room = has_room
        self._seconds = connection.socket_timeout or _FOR_EVER
        self._calls: deque[Call] = deque()
        self._answers: list[Any] = []
        """Those that have come, and nobody has taken: half of what a call waits for."""
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse, replyError=DefaultParser.parse_error, notEnoughData=_NOTHING
        )
        self._feed: Callable[..., None] = self._reader.feed  # of any buffer, unlike what its types say
        self._is_full = self._is_over = False
        self._leaves: Exception | bool = False
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.began = self._loop.time()
        """When it was taken over."""
        self.over: asyncio.Future[Exception | None] = self._loop.create_future()
        """The error that ended it; None: it was left, and the connection is as good as new."""
        writer = writer_of(connection)
        assert writer is not None
        self._transport = cast("asyncio.Transport", writer.transport)
        self._streams = self._transport.get_protocol()
        self._buffer = memoryview(bytearray(_BUFFER))
        self._hand_over(self)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is waited for."""
        return not self._calls

    @property
    def room(self) -> int:
        """How many calls more it takes: none behind what is large, nor when it is being left."""
        if self._is_full or self._leaves or self._reader.len() > _LARGE:
            return 0
        return _MOST - len(self._calls)

    def send(self, calls: Sequence[Call]) -> None:
        """All in one write."""
        packed, now = b"".join([call.packed() for call in calls]), self._loop.time()
        for call in calls:
            call.sent = now
        self._calls.extend(calls)
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._seconds, self._look)
        self._transport.write(packed)

    def leave(self, error: Exception | None = None) -> None:
        """Take no more calls, and be over: nothing is waited for."""
        self._leaves = error or True
        if self._is_between_answers():
            self._hand_over(self._streams)
            self._end(error)
        else:
            self.close(InvalidResponse("half an answer that nobody asked for"))

    def _hand_over(self, protocol: asyncio.BaseProtocol) -> None:
        """What comes from now on. uvloop asks only when it begins to read whether there is a buffer."""
        self._transport.pause_reading()
        self._transport.set_protocol(protocol)
        self._transport.resume_reading()

    def _is_between_answers(self) -> bool:
        """Whether the next line would be read as what it is: who reads after us must not find the rest of something."""
        try:
            self._reader.feed(b"+\r\n")
            return bool(self._reader.gets() == b"")
        except InvalidResponse:
            return False

    def close(self, error: Exception) -> None:
        """Fail all calls, at once."""
        if not self._is_over:
            self._end(error)
            self._transport.abort()
            while self._calls:
                self._calls.popleft().fail(error)

    def _end(self, error: Exception | None) -> None:
        self._is_over, self._leaves = True, True
        if self._timer is not None:
            self._timer.cancel()
        if not self.over.done():  # who waited for it may have been cancelled
            self.over.set_result(error)

    # --- as a protocol of asyncio -----------------------------------------------------------------------------------

    def get_buffer(self, sizehint: int) -> memoryview:
        """To be read into."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Give every answer that is whole now to its call."""
        try:
            self._feed(self._buffer, 0, nbytes)
            self._give_answers()
        except Exception as error:  # no RESP, or, as an IndexError, an answer to nothing
            self.close(error)
        if self._is_over:
            return
        if self._leaves and self.is_idle:
            self.leave(self._leaves if isinstance(self._leaves, Exception) else None)
        else:
            self._has_room(self)

    def _give_answers(self) -> None:
        answers = self._answers
        try:
            answers.extend(iter(self._reader.gets, _NOTHING))
        finally:  # what came before nonsense is as good as ever
            self._hand_out(answers)

    def _hand_out(self, answers: list[Any]) -> None:
        calls = self._calls
        if hiredis.PushNotification in set(map(type, answers)):  # told to all, and not asked for by any call
            answers[:] = [answer for answer in answers if type(answer) is not hiredis.PushNotification]
        if answers and calls:
            self._heard = self._loop.time()
            self._house.trip = min(self._house.trip, self._heard - calls[0].sent)
        at = 0
        while at < len(answers) and not self._is_over:
            call, before = calls[0], at
            at = call.hear(answers, at, self._failed)
            if at == before:
                break
            if call.is_told and not self._is_over:
                calls.popleft()
        del answers[:at]

    def _failed(self, call: Call, error: RedisError) -> None:
        if isinstance(error, _REFUSALS):
            self._house.refused(call)
            return
        call.fail(error)
        self._house.failed(error)
        if isinstance(error, Disconnected):  # says the server: it loads its data, wants a password, ...
            self.close(error)
        elif isinstance(error, ReadOnlyError):  # a primary no more: by the same name there may be another one
            self._leaves = error

    def pause_writing(self) -> None:
        """The server does not read as fast as is written."""
        self._is_full = True

    def resume_writing(self) -> None:
        """It has read."""
        self._is_full = False
        if not self._is_over:
            self._has_room(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Of itself, or after `close`."""
        self._streams.connection_lost(exc)  # who closes the connection waits for that
        # closed or reset: what the system says depends on what the server had not read yet. It is one kind of error.
        error = Disconnected(f"{type(exc).__name__}: {exc}" if exc else "Connection closed by server.")
        error.__cause__ = exc
        self.close(error)

    def _look(self) -> None:
        self._timer = None
        if self._calls:
            due = max(self._calls[0].sent, self._heard) + self._seconds
            if due <= self._loop.time():
                self.close(TimeoutError(f"no answer within {self._seconds:g} s"))
            else:
                self._timer = self._loop.call_at(due, self._look)


def writer_of(connection: AbstractConnection) -> asyncio.StreamWriter | None:
    """What the connection writes with. redis-py has no public name for it; a class of a user's own may have none."""
    writer = getattr(connection, "_writer", None)
    return writer if isinstance(writer, asyncio.StreamWriter) else None
