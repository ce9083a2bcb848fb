"""The matrix as data: frameworks, what each does in a way of its own, and where the contract does not hold, and why.

The tests and docs/frameworks.md are made from this. Must never name an exception without what happens instead: the
test proves both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.frameworks.cell import Check
from tests.frameworks.instead import lifespan_never_offered, lifespan_refused, mounted_without_root_path
from tests.frameworks.servers import SERVERS, Server


@dataclass(frozen=True)
class Framework:
    """A framework, where its users put the cache, and what its cells do in another way than most."""

    id: str
    title: str
    mounting: str
    notes: tuple[str, ...] = ()

    @property
    def app(self) -> str:
        """What a server is told to serve."""
        return f"tests.frameworks.apps.{self.id}_app:app"


@dataclass(frozen=True)
class Exemption:
    """Where features do not hold (None: everywhere), why, and the check of what happens instead."""

    framework: str | None
    server: str | None
    features: tuple[str, ...]
    reason: str
    instead: Check

    def concerns(self, framework: Framework, server: Server) -> bool:
        """Whether this is about that cell."""
        return self.framework in (None, framework.id) and self.server in (None, server.id)


_TASK = "It has no background tasks of its own: an `asyncio` task that the app keeps a reference to stands in."

FRAMEWORKS = (
    Framework("fastapi", "FastAPI", "`app.add_middleware(CacheMiddleware, cache=cache, rules=[...])`"),
    Framework(
        "starlette", "Starlette", "`Starlette(middleware=[Middleware(CacheMiddleware, cache=cache, rules=[...])])`"
    ),
    Framework(
        "litestar",
        "Litestar",
        "`Litestar(middleware=[DefineMiddleware(CacheMiddleware, cache=cache, rules=[...])], "
        "on_shutdown=[cache.aclose])`",
        (
            "It builds its middleware once per route, inside its router: the cache sees no lifespan, so name "
            "`cache.aclose` in `on_shutdown`; unknown paths and methods never reach the cache, nor do the pages below "
            "`stats_path`. `app = CacheMiddleware(Litestar(...), cache=cache, rules=[...])`, around all of it, has "
            "neither limit.",
            "Its POST handlers answer 201, and a rule with a `ttl` stores 200 alone: `@post(..., status_code=200)`, or "
            "`Rule(..., statuses=(200, 201))`.",
        ),
    ),
    Framework("quart", "Quart", "`app.asgi_app = CacheMiddleware(app.asgi_app, cache=cache, rules=[...])`"),
    Framework(
        "django",
        "Django",
        "`application = CacheMiddleware(get_asgi_application(), cache=cache, rules=[...])`",
        (
            _TASK,
            "When a client leaves, the generator of a `StreamingHttpResponse` produces nothing any more, but may be "
            "closed only by the garbage collector.",
        ),
    ),
    Framework(
        "falcon",
        "Falcon",
        "`app = CacheMiddleware(app, cache=cache, rules=[...])`",
        ("It routes by the whole `path`: mount it under a parent that takes the prefix off.",),
    ),
    Framework("blacksheep", "BlackSheep", "`app = CacheMiddleware(app, cache=cache, rules=[...])`", (_TASK,)),
    Framework("raw", "none (raw ASGI)", "`app = CacheMiddleware(app, cache=cache, rules=[...])`"),
)

LIFESPAN = ("startup", "shutdown")

EXEMPTIONS = (
    Exemption(
        None,
        "daphne",
        LIFESPAN,
        "daphne sends no lifespan: the cache starts with its first request; nothing drains loads or closes stores when "
        "the server stops.",
        lifespan_never_offered,
    ),
    Exemption(
        "django",
        None,
        LIFESPAN,
        "Django's ASGI handler raises on a lifespan scope, and the servers go on without one: the cache starts with "
        "its first request; nothing drains loads or closes stores when the server stops.",
        lifespan_refused,
    ),
    Exemption(
        "litestar",
        None,
        ("mounted",),
        "An app in `@asgi(path, is_mount=True)` gets what is left of `path` and no `root_path`: its rules match that "
        "rest, and its entries are told apart from the parent's by `raw_path`.",
        mounted_without_root_path,
    ),
)


def exempt(framework: Framework, server: Server) -> dict[str, Exemption]:
    """By feature, why it does not hold in this cell; the first in the table counts."""
    found: dict[str, Exemption] = {}
    for exemption in EXEMPTIONS:
        if exemption.concerns(framework, server):
            found = {**dict.fromkeys(exemption.features, exemption), **found}
    return found


def cells() -> Iterator[tuple[Framework, Server]]:
    """Every framework on every server."""
    return ((framework, server) for framework in FRAMEWORKS for server in SERVERS)
