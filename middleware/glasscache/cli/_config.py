"""What `glasscache proxy` is told: by its arguments and, where these say nothing, by a TOML file.

Decides names, defaults and what is refused; a mistake in a file is told with the file's name.
"""

from __future__ import annotations

import argparse
import difflib
import ssl
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from glasscache.asgi import Rule
from glasscache.cli._rules import rule_of, rule_of_text
from glasscache.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """All of it. Times in seconds; None: as `glasscache.proxy` has it."""

    upstream: str | None = None
    host: str = "127.0.0.1"
    port: int = 8080
    rules: tuple[Rule, ...] = ()
    """None at all: everything, as the upstream's own Cache-Control says."""
    keep_host: bool = False
    trust_forwarded: bool = False
    ca: str | None = None
    max_connections: int = 256
    connect_timeout: float = 5.0
    read_timeout: float = 60.0
    keep_alive: float = 4.0
    access_log: bool = False
    telemetry: bool = False

    def tls(self) -> ssl.SSLContext | None:
        """How an https upstream is checked; None: by the system's certificates. ConfigurationError."""
        if self.ca is None:
            return None
        try:
            return ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise ConfigurationError(f"ca {self.ca!r}: {error}; give a file of PEM certificates") from None


_TYPES: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
_KINDS = {
    field.name: _TYPES[str(field.type).partition(" ")[0]] for field in fields(ProxyConfig) if field.name != "rules"
}


def config_of(options: argparse.Namespace) -> ProxyConfig:
    """What the arguments and the file that they name say. ConfigurationError."""
    said = {} if options.config is None else _read(options.config)
    given = {name: getattr(options, name, None) for name in _KINDS}
    said |= {name: str(value) if name == "ca" else value for name, value in given.items() if value is not None}
    if rules := tuple(map(rule_of_text, getattr(options, "rule", ()))):
        said["rules"] = rules + said.get("rules", ())
    config = ProxyConfig(**said)
    if not 0 <= config.port <= 65535:
        raise ConfigurationError(f"port {config.port}: give a number from 1 to 65535, or 0 for any that is free")
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        said = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ConfigurationError(f"config {str(path)!r}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"config {str(path)!r} is no TOML: {error}") from None
    try:
        return _checked(said)
    except ConfigurationError as error:
        raise ConfigurationError(f"config {str(path)!r}: {error}") from None


def _checked(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"rules": tuple(map(_rule, _tables(said.pop("rules", []))))}
    for spelt, value in said.items():
        name = spelt.replace("-", "_")
        kinds = _KINDS.get(name)
        if kinds is None:
            close = difflib.get_close_matches(name, [*_KINDS, "rules"], n=1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(_KINDS)} and [[rules]]"
            raise ConfigurationError(f"there is no {name!r}; {hint}")
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigurationError(f"{name} = {value!r}: that has to be {kinds[0].__name__}")
        found[name] = value
    return found


def _tables(value: object) -> list[dict[str, Any]]:
    if isinstance(value, list) and all(isinstance(item, dict) for item in value):
        return value
    raise ConfigurationError("rules: write each as a table, [[rules]] with path = '/search' and what holds for it")


def _rule(table: dict[str, Any]) -> Rule:
    path = table.pop("path", None)
    if not isinstance(path, str):
        raise ConfigurationError(f"[[rules]] {table!r}: has no path, such as path = '/search'")
    return rule_of(path, table)
