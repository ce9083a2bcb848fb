"""Another server takes over while eight tenants ask: no request fails, and nobody sees another's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache.asgi import CacheMiddleware, Rule
from glasscache.stats import stats
from tests.support.asgi import Client, Receive, Scope, Send
from tests.support.patience import PATIENCE
from tests.support.redis_sets import ClusterSet, SentinelSet, cluster_set, sentinel_set

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    # redis-py leaves the connections to a server that is gone to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SECRET = "a secret that all machines of this test share"
TENANTS = [f"tenant-{number}" for number in range(8)]
BEFORE, AFTER = 200, 400
"""Answers that each machine has given before the fault, and more after it."""


def tenant_of(scope: Scope) -> str:
    name: bytes = dict(scope["headers"])[b"x-tenant"]
    return name.decode()


async def origin(scope: Scope, receive: Receive, send: Send) -> None:
    """Says who asked for what."""
    await asyncio.sleep(0)
    body = f"{tenant_of(scope)} {scope['path']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})


class Machine:
    """An app with glasscache in front, and no memory of its own to speak of."""

    def __init__(self, url: str) -> None:
        store = RedisStore.from_url(url, prefix="p", timeout=0.5, connect_timeout=0.5)
        memory = MemoryStore(max_entries=4)
        self.cache = Cache(TieredStore([memory, store]), limits=Limits(far_timeout=0.5), key_secret=SECRET)
        rules = [Rule("/ask/{number}", ttl=60, tenant=tenant_of)]
        self.client = Client(CacheMiddleware(origin, cache=self.cache, rules=rules))
        self.answers = 0
        self.foreign: list[str] = []

    async def visit(self, tenant: str, over: Callable[[], bool]) -> None:
        """Ask one question after the other."""
        number = 0
        while not over():
            number += 1
            path = f"/ask/{number % 30}"
            answer = await self.client.request("GET", path, headers={"x-tenant": tenant})
            self.answers += 1
            if answer.status != 200 or answer.text != f"{tenant} {path}":
                self.foreign.append(answer.text)
            await asyncio.sleep(0.004)  # leave the servers something of the machine

    @property
    def is_well(self) -> bool:
        return stats(self.cache)["tiers"] == {"redis": "ok"} and self.cache._engine._state.coherence.in_step


async def fails_over(servers: SentinelSet | ClusterSet, *, killed: bool) -> None:
    machines, is_over = [Machine(servers.url) for _ in range(2)], False
    visitors = [
        asyncio.create_task(machine.visit(tenant, lambda: is_over)) for machine in machines for tenant in TENANTS
    ]

    async def until(wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not wanted():
                await asyncio.sleep(0.01)
                assert not any(visitor.done() for visitor in visitors)

    try:
        await until(lambda: all(machine.answers > BEFORE and machine.is_well for machine in machines))
        await asyncio.to_thread(servers.fail_over, killed=killed)
        once_more = [(machine, machine.answers + AFTER) for machine in machines]
        await until(lambda: all(machine.answers > enough and machine.is_well for machine, enough in once_more))
    finally:
        is_over = True
        await asyncio.gather(*visitors)
        for machine in machines:
            await machine.cache.aclose()
    assert [machine.foreign for machine in machines] == [[], []]


@pytest.mark.parametrize("killed", [False, True], ids=["told to", "killed"])
def test_a_replica_that_sentinel_promotes_serves_all_tenants(tmp_path: Path, killed: bool) -> None:
    with sentinel_set(tmp_path) as servers:
        asyncio.run(fails_over(servers, killed=killed))


@pytest.mark.parametrize("killed", [False, True], ids=["told to", "killed"])
def test_a_replica_that_takes_over_in_a_cluster_serves_all_tenants(tmp_path: Path, killed: bool) -> None:
    with cluster_set(tmp_path) as servers:
        asyncio.run(fails_over(servers, killed=killed))
