"""The live page and its feed, in process and on virtual time: who gets them, what they say, and when they end."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import os
import re
import signal
from typing import Any

import pytest

from glasscache.asgi import Rule
from glasscache.asgi._live import MAX_WATCHERS
from tests.asgi.site import Echo, Site, run
from tests.asgi.test_operations import live
from tests.support.asgi import Message, Receive, Scope, Send, Stream

PAGE = Rule("/page", ttl=60)
BEARER = [(b"authorization", b"Bearer hush")]
EVENTS = "/stats/live/events"


def site(origin: Any = None) -> Site:
    return Site(origin or Echo(takes=2.0), PAGE, stats_path="/stats", stats_token="hush")


def watch(watched: Site, **headers: str) -> contextlib.AbstractAsyncContextManager[Stream]:
    sent = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return watched.client.stream("GET", EVENTS, headers=[*BEARER, *sent])


def parsed(chunk: bytes | None) -> dict[str, Any]:
    """The events of one update, by name; their ids under "id"."""
    assert chunk is not None
    assert chunk.endswith(b"\n\n")
    events: dict[str, Any] = {}
    for block in chunk.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        events[fields["event"]] = json.loads(fields["data"])
        if "id" in fields:
            events["id"] = fields["id"]
    return events


# --- the page -------------------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_its_policy_lets_in_nothing_else() -> None:
    async def scenario() -> None:
        response = await site().get("/stats/live")
        assert response.status == 200
        assert response.header_list("content-type") == ["text/html; charset=utf-8"]
        assert response.header("cache-control") == "no-store"
        assert re.findall(r"(?:src|href)=[\"']?([^\s\"'>]*)", response.text) == ["data:,", "#contentions"]
        addresses = re.findall(r"@import|url\(|[a-z]+://[^\s\"']*", response.text)
        assert addresses == ["http://www.w3.org/2000/svg"]  # a name, not an address
        policy = dict(
            part.strip().split(" ", 1) for part in (response.header("content-security-policy") or "").split(";")
        )
        for tag, directive in (("style", "style-src"), ("script", "script-src")):
            (inside,) = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", response.text, re.DOTALL)
            digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
            assert policy[directive] == f"'sha256-{digest}'"
        assert (policy["default-src"], policy["connect-src"], policy["frame-ancestors"]) == (
            "'none'",
            "'self'",
            "'none'",
        )
        assert "style=" not in response.text
        head = await site().client.request("HEAD", "/stats/live")
        assert (head.body, head.header("content-length")) == (b"", str(len(response.body)))

    run(scenario)


def test_without_a_token_set_there_is_neither_page_nor_feed() -> None:
    async def scenario() -> None:
        bare = Site(Echo(), PAGE, stats_path="/stats")
        assert (await bare.get("/stats/live")).body == b"1 /stats/live"
        assert (await bare.get(EVENTS)).body == b"2 /stats/live/events"

    run(scenario)


def test_a_stats_page_at_the_root_has_its_pages_beneath_it() -> None:
    async def scenario() -> None:
        rooted = Site(Echo(), PAGE, stats_path="/", stats_token="hush")
        assert "total_hits" in (await rooted.get("/")).json()
        assert (await rooted.get("/live")).header("content-type") == "text/html; charset=utf-8"

    run(scenario)


# --- the feed -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [[], [(b"authorization", b"Bearer hus")]])
def test_the_feed_is_for_who_has_the_token(sent: list[tuple[bytes, bytes]]) -> None:
    async def scenario() -> None:
        response = await site().get(EVENTS, headers=sent)
        assert (response.status, response.header("www-authenticate")) == (401, 'Bearer realm="glasscache"')

    run(scenario)


def test_it_says_whose_figures_it_tells_and_then_tells_them_twice_a_second() -> None:
    async def scenario() -> None:
        watched, now = site(), asyncio.get_running_loop().time
        async with watch(watched) as stream:
            head = await stream.head()
            assert head.header("content-type") == "text/event-stream"
            assert (head.header("cache-control"), head.header("x-accel-buffering")) == ("no-store", "no")
            first, began = parsed(await stream.chunk()), now()
            assert (first["hello"]["name"], first["hello"]["worker"]) == ("default", os.getpid())
            assert first["hello"]["why"]["bypass"]["when"].startswith("the rule's `when=` says no")
            assert (first["hello"]["threshold"], len(first["hello"]["bounds"])) == (1.0, 57)
            assert first["figures"]["total_requests"] == 0
            await watched.get()
            updates = [parsed(await stream.chunk()) for _ in range(4)]
            assert all(set(update) == {"figures"} for update in updates)
            latest = updates[-1]
            assert now() - began == 2.0 + 4 * 0.5 - 0.5  # one was waiting while the request was answered
            assert (latest["figures"]["total_misses"], latest["figures"]["cache_size"]) == (1, 1)
            assert sum(latest["figures"]["durations"]["miss origin"].values()) == 1

    run(scenario)


def test_it_shows_the_loads_under_way_and_tells_of_long_waits_once() -> None:
    async def scenario() -> None:
        watched = site()
        crowd = asyncio.create_task(watched.crowd(3))
        await asyncio.sleep(1)
        async with watch(watched) as stream:
            (load,) = parsed(await stream.chunk())["figures"]["under_way"]
            assert (load["key_group"], load["waiting"], load["running"]) == ("/page", 2, 1.0)
            await crowd
            told = [parsed(await stream.chunk()) for _ in range(4)]
            (found,) = [events for events in told if "contentions" in events]
            assert [one["waited"] for one in found["contentions"]] == [2.0, 2.0]
            assert re.fullmatch(rf"{os.getpid()}\.[0-9a-f]{{8}}-2", found["id"])
        async with watch(watched, last_event_id=found["id"]) as stream:
            assert "contentions" not in parsed(await stream.chunk())
        counts = found["id"].removesuffix("-2")
        for unknown in ("1-2", f"{os.getpid()}-2", f"{counts}-x", f"{counts}-{'9' * 99}", "nonsense", ""):
            async with watch(watched, last_event_id=unknown) as stream:
                assert len(parsed(await stream.chunk())["contentions"]) == 2

    run(scenario)


def test_the_next_process_is_told_apart_although_it_has_the_same_id() -> None:
    async def scenario() -> None:
        told = []
        for _ in range(2):
            async with watch(site()) as stream:
                told.append(parsed(await stream.chunk())["hello"])
        assert told[0]["worker"] == told[1]["worker"]
        assert told[0]["counts"] != told[1]["counts"]

    run(scenario)


def test_figures_are_read_once_for_all_who_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        watched = site()
        async with watch(watched) as one, watch(watched) as other:
            assert parsed(await one.chunk())["figures"] == parsed(await other.chunk())["figures"]
            watched.cache.counters.group("/page").hits = 9  # a moment later nobody looks
            assert parsed(await one.chunk())["figures"]["total_hits"] == 9
            watched.cache.counters.group("/page").hits = 10
            assert parsed(await other.chunk())["figures"]["total_hits"] == 9

    run(scenario)


def test_nothing_of_what_was_asked_is_in_it() -> None:
    async def scenario() -> None:
        watched = Site(Echo(takes=2.0), Rule("/page/*", ttl=60), stats_path="/stats", stats_token="hush")
        crowd = asyncio.create_task(watched.crowd(3, "/page/canary", query=b"q=canary"))
        await asyncio.sleep(1)
        seen = b""
        async with watch(watched) as stream:
            for _ in range(5):
                seen += await stream.chunk() or b""
        await crowd
        assert b"/page/*" in seen
        assert b"contentions" in seen
        assert b"canary" not in seen
        assert b"hush" not in seen

    run(scenario)


def test_only_so_many_may_watch_and_who_leaves_makes_room() -> None:
    async def scenario() -> None:
        watched = site()
        async with contextlib.AsyncExitStack() as stack:
            streams = [await stack.enter_async_context(watch(watched)) for _ in range(MAX_WATCHERS)]
            for stream in streams:
                await stream.chunk()
            refused = await watched.get(EVENTS, headers=BEARER)
            assert (refused.status, refused.header("retry-after")) == (503, "5")
            assert refused.json() == {"error": "enough others are watching"}
            streams[0].disconnect()
            await asyncio.sleep(0.1)
            async with watch(watched) as stream:
                assert "hello" in parsed(await stream.chunk())

    run(scenario)


def test_those_who_come_at_once_are_counted_before_they_are_answered() -> None:
    async def scenario() -> None:
        watched, statuses = site(), []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                await asyncio.sleep(1)
                statuses.append(message["status"])

        scope = {"type": "http", "method": "GET", "path": EVENTS, "headers": BEARER}
        await asyncio.gather(*(watched.middleware(dict(scope), receive, send) for _ in range(MAX_WATCHERS + 4)))
        assert sorted(statuses) == [200] * MAX_WATCHERS + [503] * 4

    run(scenario)


def test_a_head_is_answered_without_a_feed() -> None:
    async def scenario() -> None:
        head = await site().client.request("HEAD", EVENTS, headers=BEARER)
        assert (head.status, head.body) == (200, b"")

    run(scenario)


# --- its end --------------------------------------------------------------------------------------------------------


async def until_end(stream: Stream) -> float:
    """Read on; the time of the end."""
    while await stream.chunk():
        pass
    return asyncio.get_running_loop().time()


def test_it_ends_after_ten_seconds_for_the_page_asks_again() -> None:
    async def scenario() -> None:
        async with watch(site()) as stream:
            assert await until_end(stream) == 10.0

    run(scenario)


def test_it_ends_when_the_app_shuts_down() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def scenario() -> None:
        watched = site(app)
        async with watch(watched) as stream:
            await stream.chunk()
            assert await live(watched.middleware, "shutdown") == ["shutdown.complete"]
            assert await until_end(stream) == 0.0

    run(scenario)


def test_it_ends_when_the_server_is_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    class Server:
        should_exit = False

        def handle_exit(self, *_: object) -> None: ...

    server = Server()
    monkeypatch.setattr(signal, "getsignal", lambda _: server.handle_exit)

    async def scenario() -> None:
        async with watch(site()) as stream:
            await stream.chunk()
            server.should_exit = True
            assert await until_end(stream) == 0.5

    run(scenario)


def test_a_client_that_takes_nothing_is_let_go() -> None:
    async def scenario() -> None:
        watched, sent = site(), []

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: Message) -> None:
            sent.append(message)
            if len(sent) > 1:
                await asyncio.Event().wait()

        scope = {"type": "http", "method": "GET", "path": EVENTS, "headers": BEARER}
        await watched.middleware(scope, receive, send)
        assert asyncio.get_running_loop().time() == 5.0
        assert len(sent) == 2
        async with watch(watched) as stream:
            assert "hello" in parsed(await stream.chunk())

    run(scenario)


def test_a_connection_that_breaks_is_like_a_client_that_left() -> None:
    async def scenario() -> None:
        sent: list[Message] = []

        async def receive() -> Message:
            raise ConnectionResetError

        async def send(message: Message) -> None:
            if sent:
                raise ConnectionResetError
            sent.append(message)

        scope = {"type": "http", "method": "GET", "path": EVENTS, "headers": BEARER}
        await site().middleware(scope, receive, send)
        assert asyncio.get_running_loop().time() == 0.0

    run(scenario)
