"""Which requests are cached, and on what terms: the rules.

A rule is checked when it is made: one that cannot work is refused with its remedy. Nothing here reads a request's body
or decides about an answer.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, TypeAlias, TypeVar
from urllib.parse import unquote

from glasscache._entry import Headers
from glasscache.errors import ConfigurationError
from glasscache.interfaces import KeyBuilder
from glasscache.policy import Policy

PARAMETER = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")

T = TypeVar("T")
Tenant: TypeAlias = Callable[[Any], str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryKey:
    """Which query parameters are part of the key; by default the query string as it was sent.

    `only`: just these. `ignore`: all but these. `sort`: their order does not matter. Naming parameters is a promise
    that the app does not look at the others.
    """

    only: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    sort: bool = False

    def __post_init__(self) -> None:
        if self.only and self.ignore:
            raise ConfigurationError("QueryKey(only=..., ignore=...): give one of the two")
        for name in ("only", "ignore"):
            value = getattr(self, name)
            if isinstance(value, str) or not all(isinstance(one, str) for one in value):
                raise ConfigurationError(f"QueryKey({name}={value!r}): give a tuple of names, such as ('q', 'page')")
        if not isinstance(self.sort, bool):
            raise ConfigurationError(f"QueryKey(sort={self.sort!r}): give True or False")


_KINDS: tuple[tuple[str, Any, str], ...] = (
    ("path", str, "give a path, such as '/ask'"),
    ("name", str | None, "give a text"),
    ("key", KeyBuilder | None, "give json_body(...), or another KeyBuilder: a callable that has a bypass_reason"),
    ("policy", Policy | None, "give a Policy(...)"),
    ("query", QueryKey, "give a QueryKey(...)"),
    ("tenant", Callable | None, "give credential('authorization'), or a function of the scope"),
    ("when", Callable | None, "give a function of the scope"),
    ("store_if", Callable | None, "give a function of status and headers"),
    *[(name, bool, "give True or False") for name in ("shared", "host", "client_may_refresh", "etag", "guess")],
    ("max_loads", int | None, "give a whole number, 1 or more, or None"),
    ("max_body", int, "give a number of bytes"),
    ("body_timeout", int | float, "give a number of seconds"),
)
_LISTS: tuple[tuple[str, type], ...] = (("methods", str), ("headers", str), ("tags", str), ("statuses", int))


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of request, and on what terms its answers are kept. Times in seconds, sizes in bytes.

    Which requests:

    - `path`: exact (`/ask`), with parameters (`/docs/{id}`), or a prefix (`/api/*`).
    - `methods`: of GET (which includes HEAD), POST, QUERY.
    - `when`: a function of the scope; False bypasses.
    - `max_body`, `body_timeout`: a request whose body is larger, or takes longer to come, is bypassed.

    Which of them ask for the same answer:

    - `key`: what of the content is keyed, such as `json_body("question")`; by default all of it.
    - `query`: which query parameters are keyed (see `QueryKey`); by default the query string as it was sent.
    - `headers`: request headers that are keyed.
    - `host`: False where all host names answer alike.

    Who shares an answer. A request with credentials is bypassed until one of these says so (without a ttl it may be
    answered, but what it brings is shared only if its origin says `public`):

    - `tenant`: whose answer it is: `credential("authorization")`, or a function of the scope (None, "" or an exception:
      the request is bypassed).
    - `shared`: True if credentials do not matter; they are hidden from the load.

    How long answers live:

    - `ttl`: their freshness; None follows HTTP, by RFC 9111 (docs/http.md).
    - `stale_while_revalidate`, `stale_if_error`, `negative_ttl`, `jitter`, `policy`: see `Policy`.
    - `guess`: without a ttl, guess how fresh an answer is that says nothing but `Last-Modified` (section 4.2.2).
    - `client_may_refresh`: hear the Cache-Control of requests (no-cache, max-age and so on), as rules without a ttl do:
      anyone may then ask for a load.

    What is stored:

    - `statuses`: which; by default 200, without a ttl whatever RFC 9111 allows. Errors only for `negative_ttl`.
    - `store_if`: a function of status and headers; False does not store.
    - `tags`: names for `invalidate(tag=)`, or a function of the scope that gives them.
    - `etag`: give answers that have no ETag a strong one, made from their body: who has them already gets a 304.

    `max_loads`: how many of its loads may run at once. `name`: `cache.key_group` in telemetry; by default the path.
    Raises ConfigurationError for what cannot work.
    """

    path: str
    _: KW_ONLY
    methods: Sequence[str] = ("GET", "HEAD")
    key: KeyBuilder | None = None
    ttl: float | None = None
    stale_while_revalidate: float | None = None
    stale_if_error: float | None = None
    negative_ttl: float | None = None
    jitter: float | None = None
    policy: Policy | None = None
    tenant: Tenant | None = None
    shared: bool = False
    host: bool = True
    headers: Sequence[str] = ()
    query: QueryKey = QueryKey()
    tags: Sequence[str] | Callable[[Any], Iterable[str]] = ()
    when: Callable[[Any], bool] | None = None
    store_if: Callable[[int, Headers], bool] | None = None
    statuses: Sequence[int] | None = None
    client_may_refresh: bool = False
    etag: bool = False
    guess: bool = True
    max_loads: int | None = None
    max_body: int = 1024**2
    body_timeout: float = 10.0
    name: str | None = None

    def __post_init__(self) -> None:
        self._check_kinds()
        self._check_path()
        unknown = set(self.methods) - {"GET", "HEAD", "POST", "QUERY"}
        if unknown or not self.methods:
            raise ConfigurationError(
                f"Rule({self.path!r}, methods={tuple(self.methods)!r}): only GET, HEAD, POST and QUERY can be cached, "
                "written in capitals"
            )
        if self.tenant is not None and self.shared:
            raise ConfigurationError(f"Rule({self.path!r}): give tenant= or shared=True, not both")
        if self.max_body < 0 or self.body_timeout <= 0:
            raise ConfigurationError(f"Rule({self.path!r}): max_body must be 0 or more and body_timeout above 0")
        if self.max_loads is not None and self.max_loads < 1:
            raise ConfigurationError(f"Rule({self.path!r}, max_loads={self.max_loads!r}): give 1 or more, or None")
        try:
            policy_of(self, Policy())
        except ConfigurationError as error:
            raise ConfigurationError(f"Rule({self.path!r}): {error}") from None

    def _check_kinds(self) -> None:
        """What would only fail when a request comes is refused before."""
        for name, kind, remedy in _KINDS:
            if not isinstance(value := getattr(self, name), kind):
                raise ConfigurationError(f"Rule({self.path!r}, {name}={value!r}): {remedy}")
            self._check_is_plain(name, value)
        for name, kind in _LISTS:
            value = getattr(self, name)
            self._check_is_plain(name, value)
            is_list = isinstance(value, Iterable) and not isinstance(value, str | bytes)
            if is_list and not all(isinstance(one, kind) for one in value):
                raise ConfigurationError(f"Rule({self.path!r}, {name}={value!r}): give a tuple of {kind.__name__}")
            if not (is_list or value is None or callable(value)):
                such_as = f", such as {(value,)!r}" if isinstance(value, kind) else ""
                raise ConfigurationError(f"Rule({self.path!r}, {name}={value!r}): give a tuple{such_as}")

    def _check_is_plain(self, name: str, value: object) -> None:
        """What an async function gives at once is a coroutine, which is true whatever it will say."""
        call = type(value).__call__ if callable(value) else None
        if inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call):
            raise ConfigurationError(f"Rule({self.path!r}, {name}={value!r}): give a plain function, not an async one")

    def _check_path(self) -> None:
        if not self.path.startswith("/"):
            raise ConfigurationError(f"Rule({self.path!r}): a path starts with '/'")
        if re.search(r"[?#]", self.path):
            raise ConfigurationError(f"Rule({self.path!r}): leave out the query; query=QueryKey(...) says what counts")
        if re.search(r"%[0-9A-Fa-f]{2}", self.path):
            raise ConfigurationError(f"Rule({self.path!r}): write it as the app sees it: {unquote(self.path)!r}")
        if "*" in self.path[:-1] or (self.path.endswith("*") and not self.path.endswith("/*")):
            raise ConfigurationError(f"Rule({self.path!r}): '*' stands only at the end, as in '/api/*'")
        if re.search(r"[{}<>]|/:", PARAMETER.sub("", self.path)):
            raise ConfigurationError(
                f"Rule({self.path!r}): write a parameter as {{name}}, one path segment or part of it"
            )


