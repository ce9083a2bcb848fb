"""From a request to its key, or to the reason why it has none.

Decides what of a request is keyed, and who may share (design: "Private data"). Reads the body, up to a limit and a
deadline, before anything is locked; what was read is kept, so that the app gets it exactly as it came.
"""

from __future__ import annotations

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, TypeVar
from urllib.parse import unquote_plus, unquote_to_bytes

from msgspec import Struct

from glasscache._entry import Key
from glasscache.asgi import _http
from glasscache.asgi.rules import QueryKey, Rule, not_awaitable
from glasscache.asgi.types import Message, Receive, Scope
from glasscache.interfaces import KeyBuilder
from glasscache.keys import Keyring

log = logging.getLogger("glasscache")

T = TypeVar("T")
BODY_METHODS = frozenset({"POST", "QUERY"})
_Fields = Iterable[tuple[bytes, bytes]]


class BypassError(Exception):
    """The cache is not asked; `reason` is one word (`cache.bypass.reason`)."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@types.coroutine
def _received(coroutine: Coroutine[Any, Any, Message], messages: list[Message]) -> Generator[Any, Any, None]:
    """What a coroutine returns goes to the messages. A loop over this generator runs it up to its first wait, if it has
    one; where it has none, no exception says so, as to send to the coroutine would.
    """
    messages.append((yield from coroutine))


@types.coroutine
def _resumed(generator: Generator[Any, Any, None], waits_for: object) -> Generator[Any, Any, None]:
    """The rest of a generator that has been run up to its first wait."""
    step: Callable[[Any], object]
    while True:
        try:
            sent = yield waits_for
        except BaseException as error:
            step, argument = generator.throw, error  # a cancellation is for the coroutine in it
        else:
            step, argument = generator.send, sent
        try:
            waits_for = step(argument)
        except StopIteration:
            return


async def _awaited(message: Awaitable[Message], messages: list[Message]) -> None:
    messages.append(await message)


class Body(Struct, eq=False):
    """A request's content, as far as it was read."""

    messages: list[Message] = []  # msgspec gives each its own
    content: bytes = b""
    is_read: bool = False
    _size: int = 0

    async def read(self, receive: Receive, rule: Rule) -> None:
        """Read all of it. BypassError when it is too long, too slow, or its client has left."""
        rest = self.take(receive, rule)
        if rest is not None:
            await rest

    def take(self, receive: Receive, rule: Rule) -> Awaitable[None] | None:
        """Read what is there already, and that is nearly always all of it; otherwise what to await for the rest.

        Only a wait needs a deadline, which costs more than a whole hit. BypassError as `read`.
        """
        first = receive()
        if type(first) is not types.CoroutineType:
            return self._read_rest(_awaited(first, self.messages), receive, rule)
        running = _received(first, self.messages)
        for waits_for in running:
            return self._read_rest(_resumed(running, waits_for), receive, rule)
        message = self.messages[0]
        content: bytes = message.get("body", b"")
        if (
            message["type"] == "http.request"
            and type(content) is bytes  # not a bytearray, of a server that does not look closely
            and len(content) <= rule.max_body
            and not message.get("more_body", False)
        ):  # all of it
            self.content = content
            self.is_read = True
            return None
        self._look_at(message, rule)
        return self._read_rest(None, receive, rule)

    async def _read_rest(self, first: Awaitable[None] | None, receive: Receive, rule: Rule) -> None:
        """`first`: what has been begun already."""
        try:
            async with asyncio.timeout(rule.body_timeout):
                while not self.is_read:
                    await (first or _awaited(receive(), self.messages))
                    first = None
                    self._look_at(self.messages[-1], rule)
        except TimeoutError:
            raise BypassError("body_timeout") from None
        self.content = b"".join([message.get("body", b"") for message in self.messages])

    def _look_at(self, message: Message, rule: Rule) -> None:
        if message["type"] != "http.request":
            raise BypassError("disconnect")
        self._size += len(message.get("body", b""))
        if self._size > rule.max_body:
            raise BypassError("body_size")
        self.is_read = not message.get("more_body", False)


def refuse(scope: Scope, rule: Rule, credentials: frozenset[bytes]) -> None:
    """BypassError for a request that the cache must not answer, before its body is read."""
    method = scope["method"]
    for name, value in scope["headers"]:
        if name == b"range" and method in BODY_METHODS:
            raise BypassError("range")
        if method not in BODY_METHODS and (
            name == b"transfer-encoding" or (name == b"content-length" and value.strip() != b"0")
        ):
            raise BypassError("body")
    if _http.precondition(scope["headers"]) or (method == "POST" and _is_conditional(scope["headers"])):
        raise BypassError("precondition")
    if rule.ttl is not None and has_credentials(scope, rule, credentials):
        raise BypassError("credentials")
    if rule.when is not None and not _ask(rule.when, scope):
        raise BypassError("when")


def unvouched(scope: Scope, rule: Rule, credentials: frozenset[bytes], tenant: str | None) -> str:
    """Why a request of ours must not be made in that name; empty if it may. With credentials that no tenant stands for
    it would be somebody's own; and `tenant` is what the rule has to say of it.
    """
    if has_credentials(scope, rule, credentials):
        return "credentials"
    is_another = tenant is not None and (rule.tenant is None or _ask(rule.tenant, scope) != tenant)
    return "tenant" if is_another else ""


