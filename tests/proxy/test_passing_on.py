"""Requests and answers on their way through the proxy: streamed both ways, at the pace of the slower side."""

from __future__ import annotations

import asyncio
import logging
import ssl
from pathlib import Path

import h11
import pytest

from glasscache.asgi import Rule
from glasscache.errors import ConfigurationError, LoadStoppedError, LoadTimeoutError
from glasscache.proxy import Edge, ProxyError, ReverseProxy, Timeouts
from glasscache.proxy._wire import Wire
from tests.proxy.upstream import Talk, answering, closing, get, proxied, upstream
from tests.support.asgi import Client, Message
from tests.support.patience import PATIENCE
from tests.support.servers import RawConnection

pytestmark = pytest.mark.usefixtures("no_leaks")

WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"
PASSED_BY = [Rule("/nothing-of-this-test")]


def fields_of(request: h11.Request, name: bytes) -> list[bytes]:
    return [value for known, value in request.headers if known == name]


# --- connections -----------------------------------------------------------------------------------------------------


def test_one_connection_serves_one_request_after_another() -> None:
    async def scenario() -> None:
        async with proxied(answering(WHOLE)) as (origin, port):
            for _ in range(3):
                assert (await get(port))[::2] == (200, b"whole")
            assert origin.connections == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("keep_alive", [0.0, 0.001])
def test_a_connection_rests_no_longer_than_it_may(keep_alive: float) -> None:
    async def scenario() -> None:
        async with proxied(answering(WHOLE), timeouts=Timeouts(keep_alive=keep_alive)) as (origin, port):
            async with asyncio.timeout(PATIENCE):  # a busy machine may ask again before it has put a connection to rest
                while origin.connections < 3:
                    assert (await get(port))[::2] == (200, b"whole")
                    await asyncio.sleep(0.005)

    asyncio.run(scenario())


def test_a_connection_that_was_closed_while_it_rested_is_not_used_again() -> None:
    async def scenario() -> None:
        async with proxied(closing(WHOLE)) as (origin, port):
            for _ in range(3):
                assert (await get(port))[::2] == (200, b"whole")
            assert origin.connections == 3

    asyncio.run(scenario())


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 502)])
def test_a_request_that_met_a_closing_connection_is_sent_again_unless_that_could_matter(
    method: str, status: int
) -> None:
    async def scenario() -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.body()
            await talk.send(WHOLE)
            await talk.request()  # and closes the connection, as if it had not seen it

        async with proxied(script) as (origin, port):
            assert (await get(port))[0] == 200
            async with RawConnection(port) as raw:
                await raw.request(method, "/")
                assert (await raw.head()).status == status
            assert origin.connections == (2 if method == "GET" else 1)

    asyncio.run(scenario())


def test_when_all_connections_are_in_use_the_next_request_waits_then_it_is_a_503() -> None:
    async def scenario() -> None:
        may_answer = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.request()
            may_answer.set()
            await talk.until_closed()

        served = proxied(script, rules=PASSED_BY, timeouts=Timeouts(connect=0.05), max_connections=1)
        async with served as (_, port), RawConnection(port) as first:
            await first.request("GET", "/a")
            await may_answer.wait()
            assert (await get(port, "/b"))[0] == 503

    asyncio.run(scenario())


