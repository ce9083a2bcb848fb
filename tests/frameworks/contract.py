"""The contract: what must hold of glasscache in every framework on every server, one function per feature.

Decides what is asked and what must come of it. Must never know which framework or server it talks to, nor wait for a
time: it opens a gate and polls the desk for what follows.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Mapping
from contextlib import AsyncExitStack

from tests.frameworks.cell import MISS, Cell, Check, assert_hit, read
from tests.frameworks.layers import MOUNT, ORIGINS
from tests.frameworks.origin import ENDLESS, EVENTS, PAGE, TEAPOT
from tests.support.patience import PATIENCE
from tests.support.servers import RawConnection

COLLAPSED = "glasscache; fwd=uri-miss; collapsed"


async def miss(cell: Cell) -> None:
    """The first request is the app's own answer, and says that it was stored."""
    got = await cell.get("/answer?q=miss")
    assert (got.status, got.cache_status) == (200, MISS)
    assert json.loads(got.body) == {"answer": "miss", "page": PAGE, "root": ""}
    assert (got.header("content-type") or "").startswith("application/json")
    assert await cell.loads("miss") == 1


async def hit(cell: Cell) -> None:
    """The second is the same answer from memory, its headers included."""
    first, second = [await cell.get("/answer?q=hit") for _ in range(2)]
    assert (second.status, second.body) == (200, first.body)
    assert_hit(second)
    assert second.header("age") is not None
    assert second.header("content-type") == first.header("content-type")
    assert await cell.loads("hit") == 1


async def collapsed(cell: Cell) -> None:
    """Five at once are one load."""
    async with asyncio.TaskGroup() as clients:
        asked = [clients.create_task(cell.get("/slow?q=crowd")) for _ in range(5)]
        await cell.until(lambda now: now["waiters"] == 4)
        await cell.desk("crowd")
    answers = [task.result() for task in asked]
    assert sorted(got.cache_status or "" for got in answers) == [COLLAPSED] * 4 + [MISS]
    assert {json.loads(got.body)["answer"] for got in answers} == {"crowd"}
    assert await cell.loads("crowd") == 1


async def stream(cell: Cell) -> None:
    """Leader and follower get each event when it is produced; who comes later gets all of them from memory."""
    async with AsyncExitStack() as open_, asyncio.timeout(PATIENCE):
        first, second = [await open_.enter_async_context(RawConnection(cell.port)) for _ in range(2)]
        for client in (first, second):
            await client.request("GET", "/events?q=feed")
        for number, event in enumerate(EVENTS):
            await cell.desk(f"feed-{number}")
            for client in (first, second):
                if number == 0:
                    head = await client.head()
                    assert (head.header("content-type") or "").startswith("text/event-stream")
                assert await read(client, len(event)) == event
        for client in (first, second):
            assert await client.body() == b""
    assert await cell.loads("feed") == 1
    later = await cell.get("/events?q=feed")
    assert later.body == b"".join(EVENTS)
    assert_hit(later)


async def error(cell: Cell) -> None:
    """An exception becomes the 500 that the framework makes of it without a cache; nothing is stored."""
    bare = await cell.get("/bare/fail?q=bare-fail")
    cached = [await cell.get("/fail?q=fail") for _ in range(2)]
    for got in cached:
        assert (got.status, got.body) == (500, bare.body)
        assert got.header("content-type") == bare.header("content-type")
    assert await cell.loads("fail") == 2


async def handler(cell: Cell) -> None:
    """An exception that the app has a handler for is that handler's answer; it is not stored."""
    cached = [await cell.get("/teapot?q=teapot") for _ in range(2)]
    assert [(got.status, json.loads(got.body)) for got in cached] == [(418, TEAPOT)] * 2
    assert cached[0].body == (await cell.get("/bare/teapot?q=bare-teapot")).body
    assert await cell.loads("teapot") == 2


async def background(cell: Cell) -> None:
    """A background task runs once, after the answer, which it delays for nobody."""
    first, second = [await cell.get("/task?q=task") for _ in range(2)]
    assert (first.status, first.body) == (200, second.body)
    assert_hit(second)
    await cell.until(lambda now: "task begun" in now["told"])
    assert "task done" not in (await cell.desk("task"))["told"][:-1]
    await cell.until(lambda now: "task done" in now["told"])
    assert [what for what in (await cell.desk())["told"] if "task" in what] == ["task begun", "task done"]


