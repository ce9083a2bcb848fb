"""The page that removes answers: for a person at a shell, or a deployment, that cannot call `Cache.invalidate`.

Decides how a removal is said in JSON. It reaches what the cache reaches: this process, and where machines share a tier
all of them. Must stand behind the token: whoever may ask for it may make every answer be loaded again.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from glasscache.asgi._pages import respond
from glasscache.asgi._request import Body, BypassError
from glasscache.asgi._urls import url_of
from glasscache.asgi.rules import Rule
from glasscache.stats import declared_workers

if TYPE_CHECKING:
    from glasscache.asgi.types import Receive, Scope, Send
    from glasscache.cache import Cache

_LIMITS = Rule("/", methods=("POST",), max_body=65_536)


class Removal(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What is to be removed: one of these."""

    tag: str | None = None
    key: str | None = None
    url: str | None = None
    """Of a GET: all of it, or path and query at the host that is asked."""
    all: bool = False

    def __post_init__(self) -> None:
        if [self.tag, self.key, self.url, self.all or None].count(None) != 3:
            raise ValueError("say one of tag, key, url, or all")


class RemovalPage:
    """Answers POST. `forget`: removes what is stored for the request of that scope; how many entries."""

    def __init__(self, cache: Cache, forget: Callable[[Scope], Awaitable[int]]) -> None:
        self._cache = cache
        self._forget = forget

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body, status = Body(), 200
        try:
            await body.read(receive, _LIMITS)
            wanted = msgspec.json.decode(body.content, type=Removal)
            said: dict[str, object] = {"removed": await self._remove(wanted, scope)}
            said |= {"name": self._cache.name, "worker": os.getpid(), "of": declared_workers()}
        except (msgspec.MsgspecError, BypassError, ValueError) as error:
            status, said = 400, {"error": f'{error}: send JSON, such as {{"tag": "docs"}}'}
        await respond(scope, send, msgspec.json.encode(said), (b"content-type", b"application/json"), status=status)

    async def _remove(self, wanted: Removal, scope: Scope) -> int:
        if wanted.url is not None:
            return await self._forget(_request_of(wanted.url, scope))
        if wanted.key is None:
            return await self._cache.invalidate(tag=wanted.tag, all=wanted.all)
        count = await self._cache.invalidate(key=wanted.key)
        digest = digest_of(wanted.key)
        return count if digest is None else count + await self._cache.invalidate(key=digest)


def digest_of(text: str) -> bytes | None:
    """What `key_for` gave, if that is how it was written down: 32 hexadecimal digits."""
    is_digest = len(text) == 32 and set(text) <= set("0123456789abcdef")
    return bytes.fromhex(text) if is_digest else None


def _request_of(text: str, asked: Scope) -> Scope:
    """The GET of a URL as it would come by the way that this request took. ValueError for what is no URL."""
    url = url_of(text)
    host = [(b"host", url.host)] if url.host else []
    left_out = {b"authorization", b"content-type", b"content-length", *(name for name, _ in host)}
    return {
        **asked,
        "method": "GET",
        "scheme": url.scheme or asked.get("scheme", "http"),
        "path": url.path,
        "raw_path": url.raw_path,
        "query_string": url.query,
        "headers": [*host, *(field for field in asked["headers"] if field[0] not in left_out)],
    }
