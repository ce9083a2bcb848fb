"""From a URL to a client: one server, Sentinel or Cluster, as a cache needs it.

Decides the options that are not a user's choice: no retries (a hung server would hold a request for a minute, and a
repeated SET NX lies), no maintenance notifications (they can leave another answer on a connection), short timeouts.
A client belongs to one event loop of one process. Must never show a password.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import ConnectionPool, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from glasscache.errors import ConfigurationError

Client: TypeAlias = "Redis | RedisCluster"

_SPARE_CONNECTIONS = 4
"""For the subscriptions, for what is told to others, and for what the client itself asks."""
_HOST = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.%]+)\]|(?P<name>[^:\[\]@/]+))(?::(?P<port>\d{1,5}))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """What is a user's choice. Seconds."""

    connect_timeout: float
    timeout: float
    max_connections: int
    protocol: int

    def __post_init__(self) -> None:
        for name in ("connect_timeout", "timeout", "max_connections"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"RedisStore({name}={getattr(self, name)!r}): give a number above 0")
        if self.protocol not in (2, 3):
            raise ConfigurationError(f"RedisStore(protocol={self.protocol!r}): give 2 or 3 (RESP2, RESP3)")

    def arguments(self) -> dict[str, Any]:
        """Of every connection."""
        return {
            "socket_connect_timeout": self.connect_timeout,
            "socket_timeout": self.timeout,
            "protocol": self.protocol,
            "retry": Retry(NoBackoff(), 0),
            "health_check_interval": 0,
            "driver_info": None,  # two commands less for every connection, which docs/redis-acl.md need not allow
        }


