"""The short way of a hit is nothing but a short way: with it and without it, app and client see the same.

The same requests go to two sites that differ in one thing: in one, every request takes the slow way. What the
origins were asked, what the clients got, message by message, and what was counted has to be equal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glasscache.asgi import QueryKey, Rule, credential, json_body
from glasscache.asgi._routing import Routes
from glasscache.policy import Policy
from tests.asgi.site import Site, read, respond, run
from tests.support.asgi import ASGIApp, Message, Receive, Scope, Send

pytestmark = pytest.mark.no_cover

METHODS = ("GET", "HEAD", "POST", "QUERY")


class ByHeader:
    """A key builder of a user's own, which looks at what no key of ours looks at."""

    bypass_reason = "no_locale"

    def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
        headers: dict[bytes, bytes] = dict(scope["headers"])
        return None if headers.get(b"x-locale") == b"none" else headers.get(b"x-locale", b"") + body


RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "the origin's own headers": {"ttl": None},
    "shared": {"shared": True},
    "any host": {"host": False},
    "chosen headers": {"headers": ("x-locale",)},
    "one parameter": {"query": QueryKey(only=("q",), sort=True)},
    "json": {"key": json_body("q", ignore=("user",))},
    "json but for a field": {"key": json_body(ignore=("user",))},
    "own key": {"key": ByHeader()},
    "tenant": {"tenant": lambda scope: dict(scope["headers"]).get(b"x-locale", b"en").decode()},
    "tenant by credential": {"tenant": credential("cookie")},
    "when": {"when": lambda scope: scope["query_string"] != b"q=2"},
    "small bodies": {"max_body": 6},
    "stale": {"ttl": 3, "stale_while_revalidate": 4, "stale_if_error": 60},
    "tags": {"tags": lambda scope: [scope["path"]]},
    "the origin's own headers, by everyone": {"ttl": None, "shared": True},
    "refreshing clients": {"client_may_refresh": True},
    "early": {"policy": Policy(early_refresh=5.0)},
}

HEADERS = (
    (b"accept-language", b"de"),
    (b"accept-language", b"en"),
    (b"authorization", b"Bearer a"),
    (b"cache-control", b"no-cache"),
    (b"cache-control", b"max-age=3"),
    (b"cache-control", b"only-if-cached"),
    (b"cache-control", b"max-stale, foo"),
    (b"cookie", b"a=b"),
    (b"cookie", b"a=c"),
    (b"content-encoding", b"gzip"),
    (b"content-length", b"0"),
    (b"content-length", b"5"),
    (b"content-type", b"application/json"),
    (b"content-type", b"text/plain"),
    (b"forwarded", b"for=1.2.3.4"),
    (b"forwarded", b"for=1.2.3.4;host=evil"),
    (b"if-match", b'"a"'),
    (b"if-none-match", b'"a"'),
    (b"if-none-match", b'"b"'),
    (b"range", b"bytes=0-1"),
    (b"if-range", b'"a"'),
    (b"transfer-encoding", b"chunked"),
    (b"user-agent", b"curl"),
    (b"x-forwarded-host", b"evil"),
    (b"x-http-method-override", b"DELETE"),
    (b"x-locale", b"de"),
    (b"x-locale", b"none"),
)


BODIES = (
    (b"",),
    (b'{"q":1}',),
    (b'{"q"', b":1}"),
    (b'{"q": 1}',),
    (b'{"x":1}',),
    (b'{"q":1,"user":"a"}',),
    (b'{"q":1,"user":"b"}',),
    (b'{"q":1,"q":1}',),
    (b"k" * 3000,),
)
HOSTS = ((b"one",), (b"ONE",), (b"two",), (b"",), (b"one", b"two"), (b"one", b"one"))


@dataclass(frozen=True)
class Ask:
    """One request, and the seconds before it."""

    method: str
    path: str
    query: str
    hosts: tuple[bytes, ...]
    headers: tuple[tuple[bytes, bytes], ...]
    body: tuple[bytes, ...]
    scheme: str
    root_path: str
    raw_path: bool
    tls: Any
    left_out: str
    """What of its scope the server leaves out, as it may. "extensions": it tells of one that does not matter."""
    pause: float


FIELDS = tuple(each.name for each in fields(Ask))