def policy_of(rule: Rule, default: Policy) -> Policy:
    """The policy of a rule: its own, else the cache's, but for what the rule itself says."""
    return (rule.policy or default).but(
        ttl=rule.ttl,
        stale_while_revalidate=rule.stale_while_revalidate,
        stale_if_error=rule.stale_if_error,
        negative_ttl=rule.negative_ttl,
        jitter=rule.jitter,
    )


def check_under(rule: Rule, default: Policy) -> None:
    """ConfigurationError for a rule that cannot work under the policy of its cache."""
    errors = [status for status in rule.statuses or () if status >= 400]
    if errors and not policy_of(rule, default).negative_ttl:
        raise ConfigurationError(
            f"Rule({rule.path!r}, statuses={tuple(rule.statuses or ())!r}): say for how long errors are stored: "
            "negative_ttl=10"
        )


def methods_of(rule: Rule) -> set[str]:
    """The methods of its requests. GET includes HEAD: a HEAD is answered from what a GET stored."""
    return set(rule.methods) | ({"HEAD"} if "GET" in rule.methods else set())


def keys_by_more(rule: Rule) -> bool:
    """Whether one URL may have several answers to GET, so that its unsafe requests find them by a tag, not by a key."""
    return bool(rule.headers or rule.tenant)


def not_awaitable(answer: T) -> T:
    """What a rule's callable returned. TypeError for what would have to be awaited: it would pass for a yes."""
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()  # or Python warns that nobody awaited it
        raise TypeError("it gave something to await: a rule's callables are plain functions")
    return answer
