"""A subscription follows its channel to another server: Sentinel's new master, a cluster's new owner of the slot."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.asyncio import RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import ConnectionError as RedisConnectionError

from glasscache.stores._redis_backplane import RedisBackplane
from glasscache.stores._redis_channel import Subscription
from tests.redis.test_redis_channel import Told, subscription
from tests.support.patience import PATIENCE
from tests.support.redis_process import RedisProcess, client_options, sentinel_options
from tests.support.redis_sets import move_slots, two_nodes

pytestmark = pytest.mark.usefixtures("no_leaks")

_CHANNEL = b"p:bus"


class Cluster(NamedTuple):
    """Two nodes; the first serves all slots."""

    one: RedisProcess
    two: RedisProcess

    def move(self, channel: bytes, giver: RedisProcess | None, taker: RedisProcess) -> None:
        """Give the channel's slot away; without a giver it is taken from a node that is dead."""
        move_slots((taker.do("CLUSTER", "KEYSLOT", channel),), taker, giver)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with two_nodes(tmp_path) as nodes:
        yield Cluster(*nodes)


async def assert_heard(told: Told, client: RedisCluster, command: str = "SPUBLISH") -> None:
    await client.execute_command(command, _CHANNEL, b"after")
    assert await told.next() == (_CHANNEL, b"after")


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_channel_whose_slot_moves_is_lost_and_found_at_the_new_owner(cluster: Cluster, protocol: int) -> None:
    async def scenario() -> None:
        client, told = cluster.one.cluster_client(protocol), Told()
        sub = subscription(client.pubsub, told, _CHANNEL, sharded=True)
        sub.start()
        assert await told.next() == "restored"
        await assert_heard(told, client)
        for giver, taker in ((cluster.one, cluster.two), (cluster.two, cluster.one)):
            cluster.move(_CHANNEL, giver, taker)
            assert await told.next() == "lost"
            assert await told.next() == "restored"
            await assert_heard(told, client)
        await close(sub, client)

    asyncio.run(scenario())


def test_what_is_told_follows_the_channel_to_its_new_owner(cluster: Cluster) -> None:
    async def scenario() -> None:
        ear, told = cluster.one.cluster_client(), Told()
        mouth = await cluster.one.cluster_client().initialize()  # knows where the channel was
        backplane = RedisBackplane(lambda: mouth, machine="one", prefix="p")
        sub = subscription(ear.pubsub, told, _CHANNEL, sharded=True)
        sub.start()
        assert await told.next() == "restored"
        cluster.move(_CHANNEL, cluster.one, cluster.two)
        assert [await told.next() for _ in range(2)] == ["lost", "restored"]
        await backplane.tell_replaced(b"a key of thirty-two bytes, about")
        assert isinstance(await told.next(), tuple)
        await backplane.aclose()
        await mouth.aclose()
        await close(sub, ear)

    asyncio.run(scenario())


def test_a_channel_whose_node_dies_is_found_at_the_node_that_takes_its_slot(cluster: Cluster) -> None:
    async def scenario() -> None:
        cluster.move(_CHANNEL, cluster.one, cluster.two)
        client, told = cluster.one.cluster_client(), Told()
        sub = subscription(client.pubsub, told, _CHANNEL, sharded=True)
        sub.start()
        assert await told.next() == "restored"
        cluster.two.kill()
        assert await told.next() == "lost"
        cluster.move(_CHANNEL, None, cluster.one)
        assert await told.next() == "restored"
        await assert_heard(told, client)
        await close(sub, client)

    asyncio.run(scenario())


def test_on_a_cluster_a_channel_that_is_not_sharded_hears_what_any_node_publishes(cluster: Cluster) -> None:
    async def scenario() -> None:
        client, told = cluster.one.cluster_client(), Told()
        sub = subscription(client.pubsub, told, _CHANNEL)
        sub.start()
        assert await told.next() == "restored"
        for node in cluster:
            node.do("PUBLISH", _CHANNEL, "from anywhere")
            assert await told.next() == (_CHANNEL, b"from anywhere")
        await close(sub, client)

    asyncio.run(scenario())


async def close(sub: Subscription, client: RedisCluster) -> None:
    await sub.aclose()
    await client.aclose()


def test_after_a_failover_of_sentinel_it_hears_the_new_master(tmp_path: Path) -> None:
    async def scenario(master: RedisProcess, sentinel: RedisProcess) -> None:
        told = Told()
        options: dict[str, Any] = client_options()
        manager = Sentinel([("127.0.0.1", sentinel.port)], sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        client = manager.master_for("service", **options)
        sub = subscription(client.pubsub, told, _CHANNEL)
        sub.start()
        assert await told.next() == "restored"
        sentinel.do("SENTINEL", "SET", "service", "down-after-milliseconds", 500)
        master.kill()
        assert await told.next() == "lost"
        assert await told.next() == "restored"
        async with asyncio.timeout(PATIENCE):
            while True:  # to a sentinel on a busy machine any server may seem gone for a moment
                with suppress(RedisConnectionError):
                    await client.publish(_CHANNEL, "after")
                    break
                await asyncio.sleep(0.05)
        assert await told.next() == (_CHANNEL, b"after")
        await sub.aclose()
        await client.aclose()
        for one in manager.sentinels:
            await one.aclose()

    with RedisProcess(tmp_path) as master, RedisProcess(tmp_path, f"replicaof 127.0.0.1 {master.port}") as replica:
        replica.until(lambda: b"master_link_status:up" in replica.do("INFO", "replication"))
        options = sentinel_options("service", master.port, down_after_milliseconds=30_000)
        with RedisProcess(tmp_path, *options, sentinel=True) as sentinel:
            sentinel.until(lambda: b"slaves=1" in sentinel.do("INFO", "sentinel"))
            asyncio.run(scenario(master, sentinel))
