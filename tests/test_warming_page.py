"""docs/warming.md: what stands there works."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from glasscache import Warmed
from glasscache.asgi._warm_page import Line
from tests.support.asgi import Client, Message
from tests.support.patience import PATIENCE

PAGE = (Path(__file__).parents[1] / "docs/warming.md").read_text("utf-8")
USERS: dict[str, Any] = {"scheme": "https"}


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found[1]


def test_each_line_of_its_file_is_understood() -> None:
    lines = [line for line in block("text").splitlines() if not line.startswith("#")]
    assert len(lines) == 3
    for line in lines:
        (msgspec.json.decode(line, type=Line) if line.startswith("{") else Line(url=line)).request()


@asynccontextmanager
async def lifespan_of(app: Any) -> AsyncIterator[None]:
    done, started = asyncio.Event(), asyncio.Event()
    messages: list[Message] = [{"type": "lifespan.startup"}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await done.wait()
        return {"type": "lifespan.shutdown"}

    async def send(message: Message) -> None:
        assert message["type"] in ("lifespan.startup.complete", "lifespan.shutdown.complete")
        started.set()

    scope: dict[str, Any] = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    lifespan = asyncio.create_task(app(scope, receive, send))
    await started.wait()
    yield
    done.set()
    await lifespan


async def check_is_warm(client: Client) -> None:
    headers = [(b"host", b"api.example.com"), (b"content-type", b"application/json")]
    body = b'{"question": "How do I pay?"}'
    for response in (
        await client.request("GET", "/search", query="q=opening+hours", headers=headers[:1], scope=USERS),
        await client.request("POST", "/ask", body=body, headers=headers, scope=USERS),
    ):
        assert response.status == 200
        assert (response.cache_status or "").startswith("glasscache; hit; ttl=")


@pytest.mark.usefixtures("no_leaks")
@pytest.mark.parametrize("waits", [False, True])
def test_its_service_is_warm_after_its_start(waits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLASSCACHE_STATS_PATH", "CACHE_TYPE"):
        monkeypatch.delenv(name, raising=False)
    source = block("python")
    if waits:
        task = re.search(r"warming = asyncio.create_task\((.*)\)\n", source)
        assert task is not None
        source = source.replace(task[0], f"await {task[1]}\n").replace("    warming.cancel()\n", "")
    names: dict[str, Any] = {"__name__": "service"}
    exec(compile(source, "docs/warming.md", "exec"), names)  # noqa: S102 - what we wrote
    service = names["service"]

    async def scenario() -> None:
        async with lifespan_of(service):
            if not waits:
                async with asyncio.timeout(PATIENCE):
                    while service.cache._engine.near.gauge().entries < 2:  # noqa: ASYNC110 - nobody tells
                        await asyncio.sleep(0.001)
            await check_is_warm(Client(service))

    asyncio.run(scenario())


def test_what_comes_back_is_written_as_the_page_has_it() -> None:
    assert f"`{Warmed(loaded=2)!r}`" in PAGE
