"""A reverse proxy as an ASGI app: each request goes to the upstream, its answer comes back as it is produced.

Decides how an exchange ends. An answer is whole only if its framing says so: one that was cut short, or is no HTTP/1.1,
raises ProxyError, so that nothing around this app can take a part for the whole. The last bytes of an answer go out
together with its end: a cache has stored it before its client can ask again. Must never decode a body, follow a
redirect, keep a cookie, or repeat a request that may have had an effect.
"""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from urllib.parse import quote

import h11

from glasscache._clock import SystemClock
from glasscache.asgi.types import Receive, Scope, Send
from glasscache.errors import ConfigurationError
from glasscache.interfaces import Clock
from glasscache.proxy import _fields
from glasscache.proxy._forwarding import ClientGone, Forwarding, RestedTooLong
from glasscache.proxy._pool import Pool
from glasscache.proxy.errors import ProxyError
from glasscache.proxy.upstream import Timeouts, Upstream


class ReverseProxy:
    """Answers every request by asking `upstream` (a URL), over HTTP/1.1.

    `timeouts`: see `Timeouts`. `max_connections`: at once; who finds none waits `timeouts.connect`, then it is a 503.
    `keep_host`: the upstream gets the client's Host instead of its own. `trust_forwarded`: believe X-Forwarded-* (when
    another proxy of yours is in front). `tls`: for an https upstream; by default the system's certificates.
    Raises ProxyError where there is no whole answer: see `glasscache.proxy.edge`.
    """

    def __init__(
        self,
        upstream: str,
        *,
        timeouts: Timeouts | None = None,
        max_connections: int = 256,
        keep_host: bool = False,
        trust_forwarded: bool = False,
        tls: ssl.SSLContext | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.upstream: Upstream = Upstream.from_url(upstream)
        if max_connections < 1:
            raise ConfigurationError(f"ReverseProxy(max_connections={max_connections!r}): give 1 or more")
        if tls is not None and self.upstream.scheme != "https":
            raise ConfigurationError(f"ReverseProxy({upstream!r}, tls=...): only an https upstream has a certificate")
        self._timeouts = timeouts or Timeouts()
        self._max_connections = max_connections
        self._keep_host = keep_host
        self._trust = trust_forwarded
        self._tls = ssl.create_default_context() if tls is None and self.upstream.scheme == "https" else tls
        self._clock = SystemClock() if clock is None else clock
        self._pool: Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            await self._forward(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            await send({"type": f"{scope['type']}.close"})  # what is no request is refused

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            kind = (await receive())["type"]
            if kind == "lifespan.shutdown":
                self.close()
            await send({"type": f"{kind}.complete"})
            if kind == "lifespan.shutdown":
                return

    def close(self) -> None:
        """Close the connections that are kept for later requests."""
        if self._pool is not None:
            self._pool.close()
            self._pool = None

    def _connections(self) -> Pool:
        """The connections of this event loop."""
        loop = asyncio.get_running_loop()
        if self._pool is None or self._loop is not loop:
            self._loop = loop
            self._pool = Pool(
                self.upstream, timeouts=self._timeouts, max_connections=self._max_connections, tls=self._tls
            )
        return self._pool

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _fields.loops(scope):
            raise ProxyError(508, f"the upstream {self.upstream} leads back to this proxy")
        forwarding = Forwarding(
            self._request(scope), scope, receive, send, clock=self._clock, body_timeout=self._timeouts.read
        )
        with suppress(ClientGone):
            try:
                await self._attempt(forwarding, fresh=False)
            except RestedTooLong:
                await self._attempt(forwarding, fresh=True)

    async def _attempt(self, forwarding: Forwarding, *, fresh: bool) -> None:
        pool = self._connections()
        connection = await pool.take(fresh=fresh)
        try:
            await forwarding.run(connection)
        finally:
            pool.give_back(connection)

    def _request(self, scope: Scope) -> h11.Request:
        path = scope.get("raw_path") or quote(scope["path"]).encode()
        query = scope.get("query_string", b"")
        # `OPTIONS *` asks about the server, and about nothing below a path (RFC 9112, section 3.2.4)
        prefix = b"" if path == b"*" else self.upstream.prefix.encode()
        fields = _fields.to_upstream(scope, self.upstream.authority, keep_host=self._keep_host, trust=self._trust)
        try:
            return h11.Request(
                method=scope["method"],
                target=prefix + path + (b"?" + query if query else b""),
                headers=fields + (_fields.framing(scope) or []),
            )
        except h11.LocalProtocolError as error:
            raise ProxyError(400, f"the request cannot be passed on as HTTP/1.1: {error}") from error
