"""From words, on the command line or in a TOML file, to rules.

Decides which parts of a `Rule` can be said in words: those that take a callable cannot. A mistake is told with the rule
that it stands in, and what would be right.
"""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping
from typing import Any

from glasscache._switch import flag
from glasscache.asgi import QueryKey, Rule, credential, json_body
from glasscache.errors import ConfigurationError

SYNTAX = """a RULE is a path and what holds for it:
  '/search ttl=60 stale-while-revalidate=30'     an answer is fresh for 60 seconds, then for 30 while it is renewed
  '/docs/{id} ttl=300 tags=docs'                 one name in the path; a tag for `glasscache invalidate`
  '/ask methods=POST ttl=60 json=question,top_k json-ignore=user'    keyed by these fields of a JSON body
  '/account/* ttl=30 tenant=authorization'       each value of this header has answers of its own
  '/public/* ttl=60 shared query-ignore=utm_source,utm_medium'       credentials and these parameters do not matter
  '/users/{id} ttl=60 jitter=0.1 statuses=200,404 negative-ttl=5'    up to a tenth shorter at random; 404s for 5 seconds
  '/*'                                           all other paths, as their own Cache-Control says"""


def _seconds(value: object) -> float:
    if isinstance(value, str):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError
    return float(value)


def _count(value: object) -> int:
    if isinstance(value, str):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError
    return value


def _counts(value: object) -> tuple[int, ...]:
    return tuple(map(_count, value.split(",") if isinstance(value, str) else _list(value)))


def _words(value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [word for word in map(str.strip, value.split(",")) if word]
    words = _list(value)
    if not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError
    return tuple(words)


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError
    return value


def _flag(value: object) -> bool:
    return value if isinstance(value, bool) else flag(_word(value))


def _word(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    return value


_SECONDS = (_seconds, "a number of seconds, 0 or more")
_COUNT = (_count, "a whole number")
_FLAG = (_flag, "yes or no")
_WORD = (_word, "a word")
_WORDS = (_words, "one or more words, with commas between")

FIELDS: Mapping[str, tuple[Callable[[object], Any], str]] = {
    "methods": _WORDS,
    "ttl": _SECONDS,
    "stale-while-revalidate": _SECONDS,
    "stale-if-error": _SECONDS,
    "negative-ttl": _SECONDS,
    "jitter": (_seconds, "a share of the ttl from 0 to 1"),
    "tenant": (_word, "the name of a request header, such as authorization"),
    "shared": _FLAG,
    "host": _FLAG,
    "headers": _WORDS,
    "query-only": _WORDS,
    "query-ignore": _WORDS,
    "query-sort": _FLAG,
    "json": _WORDS,
    "json-ignore": _WORDS,
    "tags": _WORDS,
    "statuses": (_counts, "one or more statuses, with commas between"),
    "client-may-refresh": _FLAG,
    "etag": _FLAG,
    "max-loads": _COUNT,
    "max-body": (_count, "a number of bytes"),
    "body-timeout": _SECONDS,
    "name": _WORD,
}
"""What a rule may say beside its path: how it is read, and what it has to be."""


def rule_of_text(text: str) -> Rule:
    """The rule that one argument of the command line says. ConfigurationError."""
    try:
        path, *words = shlex.split(text)
    except ValueError:
        raise ConfigurationError(
            f"rule {text!r}: give a path and what holds for it, such as '/search ttl=60'"
        ) from None
    said: dict[str, object] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name in said:
            raise ConfigurationError(f"rule {text!r}: {name} is said twice")
        said[name] = value if equals else True
    return rule_of(path, said)


def rule_of(path: str, said: Mapping[str, object]) -> Rule:
    """The rule for `path` of which this is said; names with - or _ between their words. ConfigurationError."""
    values: dict[str, Any] = {}
    for spelt, value in said.items():
        name = spelt.replace("_", "-")
        if name not in FIELDS:
            close = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(FIELDS)}"
            raise ConfigurationError(f"rule {path!r}: there is no {name!r}; {hint}")
        read, wanted = FIELDS[name]
        try:
            values[name.replace("-", "_")] = read(value)
        except ValueError:
            raise ConfigurationError(f"rule {path!r}: {name}={value!r}: give {wanted}") from None
    return _rule(path, values)


def _rule(path: str, values: dict[str, Any]) -> Rule:
    query = {name: values.pop(f"query_{name}") for name in ("only", "ignore", "sort") if f"query_{name}" in values}
    if query:
        values["query"] = QueryKey(**query)
    if "json" in values or "json_ignore" in values:
        values["key"] = json_body(*values.pop("json", ()), ignore=values.pop("json_ignore", ()))
    if "tenant" in values:
        values["tenant"] = credential(values["tenant"])
    return Rule(path, **values)