def test_a_connection_that_is_not_made_in_time_is_a_504(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async def never(*_: object, **__: object) -> None:
            await asyncio.Event().wait()

        loop = asyncio.get_running_loop()
        monkeypatch.setattr(loop, "create_connection", never)
        proxy = ReverseProxy("http://127.0.0.1:1", timeouts=Timeouts(connect=0.01))
        with pytest.raises(ProxyError, match=r"took no connection in 0\.01 s") as told:
            await Client(proxy).request("GET", "/")
        assert told.value.status == 504

    asyncio.run(scenario())


def test_an_upstream_that_leads_back_to_the_proxy_is_a_508() -> None:
    async def scenario() -> None:
        async with proxied(answering(WHOLE)) as (_, port):
            assert (await get(port, via=", ".join(["1.1 glasscache"] * 8)))[0] == 508

    asyncio.run(scenario())


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_request_arrives_as_it_was_sent_with_what_the_proxy_knows_of_it() -> None:
    async def scenario() -> None:
        seen: list[h11.Request] = []

        async def script(talk: Talk) -> None:
            seen.append(await talk.request())
            await talk.send(WHOLE)

        async with proxied(script, rules=PASSED_BY) as (origin, port):
            await get(port, "/a%2Fb/../c?x=%20&x=2", accept="text/html", connection="keep-alive, x-mine", x_mine="1")
        (request,) = seen
        assert request.target == b"/a%2Fb/../c?x=%20&x=2"
        assert fields_of(request, b"host") == [origin.url.removeprefix("http://").encode()]
        assert fields_of(request, b"x-forwarded-for") == [b"127.0.0.1"]
        assert fields_of(request, b"accept") == [b"text/html"]
        assert fields_of(request, b"x-mine") == fields_of(request, b"connection") == []

    asyncio.run(scenario())


@pytest.mark.parametrize("framing", [{"content-length": "10"}, {"transfer-encoding": "chunked"}])
def test_a_request_body_goes_on_while_it_still_comes_and_keeps_its_framing(framing: dict[str, str]) -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()
        bodies: list[bytes] = []

        async def script(talk: Talk) -> None:
            request = await talk.request()
            ((name, value),) = framing.items()
            assert fields_of(request, name.encode()) == [value.encode()]
            event = await talk.event()
            arrived.set()
            bodies.append(bytes(event.data) + await talk.body())
            await talk.send(WHOLE)

        def framed(part: bytes) -> bytes:
            return part if "content-length" in framing else b"%x\r\n%s\r\n" % (len(part), part)

        async with proxied(script, rules=PASSED_BY) as (_, port), RawConnection(port) as raw:
            lines = "".join(f"{name}: {value}\r\n" for name, value in framing.items())
            await raw.send(f"PUT / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
            await raw.send(framed(b"first"))
            await arrived.wait()
            await raw.send(framed(b"rest.") + (b"" if "content-length" in framing else b"0\r\n\r\n"))
            assert (await raw.head()).status == 200
        assert bodies == [b"firstrest."]

    asyncio.run(scenario())


def test_an_answer_may_come_before_the_request_has_been_read() -> None:
    async def scenario() -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

        async with proxied(script, rules=PASSED_BY) as (origin, port):
            for _ in range(2):
                async with RawConnection(port) as raw:
                    await raw.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 100_000)
                    assert (await raw.head()).status == 413
            assert origin.connections == 2

    asyncio.run(scenario())


def test_an_answer_that_has_come_is_passed_on_though_the_connection_broke_under_the_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario() -> None:
        begun, lost, given_up = asyncio.Event(), asyncio.Event(), asyncio.Event()
        sent: list[Message] = []

        class WatchedWire(Wire):
            def connection_lost(self, exc: Exception | None) -> None:
                super().connection_lost(exc)
                lost.set()

        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.send(WHOLE)
            await begun.wait()
            talk.reset()

        async def receive() -> Message:
            if lost.is_set():  # the first piece could not be sent: nothing more of the request is asked for
                given_up.set()
                await asyncio.Event().wait()
            await lost.wait()
            return {"type": "http.request", "body": b"piece", "more_body": True}

        async def send(message: Message) -> None:
            sent.append(message)
            begun.set()
            await given_up.wait()

        monkeypatch.setattr("glasscache.proxy._pool.Wire", WatchedWire)
        async with upstream(script) as origin:
            headers = [(b"host", b"a"), (b"transfer-encoding", b"chunked")]
            scope = {"type": "http", "method": "PUT", "path": "/", "headers": headers}
            await ReverseProxy(origin.url)(scope, receive, send)
        assert sent[-1] == {"type": "http.response.body", "body": b"whole", "more_body": False}

    asyncio.run(scenario())


def test_an_upstream_that_reads_nothing_more_of_a_request_is_a_504() -> None:
    async def scenario() -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            talk.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.Event().wait()

        body = [b"x" * 1_000_000] * 20
        async with upstream(script) as origin:
            proxy = ReverseProxy(origin.url, timeouts=Timeouts(write=0.05))
            with pytest.raises(ProxyError, match=r"took no bytes for 0\.05 s") as told:
                await Client(proxy).request("PUT", "/", body=body, headers={"transfer-encoding": "chunked"})
            assert told.value.status == 504
            proxy.close()

    asyncio.run(scenario())


def test_a_client_that_stops_in_the_middle_of_its_request_is_a_408() -> None:
    async def scenario() -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.until_closed()

        async with (
            proxied(script, rules=PASSED_BY, timeouts=Timeouts(read=0.05)) as (_, port),
            RawConnection(port) as raw,
        ):
            await raw.send(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nfirst")
            assert (await raw.head()).status == 408

    asyncio.run(scenario())


def test_a_client_that_takes_its_time_with_its_request_costs_it_no_time_for_the_answer() -> None:
    async def scenario() -> None:
        arrived = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.event()
            arrived.set()
            await talk.body()
            await talk.send(WHOLE)

        now, timeouts = asyncio.get_running_loop().time, Timeouts(read=1.0)
        async with proxied(script, rules=PASSED_BY, timeouts=timeouts) as (_, port), RawConnection(port) as raw:
            await raw.send(b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
            ends = now() + 1.2 * timeouts.read
            while now() < ends:  # many small pauses: one that the machine makes of its own may be as long as `read`
                await asyncio.sleep(0.02)
                await raw.send(b"2\r\nxx\r\n")
            await raw.send(b"0\r\n\r\n")
            assert (await raw.head()).status == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n"]
)
def test_a_client_that_leaves_ends_the_exchange_with_the_upstream(sent: bytes) -> None:
    async def scenario() -> None:
        asked, closed = asyncio.Event(), asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.request()
            asked.set()
            await talk.until_closed()
            closed.set()

        async with proxied(script, rules=PASSED_BY) as (_, port):
            async with RawConnection(port) as raw:
                await raw.send(sent)
                await asked.wait()
                raw.abort()
            await closed.wait()

    asyncio.run(scenario())


def test_a_request_that_cannot_be_passed_on_is_a_400() -> None:
    async def scenario() -> None:
        proxy = ReverseProxy("http://127.0.0.1:1")
        with pytest.raises(ProxyError, match="cannot be passed on") as told:
            await Client(proxy).request("GET", "/", headers=[("x-a", "a\nb")])
        assert told.value.status == 400

    asyncio.run(scenario())


def test_a_body_that_is_longer_than_it_said_is_not_passed_on() -> None:
    async def scenario() -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.until_closed()

        async with upstream(script) as origin:
            with pytest.raises(ProxyError, match="cannot be sent as HTTP"):
                await Client(ReverseProxy(origin.url)).request(
                    "PUT", "/", body=b"longer", headers={"content-length": "2"}
                )

    asyncio.run(scenario())


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_goes_on_while_it_still_comes() -> None:
    async def scenario() -> None:
        more = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            await talk.send(b"5\r\nfirst\r\n")
            await more.wait()
            await talk.send(b"4\r\nlast\r\n")
            await talk.send(b"0\r\nX-Trailer: dropped\r\n\r\n")

        async with proxied(script, rules=[Rule("/*", ttl=60)]) as (_, port), RawConnection(port) as raw:
            await raw.request("GET", "/")
            head = await raw.head()
            assert head.header_list("transfer-encoding") == ["chunked"]  # uvicorn's own
            assert await raw.chunk() == b"first"
            more.set()
            assert await raw.body() == b"last"
            assert (await get(port))[2] == b"firstlast"

    asyncio.run(scenario())


def test_a_client_that_reads_slowly_holds_the_upstream_back() -> None:
    async def scenario() -> None:
        size, sent = 40_000_000, 0

        async def script(talk: Talk) -> None:
            nonlocal sent
            await talk.request()
            await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            while sent < size:
                await talk.send(b"x" * 100_000)
                sent += 100_000

        async def until_it_stands_still() -> None:
            before, times = -1, 0
            while times < 5:
                times = times + 1 if 0 < sent == before else 0
                before = sent
                await asyncio.sleep(0.05)

        async with proxied(script, rules=PASSED_BY) as (_, port), RawConnection(port, receive_buffer=10_000) as raw:
            await raw.request("GET", "/")
            assert (await raw.head()).status == 200
            await until_it_stands_still()
            assert sent < size / 2
            assert len(await raw.body()) == size

    asyncio.run(scenario())


def test_interim_responses_reach_the_client_that_asked_and_are_not_stored() -> None:
    async def scenario() -> None:
        hints = (
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
            b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\nConnection: x-b\r\nX-B: 1\r\n\r\n"
        )
        async with proxied(answering(hints + WHOLE), rules=[Rule("/*", ttl=60)]) as (_, port):
            async with RawConnection(port) as raw:
                await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                told = await raw._reader.read()
            assert told.startswith(
                b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\nHTTP/1.1 200 OK\r\n"
            )
            async with RawConnection(port) as raw:
                await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
                assert (await raw._reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")
            async with RawConnection(port) as raw:
                await raw.send(b"GET /old HTTP/1.0\r\nHost: a\r\n\r\n")
                assert (await raw._reader.read()).startswith(b"HTTP/1.1 200 OK\r\n")

    asyncio.run(scenario())


def test_a_server_that_cannot_send_interim_responses_sends_none() -> None:
    async def scenario() -> None:
        async with upstream(answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + WHOLE)) as origin:
            proxy = ReverseProxy(origin.url)
            response = await Client(proxy).request("GET", "/")
            assert (response.status, response.body) == (200, b"whole")
            proxy.close()
            proxy.close()  # twice does no harm

    asyncio.run(scenario())


def test_an_answer_without_content_ends_at_once() -> None:
    async def scenario() -> None:
        async with proxied(answering(b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nContent-Length: 5\r\n\r\n')) as (
            _,
            port,
        ):
            status, headers, body = await get(port, if_none_match='"a"')
            assert (status, body, headers.get("content-length")) == (304, b"", None)

    asyncio.run(scenario())


def test_head_keeps_its_length_and_has_no_body() -> None:
    async def scenario() -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
        async with proxied(answering(answer), rules=PASSED_BY) as (_, port), RawConnection(port) as raw:
            await raw.send(b"HEAD / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            said = await raw._reader.read()
            assert b"\r\ncontent-length: 5\r\n" in said
            assert said.endswith(b"\r\n\r\n")

    asyncio.run(scenario())


# --- around it -------------------------------------------------------------------------------------------------------


def test_what_is_no_request_is_refused() -> None:
    async def scenario() -> None:
        sent = []

        async def send(message: object) -> None:
            sent.append(message)

        async def receive() -> dict[str, object]:
            return {"type": "websocket.connect"}

        await ReverseProxy("http://127.0.0.1:1")({"type": "websocket"}, receive, send)
        assert sent == [{"type": "websocket.close"}]

    asyncio.run(scenario())


def test_an_upgrade_is_answered_as_if_nobody_had_asked_for_one() -> None:
    async def scenario() -> None:
        async with proxied(answering(WHOLE), rules=PASSED_BY) as (_, port):
            headers = {"connection": "upgrade", "upgrade": "websocket", "sec_websocket_version": "13"}
            assert (await get(port, **headers))[::2] == (200, b"whole")

    asyncio.run(scenario())


def test_what_went_wrong_is_in_the_log_and_not_in_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        async with proxied(closing(b"nonsense")) as (_, port):
            assert (await get(port, "/a"))[2] == b"502 Bad Gateway\n"

    with caplog.at_level(logging.WARNING, "glasscache.proxy"):
        asyncio.run(scenario())
    (record,) = [record for record in caplog.records if record.name == "glasscache.proxy"]
    assert record.getMessage().startswith("GET /a: the answer is no HTTP/1.1")


@pytest.mark.parametrize(
    ("error", "status"),
    [(LoadTimeoutError("slow"), b"504 Gateway Timeout"), (LoadStoppedError("cut"), b"502 Bad Gateway")],
)
def test_what_the_cache_says_of_a_load_is_told_as_its_own_status(error: Exception, status: bytes) -> None:
    async def scenario() -> None:
        async def app(*_: object) -> None:
            raise error

        assert (await Client(Edge(app)).request("GET", "/")).body == status + b"\n"

    asyncio.run(scenario())


def test_all_who_waited_for_a_broken_upstream_are_told_at_once() -> None:
    async def scenario() -> None:
        may_break = asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.request()
            await may_break.wait()
            await talk.send(b"nonsense")

        async with proxied(script, rules=[Rule("/*", ttl=60)]) as (origin, port):
            asking = [asyncio.create_task(get(port)) for _ in range(5)]
            async with asyncio.timeout(PATIENCE):
                while origin.connections == 0:  # noqa: ASYNC110 - the server is in another thread
                    await asyncio.sleep(0.001)
            may_break.set()
            assert [status for status, *_ in await asyncio.gather(*asking)] == [502] * 5

    asyncio.run(scenario())


def test_a_proxy_may_serve_one_event_loop_after_another() -> None:
    async def scenario(proxy: ReverseProxy, path: Path | None) -> None:
        async with upstream(answering(WHOLE)) as origin:
            proxy.upstream = ReverseProxy(origin.url).upstream
            assert (await Client(proxy).request("GET", "/")).body == b"whole"

    proxy = ReverseProxy("http://127.0.0.1:1")
    for _ in range(2):
        asyncio.run(scenario(proxy, None))


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("127.0.0.1:8000", "give a URL such as"),
        ("ftp://host", "give a URL such as"),
        ("http://", "give a URL such as"),
        ("http://host:port", "give a URL such as"),
        ("http://user:pw@host", "leave out user, password"),
        ("http://host/?a=1", "leave out user, password"),
    ],
)
def test_an_upstream_that_cannot_work_is_refused(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        ReverseProxy(url)


def test_options_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="max_connections=0"):
        ReverseProxy("http://host", max_connections=0)
    with pytest.raises(ConfigurationError, match="only an https upstream"):
        ReverseProxy("http://host", tls=ssl.create_default_context())
    for wrong in (-1.0, 0.0, float("inf"), float("nan")):
        with pytest.raises(ConfigurationError, match=r"Timeouts\(read="):
            Timeouts(read=wrong)
    assert Timeouts(keep_alive=0).keep_alive == 0


@pytest.mark.parametrize(
    ("url", "authority", "shown"),
    [
        ("http://host", b"host", "http://host"),
        ("https://host:443/a/", b"host", "https://host/a"),
        ("http://[::1]:8000", b"[::1]:8000", "http://[::1]:8000"),
        ("https://bücher.example", b"xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ],
)
def test_an_upstream_has_the_name_that_it_is_called_by(url: str, authority: bytes, shown: str) -> None:
    where = ReverseProxy(url).upstream
    assert (where.authority, str(where)) == (authority, shown)
