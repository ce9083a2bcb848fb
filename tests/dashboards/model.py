"""The committed dashboards and alerts, as tests look at them: panels, targets, expressions with variables filled in.

Decides what stands for a variable. Must never build a dashboard: what is committed is what users get.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from typing import Any, NamedTuple

import promql_parser
import yaml

from glasscache_dashboards import DASHBOARDS, alert_rules, dashboard

RATE_INTERVAL = "3h17m"
"""Stands for $__rate_interval: a time that nobody writes."""
VARIABLES = {"__rate_interval": RATE_INTERVAL, "__range": "23h", "price_per_hour": "2"}


class Target(NamedTuple):
    """One expression of one panel."""

    uid: str
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def expr(self) -> str:
        return str(self.target["expr"])

    def __str__(self) -> str:
        return f"{self.uid} / {self.panel['title']} / {self.target['refId']}"


@cache
def boards() -> dict[str, dict[str, Any]]:
    return {uid: dashboard(uid) for uid in DASHBOARDS}


def panels(*, rows: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every panel, with the uid of its dashboard."""
    for uid, board in boards().items():
        for panel in board["panels"]:
            if rows or panel["type"] != "row":
                yield uid, panel


def targets(kind: str = "prometheus") -> Iterator[Target]:
    """Every target that asks a data source of this kind."""
    for uid, panel in panels():
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == kind:
                yield Target(uid, panel, target)


def alerts() -> list[dict[str, Any]]:
    """The rules of Prometheus."""
    rules: list[dict[str, Any]] = yaml.safe_load(alert_rules("prometheus"))["groups"][0]["rules"]
    return rules


def filled(expr: str, values: Mapping[str, str] = VARIABLES) -> str:
    """With the variables that are no matchers' values filled in; others stay, as a regular expression does."""
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], found[0]), expr)


class Selector(NamedTuple):
    """A selector in an expression: its conditions, its range, and the functions around it, innermost first."""

    name: str
    matchers: tuple[tuple[str, str, str], ...]
    seconds: float | None
    around: tuple[str, ...]


def selectors(expr: str) -> list[Selector]:
    """Every selector of a parsed expression."""
    found: list[Selector] = []
    _visit(promql_parser.parse(filled(expr)), (), found.append)
    return found


def _visit(node: Any, around: tuple[str, ...], tell: Callable[[Selector], None]) -> None:
    kind = type(node).__name__
    if kind == "VectorSelector":
        tell(_selector(node, None, around))
    elif kind == "MatrixSelector":
        tell(_selector(node.vector_selector, node.range.total_seconds(), around))
    else:
        within, children = _INSIDE[kind](node)
        for child in children:
            _visit(child, (*within, *around), tell)


_INSIDE: dict[str, Callable[[Any], tuple[tuple[str, ...], Iterable[Any]]]] = {
    "Call": lambda node: ((node.func.name,), node.args),
    "AggregateExpr": lambda node: ((str(node.op),), [node.expr]),
    "BinaryExpr": lambda node: ((), [node.lhs, node.rhs]),
    "ParenExpr": lambda node: ((), [node.expr]),
    "NumberLiteral": lambda node: ((), []),
}
"""What a node does to what is inside of it, and what that is."""
_OPERATORS = {
    "MatchOp.Equal": "=",
    "MatchOp.NotEqual": "!=",
    "MatchOp.Re": "=~",
    "MatchOp.NotRe": "!~",
}


def _selector(node: Any, seconds: float | None, around: tuple[str, ...]) -> Selector:
    conditions = tuple((each.name, _OPERATORS[str(each.op)], each.value) for each in node.matchers.matchers)
    return Selector(node.name, conditions, seconds, around)
