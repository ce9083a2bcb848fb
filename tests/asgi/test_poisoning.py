"""Nothing that one client sends is ever served to another: an app that shows all it sees, and hostile requests."""

from __future__ import annotations

import asyncio
from itertools import chain

import pytest

from glasscache.asgi import QueryKey, Rule, _http
from tests.asgi.site import Site, read, respond, run
from tests.support.asgi import Receive, Response, Scope, Send

FOLLOWING = Rule("/*")
RULED = Rule("/*", ttl=60)
both = pytest.mark.parametrize("rule", [FOLLOWING, RULED], ids=["without a ttl", "with a ttl"])

ORDINARY = frozenset({b"accept", b"accept-encoding", b"user-agent", b"x-forwarded-for"})
"""What every client sends, each another: an app that shows these has to say so in Vary."""


async def mirror(scope: Scope, receive: Receive, send: Send) -> None:
    """An app whose answer shows the whole request, and may be stored for all."""
    body = b"".join(message.get("body", b"") for message in await read(receive))
    fields = [field for field in scope["headers"] if field[0] not in ORDINARY]
    seen = (scope["method"], scope.get("raw_path"), scope["path"], scope["query_string"], scope["scheme"], fields, body)
    headers = [(b"cache-control", b"public, max-age=60")]
    headers += [(b"location", value) for name, value in fields if name == b"host"]
    await respond(send, repr(seen).encode(), headers=headers)


def everything(response: Response) -> bytes:
    return response.body + b"".join(chain.from_iterable(response.headers))


# --- paths ----------------------------------------------------------------------------------------------------------

_PAGE = "/account"
_AFTER = (
    *("/", "//", "/.", "/..", "/./", "/../", "/x/..", "/x/../account", "/%2e", "/%2e%2e", "/%2e%2e/", "/..;/", "/;/"),
    *(";", ";a", ";a=1", ";/", ";.css", ";x.js", "%3b", "%3ba", "%3b.css", "%3B.css", ",", ",a", ":", "!", "~", "'"),
    *(".css", ".js", ".png", ".ico", ".json", ".html", "/x.css", "/x.js", "/%2ex.css", "%2ecss", "..css", "/style.css"),
    *("%2f", "%2F", "%2fx.css", "%2F..", "%2f%2e%2e", "%2f..%2faccount", "%252f", "%252e", "%25", "%", "%2", "%zz"),
    *("%00", "%00.css", "%0a", "%0a.css", "%0d", "%0d%0a", "%09", "%20", "%20.css", "+", "%2b", " ", "%a0", "%c0%af"),
    *("%23", "%23.css", "%3f", "%3f.css", "%3fa=1", "%26", "%26a=1", "%3d", "&a=1", "=1", "@", "$", "*", "%2a", "^"),
    *("\\", "\\x", "%5c", "%5cx", "%5c..", "%ef%bc%8f", "%e2%80%ae", "%f0%9f%98%80", "%ff", "%7f", "|", "%7c", "`"),
    *("(1)", "[1]", "{1}", "%5b1%5d", "%7b1%7d", "<x>", "%3cx%3e", '"', "%22", "%27", "-", "_", "0", "s", "S"),
)
_BEFORE = (
    *(
        "/",
        "//",
        "///",
        "/.",
        "/./",
        "/x/..",
        "/x/../",
        "/%2e/",
        "/%2e%2e/",
        "/..",
        "/../",
        "/;",
        "/;/",
        "/%2f",
        "/%2F",
    ),
    *("/%5c", "/\\", "/%20", "/%09", "/%00", "/%0a", "/api", "/api/..", "/static/..", "/static/../", "/static/%2e%2e"),
    *("/assets/..%2f", "/.well-known/..", "/robots.txt/..", "/x;/..", "/en", "/EN", "/~", "/@", "/:", "/*", "/-"),
)
_CASES = ("/Account", "/ACCOUNT", "/accounT", "/%61ccount", "/%41ccount", "/a%63count", "/acc%6funt", "/accoun%74")
_WHOLE = (
    "/",
    "",
    "/acc",
    "/accoun",
    "/accountt",
    "/account/account",
    "/accou nt",
    "/acc%2fount",
    "/acc/ount",
    "/a",
    "*",
)
_CODES = tuple(f"%{code:02x}" for code in (*range(1, 32), *range(0x80, 0x90)))
VARIANTS = tuple(
    dict.fromkeys(
        [_PAGE, *(_PAGE + end for end in (*_AFTER, *_CODES)), *(b + _PAGE for b in _BEFORE), *_CASES, *_WHOLE]
    )
)


@both
def test_two_hundred_spellings_of_a_path_never_meet(rule: Rule) -> None:
    assert len(VARIANTS) >= 200

    async def scenario() -> None:
        site = Site(mirror, rule)
        for path in (*VARIANTS, *reversed(VARIANTS)):
            scope = {"raw_path": path.encode(), "path": path}
            response = await site.get("/account", scope=scope)
            assert response.status == 200
            assert repr(path.encode()).encode() in response.body

    run(scenario)


# --- fields that are seldom keyed -----------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("name", sorted(_http.ROUTING))
def test_what_a_field_says_is_for_those_who_said_it(name: bytes, rule: Rule) -> None:
    async def scenario() -> None:
        site = Site(mirror, rule)
        for value in (b"evil.example", b"host=evil.example", b"evil.example, other"):
            for _ in range(2):
                assert b"evil" in everything(await site.get(headers=[(name, value)]))
            assert b"evil" not in everything(await site.get())
        assert b"evil" in everything(await site.get(headers=[(name, b"evil.example")]))

    run(scenario)


