"""Passes an answer on to one client: a stored one, or a flight that is read while it is produced.

Decides how an outcome is shown (`Age`, `Cache-Status`, a 304 for a client that has the answer already). Must never
change what is stored: every message and header list is made anew.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Generic, TypeVar

from glasscache._ask import Answer, Ask
from glasscache._entry import Entry, Headers
from glasscache._reader import Reader
from glasscache._stream import Head, Stream
from glasscache.asgi import _http
from glasscache.asgi._http import cache_status
from glasscache.asgi._parts import span_of, within
from glasscache.asgi.types import Message, Receive, Scope, Send
from glasscache.policy import Share

T = TypeVar("T")

_ALL = Share.ALL  # until Python 3.12 a name of an Enum costs a call
_TOLD = 4096  # things of a kind that are remembered
_STATUS = cache_status.HEADER
_STORED_MISS = cache_status.miss(stored=True)

_END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


async def send_entry(entry: Entry, status_field: bytes, now: float, scope: Scope, send: Send) -> None:
    """Send a stored answer, or a 304 if the client has it already."""
    own: Headers = ((b"age", b"%d" % max(0, now - entry.born)), (_STATUS, status_field))
    status, headers, chunks = _fitted(entry, scope)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *own]})
    await send_chunks(chunks, send)


def _fitted(entry: Entry, scope: Scope) -> tuple[int, Headers, Sequence[bytes]]:
    """What of a stored answer its request gets (RFC 9110, section 13.2.2: conditions come before ranges)."""
    status, headers, method = entry.status, entry.headers, scope["method"]
    if method != "POST" and _http.not_modified(scope["headers"], status, headers):
        return 304, _http.not_modified_headers(headers), ()
    if method == "HEAD":
        return status, headers, ()
    part = None
    if method == "GET" and status == 206:
        return _part_of_a_part(entry, scope)
    if method == "GET" and status == 200:
        part = _http.wanted(scope["headers"], headers, sum(map(len, entry.chunks)))
    if part is None:
        return status, headers, entry.chunks
    return 206 if part.end > part.first else 416, _http.part_headers(headers, part), _http.cut(entry.chunks, part)


def _part_of_a_part(entry: Entry, scope: Scope) -> tuple[int, Headers, Sequence[bytes]]:
    kept, wanted = span_of(entry.headers), within(entry, scope["headers"])
    assert kept is not None  # it was looked at before it was chosen
    assert wanted is not None
    bytes_of_it = wanted._replace(first=wanted.first - kept.first, end=wanted.end - kept.first)
    return 206, _http.part_headers(entry.headers, wanted), _http.cut(entry.chunks, bytes_of_it)


class _Shared(Generic[T]):
    """What many answers share, by the number that it tells. `known`: a plain dict, as in `Routes`."""

    def __init__(self, made: Callable[[float], T]) -> None:
        self.known: dict[float, T] = {}
        self._made = made

    def make(self, told: float) -> T:
        """What is not known."""
        if len(self.known) >= _TOLD:
            self.known.clear()
        made = self.known[told] = self._made(told)
        return made


_STARTS = _Shared[dict[str, Any]](lambda status: {"type": "http.response.start", "status": status, "headers": ()})
_AGES = _Shared[tuple[bytes, bytes]](lambda seconds: (b"age", b"%d" % max(0, seconds)))
_HITS = _Shared[tuple[bytes, bytes]](lambda ttl: (_STATUS, cache_status.hit(ttl)))


def show(entry: Entry, now: float) -> bool:
    """Make what a hit begins with: true until `Age` or the remaining ttl changes, within a second, or hits need a
    second thought. False: it is true for this hit only, since the body has several chunks, as few have.
    """
    age, left = now - entry.born, entry.fresh_until - now
    over, behind = age % 1.0, left % 1.0  # takes half as long as int()
    ahead, settled = 1.0 - over, entry.settled_until
    until = now + (ahead if ahead < behind else behind)
    if settled < until:
        until = settled
    is_whole = type(entry.content) is bytes
    if not is_whole:
        until = -math.inf
    age, left, status = age - over, left - behind, entry.status
    told = _AGES.known.get(age) or _AGES.make(age), _HITS.known.get(left) or _HITS.make(left)
    entry.shown = until, _STARTS.known.get(status) or _STARTS.make(status), entry.headers + told
    return is_whole


async def send_hit(entry: Entry, send: Send) -> None:
    """Send a stored answer as it was shown last."""
    _, start, fields = entry.shown
    start = start.copy()  # takes less than to make it anew
    start["headers"] = [*fields]
    await send(start)
    await send_chunks(entry.chunks, send)


async def send_new(entry: Entry, send: Send) -> None:
    """Send an answer that has just been stored to the request that led its load: it has no age."""
    headers = [*entry.headers, (_STATUS, _STORED_MISS)]
    await send({"type": "http.response.start", "status": entry.status, "headers": headers})
    if type(content := entry.content) is bytes:
        await send({"type": "http.response.body", "body": content, "more_body": False})
    else:
        await send_chunks(entry.chunks, send)


async def send_chunks(chunks: Sequence[bytes], send: Send) -> None:
    """Send a stored body, message by message as the origin sent it."""
    last = len(chunks) - 1
    for index, chunk in enumerate(chunks):
        await send({"type": "http.response.body", "body": chunk, "more_body": index < last})
    if not chunks:
        await send(dict(_END))


def status_of(answer: Answer, ask: Ask, now: float) -> bytes:
    """The Cache-Status of an answer (RFC 9211)."""
    if answer.result == "miss":
        assert answer.reader is not None
        stream = answer.reader.stream
        is_plain = stream.share is _ALL and ask.stand_in is ask.stale is ask.marker is None
        return _STORED_MISS if is_plain else _status_of_miss(ask, stream)
    if answer.bypass is not None:
        return cache_status.bypass(answer.bypass)
    if answer.result == "collapsed":  # by a load here, or by one on another machine that was waited for
        return cache_status.collapsed()
    if answer.entry is not None:
        left = answer.entry.fresh_until - now
        return cache_status.hit(left) if answer.detail is None else cache_status.stale(left, answer.detail)
    assert answer.reader is not None
    is_stored = answer.reader.stream.share is _ALL
    return cache_status.revalidated(stored=is_stored, fwd=_why(ask))


def _status_of_miss(ask: Ask, stream: Stream) -> bytes:
    if stream.share is not _ALL:
        return cache_status.miss(stored=False, fwd=_why(ask), detail="" if stream.head is None else stream.head.reason)
    return cache_status.miss(stored=True, fwd=_why(ask))


def _why(ask: Ask) -> cache_status.Forward:
    """Why a request went on to the origin."""
    if ask.stand_in is not None:
        return "stale"
    if ask.stale is not None and ask.wish is not None:
        return "request"
    return "vary-miss" if ask.marker is not None else "uri-miss"


class Watcher:
    """Watches one client for its disconnect."""

    __slots__ = ("_is_gone", "_reader", "_receive", "_task")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_gone = False
        self._reader: Reader | None = None
        self._task = asyncio.get_running_loop().create_task(self._watch())

    def joined(self, reader: Reader) -> None:
        """The request reads this flight from now on."""
        self._reader = reader
        if self._is_gone:
            reader.gone()  # it left while the request read no flight

    async def _watch(self) -> None:
        with suppress(Exception):  # a connection whose receive fails has nobody at its end either
            while (await self._receive())["type"] != "http.disconnect":
                pass
        self._is_gone = True
        assert self._reader is not None  # only one that has joined is watched
        self._reader.gone()

    def stop(self) -> None:
        """End: the answer is over, nobody needs to know of a disconnect any more."""
        self._reader = None
        self._task.cancel()


async def play(reader: Reader, status_field: bytes, scope: Scope | None, send: Send) -> None:
    """Pass a flight on from byte 0, as it is produced. Raises what cut it short. `scope`: of a request that may be
    conditional.
    """
    head = reader.stream.head
    assert head is not None
    try:
        if scope is not None and _is_known_to(scope, head):
            await _spare(reader, status_field, send)
            return
        seen = head.own_headers if reader.leader else _seen_by_others(head)
        headers = [*seen, (_STATUS, status_field)]
        start: Message = {"type": "http.response.start", "status": head.status, "headers": headers}
        if head.has_trailers:
            start["trailers"] = True
        await send(start)
        entry = reader.stream.entry
        if entry is not None and type(content := entry.content) is bytes and not reader.cut:  # whole, in one piece
            if reader.waiting is not None:
                reader.waiting.over("served")
            await send({"type": "http.response.body", "body": content, "more_body": False})
            return
        while not reader.at_end and (chunk := reader.take() or await reader.next()) is not None:
            await send({"type": "http.response.body", "body": chunk, "more_body": not reader.at_end})
        if not reader.at_end:
            await send(dict(_END))
        for trailers in reader.stream.trailers:
            await send(trailers)
    finally:
        reader.leave()


def _is_known_to(scope: Scope, head: Head) -> bool:
    """Whether its client has the answer already."""
    may_be_spared = head.share is _ALL and scope["method"] != "POST"
    return may_be_spared and _http.not_modified(scope["headers"], head.status, head.headers)


def _seen_by_others(head: Head) -> Headers:
    """The fields of an answer for those who did not ask for it: with the age that it came with."""
    age = 0 if head.terms is None else int(head.terms.age)
    return (*head.headers, (b"age", b"%d" % age)) if age else head.headers


async def _spare(reader: Reader, status_field: bytes, send: Send) -> None:
    """The client has this answer already; it stays a reader, so that the load is not given up."""
    head = reader.stream.head
    assert head is not None
    seen = head.own_headers if reader.leader else _seen_by_others(head)
    age = tuple(field for field in seen if field[0] == b"age")
    fields = _http.not_modified_headers(head.headers) + age
    headers = [*fields, (_STATUS, status_field)]
    while await reader.next() is not None:
        pass
    await send({"type": "http.response.start", "status": 304, "headers": headers})
    await send(dict(_END))


async def answer_nobody(send: Send) -> None:
    """End an exchange whose client left before it was answered, since middleware around us may insist on an answer
    (Starlette's BaseHTTPMiddleware raises without one). 499 is what access logs know such an end by.
    """
    with suppress(OSError):  # how a server may say that nobody is there
        await send({"type": "http.response.start", "status": 499, "headers": []})
        await send(dict(_END))
