"""`glasscache why`: what became of a request, in words.

Decides how a Cache-Status is read aloud. Must never ask more than once: a load may cost money.
"""

from __future__ import annotations

import argparse
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from http.client import HTTPException
from urllib.parse import urlsplit

from glasscache.asgi import _why
from glasscache.cli._page import ask
from glasscache.errors import ConfigurationError, StoreError

_OUTCOMES = (
    ("hit; ttl=-", "a stored answer past its time; detail says why it is given all the same"),
    ("hit", "a stored answer, fresh for as many seconds more as ttl says"),
    ("fwd-status=304", "a stored answer, of which the app has just said that it still holds"),
    ("collapsed", "the answer that another request for the same was waiting for"),
    ("stored", "loaded, and stored: who asks next gets it from the cache"),
)
"""What a field has in it, and what it means; the first one that is found."""
_NAME = re.compile(r"^\s*cache-status:\s*", re.IGNORECASE)
_DETAIL = re.compile(r'detail="?([^";]+)')


def run(options: argparse.Namespace) -> int:
    """Tell what a URL or a Cache-Status is about."""
    what = options.what
    if not what.startswith(("http://", "https://")):
        meant = list(_meanings(_NAME.sub("", what)))
        if not meant:
            raise ConfigurationError(f"{what!r}: give a URL, a Cache-Status of glasscache, or a word of its detail=")
        print("\n".join(meant))
        return 0
    status, fields = _ask(options)
    print(status)
    for field in fields:
        print("\n  ".join([field, *_meanings(field)]))
    if not fields:
        print(f"  no Cache-Status: the path {urlsplit(what).path or '/'} has no rule for that method, or what answers")
        print("  stands before the cache: middleware outside of it, another server")
    return 0


def _ask(options: argparse.Namespace) -> tuple[str, list[str]]:
    """The status, and each Cache-Status of ours. StoreError, ConfigurationError."""
    headers = {} if options.data is None else {"Content-type": "application/json"}
    for header in options.header:
        name, colon, value = header.partition(":")
        if not colon:
            raise ConfigurationError(f"-H {header!r}: give 'NAME: VALUE'")
        headers[name.strip().capitalize()] = value.strip()
    data = None if options.data is None else options.data.encode()
    try:
        request = urllib.request.Request(options.what, data, headers, method=options.method)
        with ask(request) as answer:
            return _seen(answer.status, answer.reason, answer.headers)
    except urllib.error.HTTPError as error:
        with error:  # it is the connection, too
            return _seen(error.code, error.reason, error.headers)
    except (OSError, HTTPException) as error:
        raise StoreError(f"{options.what} does not answer: {getattr(error, 'reason', error)}") from None
    except ValueError as error:
        raise ConfigurationError(f"{options.what!r} cannot be asked: {error}") from None


def _seen(code: int, reason: str, headers: Message) -> tuple[str, list[str]]:
    members = ",".join(headers.get_all("cache-status", ())).split(",")
    return f"{code} {reason}", [field.strip() for field in members if field.strip().startswith("glasscache;")]


def _meanings(field: str) -> Iterator[str]:
    """What a Cache-Status of ours, or a word of its detail, means."""
    found = _DETAIL.search(field)
    word = (field if found is None else found[1]).strip()
    is_loaded = found is not None and not re.search("fwd=(bypass|method|request)", field)
    if word in _why.BYPASSED and not is_loaded:
        yield f"the request went past the cache ({word}): {_why.BYPASSED[word]}"
    if word not in _why.BYPASSED and "fwd=bypass" in field:
        yield f"the request went past the cache ({word}), as the rule's own key= says"
    if word in _why.UNSTORED and (found is None or is_loaded):
        yield f"the answer was not stored ({word}): {_why.UNSTORED[word]}"
    if ";" in field:
        yield from [meaning for sign, meaning in _OUTCOMES if sign in field][:1]
