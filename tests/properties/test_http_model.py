"""The middleware beside a reference written from the RFC: random histories, and no divergence.

A history is a series of requests, of pauses, and of changes at the origin. Both caches stand before the same origin;
after every request, what the client got and what the origin was asked have to be the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasscache.asgi import Rule
from tests.asgi.site import LoopClock, Site, read, respond, run
from tests.properties.http_reference import VARIES, Cache, Failed, Response, Unreachable
from tests.support.asgi import Receive, Scope, Send

pytestmark = pytest.mark.no_cover

_TICK = 0.0625  # seconds, for what goes on behind an answer; exact in binary

CACHE_CONTROL = (
    *("max-age=10", "max-age=100", "max-age=10", "max-age=0", "s-maxage=10", "max-age=10, s-maxage=100"),
    *("no-cache", "no-cache, max-age=100", "no-store", "private", "public", "max-age=x", "", "foo, max-age=10"),
    *("max-age=10, must-revalidate", "max-age=10, proxy-revalidate", "public, max-age=10"),
    *("max-age=10, stale-while-revalidate=20", "max-age=10, stale-if-error=50", "max-age=0, stale-while-revalidate=9"),
    *('private="x-secret", max-age=10', 'no-cache="x-secret", max-age=10', "max-age=10, stale-while-revalidate=x"),
    *("max-age=10, must-understand", "no-store, must-understand, max-age=10", "max-age=10, immutable"),
)
WISHES = (
    *("no-cache", "no-store", "max-age=0", "max-age=8", "max-age=x", "min-fresh=5", "max-stale=15", "max-stale"),
    *("only-if-cached", "foo"),
)
MAYBE = (None, None, None)


@dataclass(frozen=True)
class State:
    """How the origin answers, from here on."""

    status: int = 200
    said: str | None = "max-age=10"
    targeted: str | None = None
    expires: Any = None
    """Seconds from now, or text."""
    date: Any = 0
    age: str | None = None
    has_etag: bool = True
    is_weak: bool = False
    modified: Any = None
    """Seconds before the epoch of these tests."""
    cookie: bool = False
    version: int = 1
    fails: type[Exception] | None = None


@dataclass(frozen=True)
class Ask:
    """A request."""

    method: str
    path: str
    fields: tuple[tuple[str, str], ...]


states = st.builds(
    State,
    status=st.sampled_from((*(200,) * 8, 203, 204, 301, 404, 410, 429, 500, 503, 599)),
    said=st.sampled_from((None, *CACHE_CONTROL)),
    targeted=st.sampled_from((*MAYBE * 2, "max-age=30", "no-store", "max-age=5, &", "", "private", "no-cache")),
    expires=st.sampled_from((*MAYBE, 20, -20, 0, "0")),
    date=st.sampled_from((0, 0, 0, None, -5, 5, "foo")),
    age=st.sampled_from((*MAYBE, "4", "x", "30, 1", "0")),
    has_etag=st.booleans(),
    is_weak=st.booleans(),
    modified=st.sampled_from((*MAYBE, 0, 100, 1000)),
    cookie=st.sampled_from((False,) * 7 + (True,)),
    version=st.integers(1, 3),
    fails=st.sampled_from((*MAYBE * 2, Unreachable, Failed)),
)


@st.composite
def asks(draw: st.DrawFn) -> Ask:
    fields: dict[str, str | None] = {
        "cache-control": draw(st.sampled_from((*MAYBE * 4, *WISHES))),
        "if-none-match": draw(st.sampled_from((*MAYBE * 2, '"v1"', 'W/"v2", "v3"', "*", '"zz"'))),
        "if-modified-since": draw(st.sampled_from((*MAYBE * 2, _date(-100), _date(-1), "x"))),
        "range": draw(st.sampled_from((*MAYBE * 2, "bytes=0-1", "bytes=-2", "bytes=99-", "bytes=3-"))),
        "cookie": draw(st.sampled_from((*MAYBE * 2, "a=b"))),
        "authorization": draw(st.sampled_from((*MAYBE * 2, "Bearer a"))),
        "accept-language": draw(st.sampled_from((None, "de", "en"))),
        "x-a": draw(st.sampled_from((None, "1", "2"))),
    }
    if fields["range"] is not None:
        fields["if-range"] = draw(st.sampled_from((None, '"v1"', 'W/"v2"')))
    method = draw(st.sampled_from(("GET",) * 10 + ("HEAD", "POST", "DELETE")))
    if method not in ("GET", "HEAD"):
        fields = {"accept-language": fields["accept-language"]}
    path = draw(st.sampled_from(("/plain", "/plain", "/language", "/two", "/star")))
    return Ask(method, path, tuple((name, value) for name, value in fields.items() if value is not None))


steps = st.one_of(
    asks(), asks(), asks(), states, st.sampled_from((0.5, 1.0, 5.0, 9.5, 10.0, 15.0, 30.0, 90.0, 86_000.0))
)
histories = st.lists(steps, min_size=2, max_size=14)

EPOCH = 1_700_000_000


def _date(offset: float) -> str:
    return formatdate(EPOCH + offset, usegmt=True)


def _at(wall: float, offset: Any) -> str:
    return offset if isinstance(offset, str) else formatdate(int(wall) + offset, usegmt=True)


@dataclass
class World:
    """One origin, and what it was asked."""

    wall: Any
    state: State = State()
    asked: list[Any] = field(default_factory=list)

    def answer(self, method: str, path: str, fields: Mapping[str, str]) -> Response:
        """What the origin says. Its conditions are its own to judge."""
        state = self.state
        self.asked.append((method, path, sorted(fields.items())))
        if state.fails is not None:
            raise state.fails
        etag = ("W/" if state.is_weak else "") + f'"v{state.version}"'
        found: list[tuple[str, str | None]] = [
            ("cache-control", state.said),
            ("cdn-cache-control", state.targeted),
            ("expires", None if state.expires is None else _at(self.wall(), state.expires)),
            ("date", None if state.date is None else _at(self.wall(), state.date)),
            ("age", state.age),
            ("etag", etag if state.has_etag else None),
            ("last-modified", None if state.modified is None else _date(-state.modified)),
            ("set-cookie", "a=b" if state.cookie else None),
            ("vary", ", ".join(VARIES[path]) or None),
            ("x-secret", "s"),
            ("x-version", str(len(self.asked))),
        ]
        headers = tuple((name, value) for name, value in found if value is not None)
        if method == "GET" and state.status == 200 and state.has_etag and fields.get("if-none-match") == etag:
            return Response(304, headers)
        body = "" if method == "HEAD" or state.status == 204 else f"{path} {state.version} {len(self.asked)}"
        return Response(state.status, headers, body)


def shown(response: Response) -> Any:
    """What is compared: all but what only we say."""
    ours = {"cache-status", "content-length"}
    return response.status, sorted(field for field in response.fields if field[0] not in ours), response.body


def expected(history: Sequence[Any]) -> list[Any]:
    """What the reference does."""
    seen: list[Any] = []
    now = 0.0
    world = World(lambda: EPOCH + now)
    cache = Cache(world.answer)
    for step in history:
        if isinstance(step, State):
            world.state = step
        elif isinstance(step, float):
            now += step
        else:
            seen.append(_outcome_of(cache, step, now))
            now += _TICK
            refresh, cache.refresh = cache.refresh, None
            if refresh is not None:
                refresh(now - _TICK, EPOCH + now - _TICK)
            seen.append(list(world.asked))
    return seen


def _outcome_of(cache: Cache, step: Ask, now: float) -> Any:
    try:
        return shown(cache.ask(step.method, step.path, dict(step.fields), now, EPOCH + now))
    except (Unreachable, Failed) as error:
        return type(error).__name__


class _Gone(Unreachable, ConnectionError):
    """How an app says that it had no answer."""


def actual(history: Sequence[Any]) -> list[Any]:
    """What the middleware does."""
    seen: list[Any] = []

    async def scenario() -> None:
        began = asyncio.get_running_loop().time()
        world = World(lambda: EPOCH + asyncio.get_running_loop().time() - began)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            fields = {name.decode(): value.decode() for name, value in scope["headers"] if name != b"host"}
            try:
                answer = world.answer(scope["method"], scope["path"], fields)
            except Unreachable:
                raise _Gone from None
            headers = [(name.encode(), value.encode()) for name, value in answer.fields]
            await respond(send, answer.body.encode(), status=answer.status, headers=headers)

        site = Site(app, Rule("/*"), clock=_ClockFrom(began))
        for step in history:
            if isinstance(step, State):
                world.state = step
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                seen.append(await _answer_of(site, step))
                await asyncio.sleep(_TICK)
                seen.append(list(world.asked))
        await site.cache.aclose()

    run(scenario)
    return seen


class _ClockFrom(LoopClock):
    """Both caches begin at the same second."""

    def __init__(self, began: float) -> None:
        self._began = began

    def wall(self) -> float:
        return EPOCH + asyncio.get_running_loop().time() - self._began


async def _answer_of(site: Site, step: Ask) -> Any:
    headers = [(name.encode(), value.encode()) for name, value in step.fields]
    try:
        got = await site.client.request(step.method, step.path, headers=headers)
    except (Unreachable, Failed) as error:
        return "Unreachable" if isinstance(error, Unreachable) else type(error).__name__
    fields = tuple((name.decode(), value.decode()) for name, value in got.headers)
    return shown(Response(got.status, fields, got.body.decode()))


def _compare(history: Sequence[Any]) -> None:
    assert actual(history) == expected(history)


@given(histories)
def test_no_history_diverges_from_the_reference(history: list[Any]) -> None:
    _compare(history)


@pytest.mark.soak
@settings(max_examples=20_000)
@given(histories)
def test_twenty_thousand_histories_do_not_diverge_from_the_reference(history: list[Any]) -> None:
    _compare(history)
