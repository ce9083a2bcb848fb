"""`glasscache warm`: has a running cache load what will be asked.

Decides how a file says what will be asked, in what pieces it is sent, and when all is warm. Must never hold more than
one piece of it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from typing import Any, NamedTuple

import msgspec

from glasscache.asgi._warm_page import MOST_AT_ONCE, MOST_BYTES, Line, Wanted
from glasscache.cli._page import fetch, token_of, warn_of_others
from glasscache.errors import ConfigurationError, StoreError

_TURNS = 8  # of loads that one request is to wait for: what is between may not wait for ever
_PATIENCE = 600.0  # seconds for these
_BYTES = MOST_BYTES // 2  # JSON may take more than its line does


class _Numbered(NamedTuple):
    number: int
    size: int
    line: Line


def run(options: argparse.Namespace) -> int:
    """Warm what a file says; 1 if not all of it is warm."""
    if not 1 <= options.concurrency <= MOST_AT_ONCE:
        raise ConfigurationError(f"--concurrency {options.concurrency}: give a number from 1 to {MOST_AT_ONCE}")
    counts: Counter[str] = Counter()
    said: dict[str, Any] = {"of": None}
    try:
        with nullcontext(sys.stdin) if options.file == "-" else open(options.file, encoding="utf-8") as file:
            for piece in _pieces(_read(file, options), _TURNS * options.concurrency):
                said = _warm(piece, options, counts)
    except OSError as error:
        raise ConfigurationError(f"{options.file}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{options.file} is no text in UTF-8: {error}") from None
    print(", ".join(f"{counts[kind]} {kind}" for kind in ("loaded", "fresh", "not stored", "failed")))
    warn_of_others(options, said, "ask each of them, or let them share Redis or a disk")
    return 1 if counts["not stored"] or counts["failed"] else 0


def _read(file: Iterable[str], options: argparse.Namespace) -> Iterator[_Numbered]:
    """Each line that says something."""
    for number, text in enumerate(map(str.strip, file), 1):
        if not text or text.startswith("#"):
            continue
        try:
            line = msgspec.json.decode(text, type=Line) if text.startswith("{") else Line(url=text)
            if options.site is not None and line.url.startswith("/"):
                line.url = options.site.rstrip("/") + line.url
            line.request()
        except (msgspec.MsgspecError, ConfigurationError) as error:
            raise ConfigurationError(f"{options.file}, line {number}: {error}") from None
        yield _Numbered(number, len(text.encode()), line)


def _pieces(lines: Iterable[_Numbered], most: int) -> Iterator[list[_Numbered]]:
    """Of at most so many lines, and of as many bytes as the page takes, unless one line has more."""
    piece: list[_Numbered] = []
    size = 0
    for line in lines:
        if piece and (len(piece) == most or size + line.size > _BYTES):
            yield piece
            piece, size = [], 0
        piece.append(line)
        size += line.size
    if piece:
        yield piece


def _warm(piece: list[_Numbered], options: argparse.Namespace, counts: Counter[str]) -> dict[str, Any]:
    """Have these warmed; counts and tells what became of them."""
    wanted = Wanted(requests=[numbered.line for numbered in piece], concurrency=options.concurrency)
    page = f"{options.at.rstrip('/')}/warm"
    said = fetch(page, token_of(options), msgspec.json.encode(wanted), patience=_PATIENCE)
    if "not_stored" not in said:
        raise StoreError(f"{options.at} warms nothing: ask for the path of GLASSCACHE_STATS_PATH")
    done = said["loaded"] + said["fresh"]
    counts.update({"loaded": said["loaded"], "fresh": said["fresh"]})
    for kind, what in (("not stored", said["not_stored"]), ("failed", said["failed"])):
        for reason, places in what.items():
            counts[kind] += len(places)
            done += len(places)
            for place in places:
                print(f"glasscache warm: line {piece[place].number}: {kind}: {reason}", file=sys.stderr)
    if done < len(piece):
        raise StoreError(f"{options.at} has stopped: no more was warmed from about line {piece[done].number} on")
    return said
