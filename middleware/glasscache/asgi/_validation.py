"""Confirming a stored answer: RFC 9111, section 4.3, in both directions.

Decides what the origin is asked, what its 304 changes in what is stored, and when a client has an answer already.
Must never decide whether an answer needs to be confirmed (that is freshness), or touch a body.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from glasscache._entry import Headers
from glasscache.asgi._fields import content_length, parse_http_date

CONDITIONALS = frozenset({b"if-none-match", b"if-modified-since", b"if-match", b"if-unmodified-since", b"if-range"})
"""Request headers that make a request conditional (RFC 9110, section 13.1)."""

_FOR_THE_ORIGIN = frozenset({b"if-match", b"if-unmodified-since"})

# RFC 9110, section 15.4.5
_OF_A_304 = frozenset({b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary"})

# RFC 9110, section 8.8.3; weak comparison (8.8.3.2) looks at the opaque part alone
_ETAG = re.compile(rb'(?:W/)?("[^\x00-\x20"\x7f]*+")')
_ETAGS = re.compile(rb'(?:[ \t]*+(?:(?:W/)?"[^\x00-\x20"\x7f]*+")?+[ \t]*+(?:,|\Z))*+')


# --- sent: what we ask the origin (section 4.3.1) -------------------------------------------------------------------


def conditions(stored: Headers) -> Headers:
    """The fields that ask the origin whether a stored answer still holds; none if it has no validator."""
    found: list[tuple[bytes, bytes]] = []
    etag = entity_tag(stored)
    if etag is not None and not etag.startswith(_OURS):  # of which the origin knows nothing
        found.append((b"if-none-match", etag))
    modified = last_modified(stored)
    if modified is not None:
        found.append((b"if-modified-since", modified))
    return tuple(found)


_OURS = b'"glasscache-'


def made_tag(chunks: Iterable[bytes]) -> bytes:
    """A strong ETag for a whole body: it changes with every byte of it (RFC 9110, section 8.8.3)."""
    state = hashlib.blake2b(digest_size=16)
    for chunk in chunks:
        state.update(chunk)
    return _OURS + state.hexdigest().encode() + b'"'


def has_validator(headers: Headers) -> bool:
    """Whether the origin can be asked to confirm this answer."""
    return bool(conditions(headers))


def entity_tag(headers: Headers) -> bytes | None:
    """The one valid ETag, as it is written."""
    tags = [value.strip(b" \t") for name, value in headers if name == b"etag"]
    return tags[0] if len(tags) == 1 and _ETAG.fullmatch(tags[0]) else None


def last_modified(headers: Headers) -> bytes | None:
    """The one valid Last-Modified, as it is written."""
    dates = [value.strip(b" \t") for name, value in headers if name == b"last-modified"]
    return dates[0] if len(dates) == 1 and parse_http_date(dates[0]) is not None else None


# --- received: what a confirmation changes (sections 3.2 and 4.3.4) -------------------------------------------------


_OF_THE_BODY = frozenset({b"content-length", b"content-encoding", b"content-md5", b"content-range", b"etag"})
"""What belongs to the bytes that are stored: a confirmation without a body has nothing to say of them."""


def freshen(stored: Headers, update: Headers) -> Headers:
    """The stored fields, each replaced by what the confirmation says of it, but for those of the body itself."""
    news = tuple(field for field in update if field[0] not in _OF_THE_BODY)
    named = {name for name, _ in news}
    return tuple(field for field in stored if field[0] not in named) + news


def is_same(head: Headers, stored: Headers, length: int) -> bool:
    """Whether the answer to a HEAD is about what is stored, a body of `length` bytes (section 4.3.5): what it has of
    ETag, Last-Modified and Content-Length agrees.
    """
    for name in (b"etag", b"last-modified"):
        told = [value.strip(b" \t") for field, value in head if field == name]
        if told and told != [value.strip(b" \t") for field, value in stored if field == name]:
            return False
    return content_length(head) in (None, length)


# --- received from a client (section 4.3.2) -------------------------------------------------------------------------


def precondition(request_headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Whether a request carries a condition that only the origin may judge: If-Match or If-Unmodified-Since.

    They ask about the origin's current state, and a cache must not evaluate them (RFC 9111, section 4.3.2):
    such a request is for the origin, with its headers (a bypass). If-Range without Range means nothing
    (RFC 9110, section 13.1.5).
    """
    return not _FOR_THE_ORIGIN.isdisjoint([name for name, _ in request_headers])


def not_modified(request_headers: Iterable[tuple[bytes, bytes]], status: int, stored: Headers) -> bool:
    """Whether the client has this stored answer already, so that a 304 will do (RFC 9111, section 4.3.2).

    Only for GET, HEAD and QUERY (RFC 9110, section 13.1.2: elsewhere a match means 412, which is the origin's
    to say). In doubt the whole answer is sent: that is always right.
    """
    wanted: dict[bytes, list[bytes]] = {}
    for name, value in request_headers:
        if name in CONDITIONALS:
            wanted.setdefault(name, []).append(value.strip(b" \t"))
    if not wanted or not 200 <= status < 300:  # RFC 9110, section 13.2.1
        return False
    if b"if-none-match" in wanted:  # section 13.1.3: then If-Modified-Since is ignored
        return _none_match(b", ".join(wanted[b"if-none-match"]), stored)
    return status == 200 and _unmodified(wanted.get(b"if-modified-since", []), stored)


def _none_match(condition: bytes, stored: Headers) -> bool:
    """Whether the stored ETag is among those of If-None-Match (RFC 9110, section 13.1.2)."""
    if condition == b"*":
        return True
    etag = entity_tag(stored)
    if etag is None or not _ETAGS.fullmatch(condition):
        return False
    return etag.removeprefix(b"W/") in _ETAG.findall(condition)


def _unmodified(since: list[bytes], stored: Headers) -> bool:
    """RFC 9110, section 13.1.3: several fields, or an invalid date, are ignored. Without a Last-Modified its Date
    counts (RFC 9111, section 4.3.2).
    """
    name = b"last-modified" if any(name == b"last-modified" for name, _ in stored) else b"date"
    modified = [value for field, value in stored if field == name]
    if len(since) != 1 or len(modified) != 1:
        return False
    limit, changed = parse_http_date(since[0]), parse_http_date(modified[0])
    return limit is not None and changed is not None and changed <= limit


def not_modified_headers(stored: Headers) -> Headers:
    """The fields of a stored answer that its 304 must repeat (RFC 9110, section 15.4.5)."""
    return tuple(field for field in stored if field[0] in _OF_A_304)
