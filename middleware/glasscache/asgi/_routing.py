"""How a path finds its rule: the first one that matches it.

Decides what a path must look like. Must never take longer than one lookup where all rules have exact paths; nor
remember an unbounded number of paths, since anyone can send new ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from glasscache.asgi.rules import PARAMETER, Rule

_MOST_PATHS = 4096
"""Paths of templates and prefixes that are remembered."""
_LONGEST_PATH = 2048
"""Characters of a path that is remembered."""

_NOTHING: Mapping[str, Any] = {}


def pattern_of(rule: Rule) -> re.Pattern[str] | None:
    """What a path must look like; None: exactly like the rule's."""
    if rule.path.endswith("/*"):
        prefix, rest = rule.path[:-2], "(?:/.*)?"
    elif "{" in rule.path:
        prefix, rest = rule.path, ""
    else:
        return None
    literals = map(re.escape, PARAMETER.split(prefix))
    return re.compile("[^/]+".join(literals) + rest, re.DOTALL)


class Routes:
    """From a path to whatever was registered for it, by method: of several rules that match, the first.

    `known`: exact paths, and those that were asked for lately. A plain dict: to look into a subclass with `[]` costs
    calls that a plain one is spared.
    """

    def __init__(self, handlers: Sequence[tuple[Rule, Mapping[str, Any]]]) -> None:
        self._handlers = [(pattern_of(rule), rule.path, by_method) for rule, by_method in handlers]
        self._has_patterns = any(pattern for pattern, *_ in self._handlers)
        self.known: dict[str, Mapping[str, Any]] = {rule.path: self._match(rule.path) for rule, _ in handlers}
        self._exact = len(self.known)

    def _match(self, path: str) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        for pattern, exact, by_method in self._handlers:
            if pattern.fullmatch(path) if pattern else path == exact:
                found = {**by_method, **found}
        return found

    def find(self, path: str) -> Mapping[str, Any]:
        """What was registered for a path that is not known; empty if nothing was."""
        if not self._has_patterns:
            return _NOTHING
        found, known = self._match(path), self.known
        if len(path) > _LONGEST_PATH:
            return found
        if len(known) - self._exact >= _MOST_PATHS:
            for old in list(known)[self._exact :]:
                del known[old]
        known[path] = found
        return found

    def of(self, path: str) -> Mapping[str, Any]:
        """What was registered for any path."""
        found = self.known.get(path)
        return self.find(path) if found is None else found
