"""What of a request is its key, and why some requests have none. Through the whole middleware, from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from glasscache.asgi import CREDENTIALS, QueryKey, Rule, Text, credential, json_body
from glasscache.testing import SharedServer
from tests.asgi.site import FIRST, Echo, LoopClock, Site, read, respond, run
from tests.support.asgi import Client, Message, Receive, Scope, Send

Request = dict[str, Any]
JSON = (b"content-type", b"application/json")
HIT = "glasscache; hit; ttl=60"


def meet(rule: Rule, one: Request, other: Request) -> bool:
    """Whether two requests share one answer."""
    shared: list[bool] = []

    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, rule)
        for request in (one, other):
            response = await site.client.request(**{"method": "GET", "path": "/page", **request})
            assert response.status == 200
        assert not site.bypasses
        shared.append(origin.loads == 1)

    run(scenario)
    return shared[0]


PAGE = Rule("/*", ttl=60)
ASK = Rule("/ask", methods=("POST", "QUERY"), ttl=60)


def ask(body: bytes = b'{"q": 1}', method: str = "POST", headers: Any = (JSON,), **request: Any) -> Request:
    return {"method": method, "path": "/ask", "body": body, "headers": headers, **request}


# --- what is keyed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        {"path": "/other"},
        {"path": "/page/"},
        {"path": "/p%61ge"},
        {"query": "a=1"},
        {"scope": {"scheme": "https"}},
        {"scope": {"root_path": "/app"}},
        {"headers": [(b"host", b"elsewhere")]},
        {"headers": [(b"host", b"testserver"), (b"host", b"testserver")]},
        {"headers": [(b"host", b"")]},
        {"headers": [(b"x-forwarded-host", b"evil")]},
        {"headers": [(b"x-forwarded-proto", b"https")]},
        {"headers": [(b"x-forwarded-prefix", b"/evil")]},
        {"headers": [(b"x-original-url", b"/evil")]},
        {"headers": [(b"x-rewrite-url", b"/evil")]},
        {"headers": [(b"x-http-method-override", b"DELETE")]},
        {"headers": [(b"forwarded", b"host=evil")]},
        {"headers": [(b"forwarded", b"for=1.2.3.4;proto=https")]},
    ],
)
def test_requests_that_an_app_can_tell_apart_do_not_share(other: Request) -> None:
    assert not meet(PAGE, {}, other)
    assert not meet(PAGE, other, {})


@pytest.mark.parametrize(
    "other",
    [
        {"headers": [(b"host", b"TestServer")]},
        {"headers": [(b"user-agent", b"curl"), (b"accept", b"*/*")]},
        {"headers": [(b"x-forwarded-for", b"1.2.3.4")]},
        {"headers": [(b"forwarded", b"for=1.2.3.4")]},
        {"headers": [(b"content-length", b"0")]},
        {"scope": {"client": ("10.0.0.1", 1)}},
    ],
)
def test_what_says_nothing_about_the_answer_is_not_keyed(other: Request) -> None:
    assert meet(PAGE, {}, other)
    assert meet(PAGE, other, {})


def test_a_path_that_was_rewritten_outside_is_keyed_as_the_app_sees_it() -> None:
    one, other = ({"scope": {"path": path, "raw_path": b"/page"}} for path in ("/de/page", "/en/page"))
    assert not meet(PAGE, one, other)
    assert not meet(PAGE, {}, one)
    assert meet(PAGE, one, one)


def test_a_path_is_the_same_whether_or_not_the_server_leaves_out_where_the_app_is_mounted() -> None:
    one, other = ({"scope": {"path": path, "raw_path": b"/app/%61", "root_path": "/app"}} for path in ("/app/a", "/a"))
    assert meet(PAGE, one, other)


def test_a_server_that_sends_no_raw_path_is_keyed_by_the_decoded_one() -> None:
    assert meet(PAGE, {"scope": {"raw_path": None}}, {"scope": {"raw_path": None}})
    assert not meet(PAGE, {"scope": {"raw_path": None}}, {"path": "/other", "scope": {"raw_path": None}})


def test_hosts_share_where_the_rule_says_that_all_names_answer_alike() -> None:
    anywhere = Rule("/page", ttl=60, host=False)
    assert meet(anywhere, {}, {"headers": [(b"host", b"elsewhere")]})
    assert not meet(anywhere, {}, {"headers": [(b"x-forwarded-host", b"elsewhere")]})


def test_the_chosen_headers_are_keyed_in_full() -> None:
    rule = Rule("/page", ttl=60, headers=("Accept-Language",))

    def german(*values: bytes) -> Request:
        return {"headers": [(b"accept-language", value) for value in values]}

    assert meet(rule, german(b"de"), german(b"de"))
    assert meet(rule, {"headers": [(b"accept", b"a")]}, {"headers": [(b"accept", b"b")]})
    for other in ({}, german(b"en"), german(b""), german(b"de", b"de"), german(b"DE")):
        assert not meet(rule, german(b"de"), other)


@pytest.mark.parametrize(
    ("query", "one", "other", "same"),
    [
        (QueryKey(), "a=1&b=2", "b=2&a=1", False),
        (QueryKey(), "", "&", False),
        (QueryKey(sort=True), "a=1&b=2", "b=2&a=1", True),
        (QueryKey(sort=True), "a=1&a=2", "a=2&a=1", False),  # most apps take the last one
        (QueryKey(only=("q",)), "q=1&utm=x", "utm=y&q=1", True),
        (QueryKey(only=("q",)), "q=1", "q=2", False),
        (QueryKey(only=("q",)), "q=1", "%71=2", False),
        (QueryKey(only=("a", "b")), "a=1&b=2", "b=2&a=1", False),
        (QueryKey(ignore=("utm",)), "q=1&utm=x", "q=1&utm=y", True),
        (QueryKey(ignore=("utm",)), "q=1&u%74m=x", "q=1", True),
        (QueryKey(ignore=("utm",)), "q=1&utm2=x", "q=1", False),
        (QueryKey(ignore=("ü",)), "q=1&%C3%BC=x", "q=1", True),
        (QueryKey(ignore=("a b",)), "q=1&a+b=x", "q=1", True),
        (QueryKey(ignore=("x",)), "q=%FF", "q=%FE", False),
    ],
)
def test_query_parameters_are_sorted_or_dropped_only_by_name(query: QueryKey, one: str, other: str, same: bool) -> None:
    assert meet(Rule("/page", ttl=60, query=query), {"query": one}, {"query": other}) is same


def test_what_was_kept_while_other_parameters_were_ignored_is_not_found() -> None:
    async def scenario() -> None:
        shared = SharedServer(LoopClock())
        for number, query in enumerate((QueryKey(ignore=("lang",)), QueryKey(ignore=("utm",)), QueryKey()), 1):
            release = Site(Echo(), Rule("/page", ttl=60, query=query), store=shared.store(f"release {number}"))
            asked = "lang=de" if number == 1 else ""
            assert [(await release.get(query=asked)).cache_status for _ in range(2)] == [FIRST, HIT]

    run(scenario)


def test_a_key_builder_says_what_of_a_get_is_keyed() -> None:
    class Language:
        bypass_reason = "no_language"

        def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            return headers.get(b"x-language")

    rule = Rule("/page", ttl=60, key=Language())
    german, english = {"headers": [(b"x-language", b"de")]}, {"headers": [(b"x-language", b"en")]}
    assert meet(rule, german, german)
    assert not meet(rule, german, english)

    async def scenario() -> None:
        site = Site(Echo(), rule)
        await site.get()
        assert site.bypasses == {"no_language": 1}

    run(scenario)


# --- content --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "other",
    [
        ask(b'{"q": 2}'),
        ask(b'{"q":1}'),
        ask(b""),
        ask(method="QUERY"),
        ask(headers=()),
        ask(headers=[(b"content-type", b"text/plain")]),
        ask(headers=[JSON, JSON]),
        ask(headers=[JSON, (b"content-encoding", b"gzip")]),
        ask(query="a"),
    ],
)
def test_content_is_keyed_with_its_metadata(other: Request) -> None:
    assert not meet(ASK, ask(), other)
    assert not meet(ASK, other, ask())


@pytest.mark.parametrize("method", ["POST", "QUERY"])
def test_the_same_content_in_other_messages_is_the_same(method: str) -> None:
    assert meet(ASK, ask(method=method), ask([b'{"q"', b"", b": 1}", b""], method=method))  # type: ignore[arg-type]
    assert meet(ASK, ask(b"", method=method), ask([b"", b""], method=method))  # type: ignore[arg-type]


def test_a_json_body_is_keyed_by_what_it_says() -> None:
    rule = Rule("/ask", methods=("POST",), ttl=60, key=json_body("q", ignore=("user",), text=Text(case=True)))
    assert meet(rule, ask(b'{"q": "Why?"}'), ask(b'{"user": 7, "q":"why?"}'))
    assert not meet(rule, ask(b'{"q": 1}'), ask(b'{"q": 1.0}'))


def test_a_body_with_a_field_that_nobody_declared_bypasses() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, Rule("/ask", methods=("POST",), ttl=60, key=json_body("q")))
        for _ in range(2):
            response = await site.post(body=[b'{"q": 1,', b'"admin": true}'])
            assert response.cache_status == "glasscache; fwd=bypass; detail=unkeyed_field"
        assert origin.loads == 2
        assert origin.bodies[0] == [
            {"type": "http.request", "body": b'{"q": 1,', "more_body": True},
            {"type": "http.request", "body": b'"admin": true}', "more_body": False},
        ]
        assert site.bypasses == {"unkeyed_field": 2}

    run(scenario)


def test_a_key_builder_of_a_post_may_look_at_headers() -> None:
    class ByLocale:
        bypass_reason = "no_locale"

        def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
            headers: dict[bytes, bytes] = dict(scope["headers"])
            return headers.get(b"x-locale", b"") + body

    rule = Rule("/ask", methods=("POST",), ttl=60, key=ByLocale())
    german, english = ask(headers=[JSON, (b"x-locale", b"de")]), ask(headers=[JSON, (b"x-locale", b"en")])
    assert meet(rule, german, german)
    assert not meet(rule, german, english)


def test_a_key_builder_that_fails_bypasses_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        bypass_reason = "broken"

        def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
            raise KeyError("question")

    async def scenario() -> None:
        site = Site(Echo(), Rule("/*", methods=("GET", "POST"), ttl=60, key=Broken()))
        assert (await site.post()).status == 200
        assert (await site.get()).status == 200
        assert site.bypasses == {"broken": 2}

    run(scenario)
    assert "KeyError" in caplog.text


def test_the_app_gets_the_body_message_by_message_as_it_came() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, ASK)
        chunks = [b"a" * 3000, b"", b"b", b""]
        response = await site.post(body=chunks)
        assert response.cache_status == FIRST
        assert [(message["body"], message["more_body"]) for message in origin.bodies[0]] == [
            (b"a" * 3000, True),
            (b"", True),
            (b"b", True),
            (b"", False),
        ]

    run(scenario)


def test_a_get_has_an_empty_body_for_the_app() -> None:
    async def scenario() -> None:
        origin = Echo()
        await Site(origin, PAGE).get()
        assert origin.bodies == [[{"type": "http.request", "body": b"", "more_body": False}]]

    run(scenario)


# --- bypass ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([(b"content-length", b"3")], "body"),
        ([(b"transfer-encoding", b"chunked")], "body"),
        ([(b"if-match", b'"a"')], "precondition"),
        ([(b"if-unmodified-since", b"Sun, 06 Nov 1994 08:49:37 GMT")], "precondition"),
        ([(b"authorization", b"Bearer a")], "credentials"),
        ([(b"proxy-authorization", b"Basic a")], "credentials"),
        ([(b"cookie", b"a=b")], "credentials"),
        ([(b"x-api-key", b"a")], "credentials"),
        ([(b"api-key", b"a")], "credentials"),
        ([(b"x-auth-token", b"a")], "credentials"),
        ([(b"x-amz-security-token", b"a")], "credentials"),
    ],
)
def test_what_the_cache_must_not_answer_passes_untouched_and_is_counted(
    headers: list[tuple[bytes, bytes]], reason: str
) -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, PAGE)
        await site.get()
        for number in (2, 3):
            response = await site.get(headers=headers)
            assert response.body == b"%d /page" % number
            assert response.cache_status == f"glasscache; fwd=bypass; detail={reason}"
        assert set(headers) <= set(origin.scopes[-1]["headers"])
        assert site.bypasses == {reason: 2}
        assert site.results == {"miss": 1, "bypass": 2}
        assert site.telemetry.outcomes[-1].bypass == reason

    run(scenario)


def test_a_part_of_an_answer_to_a_post_is_for_the_origin_to_cut_out() -> None:
    async def scenario() -> None:
        site = Site(Echo(), ASK)
        await site.post()
        response = await site.post(headers=[(b"range", b"bytes=0-1")])
        assert response.cache_status == "glasscache; fwd=bypass; detail=range"
        assert site.bypasses == {"range": 1}

    run(scenario)


@pytest.mark.parametrize("name", [b"if-none-match", b"if-modified-since"])
def test_a_condition_on_a_post_is_for_the_origin_to_judge(name: bytes) -> None:
    # RFC 9110, 13.1.2: a match means 412 there; 13.1.3: If-Modified-Since means nothing there. Never a 304.
    async def scenario() -> None:
        site = Site(Echo(headers=[(b"etag", b'"a"'), (b"last-modified", b"Sun, 06 Nov 1994 08:49:37 GMT")]), ASK)
        await site.post()
        value = {b"if-none-match": b'"a"', b"if-modified-since": b"Sun, 06 Nov 1994 08:49:37 GMT"}[name]
        response = await site.post(headers=[(name, value)])
        assert response.status == 200
        assert site.bypasses == {"precondition": 1}

    run(scenario)


@pytest.mark.parametrize("tls", [{"client_cert_name": "CN=me"}, {"client_cert_chain": ["PEM"]}])
def test_a_client_certificate_is_a_credential(tls: dict[str, Any]) -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE)
        await site.get(scope={"extensions": {"tls": tls}})
        assert site.bypasses == {"credentials": 1}

    run(scenario)


@pytest.mark.parametrize("extensions", [None, {}, {"tls": None}, {"tls": {"client_cert_name": None}}])
def test_a_connection_without_client_certificate_is_cached(extensions: dict[str, Any] | None) -> None:
    assert meet(PAGE, {"scope": {"extensions": extensions}}, {})


def test_which_headers_are_credentials_can_be_said() -> None:
    async def scenario() -> None:
        site = Site(Echo(), PAGE, credentials=("X-Session",))
        await site.get(headers=[(b"x-session", b"a")])
        assert site.bypasses == {"credentials": 1}
        assert (await site.get(headers=[(b"cookie", b"a")])).cache_status == FIRST
        more = Site(Echo(), PAGE, credentials=(*CREDENTIALS, "X-Session"))
        for name in (b"x-session", b"cookie", b"authorization", b"x-api-key"):
            await more.get(headers=[(name, b"a")])
        assert more.bypasses == {"credentials": 4}

    run(scenario)


def test_a_tenant_shares_with_itself_only() -> None:
    rule = Rule("/page", ttl=60, tenant=credential("authorization"))
    alice, bob = {"headers": [(b"authorization", b"alice")]}, {"headers": [(b"authorization", b"bob")]}
    assert meet(rule, alice, alice)
    assert not meet(rule, alice, bob)


def test_a_tenant_comes_from_the_scope_too() -> None:
    rule = Rule("/page", ttl=60, tenant=lambda scope: scope["state"]["org"])
    one, other = {"scope": {"state": {"org": "1"}}}, {"scope": {"state": {"org": "\udcff"}}}
    assert meet(rule, one, one)
    assert not meet(rule, one, other)


@pytest.mark.parametrize("tenant", [lambda _: None, lambda _: "", lambda _: 7, lambda scope: scope["missing"]])
def test_a_request_without_a_tenant_bypasses(tenant: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/page", ttl=60, tenant=tenant))
        assert (await site.get()).status == 200
        assert site.bypasses == {"unscoped": 1}

    run(scenario)


def test_when_decides_for_each_request_and_a_failure_counts_as_no(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/page", ttl=60, when=lambda scope: scope["state"]["cached"]))
        assert (await site.get(scope={"state": {"cached": True}})).cache_status == FIRST
        await site.get(scope={"state": {"cached": False}})
        assert not caplog.records
        await site.get(scope={"state": {}})
        assert "KeyError" in caplog.text
        assert site.bypasses == {"when": 2}

    run(scenario)


def test_a_body_over_the_limit_bypasses_and_arrives_whole() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, Rule("/ask", methods=("POST",), ttl=60, max_body=4))
        assert (await site.post(body=[b"ab", b"cd"])).cache_status == FIRST
        response = await site.post(body=[b"ab", b"cd", b"e", b"f"])
        assert response.cache_status == "glasscache; fwd=bypass; detail=body_size"
        assert [message["body"] for message in origin.bodies[1]] == [b"ab", b"cd", b"e", b"f"]
        assert (await site.post(body=b"abcde")).body == b"3 /ask abcde"
        assert site.bypasses == {"body_size": 2}

    run(scenario)


def dribble(*steps: tuple[float, Message]) -> Receive:
    """A client that sends each message some seconds after the one before."""
    left = list(steps)

    async def receive() -> Message:
        if not left:
            await asyncio.Event().wait()
        seconds, message = left[0]
        await asyncio.sleep(seconds)
        del left[0]
        return message

    return receive


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def talk(site: Site, receive: Receive) -> list[Message]:
    """What is sent to a POST whose client is `receive`."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    stream = Client(site.middleware)._open("POST", "/ask", [JSON], b"", b"", None, window=0)
    await site.middleware(stream.scope, receive, send)
    return sent


