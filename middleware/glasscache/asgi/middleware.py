"""The middleware: finds the rule of a request and hands it to its route. Everything else passes untouched."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import unquote

from glasscache._entry import Entry, Key
from glasscache._warming import CONCURRENCY, Warmed
from glasscache.asgi import _http
from glasscache.asgi._admin import AdminPages
from glasscache.asgi._request import BypassError
from glasscache.asgi._route import Route
from glasscache.asgi._routing import Routes
from glasscache.asgi._unsafe import Unsafe
from glasscache.asgi._warming import Warmer, WarmRequest
from glasscache.asgi.lifespan import watch_lifespan
from glasscache.asgi.rules import Rule, check_under
from glasscache.asgi.types import ASGIApp, Receive, Scope, Send
from glasscache.cache import Cache
from glasscache.errors import ConfigurationError
from glasscache.settings import Settings

CREDENTIALS: tuple[str, ...] = tuple(sorted(name.decode() for name in _http.CREDENTIALS))
"""Names of the request headers that say who asks: Authorization, Cookie, API keys."""

_WHOLE: dict[str, Any] = {"type": "http.response.body", "body": b"", "more_body": False}


class CacheMiddleware:
    """Caches the answers of any ASGI 3 app. Mount it inside authentication: a hit skips what the app would have done.

    - `cache`: by default one made from the environment (see `glasscache.settings.Settings`).
    - `rules`: what is cached, the first match wins; by default all that the headers of answers to GET allow.
    - `stats_path`: where JSON figures are served; by default `GLASSCACHE_STATS_PATH`, else nowhere.
    - `stats_token`: who sends it as a bearer token also sees the figures per rule, the live page, and may have
      answers removed or loaded; by default `GLASSCACHE_STATS_TOKEN`.
    - `credentials`: names of the request headers that say who asks, in place of `CREDENTIALS`: to add one, give
      `(*CREDENTIALS, "x-team-token")`.

    Raises ConfigurationError for what cannot work.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        cache: Cache | None = None,
        rules: Sequence[Rule] | None = None,
        stats_path: str | None = None,
        stats_token: str | None = None,
        credentials: Iterable[str] | None = None,
    ) -> None:
        settings = Settings.from_env()
        rules = _checked(rules)
        _check(app, cache, stats_path, stats_token, credentials)
        self.app = app
        self.cache: Cache = cache or settings.cache()
        for rule in rules:
            check_under(rule, self.cache.policy)
        named = _http.CREDENTIALS if credentials is None else frozenset(name.lower().encode() for name in credentials)
        handlers = [(rule, Route(rule, self.cache, app, named).handlers()) for rule in rules]
        token = stats_token or settings.stats_token
        unsafe = Unsafe(app, self.cache, self._route_of)
        forget = partial(unsafe.forget, source="api")
        self._warmer = Warmer(self.cache, self._route_of)
        self._admin = AdminPages(self.cache, stats_path or settings.stats_path, token, forget, self._warmer)
        self._named = Routes([*self._admin.handlers, *handlers])
        """By what it is asked for; `_routes`: by what it answers, that is nothing where the cache is switched off."""
        self._routes = self._named if self.cache.enabled else Routes(self._admin.handlers)
        self._unsafe = unsafe.serve

    def _route_of(self, scope: Scope) -> Route | None:
        """The route of a request, if its answers may be stored."""
        return _owner(self._named.of(_path_of(scope)).get(scope["method"]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._serve_other(scope, receive, send)
            return
        path = scope["path"]
        if scope.get("root_path"):
            path = _path_of(scope)
        routes = self._routes.known.get(path)
        if routes is None:
            routes = self._routes.find(path)
            if not routes:
                await self.app(scope, receive, send)
                return
        route = routes.get(scope["method"])
        if route is None:
            reads = "GET" in routes or "QUERY" in routes
            route = self._unsafe if reads and scope["method"] not in _http.SAFE else self.app
        answer = route(scope, receive, send)
        if type(answer) is not Entry:
            await answer
            return
        _, start, fields = answer.shown  # as `send_hit`, but for a call
        start, body = start.copy(), _WHOLE.copy()
        start["headers"] = [*fields]
        body["body"] = answer.content
        await send(start)
        await send(body)

    async def _serve_other(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is no request of HTTP; apart, since the shorter a function is, the fewer steps it takes."""
        if scope["type"] == "lifespan":
            self._warmer.surroundings = scope
            await watch_lifespan(self.app, self.cache, scope, receive, send, ending=self._admin.close)
        else:
            await self.app(scope, receive, send)

    def key_for(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        tenant: str | None = None,
        query: str = "",
        headers: Iterable[tuple[str, str]] = (),
        host: str | None = None,
        scheme: str | None = None,
        root_path: str = "",
    ) -> Key:
        """The key of a request, for `cache.invalidate(key=...)`.

        - `path`: as a client sends it, percent-encoded.
        - `headers`: those that are keyed (a rule's `headers`; a body's Content-Type, by default `application/json`).
        - `tenant`: what the rule's tenant would say.
        - `host`, `scheme`: by default the ones that this middleware has seen, if there is just one pair.

        ConfigurationError if no rule matches, or if the request would be bypassed.
        """
        plain = unquote(path)
        route = _owner(self._named.of(plain).get(method))
        if route is None:
            raise ConfigurationError(f"key_for({method!r}, {path!r}): no rule matches it")
        fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        if body and all(name != b"content-type" for name, _ in fields):
            fields.append((b"content-type", b"application/json"))
        if host is None or scheme is None:
            scheme, host = route.authority(scheme, host)
        scope: Scope = {
            "type": "http",
            "method": method,
            "scheme": scheme,
            "path": root_path + plain,
            "raw_path": (root_path + path).encode(),
            "root_path": root_path,
            "query_string": query.encode(),
            "headers": [(b"host", host.encode("latin-1")), *fields],
        }
        try:
            return route.key_of(scope, body, tenant=tenant)
        except BypassError as bypass:
            raise ConfigurationError(f"key_for({method!r}, {path!r}): it is bypassed ({bypass.reason})") from None

    async def warm(
        self,
        requests: Iterable[str | WarmRequest],
        *,
        concurrency: int = CONCURRENCY,
        host: str | None = None,
        scheme: str | None = None,
        root_path: str = "",
    ) -> Warmed:
        """Load the answers to these requests before anybody asks: after a start, after an invalidation.

        `requests`: path and query, or all of a URL, each percent-encoded as a client sends it; or `WarmRequest`s. What
        is fresh is left alone, in any tier; what is missing or stale is loaded by the app, as for a request and by the
        same rules, at most `concurrency` at once. One that fails stops no other. `host`, `scheme`: of URLs that do
        not say them; by default the ones that this middleware has seen, if there is just one pair. `root_path`: where
        the app is mounted; URLs begin with it. A shutdown ends it, and what was done until then is told.
        ConfigurationError for what cannot work.
        """
        way: Scope = {"root_path": root_path} | ({} if scheme is None else {"scheme": scheme})
        way["headers"] = [] if host is None else [(b"host", host.encode("latin-1"))]
        return await self._warmer.warm(requests, way, concurrency)


def _check(app: Any, cache: Any, stats_path: Any, stats_token: Any, credentials: Any) -> None:
    """ConfigurationError for what would only fail, or would leave answers unprotected, when a request comes."""
    problem = ""
    if not callable(app):
        problem = f"app={app!r}): give an ASGI app"
    elif not isinstance(cache, Cache | None):
        problem = f"cache={cache!r}): give a Cache, such as Cache(MemoryStore())"
    elif not (stats_path is None or (isinstance(stats_path, str) and stats_path.startswith("/"))):
        problem = f"stats_path={stats_path!r}): give a path that begins with /, such as '/metrics/cache'"
    elif not isinstance(stats_token, str | None):
        problem = f"stats_token: {type(stats_token).__name__}): give a text"
    elif credentials is not None and (
        isinstance(credentials, str) or not all(isinstance(name, str) for name in credentials)
    ):
        problem = f"credentials={credentials!r}): give a tuple of names, such as (*CREDENTIALS, 'x-team-token')"
    if problem:
        raise ConfigurationError(f"CacheMiddleware({problem}")


def _checked(rules: Any) -> Sequence[Rule]:
    """The rules. ConfigurationError for what is no list of them."""
    if rules is None:
        return (Rule("/*"),)
    found = tuple(rules) if isinstance(rules, Iterable) else (rules,)
    if isinstance(rules, Rule) or not all(isinstance(rule, Rule) for rule in found):
        raise ConfigurationError(f"CacheMiddleware(rules={rules!r}): give a list, such as [Rule('/search', ttl=60)]")
    return found


def _owner(handler: object) -> Route | None:
    """The route behind a handler; None: it is a page of ours, or nothing."""
    route = getattr(handler, "__self__", None)
    return route if isinstance(route, Route) else None


def _path_of(scope: Scope) -> str:
    """The path that rules are about: below where the app is mounted."""
    path: str = scope["path"]
    root = scope.get("root_path")
    if root and (path == root or path.startswith(root + "/")):
        return path[len(root) :] or "/"
    return path
