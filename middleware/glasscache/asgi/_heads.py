"""What the answer to a HEAD says of the stored answer to a GET: RFC 9111, section 4.3.5.

Decides whether that answer is still the one (then its header fields and its freshness are renewed) or is told invalid.
Must never keep anything where nothing was stored.
"""

from __future__ import annotations

from dataclasses import replace

from glasscache._ask import Ask
from glasscache._engine import Engine
from glasscache._entry import Headers
from glasscache.asgi import _http
from glasscache.asgi._origin import AppLoad
from glasscache.asgi.types import Message
from glasscache.policy import make_entry


class HeadReader:
    """Watches the messages of one answer to a HEAD."""

    def __init__(self, engine: Engine, load: AppLoad, ask: Ask) -> None:
        self._engine = engine
        self._load = load
        self._ask = ask
        self._begun = engine.clock.now()

    async def __call__(self, message: Message) -> None:
        """Be shown one message of the answer, on its way to the client."""
        if message["type"] == "http.response.start":
            await self._learn(message["status"], _http.normalise(message.get("headers", ())))

    async def _learn(self, status: int, headers: Headers) -> None:
        engine, at = self._engine, self._ask.at
        stored, now = engine.near.peek(at), engine.clock.now()
        if stored is None or stored.vary or now >= stored.dead_from or (status, stored.status) != (200, 200):
            return
        if not _http.is_same(headers, stored.headers, sum(map(len, stored.chunks))):
            await engine.invalidate(key=self._ask.key)
            return
        fields = _http.freshen(stored.headers, headers)
        found = self._load.assess(status, fields, None)
        if found.terms is not None:
            renewed = make_entry(
                chunks=stored.chunks,
                status=status,
                headers=_http.storable_headers(fields, found.hidden),
                terms=replace(found.terms, tags=stored.tags, price=stored.price),
                policy=self._ask.policy,
                begun=self._begun,
                now=now,
                chance=0.0,
                number=stored.number,
                saves=stored.cost,
            )
            engine.renew(at, stored, renewed)
