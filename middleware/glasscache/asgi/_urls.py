"""URLs as a person writes them, taken apart as a server would. Decides nothing of what is done with them."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit


class Url(NamedTuple):
    """What a client would send. `scheme` and `host` are empty where only path and query were written."""

    scheme: str
    host: bytes
    path: str
    raw_path: bytes
    query: bytes


def url_of(text: str) -> Url:
    """All of a URL, or its path and query. ValueError for what is none."""
    parts = urlsplit(text)
    if not parts.path.startswith("/") or bool(parts.scheme) != bool(parts.netloc):
        raise ValueError(f"url {text!r}: give path and query, such as /search?q=a, or all of it")
    host = parts.netloc.encode("idna")
    return Url(parts.scheme, host, unquote(parts.path), _as_sent(parts.path), _as_sent(parts.query))


def _as_sent(text: str) -> bytes:
    """What a client makes of it: the rest is encoded already."""
    return quote(text, safe="%/:?@[]!$&'()*+,;=~").encode()
