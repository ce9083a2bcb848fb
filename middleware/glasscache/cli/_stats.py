"""`glasscache stats`: the figures of a running cache, for a person.

Decides what of them fits on a screen. Must never show what the page does not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from glasscache.cli._page import fetch, token_of
from glasscache.errors import StoreError

_COLUMNS = {"hit_rate": "hit_rate", "requests": "total_requests", "hits": "total_hits", "misses": "total_misses"}
_COLUMNS |= {name: name for name in ("stale", "collapsed", "errors", "bypass")} | {"miss_ms": "avg_miss_time_ms"}
"""Of what a page says of each group, what fits on a line; `--json` has all of it."""


def run(options: argparse.Namespace) -> int:
    """Show a stats page."""
    token = token_of(options)
    said = fetch(options.url, token)
    if "hit_rate" not in said:
        raise StoreError(f"{options.url} is no stats page: ask for the path of GLASSCACHE_STATS_PATH")
    if token and "groups" not in said:
        print("glasscache stats: totals only: the page has another token, or none", file=sys.stderr)
    print(json.dumps(said, indent=2) if options.json else "\n".join(_lines(said)))
    return 0


def _lines(said: dict[str, Any]) -> Iterator[str]:
    groups = said.pop("groups", {})
    for name, value in said.items():
        if isinstance(value, Mapping):
            yield f"{name}:"
            yield from (f"  {inner:<28} {_figure(figure)}" for inner, figure in value.items())
        else:
            yield f"{name:<30} {_figure(value)}"
    if groups:
        yield from _table(groups)
    if said["bypass"] or said.get("not_stored"):
        yield "`glasscache why REASON` tells what a reason of bypass or not_stored means, and what to change"


def _table(groups: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A line for each group, those that are asked most first."""
    width = max(len("group"), *map(len, groups))
    yield f"{'group':<{width}}" + "".join(f" {column:>9}" for column in _COLUMNS)
    for name, said in sorted(groups.items(), key=lambda group: -group[1]["total_requests"]):
        yield f"{name:<{width}}" + "".join(f" {_figure(said[figure], 3):>9}" for figure in _COLUMNS.values())


def _figure(value: object, digits: int = 6) -> str:
    return "-" if value is None else f"{value:.{digits}g}" if isinstance(value, float) else str(value)
