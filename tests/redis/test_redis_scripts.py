"""How commands are sent where the cluster is not what its client believes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from glasscache.stores._redis_clients import ClientOptions, clients_of
from glasscache.stores._redis_scripts import Script, send
from tests.support.redis_process import RedisProcess, cluster_options

pytestmark = pytest.mark.usefixtures("no_leaks")

KEY = b"foo"
"""Its slot is 12182 (the specification's own example)."""


def test_a_slot_that_nobody_served_is_asked_for_anew_once_and_found_when_somebody_does(tmp_path: Path) -> None:
    async def scenario(server: RedisProcess) -> None:
        options = ClientOptions(connect_timeout=10.0, timeout=10.0, max_connections=4, protocol=3)
        clients = clients_of(f"redis+cluster://127.0.0.1:{server.port}", options)
        client = clients()
        try:
            server.do("CLUSTER", "ADDSLOTSRANGE", 0, 12181)
            with pytest.raises((RedisError, KeyError)):
                await send(client, "GET", KEY)
            server.do("CLUSTER", "ADDSLOTSRANGE", 12182, 16383)
            await asyncio.to_thread(server.until_cluster_ok)
            with pytest.raises((RedisError, KeyError)):
                await send(client, "GET", KEY)  # by what it believes; now it asks
            assert await send(client, "GET", KEY) is None
            assert await Script("return ARGV[1]").run(client, (KEY,), (b"told",)) == b"told"
        finally:
            await clients.aclose()

    with RedisProcess(tmp_path, *cluster_options()) as server:
        asyncio.run(scenario(server))