def has_credentials(scope: Scope, rule: Rule, credentials: frozenset[bytes]) -> bool:
    """Whether a request says who asks, and its rule does not say who shares the answer."""
    if rule.tenant is not None or rule.shared:
        return False
    return any(name in credentials for name, _ in scope["headers"]) or _client_certificate(scope)


def _is_conditional(headers: _Fields) -> bool:
    """Whether a condition is made: to a POST we must not answer 304 (RFC 9110, sections 13.1.2 and 13.1.3)."""
    return not _http.CONDITIONALS.isdisjoint([name for name, _ in headers])


def _ask(question: Callable[..., T], *about: object) -> T | None:
    """What a user's callable says; an exception is logged and says nothing."""
    try:
        return not_awaitable(question(*about))
    except Exception:
        log.exception("a rule's callable failed: the request is bypassed")
        return None


def _client_certificate(scope: Scope) -> bool:
    tls = (scope.get("extensions") or {}).get("tls") or {}
    return bool(tls.get("client_cert_name") or tls.get("client_cert_chain"))


def place_of(scope: Scope, rule: Rule, keyring: Keyring) -> Key:
    """A digest of all but query and content: what was asked, where, and on whose behalf. BypassError if it has none.

    All that the app can see and that is not known to be without influence is in it; a HEAD has the place of its GET.
    """
    method = scope["method"]
    headers: _Fields = scope["headers"]
    tenant = b""
    if rule.tenant is not None:
        name = _ask(rule.tenant, scope)
        if not isinstance(name, str) or not name:
            raise BypassError("unscoped")
        tenant = b"=" + name.encode("utf-8", "surrogatepass")
    parts = [
        b"http",
        b"GET" if method == "HEAD" else method.encode(),
        scope.get("scheme", "http").encode(),
        *_host(headers, rule),
        scope.get("root_path", "").encode("utf-8", "surrogatepass"),
        *_path(scope),
        tenant,
        *_chosen(headers, rule.headers),
        *_http.routing_parts(headers),
    ]
    if method in BODY_METHODS:
        parts += _chosen(headers, ("content-type", "content-encoding"))
    return keyring.digest(*parts)


def key_at(place: Key, scope: Scope, content: bytes, rule: Rule, keyring: Keyring) -> Key:
    """The key of this query and this content at a place. BypassError if it has none."""
    query = query_part(scope.get("query_string", b""), rule.query)
    return keyring.digest(place, query, content_part(scope, content, rule.key))


def content_part(scope: Scope, content: bytes, builder: KeyBuilder | None) -> bytes:
    """What stands for the content in its key. BypassError if nothing can."""
    if builder is None:
        return content
    part = _ask(builder, scope, content)
    if part is None:
        raise BypassError(builder.bypass_reason)
    return part


def _path(scope: Scope) -> tuple[bytes, bytes]:
    """As it was sent; and as the app sees it, where that is something else: middleware outside may have rewritten it
    for reasons of its own (a language, a version), and the bytes that were sent remain the same.
    """
    path = scope["path"].encode("utf-8", "surrogatepass")
    raw = scope.get("raw_path") or path
    sent = unquote_to_bytes(raw)
    is_same = sent == path or sent == scope.get("root_path", "").encode("utf-8", "surrogatepass") + path
    return raw, b"" if is_same else path


def _host(headers: _Fields, rule: Rule) -> list[bytes]:
    if not rule.host:
        return [b"any"]
    return [b"host", *(value.lower() for name, value in headers if name == b"host"), b""]


def _chosen(headers: _Fields, names: Iterable[str]) -> list[bytes]:
    parts = []
    for name in names:
        wanted = name.lower().encode("latin-1")
        values = [value for name, value in headers if name == wanted]
        parts += [wanted, b"%d" % len(values), *values]
    return parts


def query_part(raw: bytes, wanted: QueryKey) -> bytes:
    """What stands for the query string in a key: itself, as it was sent, unless the rule names parameters.

    Then their names are in it: an answer kept under other ones (in a shared tier, by another release) is not found.
    """
    if not (wanted.only or wanted.ignore or wanted.sort):
        return raw
    pairs = raw.split(b"&") if raw else []
    if wanted.only or wanted.ignore:
        named = set(wanted.only or wanted.ignore)
        # what some apps read as two parameters (`a=1;b=2`) is never left out: the second may be one that counts
        pairs = [pair for pair in pairs if b";" in pair or (_name(pair) in named) == bool(wanted.only)]
    if wanted.sort:
        pairs.sort(key=_name)  # of one name the order still matters: an app takes the first or the last of them
    settings = repr((sorted(wanted.only), sorted(wanted.ignore), wanted.sort))
    return b"\0%b\0%b" % (settings.encode("utf-8", "surrogatepass"), b"&".join(pairs))


def _name(pair: bytes) -> str:
    return unquote_plus(pair.split(b"=", 1)[0].decode("latin-1"), "utf-8", "surrogateescape")
