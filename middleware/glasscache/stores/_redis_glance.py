"""A lookup that is told where its answer is read: a hit takes no task, and no turn of the event loop.

Decides whether it is worth a trip of its own: most lookups fare as the one before them. It believes no more than `look`
does, and leaves to it what a script has to decide. Must never raise.
"""

from __future__ import annotations

import asyncio
from binascii import hexlify
from collections import deque
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError, ResponseError

from glasscache._entry import Entry
from glasscache._lease import Claim
from glasscache.errors import StoreError
from glasscache.policy import answers
from glasscache.stores._redis_line import Call, failure
from glasscache.stores._redis_scripts import Peek, peek
from glasscache.stores._redis_server import CLOSED, TOGETHER
from glasscache.stores._redis_values import LARGE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from glasscache._entry import Key
    from glasscache.interfaces import Told
    from glasscache.stores._redis_clients import Client
    from glasscache.stores._redis_line import Failed
    from glasscache.stores._redis_server import Server
    from glasscache.stores._redis_values import Values

PEEK = Peek()
_PLAIN = Claim()


class Glances:
    """Those of one store. `stem`: what the names of entries begin with. `soon`: runs what takes a thread."""

    def __init__(
        self, stem: bytes, values: Values, now: Callable[[], float], soon: Callable[[Coroutine[Any, Any, None]], object]
    ) -> None:
        self.stem = stem
        self.values = values
        self.now = now
        self.soon = soon
        self.is_likely = True
        """Whether the last lookup found something."""
        self.templates: dict[int, bytes] = {}
        """What asks for keys of so many bytes, given twice in hexadecimal digits; see Peek."""

    def name(self, key: Key) -> bytes:
        """Of its entry, on the server."""
        return b"%b%b}:e" % (self.stem, hexlify(key))

    def template(self, size: int) -> bytes:
        """One more of them."""
        name = self.stem.replace(b"%", b"%%") + b"%b}:e"
        template = self.templates[size] = peek(len(self.name(bytes(size))), name)
        return template

    def ask(self, server: Server, key: Key, then: Told) -> None:
        """Together with the last ones that wait to be sent, if there are any."""
        waiting = server.waiting
        last = waiting[-1] if waiting else None
        if type(last) is GlanceCall and (together := len(last.lookups) + 1) <= TOGETHER:
            last.lookups.append((key, then))
            if together == TOGETHER:
                server.flush()
        else:
            server.put(GlanceCall(self, key, then))

    def found(self, server: Server, key: Key) -> asyncio.Future[Entry | None]:
        """The same, to be awaited. StoreError if the server could not answer."""
        answer: asyncio.Future[Entry | None] = asyncio.get_running_loop().create_future()

        def then(found: Entry | StoreError | None) -> None:
            if answer.done():  # whoever asked has left
                return
            if isinstance(found, StoreError):
                answer.set_exception(found)
                answer.exception()  # looked at: they may leave in this very moment
            else:
                answer.set_result(found)

        self.ask(server, key, then)
        return answer


class GlanceCall(Call):
    """Lookups that go together: each `then` is told what its own has found, once."""

    __slots__ = ("_asked", "_glances", "lookups")

    def __init__(self, glances: Glances, key: Key, then: Told) -> None:
        self.is_told = False
        self.lookups = deque([(key, then)])
        """Those that have not been told."""
        self._asked = glances.now()
        self._glances = glances

    def packed(self) -> bytes:
        """See Call."""
        known, made = self._glances.templates.get, self._glances.template
        return b"".join(
            [(known(len(key)) or made(len(key))) % (digits := hexlify(key), digits) for key, _ in self.lookups]
        )

    def hear(self, heard: Sequence[Any], at: int, failed: Failed) -> int:
        """See Call."""
        glances, lookups, last = self._glances, self.lookups, len(heard) - 1
        while at < last and lookups:
            key, then = lookups.popleft()
            left, value = heard[at], heard[at + 1]
            at += 2
            if type(value) is not bytes or type(left) is not int or left < 0 or len(value) > LARGE:
                self._settle(key, then, left, value, failed)
                continue
            found = glances.values.known(key, value, left, self._asked) or self._open(key, left, value)
            glances.is_likely = found is not None
            then(found)
        self.is_told = not lookups
        return at

    def _settle(self, key: Key, then: Told, left: Any, value: Any, failed: Failed) -> None:
        """What is not there, too large to be opened here, or no value."""
        error = next((answer for answer in (left, value) if isinstance(answer, RedisError)), None)
        if error is not None:
            failed(GlanceCall(self._glances, key, then), error)
        elif type(left) is not int or type(value) not in (bytes, type(None)):
            self._tell(then, StoreError(f"an answer that means nothing: {left!r:.40}, {value!r:.40}"))
        elif value is None or left < 0:  # there is none, or none that a lookup would believe
            self._tell(then, None)
        else:
            self._glances.soon(self._open_large(key, then, left, value))

    async def _open_large(self, key: Key, then: Told, left: int, value: bytes) -> None:
        found: Entry | StoreError | None = StoreError(CLOSED)
        try:
            found = await asyncio.to_thread(self._open, key, left, value)
        finally:
            self._tell(then, found)

    def _open(self, key: Key, left: int, value: bytes) -> Entry | None:
        try:
            entry = self._glances.values.unpack(key, value, left, self._asked)
        except Exception:  # no entry: `look` removes it
            return None
        return entry if answers(entry, _PLAIN, self._asked) else None

    def _tell(self, then: Told, found: Entry | StoreError | None) -> None:
        self._glances.is_likely = isinstance(found, Entry)
        then(found)

    async def run(self, client: Client) -> list[Any]:
        """See Call."""
        return [answer for key, _ in self.lookups for answer in await PEEK.run(client, (self._glances.name(key),), ())]

    def fail(self, error: BaseException) -> None:
        """See Call. What a command cannot do, a script may: what is in the way is removed by `look`."""
        while self.lookups:
            _, then = self.lookups.popleft()
            self._tell(then, None if isinstance(error, ResponseError) else failure(error))
