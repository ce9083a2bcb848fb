"""Structured fields (RFC 9651): the dictionaries and lists that caches read, by the strict letter.

Decides what such a field says. A field that breaks the syntax anywhere says nothing at all (section 4.2). Must never
raise on what an origin sent, and never take longer than in proportion to its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

Bare: TypeAlias = bool | int | float | str | bytes
"""An item: booleans, integers and decimals as Python has them, strings as str, all other kinds as they are written."""

_KEY = re.compile(rb"[a-z*][a-z0-9_.*-]*+")
_ITEM = re.compile(
    rb"""(?P<boolean>\?[01])
    | (?P<date>@-?[0-9]{1,15})
    | (?P<decimal>-?[0-9]{1,12}\.[0-9]{1,3})(?![0-9.])
    | (?P<integer>-?[0-9]{1,15})(?![0-9.])
    | "(?P<string>(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*+)"
    | (?P<token>[A-Za-z*][!#$%&'*+.^_`|~0-9A-Za-z:/-]*+)
    | (?P<binary>:[A-Za-z0-9+/=]*+:)
    | (?P<display>%"(?:[\x20-\x21\x23-\x24\x26-\x7e]|%[0-9a-f]{2})*+")""",
    re.VERBOSE,
)
_PARAMETER = re.compile(rb";[ ]*+")
_COMMA = re.compile(rb"[ \t]*+,[ \t]*+")
_BLANKS = re.compile(rb"[ ]++")
_ESCAPED = re.compile(r"\\(.)")


class _BrokenError(ValueError):
    """The field is none of this kind."""


class _Parser:
    """Reads one field from left to right; `at` is where it is."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        self.text = b", ".join(lines).strip(b" ")
        self.at = 0

    @property
    def is_at_end(self) -> bool:
        return self.at >= len(self.text)

    def take(self, pattern: re.Pattern[bytes]) -> re.Match[bytes] | None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
        return match

    def need(self, pattern: re.Pattern[bytes]) -> re.Match[bytes]:
        match = self.take(pattern)
        if match is None:
            raise _BrokenError
        return match

    def skip(self, byte: bytes) -> bool:
        found = self.text.startswith(byte, self.at)
        self.at += found
        return found

    def next_member(self) -> bool:
        """Past a comma, if there is one: then there has to be a member behind it."""
        if self.is_at_end:
            return False
        self.need(_COMMA)
        if self.is_at_end:
            raise _BrokenError
        return True

    def item(self) -> Bare:
        """A bare item; its parameters are read and dropped."""
        match = self.need(_ITEM)
        self.parameters()
        text = match[match.lastgroup or 0]
        match match.lastgroup:
            case "boolean":
                return text == b"?1"
            case "integer":
                return int(text)
            case "decimal":
                return float(text)
            case "string":
                return _ESCAPED.sub(r"\1", text.decode("ascii"))
        return text

    def parameters(self) -> None:
        while self.take(_PARAMETER):
            self.need(_KEY)
            if self.skip(b"="):
                self.need(_ITEM)

    def member(self) -> Bare | list[Bare]:
        """An item, or an inner list."""
        if not self.skip(b"("):
            return self.item()
        items: list[Bare] = []
        self.take(_BLANKS)
        while not self.skip(b")"):
            items.append(self.item())
            if not (self.take(_BLANKS) or self.text.startswith(b")", self.at)):
                raise _BrokenError
        self.parameters()
        return items


def parse_dictionary(lines: Iterable[bytes]) -> dict[bytes, Bare | list[Bare]] | None:
    """The members of a dictionary (section 3.2), the last of a name counts; None if it is broken anywhere."""
    parser = _Parser(lines)
    found: dict[bytes, Bare | list[Bare]] = {}
    try:
        more = not parser.is_at_end
        while more:
            name = parser.need(_KEY)[0]
            if parser.skip(b"="):
                found[name] = parser.member()
            else:
                found[name] = True
                parser.parameters()
            more = parser.next_member()
    except _BrokenError:
        return None
    return found


def parse_strings(lines: Iterable[bytes]) -> list[str]:
    """The strings of a list of strings (section 3.1); none at all if it is broken, or holds anything else."""
    parser = _Parser(lines)
    found: list[str] = []
    try:
        more = not parser.is_at_end
        while more:
            item = parser.member()
            if not isinstance(item, str):
                return []
            found.append(item)
            more = parser.next_member()
    except _BrokenError:
        return []
    return found
