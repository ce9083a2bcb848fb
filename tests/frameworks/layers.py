"""What stands around the cache where a framework has nothing of its own for it: outside in, authentication, CORS, gzip.

Decides the rules that all apps have in common, and who is who. Must never differ from one framework to another.
"""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

from glasscache.asgi import Rule
from glasscache.asgi.types import ASGIApp, Receive, Scope, Send

ORIGINS = ["https://a.example", "https://b.example"]
PEOPLE = {b"Bearer of-ann": "ann", b"Bearer of-bob": "bob"}
MOUNT = "/mounted"


def tenant(scope: Scope) -> str | None:
    """Whose answer it is: the authentication outside has said so."""
    user: str | None = scope.get("user_name")
    return user


def rules(end: str = "") -> list[Rule]:
    """What is cached; everything under `/bare` is not. `end`: what every path ends in."""
    paths = ("/answer", "/slow", "/events", "/endless", "/fail", "/teapot", "/task")
    return [*(Rule(path + end, ttl=60) for path in paths), Rule("/private" + end, ttl=60, tenant=tenant)]


class Authentication:
    """Knows two people by their bearer tokens, and lets nobody else see `/private`."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request pass under the name of who sent it, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = next((PEOPLE.get(value) for key, value in scope["headers"] if key == b"authorization"), None)
        if name is not None or scope["path"] != "/private":
            await self._app({**scope, "user_name": name}, receive, send)
            return
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})


def around(cached: ASGIApp) -> ASGIApp:
    """These layers around an app that has its cache."""
    zipped: ASGIApp = GZipMiddleware(cached, minimum_size=500)
    shared: ASGIApp = CORSMiddleware(zipped, allow_origins=ORIGINS)
    return Authentication(shared)


def mounted(app: ASGIApp, child: ASGIApp, *, strips: bool = False) -> ASGIApp:
    """`child` under `MOUNT`, as the ASGI specification has it: `path` is whole, `root_path` says where it is mounted.

    `strips`: the way of older parents, `path` is what is left of it.
    """

    async def parent(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith(MOUNT + "/"):
            path = scope["path"].removeprefix(MOUNT) if strips else scope["path"]
            await child({**scope, "path": path, "root_path": scope.get("root_path", "") + MOUNT}, receive, send)
        else:
            await app(scope, receive, send)

    return parent
