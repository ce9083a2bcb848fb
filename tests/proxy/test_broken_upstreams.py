"""Upstreams that break off, lie about their length, talk nonsense or say nothing: what clients get, what is stored."""

from __future__ import annotations

import asyncio

import pytest

from glasscache.asgi import Rule
from glasscache.proxy import ReverseProxy, Timeouts
from tests.proxy.upstream import Script, Talk, answering, closing, get, proxied, upstream
from tests.support.asgi import Client
from tests.support.patience import PATIENCE
from tests.support.servers import CutOff

pytestmark = pytest.mark.usefixtures("no_leaks")

RULES = [Rule("/*", ttl=60)]
WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole"

NO_ANSWER = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "half of the fields": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nX-",
    "another protocol": b"SSH-2.0-OpenSSH_9.2p1\r\n",
    "garbage": bytes(range(256)) * 8,
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00d\x00\x04\x00\xa0\x00\x00\x00\x02\x00",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nwhole",
    "a status beyond 599": b"HTTP/1.1 999 Odd\r\nContent-Length: 5\r\n\r\nwhole",
    "a status below 100": b"HTTP/1.1 099 Odd\r\nContent-Length: 5\r\n\r\nwhole",
    "a switch of protocols that nobody asked for": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nwhole",
    "interim responses and then nothing": b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 4\r\n\r\nwhole",
    "a length that is no number": b"HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nwhole",
    "a negative length": b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nwhole",
    "a transfer coding that we do not decode": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nwhole",
    "an odd coding beside a length": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: odd\r\nContent-Length: 5\r\n\r\nwhole",
    "two transfer codings": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: odd\r\nTransfer-Encoding: chunked\r\n\r\nwhole",
    "a space before the colon": b"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nwhole",
    "a null byte in a field": b"HTTP/1.1 200 OK\r\nX-A: a\x00b\r\nContent-Length: 5\r\n\r\nwhole",
    "a control character in a field": b"HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nContent-Length: 5\r\n\r\nwhole",
    "a control character in an interim response": b"HTTP/1.1 103 Early Hints\r\nX-A: a\x7fb\r\n\r\n" + WHOLE,
    "fields without an end": b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 100_000,
}

