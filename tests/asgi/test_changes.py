"""What a change removes: the page that a browser reads, however the script asked that changed it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache import Cache
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.testing import RecordingTelemetry
from tests.support.asgi import Client


async def app(scope: Any, receive: Any, send: Any) -> None:
    scope["state"]["asked"] += 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % scope["state"]["asked"], "more_body": False})


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("DELETE", ("x-requested-with", "XMLHttpRequest")),
        ("POST", ("x-http-method-override", "DELETE")),
        ("POST", ("next-action", "7f")),
    ],
)
def test_a_change_removes_what_is_read_without_the_fields_that_its_script_sent(method: str, how: Any) -> None:
    async def scenario() -> None:
        middleware = CacheMiddleware(
            app, cache=Cache(telemetry=RecordingTelemetry()), rules=[Rule("/docs/{id}", ttl=60)]
        )
        client = Client(middleware, scope={"state": {"asked": 0}})

        async def read(*headers: Any) -> bytes:
            return (await client.request("GET", "/docs/7", headers=headers)).body

        assert [await read(), await read(how)] == [await read(), await read(how)] == [b"1", b"2"]
        await client.request(method, "/docs/7", headers=[how])
        assert [await read(), await read(how)] == [b"4", b"5"]

    asyncio.run(scenario())


@pytest.mark.parametrize("by_host", [False, True])
@pytest.mark.parametrize("method", ["GET", "QUERY"])
def test_a_change_under_one_name_removes_what_was_read_under_another_where_all_names_answer_alike(
    method: str, by_host: bool
) -> None:
    async def scenario() -> None:
        rule = Rule(
            "/docs/{id}", methods=(method,), ttl=60, tenant=lambda scope: scope["state"]["tenant"], host=by_host
        )
        middleware = CacheMiddleware(app, cache=Cache(telemetry=RecordingTelemetry()), rules=[rule])
        state = {"asked": 0, "tenant": "one"}
        client = Client(middleware, scope={"state": state})

        async def ask(how: str, host: str) -> bytes:
            return (await client.request(how, "/docs/7", headers=[("host", host)])).body

        assert [await ask(method, "a.example"), await ask(method, "a.example")] == [b"1", b"1"]
        state["tenant"] = "two"  # whose change it is: its own keys are not those of the first
        await ask("DELETE", "b.example")
        state["tenant"] = "one"
        assert await ask(method, "a.example") == (b"1" if by_host else b"3")
        await ask("DELETE", "a.example")
        assert await ask(method, "a.example") == (b"4" if by_host else b"5")

    asyncio.run(scenario())