@dataclass
class Seen:
    """What one site's origin and clients saw."""

    by_app: list[Any] = field(default_factory=list)
    by_client: list[Any] = field(default_factory=list)
    results: dict[str, int] = field(default_factory=dict)
    bypasses: dict[str, int] = field(default_factory=dict)
    told: list[Any] = field(default_factory=list)
    keys: int = 0


def asks() -> st.SearchStrategy[Ask]:
    """Requests out of few values, so that the same ones come again."""
    return st.builds(
        Ask,
        method=st.sampled_from(METHODS),
        path=st.sampled_from(
            ("/a", "/%61", "/etag", "/no-cache", "/public", "/vary", "/cookie", "/chunks", "/error", "/elsewhere/a")
        ),
        query=st.sampled_from(("", "q=1", "q=2", "q=1&r=1", "r=2&q=1")),
        hosts=st.sampled_from(HOSTS),
        headers=st.sampled_from(((), (), ((b"content-type", b"text/plain"),), ((b"accept-language", b"en"),))),
        body=st.sampled_from(BODIES),
        scheme=st.sampled_from(("http", "http", "https")),
        root_path=st.sampled_from(("", "", "/elsewhere")),
        raw_path=st.booleans(),
        tls=st.sampled_from((None, None, None, {"client_cert_name": None}, {"client_cert_name": "CN=me"})),
        left_out=st.sampled_from(("", "", "scheme", "root_path", "raw_path", "extensions")),
        pause=st.sampled_from((0.0, 0.0, 0.125, 5.0)),
    )


@st.composite
def near_misses(draw: st.DrawFn) -> list[Ask]:
    """A request, and every other that differs from it in one thing; there and back, so that each comes again."""
    base, other = draw(asks()), draw(asks())
    changes: list[dict[str, Any]] = [{name: getattr(other, name)} for name in FIELDS]
    changes += [{"headers": (*base.headers, header)} for header in HEADERS]
    changes += [{"hosts": hosts} for hosts in HOSTS]
    changes += [{"body": body} for body in BODIES]
    there = [base, *(replace(base, **change) for change in changes)]
    return [*there, *reversed(there)]


async def app(scope: Scope, receive: Receive, send: Send, seen: Seen) -> None:
    """An origin whose answer shows everything that an app can see, and how often it was asked."""
    body = await read(receive)
    visible = {name: scope.get(name) for name in ("method", "path", "query_string", "scheme", "root_path", "headers")}
    seen.by_app.append((visible, body))
    await asyncio.sleep(1 / 16)
    shown = repr((len(seen.by_app), visible, body)).encode()
    path = scope["path"]
    said = {"/no-cache": b"no-cache, max-age=9", "/public": b"public, max-age=9"}
    headers = [(b"cache-control", said.get(path, b"max-age=9"))]
    headers += [(b"etag", b'"a"')] if path in ("/etag", "/no-cache") else []
    headers += [(b"vary", b"accept-language")] if path == "/vary" else []
    headers += [(b"set-cookie", b"a=b")] if path == "/cookie" else []
    chunks = (shown[:9], shown[9:]) if path == "/chunks" else (shown,)
    status = 500 if path == "/error" and len(seen.by_app) % 2 else 200
    await respond(send, *chunks, status=status, headers=headers)


def play(rule: Rule, requests: Sequence[Ask], *, short_way: bool) -> Seen:
    """Send the requests to a site of their own."""
    seen = Seen()

    async def scenario() -> None:
        async def origin(scope: Scope, receive: Receive, send: Send) -> None:
            await app(scope, receive, send, seen)

        site = Site(origin, rule)
        [(_, _, targets)] = site.middleware._routes._handlers
        route = targets["GET"].__self__
        if not short_way:
            assert route._ways or rule.tenant or rule.when or rule.headers or isinstance(rule.key, ByHeader)
            site.middleware._routes = Routes([(rule, dict.fromkeys(METHODS, route.slowly))])
        site.client.app = sparing(site.middleware)
        for request in requests:
            await asyncio.sleep(request.pause)
            seen.by_client.append(await answer_of(site, request))
        await site.cache.aclose()
        places = [place for way in route.places.ways.values() for place in way.places.values()]
        seen.results, seen.bypasses, seen.keys = site.results, site.bypasses, sum([len(place.keys) for place in places])
        known: dict[bytes | None, int] = {}  # variants have a random salt: their keys differ between two sites
        seen.told = [
            (told.result, told.tier, told.group, known.setdefault(told.key, len(known)), told.bypass)
            for told in site.telemetry.outcomes
        ]

    run(scenario)
    return seen


