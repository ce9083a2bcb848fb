"""Invalidations between machines, kept and told by Redis (a `Backplane`).

Decides the numbers: they are given out by the server and only ever rise. When the server has lost what it kept
(flushed, restarted, failed over to a replica that lagged), the first machine that remembers more takes the next number
above all that it knows and tells everything invalid with it: what was lost beside the numbers, nobody can know.
"""

from __future__ import annotations

import asyncio
import contextvars
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from redis.asyncio import RedisCluster

from glasscache._clock import SystemClock
from glasscache._entry import Key
from glasscache._events import SpanRef
from glasscache._lease import Marks
from glasscache.errors import StoreError
from glasscache.interfaces import Clock, Listener, Middle
from glasscache.stores._hearing import Hearing, ServerTime
from glasscache.stores._messages import MAX_NUMBER, VERSION, Marked, Message, Replaced, encode
from glasscache.stores._null import NullMiddle
from glasscache.stores._redis_batches import Batches
from glasscache.stores._redis_calls import Calls, plainly
from glasscache.stores._redis_channel import PING_EVERY, Subscription
from glasscache.stores._redis_clients import Client
from glasscache.stores._redis_lua import ON
from glasscache.stores._redis_scripts import Command, Script
from glasscache.stores._traceparent import to_traceparent

MAX_TAGS = 65_536
"""Tags that are remembered; when more are, the oldest go, and the highest number among them becomes the floor."""
_CLOSE_TIMEOUT = 1.0

_Mode: TypeAlias = Literal["read", "tags", "everything"]

# `birth` names one life of the server's data: it is gone with them, and made anew by who comes next. `tagged` tells
# markers that were evicted (allkeys-lru) from markers that there never were.
# What is published is a `Message` of _messages.py, packed piece by piece around `told`, which is packed already.
_NUMBERS = Script(f"""{ON}
local state, markers = KEYS[1], KEYS[2]
local mode, seen, given, known, birth, most, bus, told = unpack(ARGV, 1, 8)
seen, given = tonumber(seen), tonumber(given)
on(state, 'HSETNX', state, 'birth', birth)
on(markers, 'ZCARD', markers)
local kept = redis.call('HMGET', state, 'birth', 'number', 'everything', 'floor', 'tagged')
birth = kept[1]
local function kept_number(field)  -- 0 also for what is none, and was not put there by us: as if it were lost
  local found = tonumber(kept[field] or 0) or 0
  return found <= {MAX_NUMBER} and found or 0
end
local number, everything, floor, tagged = kept_number(2), kept_number(3), kept_number(4), kept_number(5)
local forgot = everything <= given and (number < given or (known ~= '' and known ~= birth))
  or tagged > everything and redis.call('EXISTS', markers) == 0
local previous = -1
local time = redis.call('TIME')
local micros = time[1] * 1000000 + time[2]
if forgot or mode ~= 'read' then
  previous, number = number, math.max(number, seen, given) + 1
  if number > {MAX_NUMBER} then
    return redis.error_reply('ERR no numbers are left')
  end
  local score = string.format('%.0f', number)
  if forgot then
    previous = number
  end
  if forgot or mode == 'everything' then
    everything, floor = number, 0
    redis.call('DEL', markers)
  else
    for i = 9, #ARGV do
      redis.call('ZADD', markers, score, ARGV[i])
    end
    if #ARGV > 8 then
      tagged = number
    end
    local excess = redis.call('ZCARD', markers) - tonumber(most)
    if excess > 0 then
      local gone = redis.call('ZPOPMIN', markers, excess)
      floor = tonumber(gone[#gone])
    end
  end
  redis.call('HSET', state, 'number', score, 'everything', string.format('%.0f', everything),
    'floor', string.format('%.0f', floor), 'tagged', string.format('%.0f', tagged))
  if bus ~= '' then
    redis.call('PUBLISH', bus, string.char(0x96) .. cmsgpack.pack({VERSION}) .. cmsgpack.pack(number)
      .. cmsgpack.pack(previous) .. cmsgpack.pack(birth) .. cmsgpack.pack(micros) .. told)
  end
end
local answer = {{number, previous, birth, micros, everything, floor}}
if mode == 'read' then
  for _, one in ipairs(redis.call('ZRANGEBYSCORE', markers, '(' .. ARGV[2], '+inf', 'WITHSCORES')) do
    answer[#answer + 1] = one
  end
end
return answer
""")
_PUBLISH, _SPUBLISH = Command("PUBLISH"), Command("SPUBLISH")
_TIME = Script("local time = redis.call('TIME') return time[1] * 1000000 + time[2]")


@dataclass(frozen=True, slots=True)
class _Answer:
    number: int
    previous: int
    """The number before it, if a new one was given out; -1 if not; the same number if markers were lost."""
    birth: str
    time: int
    marks: Marks


def _read_answer(answer: Sequence[Any]) -> _Answer:
    """Of the script. Raises anything for nonsense."""
    number, previous, birth, time, everything, floor, *rest = answer
    marks = Marks(
        number=int(number),
        everything=int(everything),
        floor=int(floor),
        tags={tag.decode(errors="replace"): int(score) for tag, score in zip(rest[::2], rest[1::2], strict=True)},
    )
    return _Answer(int(number), int(previous), birth.decode(), int(time), marks)


