"""Apps that take ASGI less exactly than we do, and work on every server: they must go on working behind the cache."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache.asgi import Rule
from glasscache.proxy import ReverseProxy
from tests.asgi.site import Site
from tests.support.asgi import Receive, Scope, Send

RULES = (Rule("/ruled", ttl=60), Rule("/*"))


@pytest.mark.parametrize("path", ["/ruled", "/by-http"])
def test_an_app_that_announces_trailers_to_a_server_that_offers_none_is_whole_at_its_last_body(path: str) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [], "trailers": True})
        await send({"type": "http.response.body", "body": b"all ", "more_body": True})
        await send({"type": "http.response.body", "body": b"of it"})

    async def scenario() -> None:
        site = Site(app, *RULES)
        for _ in range(2):
            assert (await site.get(path)).body == b"all of it"
        assert site.cache.counters.group("/ruled").hits == (path == "/ruled")

    asyncio.run(scenario())


@pytest.mark.parametrize("more", [True, False])
def test_a_message_whose_body_is_none_has_none(more: bool) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if more:
            await send({"type": "http.response.body", "body": None, "more_body": True})
        await send({"type": "http.response.body", "body": None})

    async def scenario() -> None:
        site = Site(app, *RULES)
        responses = [await site.get("/ruled") for _ in range(2)]
        assert [response.body for response in responses] == [b"", b""]
        assert site.cache.counters.group("/ruled").hits == 1

    asyncio.run(scenario())


def test_a_question_about_the_server_itself_is_not_asked_below_the_path_of_an_upstream() -> None:
    proxy: Any = ReverseProxy("http://127.0.0.1:1/api")
    scope = {"method": "OPTIONS", "path": "*", "raw_path": b"*", "query_string": b"", "headers": []}
    assert proxy._request(scope).target == b"*"
    assert proxy._request(scope | {"raw_path": b"/*"}).target == b"/api/*"
