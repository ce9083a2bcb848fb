"""What the commands are called, and what each may be told."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from glasscache._warming import CONCURRENCY
from glasscache.cli import _commands, _proxy, _stats, _warm, _why
from glasscache.cli._rules import SYNTAX

_RAW = argparse.RawDescriptionHelpFormatter
_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    top = argparse.ArgumentParser(
        prog="glasscache",
        formatter_class=_RAW,
        description="A cache you can see through.",
        epilog="Settings of the cache come from the environment (CACHE_TYPE, CACHE_MAX_SIZE, REDIS_URL, ...):\n"
        "`glasscache check` tells what they make. Each command has a --help of its own.",
    )
    top.add_argument("--version", action="version", version=f"glasscache {version('glasscache')}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    for add in (_add_proxy, _add_check, _add_key, _add_why, _add_stats, _add_invalidate, _add_warm):
        add(commands)
    return top


def _add_proxy(commands: _Commands) -> None:
    command = commands.add_parser(
        "proxy",
        help="put the cache in front of any HTTP service",
        formatter_class=_RAW,
        description="Serve an HTTP service through the cache. Without rules the service's own Cache-Control decides.",
        epilog=f"{SYNTAX}\n\nexample:\n  glasscache proxy --upstream http://127.0.0.1:8000 --rule '/search ttl=60'",
    )
    _proxy_arguments(command)
    command.set_defaults(run=_proxy.run)


def _add_check(commands: _Commands) -> None:
    command = commands.add_parser(
        "check",
        help="tell what the environment's settings make, or what is wrong with them",
        description="Tell what cache the environment's settings make, without secrets; with --config, that file, too.",
    )
    command.add_argument("--config", type=Path, metavar="FILE", help="a configuration file of `glasscache proxy`")
    command.add_argument("--connect", action="store_true", help="see whether Redis, or the disk, answers")
    command.set_defaults(run=_commands.check)


def _add_key(commands: _Commands) -> None:
    command = commands.add_parser(
        "key",
        aliases=["secret"],
        help="make a secret for GLASSCACHE_KEY",
        description="Print a new secret of 256 bits, for GLASSCACHE_KEY or GLASSCACHE_SECRETS.",
    )
    command.set_defaults(run=_commands.key)


def _add_why(commands: _Commands) -> None:
    command = commands.add_parser(
        "why",
        help="tell in words what Cache-Status says, and what to change",
        formatter_class=_RAW,
        description="Ask a URL once, and tell in words what became of it; or tell what a Cache-Status means.",
        epilog=_WHY_EXAMPLES,
    )
    command.add_argument("what", metavar="WHAT", help="a URL; or a Cache-Status, or the word after its detail=")
    command.add_argument("-X", "--method", metavar="METHOD", help="by default GET, with a body POST")
    command.add_argument("-H", "--header", action="append", default=[], metavar="'NAME: VALUE'", help="of the request")
    command.add_argument(
        "-d", "--data", metavar="BODY", help="of the request; Content-Type is application/json unless given"
    )
    command.set_defaults(run=_why.run)


def _add_stats(commands: _Commands) -> None:
    command = commands.add_parser(
        "stats",
        help="show the figures of a running cache",
        description="Show what the stats page of a running cache says (GLASSCACHE_STATS_PATH).",
    )
    command.add_argument("url", metavar="URL", help="of the stats page, such as http://127.0.0.1:8080/metrics/cache")
    command.add_argument("--token", help="shows the figures by rule, too (default: GLASSCACHE_STATS_TOKEN)")
    command.add_argument("--json", action="store_true", help="as the page says it")
    command.set_defaults(run=_stats.run)


def _add_invalidate(commands: _Commands) -> None:
    command = commands.add_parser(
        "invalidate",
        help="remove answers from a running cache",
        description="Remove answers: with --at of one process; without it on every machine, through Redis, or of every "
        "process, through the disk: set CACHE_TYPE, REDIS_URL or GLASSCACHE_DISK_PATH, GLASSCACHE_KEY (and "
        "GLASSCACHE_NAME or GLASSCACHE_PREFIX) as the service has them.",
    )
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("--tag", help="everything that carries this tag")
    what.add_argument("--key", help="what get_or_load was given, or a digest from key_for (32 hexadecimal digits)")
    what.add_argument("--url", help="the GET of this URL; --rule or --config as the proxy has them")
    what.add_argument("--all", action="store_true", help="everything: a new epoch begins")
    at = command.add_argument_group("asked of the process itself")
    at.add_argument("--at", metavar="URL", help=_PAGE)
    at.add_argument("--token", help=_TOKEN)
    _rule_arguments(command)
    command.set_defaults(run=_commands.invalidate)


def _add_warm(commands: _Commands) -> None:
    command = commands.add_parser(
        "warm",
        help="have a running cache load what will be asked",
        formatter_class=_RAW,
        description="Load answers before anybody asks, after a deployment or an invalidation; what is fresh stays.",
        epilog=_WARM_FILE,
    )
    command.add_argument("file", metavar="FILE", help="what will be asked, most asked first (-: standard input)")
    command.add_argument("--at", metavar="URL", required=True, help=_PAGE)
    command.add_argument("--token", help=_TOKEN)
    command.add_argument(
        "--site", metavar="URL", help="what users ask, if that is not the scheme and host of --at: https://example.com"
    )
    at_once = "loads at once, up to 64 (default: %(default)s)"
    command.add_argument("--concurrency", type=int, default=CONCURRENCY, metavar="N", help=at_once)
    command.set_defaults(run=_warm.run)


_WHY_EXAMPLES = """examples:
  glasscache why 'http://127.0.0.1:8000/search?q=a' -H 'Authorization: Bearer ...'
  glasscache why http://127.0.0.1:8000/ask -d '{"question": "How do I pay?"}'
  glasscache why 'glasscache; fwd=bypass; detail=credentials'"""
_PAGE = "its stats page, such as http://127.0.0.1:8080/metrics/cache"
_TOKEN = "its token (default: GLASSCACHE_STATS_TOKEN)"
_WARM_FILE = """each line of FILE is path and query, a whole URL, or JSON; # begins a comment:
  /search?q=opening+hours
  {"url": "/ask", "body": {"question": "How do I pay?", "top_k": 5}}
  {"url": "/docs/7", "headers": {"x-team": "sales"}, "tenant": "sales"}
