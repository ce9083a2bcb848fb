"""Redis as a tier that machines share, on real servers."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.maint_notifications import MaintNotificationsConfig

from glasscache._clock import SystemClock
from glasscache._lease import Claim, Lease, Lookup
from glasscache.errors import ConfigurationError, StoreError, UnstorableError
from glasscache.interfaces import Bell, Clock, LeaseStore
from glasscache.stores._envelope import Envelope
from glasscache.stores.redis import RedisStore
from glasscache.testing import LeaseStoreContract, ManualClock, entry
from glasscache.testing._lease_contract import holder_of, lease_of
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess, cluster_options, least, sentinel_options

pytestmark = pytest.mark.usefixtures("no_leaks")

ACL = f"user glasscache on >s3cret resetchannels ~glasscache-* &glasscache-* -@all {' '.join(least())}"
_numbers = itertools.count()


def prefix() -> str:
    """Of a namespace that nobody else uses."""
    return f"glasscache-{os.getpid()}-{next(_numbers)}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    folder = tmp_path_factory.mktemp("redis")
    with RedisProcess(folder, f"unixsocket {folder}/s", ACL) as process:
        yield process


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A cluster of one node, which serves all slots."""
    with RedisProcess(tmp_path_factory.mktemp("cluster"), *cluster_options()) as process:
        process.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        process.until_cluster_ok()
        yield process


@pytest.fixture(scope="module")
def sentinel(server: RedisProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """One that says that `server` is the primary of the service knowledge."""
    options = sentinel_options("knowledge", server.port)
    with RedisProcess(tmp_path_factory.mktemp("sentinel"), *options, sentinel=True) as process:
        yield process


class OverRedis(LeaseStoreContract):
    """By a URL."""

    tolerance = 20.0  # milliseconds on the server, and the time that a busy machine takes between two steps
    options: dict[str, Any] = {}  # noqa: RUF012 - read only
    server: RedisProcess

    @pytest.fixture(autouse=True)
    def _on_server(self, server: RedisProcess) -> None:
        self.server = server

    @cached_property
    def clock(self) -> Clock:
        return SystemClock()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server.port}"

    def make_stores(self, count: int) -> Sequence[LeaseStore]:
        name = prefix()
        options = UNHURRIED | {"lease_seconds": 60.0} | self.options
        return [RedisStore.from_url(self.url, prefix=name, **options) for _ in range(count)]

    async def ready(self, store: LeaseStore, bell: Bell) -> None:
        assert await bell.rung(PATIENCE), "a new subscription rings: something may have been missed"


class TestResp3(OverRedis):
    pass


class TestResp2AndEncryption(OverRedis):
    options = {"protocol": 2, "secrets": ["a secret that is for tests only, 0123"], "compression": "zlib"}  # noqa: RUF012


class TestUnixSocketAndMinimalAcl(OverRedis):
    @property
    def url(self) -> str:
        return f"unix://glasscache:s3cret@{self.server._folder.parent}/s"


class TestCluster(OverRedis):
    @pytest.fixture(autouse=True)
    def _on_server(self, cluster: RedisProcess) -> None:
        self.server = cluster

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.server.port}"


class TestSentinel(OverRedis):
    @pytest.fixture(autouse=True)
    def _on_server(self, server: RedisProcess, sentinel: RedisProcess) -> None:
        self.server = server
        self.sentinel = sentinel

    @property
    def url(self) -> str:
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/knowledge"


class TestClientOfAnOwner(OverRedis):
    """Which is given back open."""

    def make_stores(self, count: int) -> Sequence[LeaseStore]:
        name = prefix()
        return [RedisStore(self.server.client(), prefix=name) for _ in range(count)]

    def run_machines(self, count: int, scenario: Any) -> None:
        async def with_clients(*stores: RedisStore) -> None:
            try:
                await scenario(*stores)
            finally:
                for store in stores:
                    await store.aclose()
                    client = store._clients()
                    assert await client.ping()
                    await client.aclose()

        super().run_machines(count, with_clients)

    def run(self, scenario: Any) -> None:
        self.run_machines(1, scenario)


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def store_of(server: RedisProcess, **options: Any) -> RedisStore:
    return RedisStore.from_url(f"redis://127.0.0.1:{server.port}", **UNHURRIED | {"prefix": prefix()} | options)


