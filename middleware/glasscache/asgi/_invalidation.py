"""What a change at the origin makes invalid: RFC 9111, section 4.4, and cache groups (RFC 9875).

Decides which resources and groups an answer to an unsafe request speaks of. Must never reach beyond its own origin: a
Location elsewhere could throw out what others have stored (a denial of service).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urljoin, urlsplit

from glasscache.asgi._fields import members
from glasscache.asgi._structured import parse_strings
from glasscache.asgi.types import Scope

SAFE = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "QUERY"})
"""Methods that change nothing (RFC 9110, section 9.2.1; RFC 10008); one that nobody knows may."""

_LOCATIONS = frozenset({b"location", b"content-location"})
_MOST_LOCATIONS = 8
_MOST_GROUPS = 128  # a cache has to take 128 (RFC 9875, section 2)


class Target(NamedTuple):
    """One resource of this origin, as it stands in a request."""

    raw_path: bytes
    query: bytes


def changes(status: int) -> bool:
    """Whether an answer to an unsafe request says that it was carried out: "non-error", 2xx or 3xx."""
    return 200 <= status < 400


def targets(scope: Scope, headers: Iterable[tuple[bytes, bytes]]) -> list[Target]:
    """What was asked for, and what Location and Content-Location name of the same origin."""
    host = b"".join(value for name, value in scope["headers"] if name == b"host").decode("latin-1")
    raw_path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    found = [Target(raw_path, scope.get("query_string", b""))]
    origin = scope.get("scheme", "http"), host.lower()
    base = f"{origin[0]}://{host}{raw_path.decode('latin-1')}"
    for name, value in headers:
        if name in _LOCATIONS and len(found) <= _MOST_LOCATIONS:
            target = _resolved(base, value.decode("latin-1"), origin)
            if target is not None and target not in found:
                found.append(target)
    return found


def _resolved(base: str, reference: str, origin: tuple[str, str]) -> Target | None:
    try:
        parts = urlsplit(urljoin(base, reference.strip(" \t")))
    except ValueError:
        return None
    if (parts.scheme, parts.netloc.lower()) != origin:
        return None
    return Target((parts.path or "/").encode("latin-1", "ignore"), parts.query.encode("latin-1", "ignore"))


def url_tag(scope: Scope, *, by_host: bool) -> str:
    """The tag of all that is stored for one URL, whatever else its keys are made of; `by_host`: at this host alone."""
    named = [value for name, value in scope["headers"] if name == b"host" and by_host]
    host = b"".join(named).decode("latin-1").lower()
    raw_path = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    query = scope.get("query_string", b"").decode("latin-1")
    return f"url {scope.get('scheme', 'http')}://{host}{raw_path.decode('latin-1')}?{query}"


def tags(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """The tags that Cache-Tag (parted by commas) and Surrogate-Key (by blanks) give an answer."""
    found: list[str] = []
    for name, value in headers:
        if name == b"cache-tag":
            found += (tag.decode("latin-1") for tag in members([value]))
        elif name == b"surrogate-key":
            found += (tag.decode("latin-1") for tag in value.split())
    return tuple(dict.fromkeys(found))[:_MOST_GROUPS]


def groups(scope: Scope, headers: Iterable[tuple[bytes, bytes]], field: bytes) -> tuple[str, ...]:
    """The groups that Cache-Groups or Cache-Group-Invalidation names, as tags: each origin has its own."""
    lines = [value for name, value in headers if name == field]
    if not lines:
        return ()
    host = b"".join(value for name, value in scope["headers"] if name == b"host").decode("latin-1").lower()
    origin = f"{scope.get('scheme', 'http')}://{host}"
    return tuple(f"group {origin} {name}" for name in parse_strings(lines)[:_MOST_GROUPS])