class RedisBackplane:
    """A `Backplane` over Redis or Valkey, 7 or later: one server, Sentinel or Cluster.

    `client`: that of the running event loop (it stays its owner's; whatever it is, it must not retry on its own).
    `prefix` is that of the store, and what makes the namespace; `machine` names this process among all others.
    """

    def __init__(
        self,
        client: Callable[[], Client],
        *,
        machine: str,
        prefix: str = "glasscache",
        clock: Clock | None = None,
        ping_every: float = PING_EVERY,
        max_tags: int = MAX_TAGS,
    ) -> None:
        self._client = client
        self.machine = machine
        """Names this process among all others."""
        self._keys = (f"{prefix}:{{ns}}:n".encode(), f"{prefix}:{{ns}}:m".encode())
        self._bus = f"{prefix}:bus".encode()
        self._max_tags = max_tags
        self._ping_every = ping_every
        self._now = (SystemClock() if clock is None else clock).now
        self._time = ServerTime(self._now)
        self._calls = Calls()
        # What is told goes over one connection, in batches: a flood of it must leave the others to lookups.
        self._telling = Batches(client, 1, self._context_of_nobody)
        self.middle: Middle = NullMiddle()
        """What outlives this process, and carries our numbers."""
        self._belongs = ""
        self._birth = ""
        self._given = 0
        self._hearing: Hearing | None = None
        self._subscription: Subscription | None = None
        self._asking_time: asyncio.Task[None] | None = None
        self.context: contextvars.Context = contextvars.Context()
        """What it was started in: what is done for nobody in particular belongs there."""

    @property
    def ignored(self) -> int:
        """Messages on the bus that were not understood."""
        return self._hearing.ignored if self._hearing else 0

    async def start(self, listener: Listener) -> None:
        """Listen, in this event loop."""
        if self._subscription is not None:
            await self._subscription.aclose()
        self.context = contextvars.copy_context()
        self._hearing = hearing = Hearing(listener, self.machine, self._time)
        hearing.spares = self.middle.spare

        def hear(_channel: bytes, data: bytes) -> None:
            self._keep_time()
            hearing.hear(data)

        def restored() -> None:
            hearing.restored()
            self._keep_time()

        self._subscription = Subscription(
            lambda: self._client().pubsub(),
            (self._bus,),
            hear=hear,
            lost=hearing.lost,
            restored=restored,
            sharded=True,
            ping_every=self._ping_every,
        )
        self._subscription.start()

    async def mark(self, tags: Sequence[str], *, everything: bool, seen: int, source: SpanRef | None) -> int:
        """Keep markers under the next number above `seen`, and tell all others."""
        told = Marked(tuple(tags), everything, self.machine, to_traceparent(source))
        mode: _Mode = "everything" if everything else "tags"
        return (await self._calls.run(self._ask(mode, seen, told))).number

    async def tell_replaced(self, key: Key) -> None:
        """Tell all others that there is a new answer."""
        message = Message(VERSION, 0, 0, "", 0, Replaced(key, self.machine, self.middle.put_last(key)))
        await plainly(self._publish(message))

    async def read(self, since: int) -> Marks:
        """All markers above `since`."""
        told = Marked((), True, self.machine, "")  # if the server turns out to have lost them
        answer = await self._calls.run(self._ask("read", since, told))
        if answer.birth != self._belongs:
            answer = await self._reconcile(answer, since, told)
        if self._hearing is not None:
            self._hearing.has_read(answer.birth, answer.number)
        return answer.marks

    async def aclose(self) -> None:
        """Listen no more; operations under way have 1 s to end. The client stays open."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.aclose()
        await self._calls.aclose(_CLOSE_TIMEOUT)
        await self._telling.aclose(_CLOSE_TIMEOUT)

    async def _reconcile(self, answer: _Answer, since: int, told: Marked) -> _Answer:
        """What outlives us may belong to data that the server has lost: then it remembers more than the server does."""
        try:
            life, highest = await self.middle.recall()
            if life not in ("", answer.birth):
                answer = await self._calls.run(self._ask("read", max(since, highest), told, known=life))
            await self.middle.belong(answer.birth)
        except StoreError:
            if self.middle.distrust():  # what it has answered meanwhile must not count
                raise
        else:
            self._belongs = answer.birth
        return answer

    async def _ask(self, mode: _Mode, seen: int, told: Marked, *, known: str | None = None) -> _Answer:
        client = self._client()
        bus = b"" if isinstance(client, RedisCluster) else self._bus  # a script cannot SPUBLISH to another slot
        given = seen if known else max(self._given, seen if mode == "read" else 0)
        options = (mode, seen, given, known or self._birth, secrets.token_hex(8), self._max_tags, bus, encode(told))
        asked = self._now()
        answer = _read_answer(await _NUMBERS.run(client, self._keys, (*options, *told.tags)))
        self._time.learn(asked, answer.time)
        self._birth, self._given = answer.birth, max(self._given, answer.number)
        if answer.previous >= 0 and not bus:
            numbers = (answer.number, answer.previous, answer.birth, answer.time)
            await self._publish(Message(VERSION, *numbers, told))
        return answer

    def _context_of_nobody(self) -> contextvars.Context:
        return self.context.copy()

    async def _publish(self, message: Message) -> None:
        command = _SPUBLISH if isinstance(self._client(), RedisCluster) else _PUBLISH
        await self._telling.call(command, (self._bus,), (encode(message),))

    def _keep_time(self) -> None:
        """Ask for the server's time, if it is not known well enough to tell how old a message is."""
        if self._time.is_old and (self._asking_time is None or self._asking_time.done()):
            self._asking_time = self._calls.soon(self._ask_time(), self.context)

    async def _ask_time(self) -> None:
        asked = self._now()
        self._time.learn(asked, int(await _TIME.run(self._client(), self._keys[:1], ())))