@pytest.mark.parametrize("first", [0.0, 0.75])
def test_a_body_over_the_deadline_bypasses_and_what_was_read_is_replayed_before_the_rest(first: float) -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, Rule("/ask", methods=("POST",), ttl=60, body_timeout=1.0))
        steps = ((first, part(b"ab", more=True)), (1.0, part(b"cd", more=True)), (9.0, part(b"e", more=False)))
        sent = await talk(site, dribble(*steps))
        assert [message["body"] for message in origin.bodies[0]] == [b"ab", b"cd", b"e"]
        assert sent[1]["body"] == b"1 /ask abcde"
        assert site.bypasses == {"body_timeout": 1}

    run(scenario)


@pytest.mark.parametrize("kind", [bytearray, memoryview])
def test_a_body_that_a_server_hands_over_in_another_kind_of_bytes_is_keyed_all_the_same(kind: Any) -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/ask", methods=("POST",), ttl=60))
        for body in (kind(b"q"), b"q"):

            async def receive(body: object = body) -> Message:
                return {"type": "http.request", "body": body, "more_body": False}

            assert (await talk(site, receive))[1]["body"] == b"1 /ask q"

    run(scenario)


def test_a_client_that_sends_nothing_in_time_bypasses() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, Rule("/ask", methods=("POST",), ttl=60, body_timeout=1.0))
        await talk(site, dribble((3.0, part(b"late", more=False))))
        assert [message["body"] for message in origin.bodies[0]] == [b"late"]
        assert site.bypasses == {"body_timeout": 1}

    run(scenario)


