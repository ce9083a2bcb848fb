"""Servers that stand in for each other: Sentinel's primary and replica, and a cluster with a replica.

Decides how they are wired, and when they are ready. Must never leave one of them running.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.redis_process import RedisProcess, cluster_options, sentinel_options

SERVICE = "knowledge"
_FAST = 500
"""Milliseconds after which a server that does not answer counts as down."""


_AT_ONCE = "repl-diskless-sync-delay 0"


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
        options = sentinel_options(SERVICE, first.port, down_after_milliseconds=_FAST, failover_timeout=2000)
        sentinel = stack.enter_context(RedisProcess(folder, *options, sentinel=True))
        sentinel.do("SENTINEL", "DEBUG", "INFO-PERIOD", 200, "PING-PERIOD", 200)  # else it takes 10 s to know them
        sentinel.until(lambda: _can_take_over(sentinel.do("SENTINEL", "REPLICAS", SERVICE)))
        yield SentinelSet((first, second), sentinel)


def _can_take_over(replicas: Sequence[Sequence[bytes]]) -> bool:
    told = [dict(zip(replica[::2], replica[1::2], strict=True)) for replica in replicas]
    return [replica[b"master-link-status"] for replica in told] == [b"ok"]


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
        for number, node in enumerate(nodes, start=1):
            node.do("CLUSTER", "SET-CONFIG-EPOCH", number)
        for node in others:
            bus = int(node.do("CONFIG", "GET", "cluster-port")[1])
            first.do("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        for node in nodes:
            node.until_cluster_ok()
            node.until(lambda node=node: node.do("CLUSTER", "NODES").count(b"connected") == 4)  # type: ignore[misc]
        replica = nodes[3]
        replica.do("CLUSTER", "REPLICATE", first.do("CLUSTER", "MYID"))
        replica.until(lambda: replica.do("ROLE")[:1] == [b"slave"] and replica.do("ROLE")[3] == b"connected")
        for node in nodes:
            node.until(lambda node=node: node.do("CLUSTER", "NODES").count(b"slave") == 1)  # type: ignore[misc]
        yield ClusterSet(nodes[:3], replica)