def keys_of(server: RedisProcess, store: RedisStore) -> list[bytes]:
    found: list[bytes] = server.do("KEYS", f"{store._prefix}:*")
    return sorted(found)


# --- what is on the server --------------------------------------------------------------------------------------------


def test_no_key_outlives_its_entry_and_all_of_one_entry_share_a_slot(server: RedisProcess) -> None:
    async def scenario() -> None:
        store = store_of(server)
        await lease_of(store, key=b"k")
        await holder_of(store, key=b"k")
        await store.set(b"k", live(300.0))
        await lease_of(store, key=b"r")
        await store.release(b"r", await stolen_lease(store, b"r"), refuse_for=90.0)
        keys = keys_of(server, store)
        tag = b"{6b}"
        assert {key.rsplit(b":", 1)[1] for key in keys if tag in key} == {b"e", b"l", b"q"}
        assert all(0 < server.do("PTTL", key) <= 600_000 for key in keys)
        assert b"k" not in server.do("GET", keys[0]).split(b"\n")[0]
        await store.aclose()

    run(scenario)


async def stolen_lease(store: RedisStore, key: bytes) -> Any:
    """As if `store` had been granted it: the same token."""
    holder = await holder_of(store, key=key)
    look = await store.look(key, Claim())
    assert look.holder is not None
    return Lease(token=holder.token, seconds=1.0)


def live(seconds: float, **changes: Any) -> Any:
    now = SystemClock().now()
    return entry(**{"born": now, "fresh_until": now + seconds, "settled_until": now + seconds} | changes)


def test_what_is_dead_already_is_not_stored_and_its_lease_is_given_back(server: RedisProcess) -> None:
    async def scenario() -> None:
        store = store_of(server)
        await store.set(b"k", live(-1.0))
        assert await store.commit(b"k", await lease_of(store, key=b"k"), live(-1.0)) == ()
        await lease_of(store, key=b"k")
        assert await store.get(b"k") is None
        await store.aclose()

    run(scenario)


def test_nothing_lives_longer_than_the_tier_lets_it(server: RedisProcess) -> None:
    async def scenario() -> None:
        store = store_of(server, max_ttl=200.0)
        await store.set(b"k", live(300.0, stale_if_error=600.0))
        assert 100_000 < server.do("PTTL", keys_of(server, store)[0]) <= 200_000
        look = await store.look(b"k", Claim())
        assert look.entry is not None
        assert look.lease is not None
        await store.aclose()

    run(scenario)


def test_an_entry_that_is_too_large_is_refused_and_its_lease_given_back(server: RedisProcess) -> None:
    async def scenario() -> None:
        store = store_of(server, max_entry_bytes=1000)
        lease = await lease_of(store, key=b"k")
        with pytest.raises(UnstorableError, match="larger than this store keeps"):
            await store.commit(b"k", lease, live(90.0, body=bytes(100_000)))
        await lease_of(store, key=b"k")
        await store.aclose()

    run(scenario)


@pytest.mark.parametrize("junk", [b"", b"junk", b"0 0 0\njunk", b"0 0 0\nGC\x01\x00" + bytes(40)])
def test_bytes_that_are_no_entry_are_deleted_and_counted_and_the_lease_is_granted(
    server: RedisProcess, junk: bytes
) -> None:
    async def scenario() -> None:
        store = store_of(server)
        await store.set(b"k", live(90.0))
        (key,) = keys_of(server, store)
        server.do("SET", key, junk, "PX", 60_000)
        await lease_of(store, key=b"k")
        assert store.rejected.total() == 1
        assert server.do("EXISTS", key) == 0
        server.do("SET", key, junk)  # without an end
        assert await store.get(b"k") is None
        await store.aclose()

    run(scenario)


