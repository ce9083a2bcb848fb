"""Proves the ASGI client: it brings what the app sent, and breaches of the protocol do not pass."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.support.asgi import ASGIApp, Client, Receive, Scope, Send
from tests.support.seeded_loop import World, explore, run_seed


def app_sending(*messages: dict[str, object]) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            await send(message)

    return app


START: dict[str, object] = {"type": "http.response.start", "status": 200, "headers": []}
LAST: dict[str, object] = {"type": "http.response.body", "body": b"end"}
PART: dict[str, object] = {"type": "http.response.body", "body": b"part", "more_body": True}


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the body, piece by piece as it comes."""
    headers = [(b"age", b"7"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"cache-status", b"glasscache; hit")]
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


def test_a_request_brings_status_headers_body_and_raw_messages() -> None:
    response = asyncio.run(Client(echo).request("POST", "/x", body=[b'{"a":', b" 1}"]))
    assert response.status == 201
    assert response.header("Age") == "7"
    assert response.header("absent") is None
    assert response.header_list("set-cookie") == ["a=1", "b=2"]
    assert response.cache_status == "glasscache; hit"
    assert (response.body, response.text, response.json()) == (b'{"a": 1}', '{"a": 1}', {"a": 1})
    assert [message["type"].rpartition(".")[2] for message in response.messages] == ["start", "body", "body"]