class Clients:
    """Makes the client of the running event loop when it is first asked for."""

    def __init__(self, make: Callable[[], Client], where: str) -> None:
        self._make = make
        self.where = where
        """Without user and password."""
        self._process = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._seeds: dict[str, ClusterNode] = {}

    def __call__(self) -> Client:
        """The client of this event loop. One that a fork or a closed loop left behind is forgotten, not closed."""
        process, loop = os.getpid(), asyncio.get_running_loop()
        if self._client is None or process != self._process or loop is not self._loop:
            self._process, self._loop, self._client = process, loop, self._make()
            self._seeds = {}
            if isinstance(self._client, RedisCluster):  # redis-py makes it a question of microseconds
                self._seeds = dict(self._client.nodes_manager.startup_nodes)
        elif self._seeds and isinstance(self._client, RedisCluster) and not self._client.nodes_manager.startup_nodes:
            # a cluster that for a moment served no slots has made the client forget every address that it had
            self._client.nodes_manager.startup_nodes.update(self._seeds)
        return self._client

    async def aclose(self) -> None:
        """Close the client of this event loop; the next call makes a new one."""
        client, self._client = self._client, None
        if client is not None and os.getpid() == self._process and asyncio.get_running_loop() is self._loop:
            await client.aclose()
            if isinstance(client, RedisCluster):  # which closes nothing while it would have to ask for its nodes anew
                await client.nodes_manager.aclose()
                await client.nodes_manager.aclose("startup_nodes")
            if isinstance(client, Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
                for sentinel in client.connection_pool.sentinel_manager.sentinels:
                    await sentinel.aclose()  # they were asked for the primary, over connections of their own


def clients_of(url: str, options: ClientOptions) -> Clients:
    """For one of redis, rediss, unix, redis+sentinel, rediss+sentinel, redis+cluster, rediss+cluster.

    Hosts are separated by commas; Sentinel's URL names the service in its path, and after it perhaps the database.
    The query takes what redis-py takes (`ssl_ca_certs`, `db`, ...). ConfigurationError for anything else.
    """
    try:
        make, where = _plan(url, options)
        client = make()  # whatever cannot work is refused here, and not when the first request comes
        if isinstance(client, Redis):
            client.connection_pool.make_connection()  # type: ignore[no-untyped-call]
    except (TypeError, ValueError) as error:
        known = re.sub(r"//[^@/]*@", "//...@", str(error))
        raise ConfigurationError(f"RedisStore.from_url(): {known}") from None
    return Clients(make, where)


def _plan(url: str, options: ClientOptions) -> tuple[Callable[[], Client], str]:
    hosted = re.split("[/?#]", url.partition("://")[2], maxsplit=1)[0]  # apart: of several hosts, newer Pythons'
    parts = urlsplit(url.replace(f"://{hosted}", "://", 1))  # urlsplit lets none be an address in brackets
    scheme, _, kind = parts.scheme.partition("+")
    if (
        scheme not in ("redis", "rediss", "unix")
        or kind not in ("", "sentinel", "cluster")
        or (kind and scheme == "unix")
    ):
        raise ValueError(
            f"{parts.scheme}:// is no URL of Redis: give redis://, rediss://, unix://, redis+sentinel:// or redis+cluster://"
        )
    if not kind:
        found = dict(parse_url(url))
        where = str(found.get("path") or f"{found.get('host', 'localhost')}:{found.get('port', 6379)}")
        return (lambda: _single(dict(found), options)), f"{scheme}://{where}"
    user, _, places = hosted.rpartition("@")
    hosts = [_host(place, 26379 if kind == "sentinel" else 6379) for place in places.split(",")]
    path = unquote(parts.path).strip("/").split("/")
    query = dict(parse_qsl(parts.query))
    service = path.pop(0) if kind == "sentinel" else ""
    if kind == "sentinel" and not service:
        raise ValueError("name the service: redis+sentinel://host1,host2/service")
    if path and path[0]:
        query.setdefault("db", path[0])
    found = dict(parse_url(f"{scheme}://{user + '@' if user else ''}host?{urlencode(query)}"))
    secure = found.pop("connection_class", None) is SSLConnection
    del found["host"]
    where = f"{parts.scheme}://{places}" + (f"/{service}" if service else "")
    if kind == "sentinel":
        return (lambda: _sentinel(hosts, service, {**found, "ssl": secure}, options)), where
    return (lambda: _cluster(hosts, {**found, "ssl": secure}, options)), where


def _host(place: str, port: int) -> tuple[str, int]:
    match = _HOST.fullmatch(place)
    if match is None:
        raise ValueError(f"{place!r} is no host: give names or addresses, with a port or without, separated by commas")
    return match["six"] or match["name"], int(match["port"] or port)


def _single(found: dict[str, Any], options: ClientOptions) -> Redis:
    pool = ConnectionPool(
        max_connections=options.max_connections + _SPARE_CONNECTIONS,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **options.arguments() | found,
    )
    return Redis.from_pool(pool)


def _sentinel(hosts: list[tuple[str, int]], service: str, found: dict[str, Any], options: ClientOptions) -> Redis:
    basic = options.arguments()
    tls = {name: value for name, value in found.items() if name.startswith("ssl")}
    sentinel = Sentinel(hosts, sentinel_kwargs=basic | tls)  # type: ignore[no-untyped-call]
    client: Redis = sentinel.master_for(
        service,
        max_connections=options.max_connections + _SPARE_CONNECTIONS,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **basic | found,
    )
    return client


def _cluster(hosts: list[tuple[str, int]], found: dict[str, Any], options: ClientOptions) -> RedisCluster:
    arguments = options.arguments()
    del arguments["health_check_interval"]
    return RedisCluster(
        startup_nodes=[ClusterNode(*host) for host in hosts],
        max_connections=options.max_connections + _SPARE_CONNECTIONS,
        require_full_coverage=False,
        reinitialize_steps=0,  # else every fifth slot that has moved closes all connections, whoever uses them
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
        **arguments | found,
    )


def clients_from(client: Client) -> Clients:
    """For a client that is its owner's. ConfigurationError for one that a cache must not use."""
    retry: Retry | None
    if isinstance(client, RedisCluster):
        retry, encoder, arguments = client.retry, client.encoder, client.connection_kwargs
        most = arguments["max_connections"]
    elif isinstance(client, Redis):
        retry, encoder = client.get_retry(), client.get_encoder()  # type: ignore[no-untyped-call]
        arguments, most = client.connection_pool.connection_kwargs, client.connection_pool.max_connections
    else:
        raise ConfigurationError(
            f"RedisStore({type(client).__name__}()): give a client of redis.asyncio, or use RedisStore.from_url"
        )
    if retry is not None and retry.get_retries() > 0:
        raise ConfigurationError(
            "RedisStore(client): it repeats failed commands, which holds up requests while the server hangs; "
            "make it with retry=Retry(NoBackoff(), 0), or use RedisStore.from_url"
        )
    if encoder.decode_responses:
        raise ConfigurationError("RedisStore(client): entries are bytes; make the client with decode_responses=False")
    if arguments.get("socket_timeout", 0) is None:  # left out, it is 5 seconds
        raise ConfigurationError(
            "RedisStore(client): it waits for ever for a server that hangs; make it with socket_timeout=0.25"
        )
    if most <= _SPARE_CONNECTIONS:
        raise ConfigurationError(
            f"RedisStore(client): max_connections={most} is too few for a cache, which keeps one for lookups, one to "
            f"tell other machines and two to listen; allow {_SPARE_CONNECTIONS + 1} or more"
        )
    notifications = arguments.get("maint_notifications_config")
    if notifications is not None and notifications.enabled:
        raise ConfigurationError(
            "RedisStore(client): with maintenance notifications a connection can give the answer to another command; "
            "make it with maint_notifications_config=MaintNotificationsConfig(enabled=False), or with protocol=2"
        )
    return _Lent(client)


class _Lent(Clients):
    """Somebody else's client: never closed."""

    def __init__(self, client: Client) -> None:
        super().__init__(lambda: client, "client")

    async def aclose(self) -> None:
        """It is its owner's."""