CUT_SHORT = {
    "a body shorter than its length": b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nwhole",
    "chunks without a last one": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n",
    "half a chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nwhole",
    "chunks without the end of their trailer section":
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\nX-A: 1\r\n",
    "a chunk size that is no number":
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfive\r\nwhole\r\n0\r\n\r\n",
    "a negative chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nwhole\r\n0\r\n\r\n",
    "a chunk longer than its size":
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nwhole\r\n0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("answer", NO_ANSWER.values(), ids=NO_ANSWER.keys())
def test_what_is_no_answer_is_told_as_502_and_the_next_request_gets_the_whole_one(answer: bytes) -> None:
    async def scenario() -> None:
        async with proxied(closing(answer, WHOLE), rules=RULES) as (_, port):
            status, headers, body = await get(port)
            assert (status, body) == (502, b"502 Bad Gateway\n")
            assert headers["cache-status"] == "glasscache; detail=upstream-error"
            assert (await get(port))[::2] == (200, b"whole")

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", CUT_SHORT.values(), ids=CUT_SHORT.keys())
@pytest.mark.parametrize("with_reset", [False, True], ids=["closed", "reset"])
def test_an_answer_that_is_cut_short_is_cut_for_its_client_too_and_never_stored(
    answer: bytes, with_reset: bool
) -> None:
    async def scenario() -> None:
        answers = [answer, WHOLE]

        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.body()
            await talk.send(answers.pop(0))
            if with_reset and answers:
                await asyncio.sleep(0)
                talk.reset()

        async with proxied(script, rules=RULES) as (_, port):
            try:
                status, _, body = await get(port)
            except CutOff:
                pass
            else:
                assert (status, body) == (502, b"502 Bad Gateway\n")  # nothing of it had come when it was cut
            status, headers, body = await get(port)
            assert (status, body) == (200, b"whole")
            assert headers["cache-status"] == "glasscache; fwd=uri-miss; stored"
            assert (await get(port))[1]["cache-status"].startswith("glasscache; hit")

    asyncio.run(scenario())


def test_bytes_behind_an_answer_are_never_taken_for_the_next_one() -> None:
    async def scenario() -> None:
        poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
        async with proxied(answering(WHOLE + poison, WHOLE), rules=RULES) as (origin, port):
            assert (await get(port, "/a"))[2] == b"whole"
            assert (await get(port, "/b"))[2] == b"whole"
            assert origin.connections == 2

    asyncio.run(scenario())


def test_bytes_that_come_while_a_connection_rests_make_it_unusable() -> None:
    async def scenario() -> None:
        is_resting, is_poisoned = asyncio.Event(), asyncio.Event()

        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.send(WHOLE)
            await is_resting.wait()
            if not is_poisoned.is_set():
                await talk.send(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
                is_poisoned.set()
            await talk.until_closed()

        async with upstream(script) as origin:
            client = Client(proxy := ReverseProxy(origin.url))
            assert (await client.request("GET", "/a")).body == b"whole"
            is_resting.set()
            await is_poisoned.wait()
            async with asyncio.timeout(PATIENCE):
                while all(connection.is_quiet for connection in proxy._connections().resting):  # noqa: ASYNC110 - what was sent comes when it comes
                    await asyncio.sleep(0)
            assert (await client.request("GET", "/b")).body == b"whole"
            assert origin.connections == 2
            proxy.close()

    asyncio.run(scenario())


def test_an_upstream_that_says_nothing_is_a_504() -> None:
    async def scenario() -> None:
        async def script(talk: Talk) -> None:
            await talk.until_closed()

        async with proxied(script, rules=RULES, timeouts=Timeouts(read=0.05)) as (_, port):
            status, headers, body = await get(port)
            assert (status, body) == (504, b"504 Gateway Timeout\n")
            assert headers["cache-status"] == "glasscache; detail=upstream-error"

    asyncio.run(scenario())


def test_an_upstream_that_stops_in_the_middle_is_cut_after_the_timeout() -> None:
    async def scenario() -> None:
        async def script(talk: Talk) -> None:
            await talk.request()
            await talk.send(WHOLE[:-2])
            await talk.until_closed()

        async with proxied(script, rules=RULES, timeouts=Timeouts(read=1.0)) as (_, port):
            with pytest.raises(CutOff):
                await get(port)

    asyncio.run(scenario())


def test_an_upstream_that_is_not_there_is_a_502() -> None:
    async def scenario() -> None:
        async def script(talk: Talk) -> None:
            raise AssertionError("nobody connects to it")

        async with proxied(script, rules=RULES) as (origin, port):
            origin.stop()
            assert (await get(port))[0] == 502

    asyncio.run(scenario())


def test_an_answer_longer_than_its_length_ends_where_it_says() -> None:
    async def scenario() -> None:
        async with proxied(answering(WHOLE + b", and more"), rules=RULES) as (_, port):
            for expected in ("glasscache; fwd=uri-miss; stored", "glasscache; hit"):
                _, headers, body = await get(port)
                assert body == b"whole"
                assert headers["cache-status"].startswith(expected)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "script",
    [
        closing(b"HTTP/1.0 200 OK\r\n\r\nwhole"),
        closing(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nwhole"),
        closing(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nwhole"),
    ],
)
def test_without_any_framing_the_end_of_the_connection_is_the_end_of_the_answer(script: Script) -> None:
    async def scenario() -> None:
        async with proxied(script, rules=RULES) as (_, port):
            assert (await get(port))[::2] == (200, b"whole")

    asyncio.run(scenario())
