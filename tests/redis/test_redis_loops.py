"""Lookups over every kind of loop and connection: what is read into one buffer, and a connection that changes hands."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from glasscache._entry import Entry
from glasscache._lease import Claim
from glasscache.errors import StoreError
from glasscache.stores import _redis_server
from glasscache.stores._redis_scripts import send
from glasscache.stores.redis import RedisStore
from glasscache.testing import entry
from tests.support.certificates import certificate
from tests.support.chaos_proxy import ChaosProxy
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")

SIZES = (0, 3, 1_000, 65_536, 100_000, 400_000)
"""Bytes of answers that are read in one piece, in several, and that are opened in a thread."""


@asynccontextmanager
async def url_of(kind: str, folder: Path) -> AsyncIterator[str]:
    """Of a server, over TLS, TCP or a Unix socket."""
    with RedisProcess(folder, f"unixsocket {folder}/s") as server:
        if kind == "tls":
            trusted, context = certificate(folder, "trusted")
            async with ChaosProxy(server.port, tls=context) as proxy:
                yield f"rediss://127.0.0.1:{proxy.port}?ssl_ca_certs={trusted}"
        else:
            yield f"unix://{folder}/s" if kind == "unix" else f"redis://127.0.0.1:{server.port}"


async def glances(store: RedisStore, keys: list[bytes]) -> list[Entry | StoreError | None]:
    """What is told, of all in one turn of the loop."""
    while store._batches.near(keys[0]) is None:  # so says the last connection, however busy the machine was
        await store.look(keys[0], Claim())
    loop = asyncio.get_running_loop()
    answers: list[asyncio.Future[Entry | StoreError | None]] = [loop.create_future() for _ in keys]
    for key, answer in zip(keys, answers, strict=True):
        assert store.glance(key, answer.set_result)
    return [await answer for answer in answers]


@pytest.mark.parametrize("kind", ["tcp", "tls", "unix"])
@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_answers_of_any_size_are_told_and_the_connection_then_serves_the_client_itself(
    loop: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with url_of(kind, tmp_path) as url:
            store = RedisStore.from_url(url, prefix="p", compression="none", **UNHURRIED)
            now, bodies = store._now(), [os.urandom(size) for size in SIZES for _ in range(20)]
            keys = [b"%d" % number for number in range(len(bodies))]
            for key, body in zip(keys, bodies, strict=True):
                await store.set(key, entry(body, born=now, fresh_until=now + 600.0, settled_until=now + 600.0))
            for _ in range(3):
                found = await glances(store, keys)
                assert [one.body for one in found if isinstance(one, Entry)] == bodies
            monkeypatch.setattr(_redis_server, "_KEPT", 0.0)
            for key, body in zip(keys, bodies, strict=True):  # over a connection that goes back to its pool each time
                (one,) = await glances(store, [key])
                assert isinstance(one, Entry)
                assert one.body == body
                assert body in await send(store._clients(), "GET", store._glances.name(key))
            await store.aclose()

    async def in_time() -> None:
        async with asyncio.timeout(PATIENCE):
            await scenario()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(in_time())