def test_the_scope_is_what_a_server_would_make_of_the_request() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await app_sending(START, LAST)(scope, receive, send)

    client = Client(app, scope={"root_path": "/api"})
    asyncio.run(client.request("POST", "/caf%C3%A9", query={"q": "a b"}, headers={"X-One": "1"}, body=b"12345"))
    asyncio.run(client.request("PUT", "/p?x=1", headers=[("Host", "h")], body=[b"1"], scope={"scheme": "https"}))
    first, second = seen
    assert (first["path"], first["raw_path"], first["query_string"]) == ("/café", b"/caf%C3%A9", b"q=a+b")
    assert first["headers"] == [(b"host", b"testserver"), (b"x-one", b"1"), (b"content-length", b"5")]
    assert (first["root_path"], second["scheme"], second["query_string"]) == ("/api", "https", b"x=1")
    assert second["headers"] == [(b"host", b"h"), (b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    ("messages", "breach"),
    [
        ([LAST], "body was sent when the response was new"),
        ([START, START], "start was sent when the response was started"),
        ([START, LAST, LAST], "body was sent when the response was complete"),
        ([START, PART], "returned when the response was started"),
        ([], "returned when the response was new"),
        ([{**START, "headers": [(b"X-Upper", b"1")]}], "not lower-case"),
        ([{**START, "headers": [("x-text", b"1")]}], "no pair of bytes"),
        ([{**START, "headers": [(b"x", b"1\r\ny: 2")]}], "control character"),
        ([{**START, "status": "200"}], "no final status"),
        ([{**START, "headers": [(b"content-length", b"2")]}, LAST], "longer than its Content-Length"),
        ([{**START, "headers": [(b"content-length", b"9")]}, LAST], "shorter than its Content-Length"),
        ([{**START, "headers": [(b"content-length", b"x")]}, LAST], "is no number"),
        ([START, {**LAST, "body": "text"}], "a body of str"),
        ([START, {"type": "http.response.pathsend", "path": "/f"}], "not among the scope's extensions"),
        ([{"status": 200}], "without a type"),
    ],
)
def test_a_breach_of_the_protocol_fails_even_in_an_app_that_swallows_errors(
    messages: list[dict[str, object]], breach: str
) -> None:
    async def swallowing(scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(AssertionError):
            await app_sending(*messages)(scope, receive, send)

    async def streamed() -> None:
        async with Client(app_sending(*messages)).stream("GET", "/", window=10) as stream:
            await stream.body()

    for attempt in (Client(app_sending(*messages)).request, Client(swallowing).request):
        with pytest.raises(AssertionError, match=breach):
            asyncio.run(attempt("GET", "/"))
    with pytest.raises(AssertionError, match=breach):
        asyncio.run(streamed())


def test_two_receives_at_once_are_a_breach() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await asyncio.gather(receive(), receive())

    with pytest.raises(AssertionError, match="while another call was waiting"):
        asyncio.run(Client(app).request("GET", "/"))


def test_what_the_protocol_allows_passes() -> None:
    wrong_length = {**START, "headers": [(b"content-length", b"9")]}
    names = ("pathsend", "zerocopysend", "trailers", "early_hint")
    extensions: dict[str, dict[str, object]] = {"extensions": {f"http.response.{name}": {} for name in names}}
    hint: dict[str, object] = {"type": "http.response.early_hint", "links": []}
    path: dict[str, object] = {"type": "http.response.pathsend", "path": "/f"}
    copy: dict[str, object] = {"type": "http.response.zerocopysend", "file": 0, "more_body": True}
    trailers: dict[str, object] = {"type": "http.response.trailers", "headers": [(b"x", b"1")]}

    async def get(*messages: dict[str, object], method: str = "GET", strict: bool = True) -> None:
        client = Client(app_sending(*messages), scope=extensions, strict_length=strict)
        assert (await client.request(method, "/")).status in (200, 304)

    async def all_of_them() -> None:
        await get(wrong_length, LAST, method="HEAD")
        await get({**wrong_length, "status": 304}, {"type": "http.response.body"})
        await get(wrong_length, LAST, strict=False)
        await get(hint, {"type": "http.response.start", "status": 200}, LAST)
        await get(START, path)
        await get(START, copy, LAST)
        await get({**START, "trailers": True}, LAST, {**trailers, "more_trailers": True}, trailers)

    asyncio.run(all_of_them())


def test_a_slow_reader_holds_the_app_until_each_message_is_taken() -> None:
    async def scenario(world: World) -> None:
        sent = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for message in (START, PART, PART, LAST):
                await send(message)
                sent.append(message["type"])

        for window, ahead in ((0, 1), (2, 3)):
            sent.clear()
            async with Client(app).stream("GET", "/", window=window) as stream:
                assert (await stream.head()).status == 200
                await world.sleep(5)
                assert len(sent) == ahead
                assert [await stream.chunk() for _ in range(4)] == [b"part", b"part", b"end", None]

    explore(scenario, range(50))


async def endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Send events until the client is gone."""
    await receive()
    gone = asyncio.ensure_future(receive())
    await send(START)
    while not gone.done():
        await send(PART)
        await asyncio.sleep(1)


def test_a_disconnect_reaches_a_waiting_receive_and_frees_a_blocked_send() -> None:
    async def scenario(world: World) -> None:
        async with Client(endless).stream("GET", "/") as stream:
            await stream.chunk()
            await world.sleep(10)
            stream.disconnect()
            assert await stream.next() == PART  # it lay there before
            assert await stream.next() is None

    explore(scenario, range(50))


def test_a_disconnect_can_raise_from_send_and_the_app_may_let_that_pass() -> None:
    async def scenario(world: World) -> None:
        async with Client(endless).stream("GET", "/") as stream:
            await stream.chunk()
            stream.disconnect(error=BrokenPipeError)

    explore(scenario, range(50))


def test_leaving_a_stream_disconnects_also_when_the_test_itself_fails() -> None:
    async def scenario(world: World) -> None:
        async with Client(endless).stream("GET", "/") as stream:
            await stream.head()
            raise KeyError("the test's own")

    for seed in range(20):
        with pytest.raises(KeyError, match="own"):
            run_seed(seed, scenario)


def test_an_app_that_outlives_its_client_is_reported_and_ended() -> None:
    async def deaf(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.Event().wait()

    async def scenario(world: World) -> None:
        async with Client(deaf).stream("GET", "/"):
            await world.sleep()

    with pytest.raises(AssertionError, match="ran on 10"):
        run_seed(0, scenario)


def test_the_apps_own_error_reaches_the_test() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        raise LookupError("mine")

    async def streamed(*, read: bool) -> None:
        async with Client(app).stream("GET", "/", window=1) as stream:
            if read:
                await stream.body()

    for attempt in (Client(app).request("GET", "/"), streamed(read=True), streamed(read=False)):
        with pytest.raises(LookupError, match="mine"):
            asyncio.run(attempt)
