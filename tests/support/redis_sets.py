"""Servers that stand in for each other: Sentinel's primary and replica, and clusters.

Decides how they are wired, and when they are ready. Must never leave one of them running.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.support.redis_process import ADMIN, RedisProcess, cluster_options, sentinel_options

SERVICE = "knowledge"
_FAST, _SLOW = 500, 30_000
"""Milliseconds after which a server that does not answer is down: one that is killed, and one that is only busy."""


_AT_ONCE = "repl-diskless-sync-delay 0"
_STAYS = "cluster-allow-replica-migration no"
"""Or a node that gives its last slots becomes a replica while it is still told of them."""


@dataclass(frozen=True)
class SentinelSet:
    """A primary, its replica, and the sentinel that watches them."""

    servers: tuple[RedisProcess, RedisProcess]
    sentinel: RedisProcess

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}"

    @property
    def primary(self) -> RedisProcess:
        """Whom the sentinel sends clients to."""
        _, port = self.sentinel.do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        (found,) = [server for server in self.servers if server.port == int(port)]
        return found

    def fail_over(self, *, killed: bool) -> None:
        """Until the other one is the primary: because the first was killed, or because it was told to."""
        before = self.primary
        if killed:
            self.sentinel.do("SENTINEL", "SET", SERVICE, "down-after-milliseconds", _FAST)
            before.kill()
        else:
            self.sentinel.do("SENTINEL", "FAILOVER", SERVICE)
        self.sentinel.until(lambda: self.primary is not before)
        self.primary.until(lambda: self.primary.do("ROLE")[0] == b"master")


@contextmanager
def sentinel_set(folder: Path) -> Iterator[SentinelSet]:
    """Ready to fail over."""
    with ExitStack() as stack:
        first = stack.enter_context(RedisProcess(folder, _AT_ONCE))
        second = stack.enter_context(RedisProcess(folder, _AT_ONCE, f"replicaof 127.0.0.1 {first.port}"))
        second.until(lambda: second.do("ROLE")[3] == b"connected")
        options = sentinel_options(SERVICE, first.port, down_after_milliseconds=_SLOW, failover_timeout=10_000)
        sentinel = stack.enter_context(RedisProcess(folder, *options, sentinel=True))
        sentinel.do("SENTINEL", "DEBUG", "INFO-PERIOD", 200, "PING-PERIOD", 200)  # else it takes 10 s to know them
        sentinel.until(lambda: _can_take_over(sentinel.do("SENTINEL", "REPLICAS", SERVICE)))
        yield SentinelSet((first, second), sentinel)


def _can_take_over(replicas: Sequence[Sequence[bytes]]) -> bool:
    told = [dict(zip(replica[::2], replica[1::2], strict=True)) for replica in replicas]
    return [replica[b"master-link-status"] for replica in told] == [b"ok"]


@contextmanager
def two_nodes(folder: Path, *, first: int = 16384) -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """A cluster of two, who know each other; the first one serves so many slots, the second one the rest."""
    with ExitStack() as stack:
        one, two = (stack.enter_context(RedisProcess(folder, *cluster_options(), _STAYS)) for _ in range(2))
        one.do("CLUSTER", "ADDSLOTSRANGE", 0, first - 1)
        if first < 16384:
            two.do("CLUSTER", "ADDSLOTSRANGE", first, 16383)
        _meet(one, two)
        for node in (one, two):
            node.until_cluster_ok()
            node.until(lambda node=node: len(node.do("CLUSTER", "SLOTS")) == 1 + (first < 16384))  # type: ignore[misc]
        one.until(lambda: two.do("CLUSTER", "MYID") in one.do("CLUSTER", "NODES"))
        yield one, two


def _meet(first: RedisProcess, *others: RedisProcess) -> None:
    """Each with an epoch of its own, or they would agree on one in the middle of a test."""
    for number, node in enumerate((first, *others), start=1):
        node.do("CLUSTER", "SET-CONFIG-EPOCH", number)
    for node in others:
        first.do("CLUSTER", "MEET", "127.0.0.1", node.port, int(node.do("CONFIG", "GET", "cluster-port")[1]))


def move_slots(slots: Iterable[int], taker: RedisProcess, giver: RedisProcess | None) -> None:
    """Give slots to another node, with nothing that was in them; without a giver they are taken from one that is dead.

    The taker's epoch is the highest: until the giver is told as well, each claims the slots, and the higher one wins.
    """
    taker.do("CLUSTER", "BUMPEPOCH")
    owner = taker.do("CLUSTER", "MYID")
    for node in filter(None, (taker, giver)):
        with redis.Redis(port=node.port, **ADMIN) as admin, admin.pipeline(transaction=False) as pipeline:
            for slot in slots:
                pipeline.execute_command("CLUSTER", "SETSLOT", slot, "NODE", owner)
            pipeline.execute()


@dataclass(frozen=True)
class ClusterSet:
    """Three primaries, and a replica of the one that has the bus of `prefix` p."""

    primaries: tuple[RedisProcess, ...]
    replica: RedisProcess

    @property
    def url(self) -> str:
        places = ",".join(f"127.0.0.1:{node.port}" for node in self.primaries)
        return f"redis+cluster://{places}"

    def fail_over(self, *, killed: bool) -> None:
        """Until the replica serves the slots of the first primary."""
        first = self.primaries[0]
        if killed:
            _count_as_down(_FAST, *self.primaries, self.replica)
            first.kill()
        else:
            self.replica.do("CLUSTER", "FAILOVER")
        self.replica.until(lambda: self.replica.do("ROLE")[0] == b"master")
        for node in (*self.primaries[1:], self.replica):
            node.until_cluster_ok()


@contextmanager
def cluster_set(folder: Path) -> Iterator[ClusterSet]:
    """Ready to fail over."""
    with ExitStack() as stack:
        options = (_AT_ONCE, f"cluster-node-timeout {_FAST}", "cluster-replica-validity-factor 0")
        first, *others = (stack.enter_context(RedisProcess(folder, *options, *cluster_options())) for _ in range(4))
        nodes = (first, *others)
        for node, (low, high) in zip(nodes, ((0, 5460), (5461, 10922), (10923, 16383)), strict=False):
            node.do("CLUSTER", "ADDSLOTSRANGE", low, high)
        _meet(first, *others)
        for node in nodes:
            node.until_cluster_ok()
            node.until(lambda node=node: node.do("CLUSTER", "NODES").count(b"connected") == 4)  # type: ignore[misc]
        replica = nodes[3]
        replica.do("CLUSTER", "REPLICATE", first.do("CLUSTER", "MYID"))
        replica.until(lambda: replica.do("ROLE")[:1] == [b"slave"] and replica.do("ROLE")[3] == b"connected")
        for node in nodes:
            node.until(lambda node=node: node.do("CLUSTER", "NODES").count(b"slave") == 1)  # type: ignore[misc]
        _count_as_down(_SLOW, *nodes)  # the faster they are to be down, the faster they know each other
        yield ClusterSet(nodes[:3], replica)


def _count_as_down(after: int, *nodes: RedisProcess) -> None:
    for node in nodes:
        node.do("CONFIG", "SET", "cluster-node-timeout", after)
