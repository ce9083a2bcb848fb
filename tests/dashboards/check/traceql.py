"""Queries as the parsers of Grafana's own editor read them, and what a TraceQL search finds among exported spans.

Decides what a search means: the part of TraceQL that our dashboards use, read off the parser's tree. Tempo is in no
registry that this could install it from, so this stands for its search; what it does not know it refuses.
"""

from __future__ import annotations

import json
import operator
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from tests.support.otlp_model import Span

Tree: TypeAlias = dict[str, Any]
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3_600.0}


def parse(modules: Path, queries: Sequence[tuple[str, str]]) -> list[Tree]:
    """The tree of each (language, query); SystemExit for one that is not of its language."""
    script = modules / "parse.mjs"
    script.write_text(Path(__file__).with_name("parse.mjs").read_text())  # beside the modules that it imports
    asked = json.dumps([{"language": language, "query": query} for language, query in queries])
    done = subprocess.run(["node", str(script)], input=asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr}")
    told = json.loads(done.stdout)
    wrong = [
        f"{query}\n  at {each['errors']}" for (_, query), each in zip(queries, told, strict=True) if each["errors"]
    ]
    if wrong:
        raise SystemExit("no parser of Grafana reads:\n" + "\n".join(wrong))
    return [each["tree"] for each in told]


def search(tree: Tree, spans: Iterable[Span]) -> list[dict[str, object]]:
    """The rows of the table: for each span that is found, its ids, its duration, and what is selected."""
    (condition,) = _of_kind(tree, "SpansetFilter")
    (wanted,) = _children(condition, "FieldExpression")
    columns = [
        field["text"] for select in _of_kind(tree, "SelectOperation") for field in _of_kind(select, "AttributeField")
    ]
    return [
        {
            "trace": span.trace_id,
            "span": span.span_id,
            "duration": (span.end_ns - span.start_ns) / 1e9,
            **{column: _attribute(column, span) for column in columns},
        }
        for span in spans
        if _holds(wanted, span)
    ]


def _holds(expression: Tree, span: Span) -> bool:
    parts = _children(expression, "FieldExpression")
    if _children(expression, "And"):
        return all(_holds(part, span) for part in parts)
    left, right = (_value(part, span) for part in parts)
    (compared,) = _children(expression, "FieldOp")
    return left is not None and _OPERATORS[compared["text"]](left, right)


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "=~": lambda value, pattern: re.fullmatch(pattern, value) is not None,
}


def _value(expression: Tree, span: Span) -> object:
    (leaf,) = expression["children"]
    text: str = leaf["text"]
    if leaf["name"] == "IntrinsicField":
        return {"name": span.name, "duration": (span.end_ns - span.start_ns) / 1e9}[text]
    if leaf["name"] == "AttributeField":
        return _attribute(text, span)
    (literal,) = leaf["children"]
    return _LITERALS[literal["name"]](text)


def _duration(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)([a-zµ]+)", text)
    assert found, text
    return float(found[1]) * _SECONDS[found[2]]


_LITERALS: dict[str, Callable[[str], object]] = {"String": json.loads, "Integer": int, "Duration": _duration}


def _attribute(name: str, span: Span) -> object:
    scope, _, key = name.partition(".")
    return {"span": span.attributes, "resource": span.resource}[scope].get(key)


def _children(tree: Tree, name: str) -> list[Tree]:
    return [child for child in tree["children"] if child["name"] == name]


def _of_kind(tree: Tree, name: str) -> Iterator[Tree]:
    if tree["name"] == name:
        yield tree
        return
    for child in tree["children"]:
        yield from _of_kind(child, name)
