"""The command line: `glasscache proxy ...`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from glasscache.asgi import CacheMiddleware
from glasscache.errors import GlasscacheError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit status."""
    parser = argparse.ArgumentParser(prog="glasscache", description="A cache you can see through.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    proxy = commands.add_parser("proxy", help="serve an HTTP service through the cache")
    proxy.add_argument("--upstream", required=True, metavar="URL", help="the service, such as http://127.0.0.1:8000")
    proxy.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    proxy.add_argument("--port", type=int, default=8080, help="port to listen on (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        return _proxy(options)
    except GlasscacheError as error:
        print(f"glasscache: {error}", file=sys.stderr)  # noqa: T201 - a command line
        return 2


def _proxy(options: argparse.Namespace) -> int:
    from glasscache.proxy import Edge, ReverseProxy  # noqa: PLC0415 - only this command needs the extra
    from glasscache.proxy.server import serve  # noqa: PLC0415

    app = Edge(CacheMiddleware(ReverseProxy(options.upstream)))
    serve(app, host=options.host, port=options.port)
    return 0


if __name__ == "__main__":
    sys.exit(main())
