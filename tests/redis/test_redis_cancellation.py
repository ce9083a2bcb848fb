"""Requests that are cancelled all the time: nobody gets another's value, and no connection is lost."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest

from glasscache.stores.redis import RedisStore
from glasscache.testing import entry
from tests.support import cancellation
from tests.support.cancellation import KEYS, value_of, wrong_values
from tests.support.chaos_proxy import ChaosProxy, Faults
from tests.support.redis_process import UNHURRIED, RedisProcess, cluster_options, sentinel_options

pytestmark = pytest.mark.usefixtures("no_leaks")

CONNECTIONS = 16
operations = pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.soak)])


def sentinel_before(port: int, folder: Path) -> RedisProcess:
    """A sentinel that sends clients to this port, once it is started."""
    return RedisProcess(folder, *sentinel_options("knowledge", port, down_after_milliseconds=60_000), sentinel=True)


@asynccontextmanager
async def reached(kind: str, folder: Path) -> AsyncIterator[tuple[str, ChaosProxy, RedisProcess]]:
    """A server that clients of this kind reach through a proxy: its URL, the proxy, the server."""
    options = cluster_options() if kind == "cluster" else ()
    with RedisProcess(folder, *options) as server:
        async with ChaosProxy(server.port) as proxy:
            if kind == "cluster":
                await asyncio.to_thread(server.do, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                await asyncio.to_thread(server.until_cluster_ok)
                await asyncio.to_thread(server.do, "CONFIG", "SET", "cluster-announce-port", proxy.port)
                yield f"redis+cluster://127.0.0.1:{proxy.port}", proxy, server
            elif kind == "sentinel":
                with ExitStack() as stack:  # a sentinel looks for its server at once: through the proxy, in this loop
                    sentinel = await asyncio.to_thread(stack.enter_context, sentinel_before(proxy.port, folder))
                    yield f"redis+sentinel://127.0.0.1:{sentinel.port}/knowledge", proxy, server
            else:
                yield f"redis://127.0.0.1:{proxy.port}", proxy, server


@operations
@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("kind", ["pool", "sentinel", "cluster"])
def test_nobody_gets_the_value_of_another_and_no_connection_is_lost(
    kind: str, protocol: int, count: int, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with reached(kind, tmp_path) as (url, proxy, server):
            store = RedisStore.from_url(url, prefix="p", **UNHURRIED, protocol=protocol, max_connections=CONNECTIONS)
            now = store._now()
            for key in range(KEYS):
                await store.set(
                    bytes([key]), entry(value_of(key), born=now, fresh_until=now + 900.0, settled_until=now + 890.0)
                )
            proxy.faults = Faults(delay=0.003)

            async def read(key: int) -> bytes | None:
                found = await store.get(bytes([key]))
                return None if found is None else found.body

            wrong = await wrong_values(read, count)
            print(f"{kind}, RESP{protocol}: {len(wrong)} wrong values of {count:,} operations")
            assert wrong == []
            proxy.heal()
            assert await asyncio.gather(*(read(key) for key in range(KEYS))) == [value_of(key) for key in range(KEYS)]
            clients = await asyncio.to_thread(server.do, "CLIENT", "LIST", "TYPE", "normal")
            connections = clients.count(b"\n")
            print(f"connections afterwards: {connections}, at most {CONNECTIONS} and some of others")
            assert connections <= CONNECTIONS + 6, "and a sentinel's, and this one's own"
            await store.aclose()

    asyncio.run(scenario())


@pytest.mark.soak
def test_the_harness_finds_what_was_wrong_with_redis_py_4_5_1(tmp_path: Path) -> None:
    async def scenario() -> int:
        async with reached("pool", tmp_path) as (_, proxy, _):
            proxy.faults = Faults(delay=0.003)
            program = [cancellation.__file__, str(proxy.port), "20000"]
            uv = Path(sys.executable).with_name("uv")
            process = await asyncio.create_subprocess_exec(
                uv, "run", "--no-project", "--with", "redis==4.5.1", "--python", sys.executable, "python", *program,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            printed, complaints = await process.communicate()
            assert process.returncode == 0, complaints.decode()
            return int(printed)

    wrong = asyncio.run(scenario())
    print(f"redis-py 4.5.1: {wrong} wrong values of 20,000 operations")
    assert wrong > 0
