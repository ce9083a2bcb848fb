"""Tags made of what users sent: odd ones must neither break a tier nor keep other invalidations from being told."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache.asgi import CacheMiddleware, Rule, answer
from glasscache.testing import RecordingTelemetry
from tests.support.asgi import Client
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")

HALF = "\ud83d"  # of a pair that JSON can say alone, and UTF-8 cannot


def test_a_tag_that_is_no_utf_8_breaks_no_tier_and_is_told_with_all_others_to_every_machine(
    server: RedisProcess,
) -> None:
    async def scenario() -> None:
        one, two = (
            Cache(
                TieredStore(
                    [MemoryStore(), RedisStore.from_url(f"redis://127.0.0.1:{server.port}", prefix="odd", **UNHURRIED)]
                ),
                limits=Limits(far_timeout=10.0),
                key_secret="a secret that both machines of this test have",
            )
            for _ in range(2)
        )
        loads = []

        async def load() -> int:
            loads.append(1)
            return len(loads)

        async def found(cache: Cache) -> list[int]:
            return [await cache.get_or_load(tag, load, tags=[tag]) for tag in (f"user:{HALF}", "user:7")]

        assert await found(one) == await found(two) == [1, 2]  # told by one machine to the other
        await one.invalidate(tag=f"user:{HALF}")
        async with asyncio.timeout(PATIENCE):
            while (await found(two))[0] == 1:  # noqa: ASYNC110 - the other machine tells nobody here
                await asyncio.sleep(0.001)
        await one.invalidate(tag="user:7")
        async with asyncio.timeout(PATIENCE):
            while (await found(two))[1] == 2:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
        assert await found(one) == await found(two) == [3, 4]
        assert dict(one.tier_states()) == {"redis": "ok"}
        await one.aclose()
        await two.aclose()

    asyncio.run(scenario())


async def app(scope: Any, receive: Any, send: Any) -> None:
    answer().tag(f"handler:{HALF}")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"an answer", "more_body": False})


@pytest.mark.parametrize("tag", [f"rule:{HALF}", f"asked:{HALF}", f"handler:{HALF}"])
def test_an_answer_with_an_odd_tag_is_removed_by_it(tag: str) -> None:
    async def scenario() -> None:
        cache = Cache(telemetry=RecordingTelemetry())
        rules = [Rule("/a", ttl=60, tags=(f"rule:{HALF}",)), Rule("/b", ttl=60, tags=lambda _: [f"asked:{HALF}"])]
        client = Client(CacheMiddleware(app, cache=cache, rules=rules))
        for path in ("/a", "/b"):
            await client.request("GET", path)
        assert await cache.invalidate(tag=tag) == (2 if tag.startswith("handler") else 1)

    asyncio.run(scenario())


@pytest.mark.parametrize("tags", [[7], "docs"], ids=repr)
def test_an_answer_whose_rule_gives_no_list_of_names_is_not_stored_since_nothing_could_remove_it(
    tags: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        cache = Cache(telemetry=RecordingTelemetry())
        rules = [Rule("/a", ttl=60, tags=lambda _: tags)]
        client = Client(CacheMiddleware(app, cache=cache, rules=rules))
        for _ in range(2):
            response = await client.request("GET", "/a")
            assert response.body == b"an answer"
        assert cache.counters.group("/a").hits == 0
        assert "give a list of strings" in caplog.text

    asyncio.run(scenario())
