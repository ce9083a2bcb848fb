"""The page that removes answers: for a person at a shell, or a deployment, that cannot call `Cache.invalidate`.

Decides how a removal is said in JSON. It reaches what the cache reaches: this process, and where machines share a tier
all of them. Must stand behind the token: whoever may ask for it may make every answer be loaded again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from glasscache.asgi._pages import order_page
from glasscache.asgi._urls import url_of

if TYPE_CHECKING:
    from glasscache.asgi.types import ASGIApp, Receive, Scope
    from glasscache.cache import Cache


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


def removal_page(cache: Cache, forget: Callable[[Scope], Awaitable[int]]) -> ASGIApp:
    """The page. `forget`: removes what is stored for the request of that scope; how many entries."""

    async def remove(wanted: Removal, scope: Scope, _: Receive) -> dict[str, Any]:
        if wanted.url is not None:
            count = await forget(_request_of(wanted.url, scope))
        elif wanted.key is None:
            count = await cache.invalidate(tag=wanted.tag, all=wanted.all)
        else:
            count = await cache.invalidate(key=wanted.key)
            if digest := digest_of(wanted.key):
                count += await cache.invalidate(key=digest)
        return {"removed": count}

    return order_page(cache, Removal, remove, example='{"tag": "docs"}', most_bytes=65_536)


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
