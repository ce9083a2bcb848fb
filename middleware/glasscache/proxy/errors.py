"""What can go wrong between a client and an upstream."""

from __future__ import annotations

from glasscache.errors import GlasscacheError


class ProxyError(GlasscacheError, ConnectionError):
    """There is no whole answer. `status` is what a client that has seen nothing of it is told (RFC 9110, section 15):
    502 for a broken upstream, 504 for a slow one, 503 if all connections are in use, 508 for a loop, 408 for a client
    that does not finish its own request.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status

    def __copy__(self) -> ProxyError:
        return type(self)(self.status, str(self))