async def leader_leaves(cell: Cell) -> None:
    """The leader's disconnect hurts nobody: its follower is answered, and the answer is stored."""
    async with RawConnection(cell.port) as leader:
        await leader.request("GET", "/slow?q=left")
        await cell.until(lambda now: now["loads"].get("left") == 1)
        follower = asyncio.create_task(cell.get("/slow?q=left"))
        await cell.until(lambda now: now["waiters"] == 1)
        leader.abort()
    await cell.desk("left")
    got = await follower
    assert (got.status, json.loads(got.body), got.cache_status) == (200, {"answer": "left"}, COLLAPSED)
    assert_hit(await cell.get("/slow?q=left"))
    assert await cell.loads("left") == 1


async def stopped(cell: Cell) -> None:
    """An endless answer that nobody may share is stopped when its client leaves."""
    async with RawConnection(cell.port) as client, asyncio.timeout(PATIENCE):
        await client.request("GET", "/endless?q=endless")
        assert (await client.head()).status == 200
        assert await read(client, len(ENDLESS)) == ENDLESS
        client.abort()
    # Of an app whose send was refused (ASGI 2.4) Django leaves the view's generator to the garbage collector.
    await cell.until(lambda now: "endless stopped" in now["told"] and not now["under_way"], asking="collect=1")


async def mounted(cell: Cell) -> None:
    """A mounted sub-app has entries of its own, and sees its root_path."""
    first, second = [await cell.get(f"{MOUNT}/answer?q=mounted") for _ in range(2)]
    assert first.cache_status == MISS
    assert json.loads(first.body)["root"] == MOUNT
    assert second.body == first.body
    assert_hit(second)
    unmounted = await cell.get("/answer?q=mounted")
    assert unmounted.cache_status == MISS
    assert json.loads(unmounted.body)["root"] == ""
    assert await cell.loads("mounted") == 2


async def cors(cell: Cell) -> None:
    """With CORS around the cache every origin is named itself, from one load; a preflight never reaches the cache."""
    for turn in range(2):
        for origin in ORIGINS:
            got = await cell.get("/answer?q=cors", Origin=origin)
            assert got.header_list("access-control-allow-origin") == [origin]
            if turn:
                assert_hit(got)
    assert await cell.loads("cors") == 1
    preflight = await cell.get("/answer", "OPTIONS", Origin=ORIGINS[0], Access_Control_Request_Method="GET")
    assert preflight.status in {200, 204}
    assert preflight.header("access-control-allow-origin") == ORIGINS[0]
    assert preflight.cache_status is None
    stranger = await cell.get("/answer?q=cors", Origin="https://evil.example")
    assert stranger.header("access-control-allow-origin") is None


async def zipped(cell: Cell) -> None:
    """With gzip around the cache every client gets what it can read, from one load."""
    for _ in range(2):
        for coding in ("gzip", "identity"):
            got = await cell.get("/answer?q=zip", Accept_Encoding=coding)
            assert got.header("content-encoding") == ("gzip" if coding == "gzip" else None)
            body = gzip.decompress(got.body) if coding == "gzip" else got.body
            assert json.loads(body)["page"] == PAGE
    assert_hit(await cell.get("/answer?q=zip"))
    assert await cell.loads("zip") == 1


async def authentication(cell: Cell) -> None:
    """With authentication outside nobody gets another's answer, and a stored one is for nobody without a name."""
    for turn in range(2):
        for name in ("ann", "bob"):
            got = await cell.get("/private?q=private", Authorization=f"Bearer of-{name}")
            assert json.loads(got.body)["user"] == name
            if turn:
                assert_hit(got)
        assert (await cell.get("/private?q=private")).status == 401
        assert (await cell.get("/private?q=private", Authorization="Bearer of-eve")).status == 401
    assert await cell.loads("private") == 2


async def startup(cell: Cell) -> None:
    """The app's lifespan begins before its first request."""
    assert (await cell.desk())["told"][:1] == ["startup"]


async def shutdown(cell: Cell) -> None:
    """The app's lifespan ends with the server."""
    assert cell.told.read_text().split("\n")[-2:] == ["shutdown", ""]


RUNNING: Mapping[str, Check] = {
    check.__name__: check
    for check in (
        startup,
        miss,
        hit,
        collapsed,
        stream,
        error,
        handler,
        background,
        leader_leaves,
        stopped,
        mounted,
        cors,
        zipped,
        authentication,
    )
}
"""By feature, what must hold while the server runs."""

STOPPED: Mapping[str, Check] = {"shutdown": shutdown}
"""What must hold when it has been stopped."""
