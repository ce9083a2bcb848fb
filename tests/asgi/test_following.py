"""Rules without a ttl follow HTTP: what the origin says is done, through the whole middleware, from outside."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from glasscache._tiers import TieredStore
from glasscache.asgi import Rule, _http, answer
from glasscache.policy import Limits, Verdict
from glasscache.stores.memory import MemoryStore
from glasscache.testing import SharedServer, entry
from tests.asgi.site import FIRST, LoopClock, Origin, Site, read, respond, run
from tests.support.asgi import Message, Receive, Response, Scope, Send

EVERYTHING = Rule("/*")
Fields = list[tuple[bytes, bytes]]


def cc(value: str) -> tuple[bytes, bytes]:
    return b"cache-control", value.encode()


class Server:
    """An origin with validators: answers a condition that holds with 304, as its `headers` and `body` are now."""

    def __init__(self, *headers: tuple[bytes, bytes], body: bytes = b"0123456789", status: int = 200) -> None:
        self.headers: Fields = list(headers)
        self.body = body
        self.status = status
        self.seen: list[tuple[str, dict[bytes, bytes]]] = []
        self.fails: Exception | None = None
        self.takes = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read(receive)
        asked = dict(scope["headers"])
        self.seen.append((scope["method"], asked))
        await asyncio.sleep(self.takes)
        if self.fails is not None:
            raise self.fails
        fields = dict(self.headers)
        same = b"if-none-match" in asked and asked[b"if-none-match"] == fields.get(b"etag")
        same = same or (b"if-modified-since" in asked and asked[b"if-modified-since"] == fields.get(b"last-modified"))
        if same:
            await respond(send, status=304, headers=self.headers)
        else:
            await respond(send, self.body, status=self.status, headers=self.headers)

    @property
    def asked(self) -> list[dict[bytes, bytes]]:
        """The header fields of each request that it got, less those that all have."""
        return [{name: value for name, value in fields.items() if name != b"host"} for _, fields in self.seen]


def of(response: Response, name: bytes) -> list[bytes]:
    return [value for field, value in response.headers if field == name]


# --- confirmation (RFC 9111, 4.3) -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("validator", "condition"),
    [
        ((b"etag", b'"a"'), {b"if-none-match": b'"a"'}),
        ((b"etag", b'W/"a"'), {b"if-none-match": b'W/"a"'}),
        (
            (b"last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            {b"if-modified-since": b"Sun, 06 Nov 1994 08:49:37 GMT"},
        ),
    ],
)
def test_a_stale_answer_is_confirmed_and_lives_on(
    validator: tuple[bytes, bytes], condition: dict[bytes, bytes]
) -> None:
    async def scenario() -> None:
        server = Server(validator, cc("max-age=5"), (b"x-version", b"1"), (b"x-stays", b"yes"))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        server.headers = [validator, cc("max-age=50"), (b"x-version", b"2"), (b"content-length", b"99")]
        response = await site.get()
        assert (response.status, response.body) == (200, b"0123456789")
        assert response.cache_status == "glasscache; fwd=stale; fwd-status=304; stored"
        assert (of(response, b"x-version"), of(response, b"x-stays")) == ([b"2"], [b"yes"])
        assert not of(response, b"content-length")
        assert server.asked == [{}, condition]
        await asyncio.sleep(49)
        again = await site.get()
        assert (again.body, of(again, b"x-version"), of(again, b"age")) == (b"0123456789", [b"2"], [b"49"])
        assert site.results == {"miss": 1, "revalidated": 1, "hit": 1}

    run(scenario)


def test_an_answer_that_has_changed_replaces_the_stale_one() -> None:
    async def scenario() -> None:
        server = Server((b"etag", b'"a"'), cc("max-age=5"))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        server.headers[0], server.body = (b"etag", b'"b"'), b"new"
        assert (await site.get()).body == b"new"
        assert (await site.get()).body == b"new"
        assert server.asked == [{}, {b"if-none-match": b'"a"'}]
        assert site.results == {"miss": 2, "hit": 1}

    run(scenario)


def test_what_its_load_said_of_an_answer_holds_after_it_is_confirmed() -> None:
    async def scenario() -> None:
        server = Server((b"etag", b'"a"'), (b"vary", b"x-a"), cc("max-age=5"))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if not server.seen:
                answer().tag("doc:7").cost(0.5)
            await server(scope, receive, send)

        site = Site(app, EVERYTHING)
        await site.get()
        for method in ("GET", "HEAD"):
            await asyncio.sleep(6)
            await site.client.request(method, "/page")
        await site.get()
        assert site.results == {"miss": 1, "revalidated": 1, "bypass": 1, "hit": 1}
        assert site.cache.counters.groups["/*"].saved_price == 0.5
        assert await site.cache.invalidate(tag="doc:7") == 1

    run(scenario)


def test_one_confirmation_serves_a_crowd() -> None:
    async def scenario() -> None:
        server = Server((b"etag", b'"a"'), cc("max-age=5"))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        server.takes = 1.0
        responses = await site.crowd(50)
        assert {response.body for response in responses} == {b"0123456789"}
        assert len(server.seen) == 2
        assert site.results == {"miss": 1, "revalidated": 1, "collapsed": 49}

    run(scenario)


def test_no_cache_stores_an_answer_that_can_be_confirmed_and_asks_every_time() -> None:
    async def scenario() -> None:
        server = Server((b"etag", b'"a"'), cc("no-cache, max-age=60"))
        site = Site(server, EVERYTHING)
        for _ in range(3):
            assert (await site.get()).body == b"0123456789"
        assert server.asked == [{}, {b"if-none-match": b'"a"'}, {b"if-none-match": b'"a"'}]
        assert site.results == {"miss": 1, "revalidated": 2}

    run(scenario)


def test_a_confirmation_that_forbids_storing_is_for_its_own_request() -> None:
    async def scenario() -> None:
        server = Server((b"etag", b'"a"'), cc("max-age=5"))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        server.headers.append((b"set-cookie", b"a=b"))
        response = await site.get()
        assert (response.body, of(response, b"set-cookie")) == (b"0123456789", [b"a=b"])
        assert response.cache_status == "glasscache; fwd=stale; fwd-status=304"
        server.headers.pop()
        assert not of(await site.get(), b"set-cookie")

    run(scenario)


def test_a_client_that_has_the_confirmed_answer_is_told_so() -> None:
    async def scenario() -> None:
        server = Server((b"etag", b'"a"'), cc("max-age=5"))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        response = await site.get(headers=[(b"if-none-match", b'"b", "a"')])
        assert (response.status, response.body) == (304, b"")
        assert server.asked[1] == {b"if-none-match": b'"a"'}  # ours, not the client's

    run(scenario)


def test_a_confirmation_may_come_in_several_messages_and_says_nothing_more() -> None:
    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            if b"if-none-match" not in dict(scope["headers"]):
                await respond(send, b"whole", headers=[cc("no-cache"), (b"etag", b'"a"')])
                return
            await send({"type": "http.response.start", "status": 304, "headers": [cc("max-age=5")]})
            await send({"type": "http.response.body", "body": b"", "more_body": True})
            await send({"type": "http.response.body", "body": b""})

        site = Site(app, EVERYTHING)
        for _ in range(3):
            assert (await site.get()).body == b"whole"
        assert site.results == {"miss": 1, "revalidated": 1, "hit": 1}

    run(scenario)


def test_what_is_dead_is_dead_for_every_request() -> None:
    dead = entry(born=0.0, fresh_until=5.0, settled_until=5.0)
    for said in ("max-stale", "no-cache"):
        wish = _http.wish_of([cc(said)])
        assert wish is not None
        assert wish(dead, 9.0, Verdict.DEAD) is Verdict.DEAD


def test_a_post_is_never_confirmed() -> None:
    async def scenario() -> None:
        server = Server((b"etag", b'"a"'), cc("max-age=5"))
        site = Site(server, Rule("/ask", methods=("POST",)))
        await site.post()
        await asyncio.sleep(6)
        await site.post()
        assert b"if-none-match" not in server.asked[1]

    run(scenario)


def test_a_refresh_behind_asks_for_a_confirmation_too() -> None:
    async def scenario() -> None:
        server = Server((b"etag", b'"a"'), cc("max-age=5, stale-while-revalidate=60"))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        assert (await site.get()).cache_status == "glasscache; hit; ttl=-1; detail=revalidating"
        await asyncio.sleep(1)
        assert server.asked[1] == {b"if-none-match": b'"a"'}
        assert (await site.get()).cache_status == "glasscache; hit; ttl=4"

    run(scenario)


def test_machines_share_what_was_confirmed() -> None:
    async def scenario() -> None:
        shared = SharedServer(LoopClock())
        server = Server((b"etag", b'"a"'), cc("max-age=5"))
        here, there = (
            Site(server, EVERYTHING, store=TieredStore([MemoryStore(), shared.store(machine)]))
            for machine in ("here", "there")
        )
        await here.get()
        await asyncio.sleep(6)
        response = await there.get()
        assert response.cache_status == "glasscache; fwd=stale; fwd-status=304; stored"
        await asyncio.sleep(1)
        assert (await here.get()).cache_status == "glasscache; hit; ttl=4"
        await there.get(headers=[cc("no-cache")])
        assert server.asked[2] == {b"cache-control": b"no-cache", b"if-none-match": b'"a"'}
        await asyncio.sleep(1)
        here.cache._engine.near.clear()
        assert (await here.get(headers=[cc("no-cache")])).status == 200
        assert server.asked[3] == {b"cache-control": b"no-cache", b"if-none-match": b'"a"'}
        await asyncio.sleep(1)
        assert (await there.get()).cache_status == "glasscache; hit; ttl=3"  # its own
        for site in (here, there):
            await site.cache.aclose()

    run(scenario)


# --- an origin that cannot be reached (RFC 9111, 4.2.4) -------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "error", "stands_in"),
    [
        ("max-age=5", ConnectionResetError(), True),
        ("max-age=5", TimeoutError(), True),
        ("max-age=5", ValueError(), False),
        ("max-age=5, stale-if-error=60", ValueError(), True),
        ("max-age=5, must-revalidate", ConnectionResetError(), False),
        ("max-age=5, proxy-revalidate", ConnectionResetError(), False),
        ("s-maxage=5", ConnectionResetError(), False),
        ("max-age=5, no-cache", ConnectionResetError(), False),
    ],
)
def test_a_stale_answer_stands_in_for_an_origin_that_is_gone_unless_forbidden(
    said: str, error: Exception, stands_in: bool
) -> None:
    async def scenario() -> None:
        server = Server(cc(said), (b"etag", b'"a"'))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        server.fails = error
        if stands_in:
            response = await site.get()
            assert (response.body, response.cache_status) == (b"0123456789", "glasscache; hit; ttl=-1; detail=error")
        else:
            with pytest.raises(type(error)):
                await site.get()

    run(scenario)


def test_a_503_is_an_answer_and_needs_stale_if_error() -> None:
    async def scenario() -> None:
        for said, status in (("max-age=5", 503), ("max-age=5, stale-if-error=60", 200)):
            server = Server(cc(said))
            site = Site(server, EVERYTHING)
            await site.get()
            await asyncio.sleep(6)
            server.status = 503
            assert (await site.get()).status == status

    run(scenario)


def test_an_origin_that_asks_for_a_pause_gets_it_from_a_stale_answer_that_may_stand_in() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=5, stale-if-error=60"))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        server.status, server.headers = 503, [(b"retry-after", b"60")]
        for _ in range(3):
            assert (await site.get()).status == 200
        assert len(server.seen) == 2

    run(scenario)


# --- what a request asks for (RFC 9111, 5.2.1) ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "result"),
    [
        ("no-cache", "miss"),
        ("max-age=0", "miss"),
        ("max-age=9", "miss"),
        ("max-age=x", "miss"),
        ("max-age=10", "hit"),
        ("min-fresh=50", "hit"),
        ("min-fresh=51", "miss"),
        ("max-stale=9", "hit"),
        ("foo, public", "hit"),
        ("no-store", "bypass"),
        ("only-if-cached", "hit"),
        ("only-if-cached, no-cache", "bypass"),
    ],
)
@pytest.mark.parametrize("rule", [EVERYTHING, Rule("/*", ttl=60, client_may_refresh=True)])
def test_a_request_may_ask_for_less_than_the_cache_would_serve(rule: Rule, asked: str, result: str) -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"))
        site = Site(server, rule)
        await site.get()
        await asyncio.sleep(10)
        before = site.results
        await site.get(headers=[cc(asked)])
        assert site.results == {**before, result: before.get(result, 0) + 1}
        if result == "miss":
            assert len(server.seen) == 2
            assert of(await site.get(), b"age") == [b"0"]  # and all have it

    run(scenario)


def test_a_rule_with_a_ttl_does_not_hear_what_a_client_asks_for() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"))
        site = Site(server, Rule("/*", ttl=60))
        for asked in ("no-cache", "no-cache", "no-store", "max-age=0"):
            await site.get(headers=[cc(asked)])
        assert len(server.seen) == 1

    run(scenario)


def test_a_client_that_wants_a_confirmation_gets_one() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"), (b"etag", b'"a"'))
        site = Site(server, EVERYTHING)
        await site.get()
        response = await site.get(headers=[cc("no-cache")])
        assert response.cache_status == "glasscache; fwd=request; fwd-status=304; stored"
        assert server.asked[1] == {b"cache-control": b"no-cache", b"if-none-match": b'"a"'}
        server.fails = ConnectionResetError()
        with pytest.raises(ConnectionResetError):  # it did not want what was stored
            await site.get(headers=[cc("no-cache")])

    run(scenario)


@pytest.mark.parametrize(
    ("asked", "said", "result"),
    [
        ("max-stale", "max-age=5", "stale"),
        ("max-stale=1", "max-age=5", "stale"),
        ("max-stale=0", "max-age=5", "miss"),
        ("min-fresh=1", "max-age=5", "miss"),
        ("max-stale=x", "max-age=5", "miss"),
        ("max-stale, max-age=3", "max-age=5", "miss"),
        ("max-stale", "max-age=5, must-revalidate", "miss"),
        ("no-cache", "max-age=5, stale-while-revalidate=60", "miss"),
    ],
)
def test_a_client_may_take_a_stale_answer_if_its_origin_lets_it(asked: str, said: str, result: str) -> None:
    async def scenario() -> None:
        server = Server(cc(said))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        await site.get(headers=[cc(asked)])
        assert site.results == ({"miss": 2} if result == "miss" else {"miss": 1, "stale": 1})
        await asyncio.sleep(1)
        assert len(server.seen) == 2  # behind, if not in front

    run(scenario)


def test_without_anything_stored_only_if_cached_is_a_504() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=5"))
        site = Site(server, EVERYTHING)
        response = await site.get(headers=[cc("only-if-cached")])
        assert (response.status, response.body) == (504, b"")
        assert response.cache_status == "glasscache; fwd=request; detail=only_if_cached"
        assert not server.seen
        assert site.bypasses == {"only_if_cached": 1}

    run(scenario)


# --- who asks (RFC 9111, 3.5) ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", [(b"authorization", b"Bearer a"), (b"cookie", b"a=b"), (b"x-api-key", b"a")])
@pytest.mark.parametrize(
    ("said", "is_stored"),
    [
        ("max-age=60", False),
        ("max-age=60, public", True),
        ("max-age=60, must-revalidate", True),
        ("s-maxage=60", True),
    ],
)
def test_an_answer_to_a_request_with_credentials_is_stored_if_its_origin_opens_it_to_all(
    who: tuple[bytes, bytes], said: str, is_stored: bool
) -> None:
    async def scenario() -> None:
        server = Server(cc(said))
        site = Site(server, EVERYTHING)
        await site.get(headers=[who])
        assert server.asked[0] == dict([who])
        await site.get()
        assert len(server.seen) == (1 if is_stored else 2)
        await site.get(headers=[who])  # what is stored came of a request without credentials, or is for all
        assert len(server.seen) == (1 if is_stored else 2)

    run(scenario)


def test_a_crowd_with_credentials_shares_nothing_that_is_not_for_all() -> None:
    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(1)
            who = dict(scope["headers"]).get(b"cookie", b"nobody")
            await respond(send, who, headers=[cc("max-age=60")])

        site = Site(app, EVERYTHING)
        cookies = [b"a=%d" % number for number in range(20)]
        responses = await asyncio.gather(*(site.get(headers=[(b"cookie", cookie)]) for cookie in cookies))
        assert [response.body for response in responses] == cookies
        assert (await site.get()).body == b"nobody"

    run(scenario)


# --- parts (RFC 9110, 14) -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "status", "body", "where"),
    [
        ([(b"range", b"bytes=0-1")], 206, b"01", [b"bytes 0-1/10"]),
        ([(b"range", b"bytes=3-6")], 206, b"3456", [b"bytes 3-6/10"]),
        ([(b"range", b"bytes=8-")], 206, b"89", [b"bytes 8-9/10"]),
        ([(b"range", b"bytes=8-99")], 206, b"89", [b"bytes 8-9/10"]),
        ([(b"range", b"bytes=-3")], 206, b"789", [b"bytes 7-9/10"]),
        ([(b"range", b"bytes=-99")], 206, b"0123456789", [b"bytes 0-9/10"]),
        ([(b"range", b"bytes=10-")], 416, b"", [b"bytes */10"]),
        ([(b"range", b"bytes=-0")], 416, b"", [b"bytes */10"]),
        ([(b"range", b"bytes=0-1, 3-4")], 200, b"0123456789", []),
        ([(b"range", b"bytes=4-3")], 200, b"0123456789", []),
        ([(b"range", b"bytes=-")], 200, b"0123456789", []),
        ([(b"range", b"lines=0-1")], 200, b"0123456789", []),
        ([(b"range", b"bytes=0-1"), (b"range", b"bytes=3-4")], 200, b"0123456789", []),
        ([(b"range", b"bytes=0-1"), (b"if-range", b'"a"')], 206, b"01", [b"bytes 0-1/10"]),
        ([(b"range", b"bytes=0-1"), (b"if-range", b'W/"a"')], 200, b"0123456789", []),
        ([(b"range", b"bytes=0-1"), (b"if-range", b'"b"')], 200, b"0123456789", []),
        (
            [(b"range", b"bytes=0-1"), (b"if-range", b"Sun, 06 Nov 1994 08:49:37 GMT")],
            206,
            b"01",
            [b"bytes 0-1/10"],
        ),
        ([(b"range", b"bytes=0-1"), (b"if-range", b"Sun, 06 Nov 1994 08:49:38 GMT")], 200, b"0123456789", []),
        ([(b"range", b"bytes=0-1"), (b"if-none-match", b'"a"')], 304, b"", []),
    ],
)
@pytest.mark.parametrize("chunks", [(b"0123456789",), (b"012", b"34567", b"89")])
def test_a_part_of_a_stored_whole(
    fields: Fields, status: int, body: bytes, where: list[bytes], chunks: tuple[bytes, ...]
) -> None:
    async def scenario() -> None:
        headers = [
            cc("max-age=60"),
            (b"etag", b'"a"'),
            (b"last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (b"date", b"Sun, 06 Nov 2022 08:49:37 GMT"),
            (b"content-length", b"10"),
        ]
        headers[0] = cc("max-age=999999999")
        origin = Origin(*chunks, headers=headers)
        site = Site(origin, EVERYTHING)
        await site.get()
        response = await site.get(headers=fields)
        assert (response.status, response.body, of(response, b"content-range")) == (status, body, where)
        if status in (206, 416):
            assert of(response, b"content-length") == [b"%d" % len(body)]
        assert origin.loads == 1

    run(scenario)


def test_a_date_that_may_still_change_is_no_ground_for_a_part() -> None:
    async def scenario() -> None:
        now = b"Tue, 14 Nov 2023 22:13:20 GMT"
        site = Site(Server(cc("max-age=60"), (b"last-modified", now), (b"date", now)), EVERYTHING)
        await site.get()
        assert (await site.get(headers=[(b"range", b"bytes=0-1"), (b"if-range", now)])).status == 200

    run(scenario)


def test_without_a_stored_whole_the_origin_gets_the_range() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"))
        site = Site(server, EVERYTHING)
        response = await site.get(headers=[(b"range", b"bytes=0-1")])
        assert response.cache_status == "glasscache; fwd=bypass; detail=range"
        assert server.asked == [{b"range": b"bytes=0-1"}]

    run(scenario)


class Film(Server):
    """Answers a range with that part of its body, or with what it is told instead."""

    where: bytes | None = None
    cut_short = 0
    pieces = 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = dict(scope["headers"]).get(b"range", b"")
        if scope["method"] != "GET" or not asked:
            await super().__call__(scope, receive, send)
            return
        await read(receive)
        self.seen.append(("GET", dict(scope["headers"])))
        await asyncio.sleep(self.takes)
        first, _, last = asked.removeprefix(b"bytes=").partition(b"-")
        part = self.body[int(first) : int(last) + 1]
        where = b"bytes %d-%d/%d" % (int(first), int(last), len(self.body)) if self.where is None else self.where
        chunks = [part[: len(part) - self.cut_short]] if self.pieces == 1 else [part[:1], b"", part[1:]]
        await respond(send, *chunks, status=self.status, headers=[*self.headers, (b"content-range", where)])


def film(*headers: tuple[bytes, bytes], **options: Any) -> Film:
    made = Film(*(headers or (cc("max-age=60"), (b"etag", b'"a"'))), status=206)
    for name, value in options.items():
        setattr(made, name, value)
    return made


async def part(site: Site, asked: bytes, *fields: tuple[bytes, bytes]) -> Response:
    return await site.get(headers=[(b"range", asked), *fields])


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_part_that_went_by_answers_who_asks_for_less_of_it(pieces: int) -> None:
    async def scenario() -> None:
        server = film(pieces=pieces)
        site = Site(server, EVERYTHING)
        assert (await part(site, b"bytes=2-7")).body == b"234567"
        for asked, body, where in (
            (b"bytes=2-7", b"234567", b"bytes 2-7/10"),
            (b"bytes=3-4", b"34", b"bytes 3-4/10"),
        ):
            response = await part(site, asked, (b"if-range", b'"a"'))
            assert (response.status, response.body, of(response, b"content-range")) == (206, body, [where])
            assert of(response, b"content-length") == [b"%d" % len(body)]
            assert (response.cache_status or "").startswith("glasscache; hit")
        assert len(server.seen) == 1
        for asked in (b"bytes=1-3", b"bytes=5-8"):  # not all of it is there
            await part(site, asked)
        assert len(server.seen) == 3
        await part(site, b"bytes=5-8", (b"if-range", b'"b"'))
        assert len(server.seen) == 4
        await asyncio.sleep(61)
        await part(site, b"bytes=5-6")
        assert len(server.seen) == 5
        server.status = 200
        assert (await site.get()).body == b"0123456789"  # a part is never taken for the whole

    run(scenario)


@pytest.mark.parametrize(
    "options",
    [
        {"where": b"bytes 0-9/10"},
        {"where": b"bytes 7-2/10"},
        {"where": b"bytes 2-7/5"},
        {"where": b"bytes 2-7/*"},
        {"where": b"nonsense"},
        {"cut_short": 1},
        {"status": 200},
        {"headers": [cc("no-store")]},
        {"headers": [cc("max-age=60"), (b"vary", b"x-a")]},
        {"headers": [cc("max-age=60"), (b"content-range", b"bytes 2-7/10")]},
    ],
)
def test_a_part_that_may_not_be_kept_is_only_passed_on(options: dict[str, Any]) -> None:
    async def scenario() -> None:
        server = film(**options)
        site = Site(server, EVERYTHING)
        for _ in range(2):
            await part(site, b"bytes=2-7")
        assert len(server.seen) == 2

    run(scenario)


@pytest.mark.parametrize(("method", "fields"), [("HEAD", []), ("GET", [(b"range", b"bytes=0-1")])])
def test_what_goes_by_is_never_failed_by_what_is_learned_from_it(
    method: str, fields: Fields, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        sent: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 206, "headers": [("no", "bytes")]})
            await send({"type": "http.response.body"})

        async def receive() -> Message:
            raise AssertionError("read")

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": "/page", "query_string": b"", "headers": fields}
        await Site(app, EVERYTHING).middleware(scope, receive, send)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]

    run(scenario)
    assert "nothing was learned" in caplog.text


def test_a_part_is_bounded_told_invalid_and_not_for_a_rule_with_a_ttl() -> None:
    async def scenario() -> None:
        server = film(cc("max-age=60"), body=b"x" * 100)
        site = Site(server, EVERYTHING, limits=Limits(max_entry_bytes=50))
        for _ in range(2):
            await part(site, b"bytes=0-59")
        assert len(server.seen) == 2
        await part(site, b"bytes=0-9")
        await site.client.request("DELETE", "/page")
        await part(site, b"bytes=0-9")
        assert [method for method, _ in server.seen] == ["GET", "GET", "GET", "DELETE", "GET"]
        slow = film()
        slow.takes = 1.0
        site = Site(slow, EVERYTHING)
        under_way = asyncio.create_task(part(site, b"bytes=0-9"))
        await asyncio.sleep(0.5)
        slow.takes = 0.0
        await site.client.request("DELETE", "/page")
        await under_way
        await part(site, b"bytes=0-9")
        assert len(slow.seen) == 3
        ruled = film()
        site = Site(ruled, Rule("/*", ttl=60))
        for _ in range(2):
            await part(site, b"bytes=0-9")
        assert len(ruled.seen) == 2

    run(scenario)


# --- changes (RFC 9111, 4.4; RFC 9875) ------------------------------------------------------------------------------


class Shop(Server):
    """Whatever changes something is answered with `changed`."""

    changed: tuple[int, Fields] = 200, []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            await super().__call__(scope, receive, send)
        else:
            await read(receive)
            self.seen.append((scope["method"], {}))
            await respond(send, status=self.changed[0], headers=self.changed[1])


@pytest.mark.parametrize(
    "rule",
    [
        Rule("/page", ttl=60, headers=("accept-language",)),
        Rule("/page", ttl=60, tenant=lambda scope: dict(scope["headers"])[b"accept-language"].decode()),
    ],
)
def test_a_change_removes_what_is_stored_under_other_headers_and_for_other_tenants(rule: Rule) -> None:
    async def scenario() -> None:
        origin = Origin()
        site = Site(origin, rule)
        german, english = ([(b"accept-language", language)] for language in (b"de", b"en"))
        for method, headers in (("GET", german), ("GET", english), ("PUT", german), ("GET", german), ("GET", english)):
            await site.client.request(method, "/page", headers=headers)
        assert [scope["method"] for scope in origin.scopes] == ["GET", "GET", "PUT", "GET", "GET"]

    run(scenario)


def test_a_change_at_a_path_that_was_rewritten_outside_removes_what_is_stored_there() -> None:
    async def scenario() -> None:
        origin = Origin()
        site = Site(origin, Rule("/de/*", ttl=60))
        for method in ("GET", "GET", "DELETE", "GET"):
            await site.client.request(method, "/de/page", scope={"path": "/de/page", "raw_path": b"/page"})
        assert [scope["method"] for scope in origin.scopes] == ["GET", "DELETE", "GET"]

    run(scenario)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH", "FROB"])
@pytest.mark.parametrize("rule", [EVERYTHING, Rule("/*", ttl=60)])
@pytest.mark.parametrize(("status", "is_invalid"), [(200, True), (204, True), (303, True), (404, False), (500, False)])
def test_a_change_invalidates_what_it_changed(method: str, rule: Rule, status: int, is_invalid: bool) -> None:
    async def scenario() -> None:
        shop = Shop(cc("max-age=60"), (b"vary", b"accept-language"))
        site = Site(shop, rule)
        await site.get(headers=[(b"accept-language", b"de")])
        await site.get("/other")
        shop.changed = status, []
        response = await site.client.request(method, "/page", body=b"x", headers=[(b"content-type", b"text/plain")])
        assert response.status == status
        await site.get(headers=[(b"accept-language", b"de")])
        await site.get("/other")
        assert [seen for seen, _ in shop.seen] == ["GET", "GET", method, *(["GET"] if is_invalid else [])]

    run(scenario)


@pytest.mark.parametrize(
    ("reference", "reaches"),
    [
        (b"/other", True),
        (b"other", True),
        (b"http://testserver/other", True),
        (b"http://TESTSERVER/other", True),
        (b"https://testserver/other", False),
        (b"http://elsewhere/other", False),
        (b"http://testserver:81/other", False),
        (b"//[", False),
        (b"/other?a=1", False),
        (b"", False),
    ],
)
@pytest.mark.parametrize("field", [b"location", b"content-location"])
def test_a_change_reaches_what_it_names_of_its_own_origin(field: bytes, reference: bytes, reaches: bool) -> None:
    async def scenario() -> None:
        shop = Shop(cc("max-age=60"))
        site = Site(shop, EVERYTHING)
        await site.get("/other")
        shop.changed = 201, [(field, reference)]
        await site.post("/page")
        await site.get("/other")
        assert len(shop.seen) == (3 if reaches else 2)

    run(scenario)


def test_a_change_of_what_no_rule_names_or_what_has_no_key_is_only_passed_on() -> None:
    async def scenario() -> None:
        shop = Shop(cc("max-age=60"))
        site = Site(shop, Rule("/page", tenant=lambda scope: None, ttl=60), Rule("/other"))
        shop.changed = 200, [(b"location", b"/elsewhere")]
        for path in ("/page", "/other", "/elsewhere"):
            assert (await site.post(path)).status == 200
        assert len(shop.seen) == 3

    run(scenario)


def test_a_change_is_never_failed_by_the_cache(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        sent: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [("no", "bytes")]})
            await send({"type": "http.response.body"})

        async def receive() -> Message:
            raise AssertionError("read")

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/page", "headers": []}
        await Site(app, EVERYTHING).middleware(scope, receive, send)
        assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]

    run(scenario)
    assert "nothing was invalidated" in caplog.text


def test_a_load_that_a_change_overtook_is_not_stored() -> None:
    async def scenario() -> None:
        shop = Shop(cc("max-age=60"))
        shop.takes = 2.0
        site = Site(shop, EVERYTHING)
        slow = asyncio.create_task(site.get())
        await asyncio.sleep(1)
        await site.client.request("DELETE", "/page")
        await slow
        shop.takes = 0.0
        await site.get()
        assert [seen for seen, _ in shop.seen] == ["GET", "DELETE", "GET"]

    run(scenario)


def test_groups_are_invalidated_together_and_by_changes_only() -> None:
    async def scenario() -> None:
        shop = Shop(cc("max-age=60"), (b"cache-groups", b'"news", "all"'), (b"cache-group-invalidation", b'"news"'))
        site = Site(shop, EVERYTHING)
        for path in ("/a", "/b"):
            await site.get(path)
        assert len(shop.seen) == 2
        shop.changed = 404, [(b"cache-group-invalidation", b'"other", "news"')]
        await site.post("/page")
        await site.get("/a")
        await site.get("/b")
        assert len(shop.seen) == 5
        await site.get("/a", headers=[(b"host", b"elsewhere")])
        shop.changed = 200, [(b"cache-group-invalidation", b'"all"')]
        await site.post("/page", headers=[(b"host", b"elsewhere")])
        await site.get("/b")  # of another origin
        assert len(shop.seen) == 7

    run(scenario)


@pytest.mark.parametrize("field", [(b"cache-tag", b"one, two,,"), (b"surrogate-key", b"one  two")])
def test_an_origin_names_tags_in_its_header_fields(field: tuple[bytes, bytes]) -> None:
    async def scenario() -> None:
        for tag in ("one", "two"):
            server = Server(cc("max-age=60"), field)
            site = Site(server, EVERYTHING)
            await site.get()
            assert await site.cache.invalidate(tag=tag) == 1
            await site.get()
            assert len(server.seen) == 2

    run(scenario)


# --- what is stored, and when ---------------------------------------------------------------------------------------


def test_freshness_is_guessed_unless_the_rule_says_no() -> None:
    async def scenario() -> None:
        for guess, loads in ((True, 1), (False, 2)):
            server = Server((b"last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT"))
            site = Site(server, Rule("/*", guess=guess))
            await site.get()
            await site.get()
            assert len(server.seen) == loads

    run(scenario)


def test_named_fields_are_for_one_reader_and_the_rest_is_for_all() -> None:
    async def scenario() -> None:
        server = Server(
            cc('max-age=60, private="x-user", no-cache="x-b,x-c"'),
            *((name, b"1") for name in (b"x-user", b"x-b", b"x-c", b"x-all")),
        )
        site = Site(server, EVERYTHING)
        first, second = await site.get(), await site.get()
        assert of(first, b"x-user") == [b"1"]
        assert {name for name, _ in second.headers} == {b"cache-control", b"x-all", b"age", b"cache-status"}

    run(scenario)


@pytest.mark.parametrize("status", [200, 203, 204, 299, 301, 302, 303, 307, 400, 404, 410, 499, 500, 503, 599])
def test_every_final_status_with_explicit_freshness_is_stored(status: int) -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"), status=status)
        site = Site(server, EVERYTHING)
        for _ in range(2):
            assert (await site.get()).status == status
        assert len(server.seen) == 1

    run(scenario)


@pytest.mark.parametrize("status", [401, 407, 408, 412, 413, 415, 416, 421, 429, 431])
def test_an_error_that_blames_one_request_is_not_stored(status: int) -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60, public"), status=status)
        site = Site(server, EVERYTHING)
        for _ in range(2):
            assert (await site.get()).status == status
        assert len(server.seen) == 2

    run(scenario)


@pytest.mark.parametrize("odd", [b"x" * 5000, b"a\x01b", b"a\nb"])
def test_an_error_to_an_odd_request_is_not_stored(odd: bytes) -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"), status=400)
        site = Site(server, EVERYTHING)
        await site.get(headers=[(b"x-odd", odd)])
        server.status = 200
        assert (await site.get()).status == 200

    run(scenario)


def test_an_answer_is_stored_before_its_last_byte_goes_out() -> None:
    async def scenario() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await read(receive)
            headers = [cc("max-age=60"), (b"content-length", b"4")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for chunk in (b"ab", b"cd"):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await asyncio.sleep(5)
            await send({"type": "http.response.body", "body": b""})

        site = Site(app, EVERYTHING)
        at: list[int] = []
        stored: list[int] = []

        async def send(message: Message) -> None:
            at.append(len(message.get("body", b"")))
            stored.append(site.cache._engine.near.gauge().entries)

        async def receive() -> Message:
            await asyncio.sleep(99)
            return {"type": "http.disconnect"}

        scope = {"type": "http", "method": "GET", "path": "/page", "headers": [(b"host", b"a")], "scheme": "http"}
        await site.middleware(scope, receive, send)
        assert list(zip(at, stored, strict=True)) == [(0, 0), (2, 0), (2, 1)]
        await site.cache.aclose()

    run(scenario)


@pytest.mark.parametrize(
    ("fields", "is_hit"),
    [
        ([("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")], True),
        ([("glasscache-control", "max-age=60"), ("cdn-cache-control", "no-store")], True),
        ([("cdn-cache-control", "no-store"), ("cache-control", "max-age=60")], False),
        ([("cdn-cache-control", "private=?0, max-age=60"), ("cache-control", "max-age=60")], True),
        ([("cdn-cache-control", 'max-age="60"'), ("cache-control", "max-age=60")], False),
        ([("cdn-cache-control", "max-age=60, &&&"), ("cache-control", "no-store")], False),
        ([("cdn-cache-control", ""), ("cache-control", "max-age=60")], True),
        ([("surrogate-control", "max-age=60"), ("cache-control", "no-store")], True),
        ([("surrogate-control", "max-age=60;elsewhere"), ("cache-control", "max-age=0")], False),
        ([("surrogate-control", "max-age=60;glasscache"), ("cache-control", "max-age=0")], True),
        ([("surrogate-control", "no-store"), ("cache-control", "max-age=60")], False),
        ([("cdn-cache-control", "foo=bar"), ("expires", "Wed, 01 Jan 2098 00:00:00 GMT")], False),
    ],
)
def test_a_field_that_targets_us_stands_in_for_cache_control(fields: list[tuple[str, str]], is_hit: bool) -> None:
    async def scenario() -> None:
        server = Server(*((name.encode(), value.encode()) for name, value in fields))
        site = Site(server, EVERYTHING)
        assert ((await site.get()).cache_status == FIRST) is is_hit
        await site.get()
        assert len(server.seen) == (1 if is_hit else 2)

    run(scenario)


def test_a_status_that_must_be_understood_and_is_not_is_not_stored() -> None:
    async def scenario() -> None:
        for said, status, is_stored in (
            ("max-age=60, must-understand", 599, False),
            ("max-age=60, must-understand, no-store", 599, False),
            ("max-age=60, must-understand, no-store", 200, True),
            ("max-age=60, must-understand", 404, True),
        ):
            server = Server(cc(said), status=status)
            site = Site(server, EVERYTHING)
            await site.get()
            await site.get()
            assert len(server.seen) == (1 if is_stored else 2), (said, status)

    run(scenario)


# --- validators of ours, and what a HEAD tells ----------------------------------------------------------------------


def test_an_answer_without_an_etag_gets_one_if_the_rule_says_so() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"))
        site = Site(server, Rule("/*", etag=True))
        assert not of(await site.get(), b"etag")  # it is made when the body is whole
        [etag] = of(await site.get(), b"etag")
        assert re.fullmatch(rb'"glasscache-[0-9a-f]{32}"', etag)
        response = await site.get(headers=[(b"if-none-match", etag)])
        assert (response.status, response.body, of(response, b"etag")) == (304, b"", [etag])
        part = await site.get(headers=[(b"range", b"bytes=0-1"), (b"if-range", etag)])
        assert (part.status, part.body) == (206, b"01")
        await asyncio.sleep(61)
        server.body = b"new"
        await site.get()
        assert b"if-none-match" not in server.asked[1]  # the origin knows nothing of it
        assert of(await site.get(), b"etag") != [etag]

    run(scenario)


def test_an_etag_of_the_origin_stays() -> None:
    async def scenario() -> None:
        site = Site(Server(cc("max-age=60"), (b"etag", b'W/"a"')), Rule("/*", etag=True))
        await site.get()
        assert of(await site.get(), b"etag") == [b'W/"a"']

    run(scenario)


@pytest.mark.parametrize(
    ("told", "asks_again"),
    [
        ([cc("max-age=60"), (b"etag", b'"a"'), (b"content-length", b"10"), (b"x-version", b"2")], False),
        ([cc("max-age=60"), (b"x-version", b"2")], False),
        ([cc("max-age=60"), (b"etag", b'"b"')], True),
        ([cc("max-age=60"), (b"content-length", b"11")], True),
        ([cc("no-store")], True),
    ],
)
def test_the_answer_to_a_head_renews_or_removes_what_is_stored(told: Fields, asks_again: bool) -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=5"), (b"etag", b'"a"'))
        site = Site(server, EVERYTHING)
        await site.get()
        await asyncio.sleep(6)
        own, server.headers = server.headers, told
        head = await site.client.request("HEAD", "/page")
        assert head.cache_status == "glasscache; fwd=method; detail=method"
        server.headers = own
        response = await site.get()
        assert [method for method, _ in server.seen] == ["GET", "HEAD", *(["GET"] if asks_again else [])]
        if not asks_again:
            assert (response.body, of(response, b"x-version")) == (b"0123456789", [b"2"])
            assert of(response, b"age") == [b"0"]

    run(scenario)


def test_what_has_left_meanwhile_is_not_renewed() -> None:
    async def scenario() -> None:
        engine = Site(Server(), EVERYTHING).cache._engine
        engine.renew(b"key", entry(), entry())
        assert engine.near.gauge().entries == 0

    run(scenario)


def test_a_head_of_what_is_not_stored_or_went_wrong_changes_nothing() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=5"), (b"etag", b'"a"'))
        site = Site(server, EVERYTHING)
        await site.client.request("HEAD", "/page")
        await site.get()
        await asyncio.sleep(6)
        server.status = 404
        await site.client.request("HEAD", "/page")
        server.status = 200
        await site.get()
        assert server.asked[-1] == {b"if-none-match": b'"a"'}

    run(scenario)


# --- QUERY (RFC 10008) and collapsed forwarding ---------------------------------------------------------------------

SEARCH = Rule("/search", methods=("GET", "QUERY"))


async def search(site: Site, body: bytes = b"q", *fields: tuple[bytes, bytes], kind: bytes = b"text/plain") -> Response:
    headers = [(b"content-type", kind), *fields]
    return await site.client.request("QUERY", "/search", body=body, headers=headers)


def test_a_query_is_stored_under_its_content_and_what_describes_it() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"), (b"etag", b'"a"'))
        site = Site(server, SEARCH)
        for _ in range(2):
            await search(site)
            await search(site, b"other")
            await search(site, kind=b"application/json")
            await search(site, b"q", (b"content-encoding", b"gzip"))
            await site.get("/search")
        assert [method for method, _ in server.seen] == ["QUERY"] * 4 + ["GET"]
        assert (await search(site, b"q", (b"if-none-match", b'"a"'))).status == 304

    run(scenario)


def test_a_stale_query_is_confirmed_and_its_freshness_never_guessed() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=5"), (b"etag", b'"a"'))
        site = Site(server, SEARCH)
        await search(site)
        await asyncio.sleep(6)
        assert (await search(site)).cache_status == "glasscache; fwd=stale; fwd-status=304; stored"
        assert server.asked[1][b"if-none-match"] == b'"a"'
        server.headers = [(b"last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT")]
        for _ in range(2):
            await search(site, b"new")
        assert len(server.seen) == 4

    run(scenario)


@pytest.mark.parametrize(
    "rule",
    [
        SEARCH,
        Rule("/search", methods=("QUERY",)),
        Rule("/search", methods=("GET", "QUERY"), ttl=60),
        Rule("/search", methods=("QUERY",), ttl=60),
        Rule("/search", headers=("x-a",)),
        Rule("/search", shared=True),
    ],
)
def test_a_change_takes_all_that_is_stored_for_its_url(rule: Rule) -> None:
    async def scenario() -> None:
        shop = Shop(cc("max-age=60"))

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await shop({**scope, "method": "GET" if scope["method"] == "QUERY" else scope["method"]}, receive, send)

        site = Site(app, rule)

        async def ask() -> None:
            await site.get("/search", headers=[(b"x-a", b"1")])
            if "QUERY" in rule.methods:
                await search(site)

        await ask()
        before = len(shop.seen)
        await ask()
        assert len(shop.seen) == before + ("GET" not in rule.methods)  # which passes untouched
        await site.client.request("PUT", "/search")
        before = len(shop.seen)
        await ask()
        assert len(shop.seen) == before + (2 if "QUERY" in rule.methods else 1)

    run(scenario)


def test_a_crowd_is_told_that_its_requests_were_collapsed_and_how_old_the_answer_was() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"), (b"age", b"30"))
        server.takes = 1.0
        site = Site(server, EVERYTHING)
        responses = await site.crowd(5)
        assert [of(response, b"age") for response in responses] == [[b"30"]] * 5
        told = sorted(str(response.cache_status) for response in responses)
        assert told == ["glasscache; fwd=uri-miss; collapsed"] * 4 + [FIRST]
        assert len(server.seen) == 1

    run(scenario)


def test_a_crowd_that_has_the_answer_gets_a_304_while_it_is_loaded() -> None:
    async def scenario() -> None:
        server = Server(cc("max-age=60"), (b"etag", b'"a"'), (b"age", b"30"))
        server.takes = 1.0
        site = Site(server, EVERYTHING)
        responses = await site.crowd(3, headers=[(b"if-none-match", b'"a"')])
        assert [(response.status, response.body) for response in responses] == [(304, b"")] * 3
        assert [of(response, b"age") for response in responses] == [[b"30"]] * 3
        assert len(server.seen) == 1

    run(scenario)


def test_who_waited_for_a_failure_does_not_see_the_fields_that_are_for_one() -> None:
    async def scenario() -> None:
        server = Server(cc('private="x-user"'), (b"x-user", b"me"), (b"x-all", b"1"), status=500)
        server.takes = 1.0
        site = Site(server, EVERYTHING)
        first, *others = await site.crowd(3)
        assert of(first, b"x-user") == [b"me"]
        assert [(of(other, b"x-user"), of(other, b"x-all")) for other in others] == [([], [b"1"])] * 2
        assert len(server.seen) == 1

    run(scenario)


def test_what_may_not_be_shared_is_not_collapsed() -> None:
    async def scenario() -> None:
        for said in ("no-store", "private", ""):
            server = Server(cc(said))
            server.takes = 1.0
            site = Site(server, EVERYTHING)
            await site.crowd(5)
            assert len(server.seen) == 5

    run(scenario)