@pytest.mark.parametrize("junk", [b"junk", b"7|x|y|z"])
def test_a_lease_that_is_none_is_taken_over(server: RedisProcess, junk: bytes) -> None:
    async def scenario() -> None:
        store = store_of(server)
        await lease_of(store, key=b"k")
        (key,) = keys_of(server, store)
        server.do("SET", key, junk, "PX", 60_000)
        await lease_of(store, key=b"k")
        await store.aclose()

    run(scenario)


def test_tokens_rise_even_if_the_servers_clock_goes_back(server: RedisProcess) -> None:
    async def scenario() -> None:
        store = store_of(server)
        await lease_of(store, key=b"k")
        (key,) = keys_of(server, store)
        future = 2**52
        server.do("SET", key, f"{future}||machine|0|0", "PX", 60_000)
        assert (await lease_of(store, Claim(number=1, newer_than=1), key=b"k")).token == future + 1
        await store.aclose()

    run(scenario)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_full_server_refuses_the_answer_and_takes_the_lease_back(server: RedisProcess) -> None:
    async def scenario() -> None:
        store = store_of(server)
        lease = await lease_of(store, key=b"k")
        server.do("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(StoreError, match="OOM"):
                await store.commit(b"k", lease, live(90.0))
        finally:
            server.do("CONFIG", "SET", "maxmemory", 0)
        await lease_of(store, key=b"k")
        await store.aclose()

    run(scenario)


def test_an_answer_that_means_nothing_is_a_store_error(server: RedisProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        store = store_of(server)

        async def nonsense(*_: object) -> object:
            return [b"hello", None, -1]

        monkeypatch.setattr(store, "_run", nonsense)
        with pytest.raises(StoreError, match="means nothing: b'hello'"):
            await store.look(b"k", Claim())
        await store.aclose()

    run(scenario)


def test_a_server_that_is_not_there_is_a_store_error_within_the_time_limit() -> None:
    async def scenario() -> None:
        store = RedisStore.from_url("redis://127.0.0.1:1")
        with pytest.raises(StoreError, match="ConnectionError"):
            await store.get(b"k")
        await store.aclose()

    run(scenario)


def test_a_store_serves_one_event_loop_after_the_other(server: RedisProcess) -> None:
    store = store_of(server)

    async def scenario() -> None:
        await store.set(b"k", live(90.0))
        assert await store.get(b"k") is not None
        await store.aclose()

    run(scenario)
    run(scenario)


# --- what can be set --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://user:s3cret@host:1/2", "redis://host:1"),
        ("redis://", "redis://localhost:6379"),
        ("rediss://:s3cret@host?ssl_cert_reqs=none", "rediss://host:6379"),
        ("unix://:s3cret@/run/redis.sock?db=1", "unix:///run/redis.sock"),
        ("redis+sentinel://u:s3cret@a,b:1/service/3", "redis+sentinel://a,b:1/service"),
        ("rediss+sentinel://a/service?ssl_cert_reqs=none", "rediss+sentinel://a/service"),
        ("redis+cluster://:s3cret@a:1,[::1]:2", "redis+cluster://a:1,[::1]:2"),
        ("rediss+cluster://a?ssl_cert_reqs=none", "rediss+cluster://a"),
        ("redis+cluster://[::1],[::2]:2/", "redis+cluster://[::1],[::2]:2"),
    ],
)
def test_every_form_of_url_is_understood_and_no_password_shown(url: str, where: str) -> None:
    store = RedisStore.from_url(url, prefix="p")
    assert repr(store) == f"<RedisStore {where} prefix='p'>"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://host", "http:// is no URL of Redis"),
        ("redis+other://host", "is no URL of Redis"),
        ("unix+cluster:///s", "is no URL of Redis"),
        ("redis+sentinel://a,b", "name the service"),
        ("redis+cluster://a:b", "'a:b' is no host"),
        ("redis+cluster:a", "'' is no host"),
        ("redis://host?no_such_option=1", "no_such_option"),
        ("redis://user:s3cret@host:port", "port"),
    ],
)
def test_a_url_that_cannot_work_is_refused_at_once(url: str, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as caught:
        RedisStore.from_url(url)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"prefix": ""}, "give some characters, without braces"),
        ({"prefix": "a{b"}, "give some characters, without braces"),
        ({"lease_seconds": 0.01}, "lease_seconds=0.01.: give 0.05 seconds or more"),
        ({"max_ttl": 0}, "max_ttl=0.: give 0.001 seconds or more, or None"),
        ({"memo_bytes": -1}, "memo_bytes=-1.: give a whole number, or 0 for none"),
        ({"memo_bytes": True}, "memo_bytes=True.: give a whole number, or 0 for none"),
        ({"memo_bytes": 1e6}, "memo_bytes=1000000.0.: give a whole number, or 0 for none"),
        ({"timeout": 0}, "timeout=0.: give a number above 0"),
        ({"max_connections": 0}, "max_connections=0.: give a number above 0"),
        ({"protocol": 4}, "protocol=4.: give 2 or 3"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_its_name(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        RedisStore.from_url("redis://host", **options)


def test_a_client_that_a_cache_must_not_use_is_refused_with_the_remedy() -> None:
    quiet, silent = Retry(NoBackoff(), 0), MaintNotificationsConfig(enabled=False)
    nodes = [ClusterNode("host", 1)]
    for client, told in (
        (Redis(), "it repeats failed commands"),
        (RedisCluster(startup_nodes=nodes), "it repeats failed commands"),
        (Redis(retry=quiet, decode_responses=True), "decode_responses=False"),
        ("redis://host", "give a client of redis.asyncio"),
        (Redis(retry=quiet, socket_timeout=None), "socket_timeout=0.25"),
        (RedisCluster(startup_nodes=nodes, retry=quiet, socket_timeout=None), "socket_timeout=0.25"),
        (Redis(retry=quiet, max_connections=4), "max_connections=4 is too few .* allow 5 or more"),
        (RedisCluster(startup_nodes=nodes, retry=quiet, max_connections=4), "allow 5 or more"),
        (Redis(retry=quiet), r"MaintNotificationsConfig\(enabled=False\), or with protocol=2"),
        (RedisCluster(startup_nodes=nodes, retry=quiet), r"MaintNotificationsConfig\(enabled=False\)"),
    ):
        with pytest.raises(ConfigurationError, match=told):
            RedisStore(client)  # type: ignore[arg-type]
    RedisStore(Redis(retry=quiet, protocol=2))
    RedisStore(Redis(retry=quiet, maint_notifications_config=silent))
    RedisStore(Redis.from_url("redis://host", retry=quiet, maint_notifications_config=silent))
    RedisStore(RedisCluster(startup_nodes=nodes, retry=quiet, maint_notifications_config=silent))
    sentinel = Sentinel([("host", 1)])  # type: ignore[no-untyped-call]
    RedisStore(sentinel.master_for("service", retry=quiet, protocol=2))


def test_times_do_not_depend_on_this_machines_clock(server: RedisProcess) -> None:
    async def scenario() -> None:
        name = prefix()
        early, late = (store_of(server, prefix=name, clock=ManualClock(now, 0.0)) for now in (5.0, 1e6))
        await early.set(b"k", entry(born=5.0, fresh_until=605.0, settled_until=600.0))
        found = await late.get(b"k")
        assert found is not None
        assert 1e6 + 500 < found.fresh_until <= 1e6 + 600
        assert found.fresh_until - found.settled_until == pytest.approx(5.0)
        await early.aclose()
        await late.aclose()

    run(scenario)


def test_what_is_left_is_counted_from_before_the_question_however_long_the_answer_takes(server: RedisProcess) -> None:
    async def scenario() -> None:
        clock = ManualClock(100.0, 0.0)
        store = store_of(server, prefix=prefix(), clock=clock)
        await store.set(b"k", entry(born=100.0, fresh_until=700.0, settled_until=700.0))
        for ask in (store.look(b"k", Claim()), store.get(b"k")):
            begun, asked = clock.now(), asyncio.ensure_future(ask)
            await asyncio.sleep(0)
            clock.advance(50.0)
            answer = await asked
            found = answer.entry if isinstance(answer, Lookup) else answer
            assert found is not None
            assert 500.0 < found.fresh_until - begun <= 600.0
        await store.aclose()

    run(scenario)


def test_a_folder_for_sockets_is_short_enough(tmp_path: Path) -> None:
    assert len(str(tmp_path)) < 90, "unix sockets have short names"


@pytest.mark.parametrize("cancelled", [False, True])
def test_a_large_entry_is_packed_and_unpacked_off_the_loop_and_kept_whoever_leaves(
    server: RedisProcess, cancelled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[str, set[int]] = {"seal": set(), "open": set()}

    def watched(name: str) -> Any:
        real = getattr(Envelope, name)

        def watching(*arguments: Any, **named: Any) -> Any:
            threads[name].add(threading.get_ident())
            return real(*arguments, **named)

        return watching

    for name in threads:
        monkeypatch.setattr(Envelope, name, watched(name))

    async def scenario() -> None:
        store, body = store_of(server), os.urandom(300_000)
        lease = await lease_of(store, key=b"k")
        task = asyncio.create_task(store.commit(b"k", lease, live(300.0, chunks=(body,))))
        await asyncio.sleep(0)
        if cancelled:
            task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled() is cancelled
        async with asyncio.timeout(PATIENCE):
            while (found := await store.get(b"k")) is None:
                pass
        assert found.body == body
        await store.aclose()

    asyncio.run(scenario())
    assert all(threads.values())
    assert threading.get_ident() not in threads["seal"] | threads["open"]


def test_a_child_of_a_fork_talks_over_connections_of_its_own(server: RedisProcess) -> None:
    store, key, body = store_of(server), b"k", b"of the parent"

    async def look(times: int) -> None:
        for _ in range(times):
            found = await asyncio.gather(*(store.get(key) for _ in range(8)))
            assert [entry and entry.body for entry in found] == [body] * 8

    async def keep() -> None:
        now = store._now()
        await store.set(key, entry(body, born=now, fresh_until=now + 600.0, settled_until=now + 600.0))
        await look(1)

    async def look_and_close() -> None:
        await look(50)
        await store.aclose()

    with asyncio.Runner() as parent:
        parent.run(keep())
        child = os.fork()
        if child == 0:  # pragma: no cover - of another process
            gc.disable()  # what the parent still uses is not the child's to close
            code = 1
            try:
                asyncio.run(look_and_close())
                code = 0
            finally:
                os._exit(code)
        parent.run(look_and_close())
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


FORKS = """
import asyncio, os, sys
from glasscache import RedisStore
from glasscache._lease import Claim
from glasscache.testing._backplane_contract import Ear
from tests.support.redis_process import UNHURRIED

store = RedisStore.from_url(sys.argv[1], prefix=sys.argv[2], **UNHURRIED)  # as gunicorn --preload does
taken, heard = os.pipe(), os.pipe()

async def child():
    ear = Ear()
    await store.backplane.start(ear)
    await ear.until(lambda: ear.hears)
    assert (await store.look(bytes(16), Claim(reclaims=True))).lease is not None
    os.write(taken[1], b"x")
    await ear.until_marked("told by the parent")
    await store.backplane.aclose()
    await store.aclose()
    os.write(heard[1], b"x")

async def parent():
    await asyncio.to_thread(os.read, taken[0], 1)
    look = await store.look(bytes(16), Claim(reclaims=True))
    assert look.holder is not None and look.holder.machine != store.machine, look
    await store.backplane.mark(["told by the parent"], everything=False, seen=0, source=None)
    await asyncio.to_thread(os.read, heard[0], 1)
    await store.backplane.aclose()
    await store.aclose()

number = os.fork()
asyncio.run(child() if number == 0 else parent())
if number:
    assert os.waitpid(number, 0)[1] == 0
"""


def test_the_children_of_a_fork_are_machines_of_their_own(server: RedisProcess) -> None:
    url = f"redis://127.0.0.1:{server.port}"
    subprocess.run([sys.executable, "-c", FORKS, url, prefix()], check=True, timeout=PATIENCE)
