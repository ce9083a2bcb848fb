"""Asking the pages of a running cache, under its `stats_path`.

Decides how long to wait for one, and with which words a refusal is told. Must never show the token, nor send it to
where a redirect leads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from glasscache.errors import ConfigurationError, StoreError

PATIENCE = 10.0  # seconds


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: it is an answer, too, and where it leads is not told who asks."""

    def redirect_request(self, *_: object) -> None:
        """No other request."""


def ask(request: urllib.request.Request, patience: float = PATIENCE) -> Any:
    """The answer of whom is asked, and of nobody else. Raises what urllib raises."""
    return urllib.request.build_opener(_Stay).open(request, timeout=patience)


def token_of(options: argparse.Namespace) -> str | None:
    """The stats token, if it is given."""
    said: str | None = options.token or os.environ.get("GLASSCACHE_STATS_TOKEN")
    return said


def fetch(url: str, token: str | None, content: bytes | None = None, *, patience: float = PATIENCE) -> dict[str, Any]:
    """What a page says, asked by GET or with content by POST. StoreError."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigurationError(f"{url!r}: give the URL of a stats page, such as http://127.0.0.1:8080/metrics/cache")
    request = urllib.request.Request(url, content, {"Authorization": f"Bearer {token}"} if token else {})
    try:
        with ask(request, patience) as answer:
            said = json.load(answer)
    except urllib.error.HTTPError as error:
        with error:  # it is the connection, too
            raise StoreError(f"{url} answers {error.code} {error.reason}: {_remedy(error)}") from None
    except (OSError, HTTPException) as error:
        raise StoreError(f"{url} does not answer: {getattr(error, 'reason', error)}") from None
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _remedy(error: urllib.error.HTTPError) -> str:
    """What the page says itself of a refusal, if it is one of ours."""
    if error.code == 401:
        return "give its token with --token"
    if where := error.headers["location"]:
        return f"it leads to {where}: ask there"
    try:
        return str(json.load(error)["error"])
    except (OSError, ValueError, LookupError, TypeError):
        return "is it the page of GLASSCACHE_STATS_PATH?"


def warn_of_others(options: argparse.Namespace, said: Mapping[str, Any], what: str) -> None:
    """One worker of several was asked."""
    if said["of"] not in (None, 1):
        print(f"glasscache {options.command}: one worker of {said['of']} was asked: {what}", file=sys.stderr)