def sparing(app: ASGIApp) -> ASGIApp:
    """A server that leaves out what the scope says under "leave out"."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        name = scope.pop("leave out")
        if name == "extensions":
            scope.setdefault(name, {"http.response.pathsend": {}})
        else:
            scope.pop(name, None)
        await app(scope, receive, send)

    return call


async def answer_of(site: Site, request: Ask) -> list[Message]:
    scope: dict[str, Any] = {"scheme": request.scheme, "root_path": request.root_path, "leave out": request.left_out}
    if not request.raw_path:
        scope["raw_path"] = None
    if request.tls is not None:
        scope["extensions"] = {"tls": request.tls}
    response = await site.client.request(
        request.method,
        request.path,
        query=request.query,
        headers=[*((b"host", host) for host in request.hosts), *request.headers],
        body=request.body if request.method in ("POST", "QUERY") else b"",
        scope=scope,
    )
    return response.messages


@pytest.mark.parametrize("options", RULES)
@settings(max_examples=settings().max_examples // 20)  # each is some seventy requests
@given(requests=near_misses())
def test_the_short_way_changes_nothing_that_anybody_can_see(options: str, requests: list[Ask]) -> None:
    rule = Rule("/*", methods=METHODS, **{"ttl": 60, **RULES[options]})
    short, slow = play(rule, requests, short_way=True), play(rule, requests, short_way=False)
    assert short.by_client == slow.by_client
    assert short.by_app == slow.by_app
    assert short.results == slow.results
    assert short.bypasses == slow.bypasses
    assert short.told == slow.told


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    "change",
    [
        {"hosts": (b"two",)},
        {"hosts": (b"one", b"two")},
        {"hosts": ()},
        {"path": "/%61"},
        {"path": "/elsewhere/a", "root_path": "/elsewhere"},
        {"root_path": "/a"},
        {"query": "q=1"},
        {"scheme": "https"},
        {"tls": {"client_cert_name": "CN=me"}},
        *[{"left_out": name} for name in ("scheme", "root_path", "raw_path", "extensions")],
        *[{"headers": (header,)} for header in HEADERS],
    ],
    ids=str,
)
def test_a_request_that_differs_in_one_thing_from_the_last_one_of_its_path(change: dict[str, Any], method: str) -> None:
    base = Ask(method, "/a", "", (b"one",), (), (b"",), "http", "", True, None, "", 0.0)
    requests = [base, base, replace(base, **change), replace(base, **change), base]
    rule = Rule("/*", methods=METHODS, ttl=60)
    short, slow = play(rule, requests, short_way=True), play(rule, requests, short_way=False)
    assert (short.by_client, short.by_app) == (slow.by_client, slow.by_app)
    assert (short.results, short.bypasses) == (slow.results, slow.bypasses)
    assert short.told == slow.told


def test_the_short_way_is_taken_at_all() -> None:
    question = Ask("POST", "/a", "", (b"one",), (), (b"{}",), "http", "", True, None, "", 0.0)
    page = Ask("GET", "/a", "", (b"one",), (), (b"",), "http", "", True, None, "", 0.0)
    rule = Rule("/*", methods=METHODS, ttl=6)
    short = play(rule, [question, question, page, page], short_way=True)
    assert short.keys == 2  # of the page, and of what the question says
    assert play(rule, [question, question, page, page], short_way=False).keys == 0
    assert short.results == {"miss": 2, "hit": 2}


def test_bodies_that_differ_in_ignored_fields_alone_are_one_question_on_the_short_way() -> None:
    bodies = (b'{"q":1,"user":"a"}', b'{"q":1,"user":"b"}', b'{"user": "c", "q": 1}', b'{"q":1,"user":"b","user":"b"}')
    questions = [
        Ask("POST", "/a", "", (b"one",), (), (body,), "http", "", True, None, "", 0.0) for body in (*bodies, *bodies)
    ]
    rule = Rule("/*", methods=METHODS, ttl=6, key=json_body("q", ignore=("user",)))
    short, slow = play(rule, questions, short_way=True), play(rule, questions, short_way=False)
    assert short.by_client == slow.by_client
    assert short.results == slow.results == {"miss": 2, "hit": 6}  # which of two users counts, only the app knows