With a body it is a POST unless "method" says otherwise. Exit status 1: not all of it is warm; why is told."""


def _rule_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--rule", action="append", default=[], metavar="RULE", help="what is cached; first match wins")
    command.add_argument("--config", type=Path, metavar="FILE", help="the same and more, from a TOML file")


def _proxy_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--upstream", metavar="URL", help="the service, such as http://127.0.0.1:8000")
    command.add_argument("--host", help="address to listen on (default: 127.0.0.1)")
    command.add_argument("--port", type=int, help="port to listen on (default: 8080; 0: any)")
    _rule_arguments(command)
    more = command.add_argument_group("connections")
    yes = argparse.BooleanOptionalAction
    more.add_argument("--keep-host", action=yes, help="pass the client's Host on (default: the upstream's)")
    more.add_argument("--trust-forwarded", action=yes, help="believe X-Forwarded-*: another proxy of yours is in front")
    more.add_argument("--ca", type=Path, metavar="FILE", help="certificates that an https upstream is checked by")
    more.add_argument("--max-connections", type=int, metavar="N", help="to the upstream at once (default: 256)")
    seconds = {"type": float, "metavar": "SECONDS"}
    more.add_argument("--connect-timeout", **seconds, help="to get a connection (default: 5)")  # type: ignore[arg-type]
    more.add_argument("--read-timeout", **seconds, help="without a byte from the upstream (default: 60)")  # type: ignore[arg-type]
    more.add_argument("--keep-alive", **seconds, help="a connection rests at most so long (default: 4)")  # type: ignore[arg-type]
    seen = command.add_argument_group("what can be seen")
    seen.add_argument("--access-log", action=yes, help="a line for each request")
    seen.add_argument("--telemetry", action=yes, help="OpenTelemetry, as the OTEL_* variables say (extra exporters)")