def test_a_slow_body_within_the_deadline_is_cached() -> None:
    async def scenario() -> None:
        site = Site(Echo(), Rule("/ask", methods=("POST",), ttl=60, body_timeout=1.0))
        for seconds in (0.0, 0.25):
            steps = ((seconds, part(b"a", more=True)), (0.25, part(b"b", more=True)), (0.25, part(b"c", more=False)))
            sent = await talk(site, dribble(*steps))
            assert sent[1]["body"] == b"1 /ask abc"
        sent = await talk(site, dribble((0.25, part(b"abc", more=False))))
        assert sent[1]["body"] == b"1 /ask abc"
        assert site.results == {"miss": 1, "hit": 2}

    run(scenario)


def test_a_receive_that_is_no_coroutine_function_will_do() -> None:
    async def scenario() -> None:
        site = Site(Echo(), ASK)
        loop = asyncio.get_running_loop()

        def receive() -> asyncio.Future[Message]:
            future: asyncio.Future[Message] = loop.create_future()
            future.set_result(part(b"abc", more=False))
            return future

        for _ in range(2):
            assert (await talk(site, receive))[1]["body"] == b"1 /ask abc"

    run(scenario)


@pytest.mark.parametrize("pause", [0.0, 0.25])
def test_an_error_of_receive_reaches_the_server(pause: float) -> None:
    async def scenario() -> None:
        async def receive() -> Message:
            if pause:
                await asyncio.sleep(pause)
            raise ConnectionResetError("the socket is gone")

        with pytest.raises(ConnectionResetError):
            await talk(Site(Echo(), ASK), receive)

    run(scenario)


