"""A lookup that is told where its answer is read: a hit takes no task, and no turn of the event loop.

Decides whether it is worth a trip of its own: most lookups fare as the one before them. It believes no more than `look`
does, and leaves to it what a script has to decide. Must never raise.
"""

from __future__ import annotations

import asyncio
from binascii import hexlify
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from glasscache._entry import Entry
from glasscache._lease import Claim
from glasscache.errors import StoreError
from glasscache.policy import answers
from glasscache.stores._envelope import EnvelopeError
from glasscache.stores._redis_line import Call
from glasscache.stores._redis_scripts import Peek, peek
from glasscache.stores._redis_server import CLOSED
from glasscache.stores._redis_values import LARGE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from glasscache._entry import Key
    from glasscache.interfaces import Told
    from glasscache.stores._redis_clients import Client
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
        self._packed: dict[int, bytes] = {}
        """Of keys of so many bytes, as a template."""

    def name(self, key: Key) -> bytes:
        """Of its entry, on the server."""
        return b"%b%b}:e" % (self.stem, hexlify(key))

    def packed(self, key: Key) -> bytes:
        """See Peek."""
        template = self._packed.get(len(key))
        if template is None:
            name = self.stem.replace(b"%", b"%%") + b"%b}:e"
            template = self._packed[len(key)] = peek(len(self.name(key)), name)
        digits = hexlify(key)
        return template % (digits, digits)


class Glance(Call):
    """One lookup: `then` is told what it found, once."""

    __slots__ = ("_asked", "_glances", "_key", "_then")

    def __init__(self, glances: Glances, key: Key, then: Told) -> None:
        self.is_over = False
        self.left = 2
        self._asked = glances.now()
        self._glances = glances
        self._key = key
        self._then: Told | None = then

    @property
    def slot_key(self) -> bytes:
        """See Call."""
        return self._glances.name(self._key)

    def packed(self) -> bytes:
        """See Call."""
        return self._glances.packed(self._key)

    async def run(self, client: Client) -> Any:
        """See Call."""
        self.before, value = await PEEK.run(client, (self.slot_key,), ())
        return value

    def succeed(self, answer: Any) -> None:
        """See Call."""
        try:
            left = self.before
            if answer is None or left < 0:  # there is none, or none that a lookup would believe
                self._tell(None)
            elif len(answer) > LARGE:
                self._glances.soon(self._open_large(answer, left))
            else:
                self._tell(self._open(answer, left))
        except Exception as error:  # nonsense from the server
            self.fail(error)

    def failed(self, error: StoreError) -> None:
        """See Call. What a command cannot do, a script may: what is in the way is removed by `look`."""
        self._tell(None if isinstance(error.__cause__, ResponseError) else error)

    async def _open_large(self, value: bytes, left: int) -> None:
        found: Entry | StoreError | None = StoreError(CLOSED)
        try:
            found = await asyncio.to_thread(self._open, value, left)
        finally:
            self._tell(found)

    def _open(self, value: bytes, left: int) -> Entry | None:
        try:
            entry = self._glances.values.unpack(self._key, value, left, self._asked)
        except EnvelopeError:
            return None  # `look` removes it
        return entry if answers(entry, _PLAIN, self._asked) else None

    def _tell(self, found: Entry | StoreError | None) -> None:
        then, self._then = self._then, None
        if then is not None:  # else one of its commands has failed already
            self._glances.is_likely = isinstance(found, Entry)
            then(found)