def test_there_are_more_than_sixty_of_them() -> None:
    assert len(_http.ROUTING) >= 60


@both
@pytest.mark.parametrize(
    "hosts",
    [
        (b"evil.example",),
        (b"testserver.evil.example",),
        (b"testserver:1337",),
        (b"testserver.",),
        (b"testserver@evil.example",),
        (b"testserver, evil.example",),
        (b"testserver#evil.example",),
        (b"testserver\tevil.example",),
        (b"testserver", b"evil.example"),
        (b"evil.example", b"testserver"),
        (b"",),
        (),
        (b"[::1]",),
    ],
)
def test_a_hostile_host_is_answered_alone(hosts: tuple[bytes, ...], rule: Rule) -> None:
    async def scenario() -> None:
        site = Site(mirror, rule)
        plain = (await site.get()).body
        for _ in range(2):
            evil = await site.get(headers=[(b"host", host) for host in hosts], scope={} if hosts else {"headers": []})
            assert evil.body != plain
        assert (await site.get()).body == plain

    run(scenario)


# --- queries and bodies ---------------------------------------------------------------------------------------------

_CLOAKS = (
    *(
        "q=1;utm=2",
        "utm=2;q=evil",
        "q=1&utm=2;q=evil",
        "utm=1%26q=evil",
        "utm=1%3bq=evil",
        "q=evil;utm=1",
        "q=1&q=evil",
    ),
    *("utm[q]=evil", "q[]=evil", "%71=evil", "q%00=evil", "Q=evil", "q =evil", "+q=evil", "q=1&amp;q=evil", "?q=evil"),
    *("&&q=evil", "q", "q=", "=evil", "utm=x&q=evil", "utm;q=evil", ";q=evil", "q=1#evil", "q=1%00evil", "utm=1&q=1&q"),
)


@both
@pytest.mark.parametrize("key", [QueryKey(), QueryKey(ignore=("utm",)), QueryKey(only=("q",)), QueryKey(sort=True)])
def test_a_query_in_disguise_meets_only_what_any_app_reads_alike(rule: Rule, key: QueryKey) -> None:
    """The app reads its query as the most lenient would: at `&` and `;`, the first or the last of a name."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        pairs = scope["query_string"].replace(b";", b"&").split(b"&")
        read_as = [value for name, _, value in (pair.partition(b"=") for pair in pairs) if name in (b"q", b"%71")]
        await respond(send, repr(read_as).encode(), headers=[(b"cache-control", b"public, max-age=60")])

    async def scenario() -> None:
        site = Site(app, Rule("/*", ttl=rule.ttl, query=key))
        plain = [(await site.get(query=query)).body for query in ("q=1", "q=1&utm=5")]
        for query in _CLOAKS:
            await site.get(query=query)
            assert [(await site.get(query=query)).body for query in ("q=1", "q=1&utm=5")] == plain

    run(scenario)


@both
@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-length", b"6")],
        [(b"content-length", b"6"), (b"content-type", b"application/x-www-form-urlencoded")],
        [(b"transfer-encoding", b"chunked")],
        [(b"content-length", b"0"), (b"transfer-encoding", b"chunked")],
        [],
    ],
)
def test_a_fat_get_is_for_its_sender(fields: list[tuple[bytes, bytes]], rule: Rule) -> None:
    async def scenario() -> None:
        site = Site(mirror, rule)
        await site.get(headers=fields, body=b"q=evil")
        assert b"evil" not in (await site.get()).body

    run(scenario)


# --- denial of service by what a cache keeps (CPDoS) ----------------------------------------------------------------

_ATTACKS = {
    "oversized": [(b"x-oversized", b"a" * 3000)],
    "many": [(b"x-%d" % number, b"a" * 20) for number in range(100)],
    "a control character": [(b"x-meta", b"a\x07b")],
    "a line break": [(b"x-meta", b"a\r\nb: c")],
    "a nul": [(b"x-meta", b"\x00")],
    "a method in disguise": [(b"x-http-method-override", b"HELP")],
    "another path": [(b"x-original-url", b"/no-such-page")],
    "another host": [(b"x-forwarded-host", b"no-such-host")],
    "no type that suits": [(b"accept", b"text/nonsense")],
    "an expectation": [(b"expect", b"the unexpected")],
}
_STATUS = {"no type that suits": 406, "an expectation": 417, "oversized": 431, "many": 500, "a nul": 501}


@pytest.mark.parametrize("attack", _ATTACKS)
@pytest.mark.parametrize("said", [b"public, max-age=60", b"max-age=60", b""])
def test_an_error_that_one_request_earned_is_not_kept_for_others(attack: str, said: bytes) -> None:
    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(1)
            is_evil = len(scope["headers"]) > 1
            status = _STATUS.get(attack, 400) if is_evil else 200
            headers = [(b"cache-control", said), (b"last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT")]
            await respond(send, b"no" if is_evil else b"page", status=status, headers=headers)

        site = Site(app, FOLLOWING)
        evil = asyncio.create_task(site.get(headers=_ATTACKS[attack]))
        await asyncio.sleep(0.5)
        crowd = await site.crowd(5)  # also for those who came while it was under way
        assert (await evil).status >= 400
        assert {response.status for response in crowd} == {200}
        assert (await site.get()).status == 200

    run(scenario)
