"""The pages about a cache, under its `stats_path`: figures for everybody; with the token, who waits for whom, the
removal of answers, and their warming.

Decides who sees what. A page that needs the token is not there until one is set. Must never show a key, a request or a
tenant, with the token or without; never compare a token in a time that tells how much of it was right.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from glasscache.asgi._live import LiveFeed, live_page
from glasscache.asgi._pages import json_page, respond
from glasscache.asgi._removal import removal_page
from glasscache.asgi._warm_page import warm_page
from glasscache.asgi.rules import Rule, methods_of
from glasscache.contention import contention_json
from glasscache.stats import stats_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from glasscache.asgi._warming import Warmer
    from glasscache.asgi.types import ASGIApp, Receive, Scope, Send
    from glasscache.cache import Cache


class AdminPages:
    """The pages under `path` (None: there are none); without a token only the totals.

    `forget`: removes what is stored for a request, however it is keyed. `warmer`: loads what nobody has asked for.
    """

    def __init__(
        self,
        cache: Cache,
        path: str | None,
        token: str | None,
        forget: Callable[[Scope], Awaitable[int]],
        warmer: Warmer,
    ) -> None:
        token_check = TokenCheck(token)
        self._feed = LiveFeed(cache)
        pages: list[tuple[Rule, ASGIApp]] = []
        if path:
            figures = json_page(lambda scope: stats_json(cache, groups=token_check.lets_in(scope)))
            pages.append((Rule(path), figures))
        if path and token:
            under = path.rstrip("/")
            pages += [
                (Rule(f"{under}/contention"), token_check.before(json_page(lambda _: contention_json(cache)))),
                (Rule(f"{under}/live"), live_page),
                (Rule(f"{under}/live/events"), token_check.before(self._feed)),
                (Rule(f"{under}/invalidate", methods=("POST",)), token_check.before(removal_page(cache, forget))),
                (Rule(f"{under}/warm", methods=("POST",)), token_check.before(warm_page(cache, warmer))),
            ]
        self.handlers = [(rule, dict.fromkeys(methods_of(rule), page)) for rule, page in pages]

    def close(self) -> None:
        """End what has no end of its own."""
        self._feed.close()


class TokenCheck:
    """Knows the token, if there is one."""

    def __init__(self, token: str | None) -> None:
        self._expected = None if token is None else b"Bearer " + token.encode()

    def lets_in(self, scope: Scope) -> bool:
        """Whether the request carries the token."""
        if self._expected is None:
            return False
        given = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        return hmac.compare_digest(given, self._expected)

    def before(self, page: ASGIApp) -> ASGIApp:
        """The page, for who has the token; all others get 401."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            await (page if self.lets_in(scope) else _refuse)(scope, receive, send)

        return guarded


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    fields = (b"content-type", b"application/json"), (b"www-authenticate", b'Bearer realm="glasscache"')
    await respond(scope, send, b'{"error":"send the stats token: Authorization: Bearer ..."}', *fields, status=401)
