"""A connection that calls share: each gets its own answer, and whatever is odd about it ends it for all."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected

from glasscache.errors import StoreError
from glasscache.stores import _redis_server
from glasscache.stores._redis_batches import Batches
from glasscache.stores._redis_clients import ClientOptions, Clients, clients_from, clients_of
from glasscache.stores._redis_scripts import Command, Peek, Script
from tests.support.chaos_proxy import ChaosProxy, Faults
from tests.support.patience import PATIENCE
from tests.support.redis_process import RedisProcess, cluster_options

pytestmark = pytest.mark.usefixtures("no_leaks")

ECHO = Script("return ARGV[1]")
FAULTY = Script("return redis.error_reply('ERR it is an error')")
GET, SET, PEEK = Command("GET"), Command("SET"), Peek()
Talk = Callable[[int, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def clients(url: str) -> Clients:
    return clients_of(url, ClientOptions(connect_timeout=PATIENCE, timeout=PATIENCE, max_connections=16, protocol=2))


@asynccontextmanager
async def batches_at(url: str, limit: int = 16) -> AsyncIterator[tuple[Batches, Any]]:
    """And the client that they use."""
    who = clients(url)
    batches = Batches(who, limit)
    try:
        async with asyncio.timeout(PATIENCE):
            yield batches, who()
    finally:
        await batches.aclose(1.0)
        await who.aclose()


@asynccontextmanager
async def scripted(talk: Talk) -> AsyncIterator[str]:
    """A server whose connections, counted from 1, do what `talk` does."""
    count = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        with suppress(ConnectionError):
            await talk(count, reader, writer)
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def until(wanted: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not wanted():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)


def idle(client: Redis) -> list[Any]:
    """The connections that the client has, and nobody uses."""
    return client.connection_pool._available_connections


@pytest.mark.parametrize("odd", [b"+unasked\r\n", b"no RESP at all\r\n"])
def test_what_nobody_asked_for_ends_the_connection_and_is_given_to_nobody(odd: bytes) -> None:
    async def talk(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"+%d\r\n" % number + odd * (number == 1))

    async def scenario() -> None:
        async with scripted(talk) as url, batches_at(url) as (batches, _client):
            assert await batches.call(GET, [b"k"], []) == b"1"
            while (answer := await batches.call(GET, [b"k"], [])) != b"2":
                assert answer == b"1"

    asyncio.run(scenario())


def test_what_is_told_to_all_is_no_answer() -> None:
    async def talk(_number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b">2\r\n+invalidate\r\n*0\r\n+mine\r\n")

    async def scenario() -> None:
        async with scripted(talk) as url, batches_at(url) as (batches, _client):
            assert await batches.call(GET, [b"k"], []) == b"mine"

    asyncio.run(scenario())


def test_a_server_that_is_loading_fails_all_that_share_the_connection() -> None:
    async def talk(_number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"-LOADING Redis is loading the dataset in memory\r\n")

    async def scenario() -> None:
        async with scripted(talk) as url, batches_at(url) as (batches, _client):
            for failed in await asyncio.gather(
                *[batches.call(GET, [b"k"], []) for _ in range(3)], return_exceptions=True
            ):
                assert isinstance(failed, StoreError)
                assert "BusyLoadingError" in str(failed)

    asyncio.run(scenario())


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_connection_that_a_server_closes_or_resets_is_one_kind_of_error(is_reset: bool) -> None:
    async def talk(_number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        if is_reset:
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def scenario() -> None:
        async with scripted(talk) as url, batches_at(url) as (batches, _client):
            with pytest.raises(StoreError, match="reset by peer" if is_reset else "closed by server") as caught:
                await batches.call(GET, [b"k"], [])
            assert type(caught.value.__cause__) is Disconnected

    asyncio.run(scenario())


def test_nobody_waits_behind_a_large_answer_that_comes_slowly() -> None:
    size, half, rest = 400_000, asyncio.Event(), asyncio.Event()

    async def talk(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            if number == 1:
                writer.write(b"$%d\r\n" % size + bytes(size // 2))
                half.set()
                await rest.wait()
                writer.write(bytes(size - size // 2) + b"\r\n")
            else:
                writer.write(b"+small\r\n")

    async def scenario() -> None:
        async with scripted(talk) as url, batches_at(url) as (batches, client):
            large = batches.call(GET, [b"large"], [])
            await half.wait()
            (server,) = batches._house.servers.values()  # type: ignore[union-attr]
            (line,) = server._lines
            await until(lambda: line.room == 0)
            assert await batches.call(GET, [b"small"], []) == b"small"
            await until(lambda: len(idle(client)) == 1)  # what is not needed is given back
            rest.set()
            assert await large == bytes(size)
            assert line.room > 0

    asyncio.run(scenario())


def test_nobody_waits_behind_a_large_value_that_a_server_does_not_take() -> None:
    takes = asyncio.Event()
    size = 32 * 1024**2  # more than all buffers on the way hold

    async def talk(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if number == 1:
            await takes.wait()
        taken = b""
        while chunk := await reader.read(1024**2):
            taken = (taken + chunk)[-5:]
            if taken == b"end\r\n":
                writer.write(b"+%d\r\n" % number)

    async def scenario() -> None:
        async with scripted(talk) as url, batches_at(url) as (batches, _client):
            large = batches.call(SET, [b"large"], [bytes(size), b"end"])
            (server,) = batches._house.servers.values()  # type: ignore[union-attr]
            await until(lambda: server._lines and server._lines[0].room == 0)
            assert await batches.call(SET, [b"small"], [b"end"]) == b"2"
            takes.set()
            assert await large == b"1"
            (line,) = server._lines
            line.close(StoreError("for the test"))
            line.resume_writing()  # says a transport that had something left to write
            assert line.room == 0

    asyncio.run(scenario())


def test_a_connection_goes_back_to_its_pool_now_and_then(server: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_redis_server, "_KEPT", 0.0)

    async def scenario() -> None:
        async with batches_at(f"redis://127.0.0.1:{server.port}") as (batches, client):
            for _ in range(3):
                assert await batches.call(GET, [b"k"], []) is None
                await until(lambda: idle(client))
            (connection,) = idle(client)
            assert await client.get("asked by the client itself") is None
            assert idle(client) == [connection]

    asyncio.run(scenario())


@pytest.mark.parametrize("half", [b"$100\r\nabc", b":12", b">2\r\n+x\r\n"])
def test_a_connection_on_which_half_an_answer_is_left_over_is_not_given_back(
    half: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redis_server, "_KEPT", 0.0)

    async def talk(number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            writer.write(b"+%d\r\n" % number + half)

    async def scenario() -> None:
        async with scripted(talk) as url, batches_at(url) as (batches, _client):
            for number in (1, 2, 3):
                assert await batches.call(GET, [b"k"], []) == b"%d" % number

    asyncio.run(scenario())


def test_a_class_of_connections_that_does_not_show_its_stream_is_left_to_itself(server: RedisProcess) -> None:
    class Hidden:
        def __init__(self, writer: asyncio.StreamWriter) -> None:
            self._real = writer

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    class Own(Connection):
        _writer: Any

        async def _connect(self) -> None:
            await super()._connect()  # type: ignore[no-untyped-call]
            self._writer = Hidden(self._writer)

    async def scenario() -> None:
        options: dict[str, Any] = {"protocol": 2, "socket_timeout": PATIENCE, "retry": Retry(NoBackoff(), 0)}
        pool = ConnectionPool(connection_class=Own, port=server.port, driver_info=None, **options)
        client = Redis.from_pool(pool)
        batches = Batches(clients_from(client), 16)
        calls = [batches.call(ECHO, [b"k"], [b"%d" % number]) for number in range(20)]
        assert await asyncio.gather(*calls) == [b"%d" % number for number in range(20)]
        assert await batches.call(PEEK, [b"none"], []) == (-2, None)
        assert await batches.call(GET, [b"none"], []) is None
        await batches.aclose(1.0)
        await client.aclose()

    asyncio.run(scenario())


@asynccontextmanager
async def cluster_of_one(server: RedisProcess) -> AsyncIterator[tuple[Batches, RedisCluster]]:
    server.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    server.until_cluster_ok()
    async with batches_at(f"redis+cluster://127.0.0.1:{server.port}") as (batches, client):
        assert await batches.call(ECHO, [b"k"], [b"well"]) == b"well"
        yield batches, client


def test_a_connection_that_a_node_closed_while_nobody_used_it_is_made_anew(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_redis_server, "_KEPT", 0.0)

    async def scenario() -> None:
        with RedisProcess(tmp_path, *cluster_options()) as server:
            async with cluster_of_one(server) as (batches, client):
                (node,) = client.get_nodes()
                assert await batches.call(ECHO, [b"k"], [b"well"]) == b"well"
                await until(lambda: len(node._free) == len(node._connections))
                server.do("CLIENT", "KILL", "USER", "default", "SKIPME", "yes")
                await until(lambda: all(one._reader and one._reader.at_eof() for one in node._free))
                assert await batches.call(ECHO, [b"k"], [b"again"]) == b"again"

    asyncio.run(scenario())


def test_a_node_that_has_left_its_cluster_fails_its_calls(tmp_path: Any) -> None:
    async def scenario() -> None:
        with RedisProcess(tmp_path, *cluster_options()) as server:
            async with cluster_of_one(server) as (batches, client):
                await batches.aclose(1.0)
                call = batches.call(ECHO, [b"k"], [b"to whom?"])
                nodes = client.nodes_manager.nodes_cache
                known = dict(nodes)
                nodes.clear()
                with pytest.raises(StoreError, match="is no node of the cluster any more"):
                    await call
                nodes.update(known)  # to be closed

    asyncio.run(scenario())


def test_closing_ends_what_waits_for_a_cluster_that_does_not_say_who_serves_what(server: RedisProcess) -> None:
    async def scenario() -> None:
        async with ChaosProxy(server.port) as proxy:
            proxy.faults = Faults(drops_replies=True)
            async with batches_at(f"redis+cluster://127.0.0.1:{proxy.port}") as (batches, _client):
                calls = [batches.call(ECHO, [b"k"], [b"?"]) for _ in range(3)]
                await batches.aclose(0.01)
                for failed in await asyncio.gather(*calls, return_exceptions=True):
                    assert "closed" in str(failed)

    asyncio.run(scenario())


def test_closing_ends_what_a_node_does_not_answer(tmp_path: Any) -> None:
    async def scenario() -> None:
        with RedisProcess(tmp_path, *cluster_options()) as server:
            async with ChaosProxy(server.port) as proxy, cluster_of_one(server) as (batches, client):
                for _ in range(2):  # the server knows the script the second time
                    with pytest.raises(StoreError, match="it is an error"):
                        await batches.call(FAULTY, [b"k"], [])
                server.do("CONFIG", "SET", "cluster-announce-port", proxy.port)
                await client.nodes_manager.initialize()
                assert await batches.call(ECHO, [b"k"], [b"by the other way"]) == b"by the other way"
                proxy.faults = Faults(drops_replies=True)
                call = batches.call(ECHO, [b"k"], [b"?"])
                await batches.aclose(0.01)
                with pytest.raises(StoreError, match="closed"):
                    await call
                proxy.heal()

    asyncio.run(scenario())


def test_a_server_is_near_as_soon_as_an_answer_came_soon_and_not_while_they_take_long() -> None:
    distance = 0.01

    async def talk(_number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            await asyncio.sleep(distance)
            writer.write(b"+well\r\n")

    async def scenario() -> None:
        nonlocal distance
        async with scripted(talk) as url, batches_at(url) as (batches, client):

            def near() -> bool:
                return batches.near(b"k") is not None

            assert not near(), "nobody knows"
            for _ in range(17):
                await batches.call(GET, [b"k"], [])
            assert not near()
            distance = 0.0
            while not near():
                await batches.call(GET, [b"k"], [])
            distance = 0.01
            await client.connection_pool.disconnect()
            (server,) = batches._house.servers.values()  # type: ignore[union-attr]
            await until(lambda: not server._lines)
            await batches.call(GET, [b"k"], [])
            assert not near(), "it may have been another server"

    asyncio.run(scenario())
