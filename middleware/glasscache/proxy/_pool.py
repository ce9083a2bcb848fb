"""The connections to one upstream: how many, which is used next, and when one is too old.

What changes the pool is synchronous and returns what the caller must close or await. A connection is taken again only
while it is quiet; the one used last goes first, so that the others can age.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque

from glasscache.proxy._connection import Connection
from glasscache.proxy._wire import Wire
from glasscache.proxy.errors import ProxyError
from glasscache.proxy.upstream import Timeouts, Upstream


class Pool:
    """Connections to `upstream`; at most `max_connections` at once. Belongs to one event loop."""

    def __init__(
        self, upstream: Upstream, *, timeouts: Timeouts, max_connections: int, tls: ssl.SSLContext | None
    ) -> None:
        self._upstream = upstream
        self._timeouts = timeouts
        self._free = asyncio.Semaphore(max_connections)
        self._tls = tls
        self.resting: deque[Connection] = deque()

    async def take(self, *, fresh: bool = False) -> Connection:
        """A connection for one exchange, which must be given back; `fresh`: none that was used before. ProxyError."""
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await self._free.acquire()
        except TimeoutError:
            raise ProxyError(503, f"all connections were in use for {self._timeouts.connect:g} s") from None
        try:
            return (None if fresh else self._rested()) or await self._connect()
        except BaseException:
            self._free.release()
            raise

    def give_back(self, connection: Connection) -> None:
        """The exchange is over, whatever came of it."""
        self._free.release()
        if self._timeouts.keep_alive > 0 and connection.renew():
            connection.rests_until = asyncio.get_running_loop().time() + self._timeouts.keep_alive
            self.resting.append(connection)
        else:
            connection.close()
        self._retire()

    def close(self) -> None:
        """Close the connections that are kept for later requests."""
        while self.resting:
            self.resting.pop().close()

    def _rested(self) -> Connection | None:
        self._retire()
        while self.resting:
            connection = self.resting.pop()
            if connection.is_quiet:
                return connection
            connection.close()
        return None

    def _retire(self) -> None:
        now = asyncio.get_running_loop().time()
        while self.resting and self.resting[0].rests_until <= now:
            self.resting.popleft().close()

    async def _connect(self) -> Connection:
        upstream, timeouts = self._upstream, self._timeouts
        try:
            async with asyncio.timeout(timeouts.connect):
                _, wire = await asyncio.get_running_loop().create_connection(
                    Wire,
                    upstream.host,
                    upstream.port,
                    ssl=self._tls,
                    server_hostname=upstream.host if self._tls else None,
                )
        except TimeoutError:
            raise ProxyError(504, f"{upstream} took no connection in {timeouts.connect:g} s") from None
        except (OSError, ssl.SSLError) as error:
            raise ProxyError(502, f"no connection to {upstream}: {error}") from error
        return Connection(wire, read_timeout=timeouts.read, write_timeout=timeouts.write)
