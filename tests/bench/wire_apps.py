"""What uvicorn serves for wrk: `python -m tests.bench.wire_apps NAME` prints its port, and serves until it is ended.

Decides how it is served: uvloop, httptools, no access log. The socket is made here and listens before the port is told;
one that is handed over by `uvicorn --fd` is taken for a Unix socket, and gets no TCP_NODELAY.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware
from tests.bench.cases import rules
from tests.bench.traffic import ANSWER, App, raw


def constant() -> App:
    """The limit."""
    return raw


def hit() -> App:
    """The same answer as a hit, with the default telemetry."""
    return CacheMiddleware(raw, cache=Cache(MemoryStore()), rules=rules())


def starlette_route() -> App:
    """The framework's own way to it."""

    async def endpoint(request: Request) -> Response:
        return Response(ANSWER, media_type="application/json")

    return Starlette(routes=[Route("/answer", endpoint)])


APPS: dict[str, Callable[[], App]] = {"constant": constant, "hit": hit, "starlette_route": starlette_route}


def main(name: str) -> None:
    """Serve one of them on a free port."""
    config = uvicorn.Config(APPS[name](), loop="uvloop", http="httptools", access_log=False, log_level="warning")
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(sys.argv[1])