@pytest.mark.parametrize("pause", [0.0, 0.25])
def test_a_client_that_leaves_in_the_middle_of_its_body_is_the_apps_business(pause: float) -> None:
    async def scenario() -> None:
        seen: list[Message] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            seen.extend(await read(receive))
            seen.append(await receive())
            seen.append(await receive())
            await respond(send, b"too late")

        gone: Message = {"type": "http.disconnect"}
        site = Site(app, ASK)
        await talk(site, dribble((pause, part(b"ab", more=True)), (pause, gone), (0.0, gone), (0.0, gone)))
        assert seen == [part(b"ab", more=True), gone, gone, gone]
        assert site.bypasses == {"disconnect": 1}

    run(scenario)


def test_a_request_cancelled_while_its_body_is_read_leaves_nothing_behind() -> None:
    async def scenario() -> None:
        origin = Echo()
        site = Site(origin, ASK)
        task = asyncio.create_task(talk(site, dribble((5.0, part(b"ab", more=False)))))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert origin.loads == 0
        assert not site.results

    run(scenario)


def test_many_small_messages_cost_in_proportion_to_their_number() -> None:
    class Counted(bytes):
        measured = 0

        def __len__(self) -> int:
            Counted.measured += 1
            return super().__len__()

    async def scenario() -> None:
        site = Site(Echo(), ASK)
        steps = [(0.0, part(Counted(b"x"), more=True)) for _ in range(500)]
        await talk(site, dribble(*steps, (0.0, part(b"", more=False))))
        assert Counted.measured < 5_000

    run(scenario)
