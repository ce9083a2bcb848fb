"""Parts that go by are kept, and asked again for less than that: RFC 9111, section 3.3.

Decides which 206 is kept (a single part, as long as it says, of what may be stored) and which request it answers: one
for bytes that it has. Parts are never put together, and never make a whole: a wrong one is worse than a load.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from glasscache._ask import Ask
from glasscache._coherence import variant_tag
from glasscache._engine import Engine
from glasscache._entry import Entry, Headers, Key
from glasscache.asgi import _http
from glasscache.asgi._origin import AppLoad
from glasscache.asgi.types import Message
from glasscache.policy import Terms, make_entry

_WHERE = re.compile(rb"bytes (?P<first>\d{1,18})-(?P<last>\d{1,18})/(?P<length>\d{1,18})")


def span_of(headers: Headers) -> _http.Span | None:
    """Which bytes of how many a 206 has; None if it does not say, or says nonsense (RFC 9110, section 14.4)."""
    lines = [value.strip(b" \t") for name, value in headers if name == b"content-range"]
    match = _WHERE.fullmatch(lines[0]) if len(lines) == 1 else None
    if match is None:
        return None
    found = _http.Span(int(match["first"]), int(match["last"]) + 1, int(match["length"]))
    return found if found.first < found.end <= found.length else None


def within(entry: Entry, request_headers: Iterable[tuple[bytes, bytes]]) -> _http.Span | None:
    """The bytes that a request asks for, if this entry, which is a part, has them all."""
    kept = span_of(entry.headers)
    assert kept is not None  # or it had not been kept
    wanted = _http.wanted(request_headers, entry.headers, kept.length)
    return wanted if wanted is not None and kept.first <= wanted.first < wanted.end <= kept.end else None


class PartKeeper:
    """Watches the messages of one answer, and keeps it if it is a part that may be kept."""

    def __init__(self, engine: Engine, load: AppLoad, ask: Ask, key: Key) -> None:
        self._engine = engine
        self._load = load
        self._ask = ask
        self._key = key
        self._begun = engine.clock.now()
        self._number = engine.number
        self._terms: Terms | None = None
        self._headers: Headers = ()
        self._place: _http.Span | None = None
        self._chunks: list[bytes] = []
        self._room = engine.commons.limits.max_entry_bytes

    async def __call__(self, message: Message) -> None:
        """Be shown one message of the answer, on its way to the client."""
        if message["type"] == "http.response.start":
            self._start(message["status"], _http.normalise(message.get("headers", ())))
        elif message["type"] == "http.response.body" and self._terms is not None:
            chunk = bytes(message.get("body") or b"")
            self._room -= len(chunk)
            self._chunks.append(chunk)
            if self._room < 0:
                self._terms = None
            elif not message.get("more_body", False):
                self._keep(self._terms)

    def _start(self, status: int, headers: Headers) -> None:
        self._place = span_of(headers)
        if status != 206 or self._place is None:
            return
        found = self._load.assess(200, headers, None)
        selected = () if self._ask.marker is None else self._ask.marker.vary
        if set(found.vary) <= set(selected):
            self._terms, self._headers = found.terms, _http.storable_headers(headers, found.hidden)

    def _keep(self, terms: Terms) -> None:
        assert self._place is not None
        if sum(map(len, self._chunks)) != self._place.end - self._place.first:
            return  # cut short
        entry = make_entry(
            chunks=tuple(filter(None, self._chunks)),
            status=206,
            headers=self._headers,
            terms=terms,
            policy=self._ask.policy,
            begun=self._begun,
            now=self._engine.clock.now(),
            chance=0.0,
            number=self._number,
        )
        entry.tags += (variant_tag(self._ask.key),)  # told invalid with all that is stored for its request
        self._engine.keep(self._key, self._ask.key, entry)
