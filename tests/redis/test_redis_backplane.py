"""Invalidations between machines over real servers: numbers, what is kept, what is lost and how that is noticed."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis, RedisCluster

from glasscache.errors import StoreError
from glasscache.interfaces import Backplane
from glasscache.stores._messages import MAX_NUMBER
from glasscache.stores._redis_backplane import MAX_TAGS, RedisBackplane
from glasscache.stores.redis import RedisStore
from glasscache.testing import BackplaneContract, ManualClock
from glasscache.testing._backplane_contract import Ear
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess, cluster_options

pytestmark = pytest.mark.usefixtures("no_leaks")
_prefixes = count()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    """A cluster of one node, which serves all slots."""
    with RedisProcess(tmp_path_factory.mktemp("cluster"), *cluster_options()) as process:
        process.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        process.until_cluster_ok()
        yield process


def machine(client: Redis | RedisCluster, number: int, prefix: str, **options: Any) -> RedisBackplane:
    return RedisBackplane(lambda: client, machine=f"machine {number}", prefix=prefix, **options)


class OverRedis(BackplaneContract):
    protocol = 2
    server: RedisProcess

    @pytest.fixture(autouse=True)
    def _on_server(self, server: RedisProcess) -> None:
        self.server = server

    def make_client(self) -> Redis | RedisCluster:
        return self.server.client(self.protocol)

    def make_backplanes(self, count: int) -> Sequence[Backplane]:
        prefix = f"p{next(_prefixes)}"
        self.clients = [self.make_client() for _ in range(count)]
        return [machine(client, number, prefix) for number, client in enumerate(self.clients)]

    async def release(self) -> None:
        for client in self.clients:
            await client.aclose()


class TestOverResp2(OverRedis):
    pass


class TestOverResp3(OverRedis):
    protocol = 3


class TestUnderTheMinimalAcl(OverRedis):
    """What the server must allow, and nothing else."""

    COMMANDS = (
        *("evalsha", "eval", "time", "hsetnx", "hmget", "hset", "del", "exists"),
        *("zadd", "zcard", "zpopmin", "zrangebyscore", "publish", "subscribe", "ping"),
    )

    def make_client(self) -> Redis | RedisCluster:
        allowed = [f"+{command}" for command in self.COMMANDS]
        keys_and_channels = ("resetkeys", "~p*:{ns}:[nm]", "resetchannels", "&p*:bus")
        self.server.do("ACL", "SETUSER", "least", "on", "nopass", "-@all", *allowed, *keys_and_channels)
        return self.server.client(username="least", password="any")


class TestOverACluster(OverRedis):
    protocol = 3

    @pytest.fixture(autouse=True)
    def _on_server(self, cluster: RedisProcess) -> None:
        self.server = cluster

    def make_client(self) -> Redis | RedisCluster:
        return self.server.cluster_client(self.protocol)


# --- faults -----------------------------------------------------------------------------------------------


class Site:
    """Machines of one namespace on a server of the test's own."""

    def __init__(self, server: RedisProcess, prefix: str, make_client: Callable[[], Redis | RedisCluster]) -> None:
        self.server = server
        self.prefix = prefix
        self.bus = f"{prefix}:bus"
        self.numbers = f"{prefix}:{{ns}}:n"
        self.markers = f"{prefix}:{{ns}}:m"
        self._make_client = make_client
        self._open: list[tuple[RedisBackplane, Redis | RedisCluster]] = []

    def join(self, **options: Any) -> RedisBackplane:
        """One more machine."""
        client = self._make_client()
        backplane = machine(client, len(self._open), self.prefix, **options)
        self._open.append((backplane, client))
        return backplane

    async def join_hearing(self, **options: Any) -> tuple[RedisBackplane, Ear]:
        """One more machine that listens."""
        backplane, ear = self.join(**options), Ear()
        await backplane.start(ear)
        await ear.until(lambda: ear.hears)
        ear.told.clear()
        return backplane, ear

    async def close(self) -> None:
        for backplane, client in self._open:
            await backplane.aclose()
            await client.aclose()


Scenario = Callable[[Site], Awaitable[None]]


def on(server: RedisProcess, scenario: Scenario, make_client: Callable[[], Redis | RedisCluster] | None = None) -> None:
    async def run() -> None:
        site = Site(server, f"f{next(_prefixes)}", make_client or server.client)
        try:
            await scenario(site)
        finally:
            await site.close()

    asyncio.run(run())


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server of the test's own, to be maltreated."""
    with RedisProcess(tmp_path) as process:
        yield process


async def mark(backplane: RedisBackplane, *tags: str, everything: bool = False, seen: int = 0) -> int:
    return await backplane.mark(tags, everything=everything, seen=seen, source=None)


def test_the_oldest_markers_make_room_and_become_the_floor(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        backplane = site.join(max_tags=3)
        numbers = [await mark(backplane, tag) for tag in "abcba"]  # a is marked anew, and so is the youngest
        marks = await backplane.read(0)
        assert (marks.tags, marks.floor) == ({"c": numbers[2], "b": numbers[3], "a": numbers[4]}, 0)
        last = await mark(backplane, "d", "e")
        marks = await backplane.read(0)
        assert marks.tags == {"a": numbers[4], "d": last, "e": last}
        assert marks.floor == numbers[3]
        assert (await backplane.read(numbers[4])).tags == {"d": last, "e": last}
        everything = await mark(backplane, everything=True)
        marks = await backplane.read(0)
        assert (marks.everything, marks.floor, marks.tags) == (everything, 0, {})

    on(server, scenario)


def test_as_many_tags_as_design_says_are_remembered() -> None:
    assert MAX_TAGS == 65_536


def test_a_number_that_nobody_heard_of_is_noticed_at_the_next_message(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (_, ear) = site.join(), await site.join_hearing()
        await mark(a, "heard")
        await ear.until_marked("heard")
        server.do("HINCRBY", site.numbers, "number", 1)
        await mark(a, "next")
        await ear.until_marked("next")
        assert ear.told == ["marked", "lost", "restored", "marked"]

    on(server, scenario)


def test_started_twice_it_hears_once(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (b, first) = site.join(), await site.join_hearing()
        second = Ear()
        await b.start(second)
        await second.until(lambda: second.hears)
        await mark(a, "one", "two")
        await second.until_marked("two")
        assert len(second.marks) == 1
        assert first.told == ["lost"]

    on(server, scenario)


def test_what_others_publish_on_the_bus_is_counted_and_ignored(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (b, ear) = site.join(), await site.join_hearing()
        for data in (b"", b"\xc1", b"\x80\x04K\x01.", b"[1]"):
            server.do("PUBLISH", site.bus, data)
        await mark(a, "real")
        await ear.until_marked("real")
        assert ear.told == ["marked"]
        assert b.ignored == 4
        assert a.ignored == 0, "it does not listen"

    on(server, scenario)


def test_the_clocks_of_the_machines_do_not_matter(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (b, ear) = site.join(clock=ManualClock(now=0.0)), await site.join_hearing(clock=ManualClock(now=1e6))
        await b.read(0)  # by now it knows the server's time
        await mark(a, "tag")
        await ear.until_marked("tag")
        assert 0.0 <= ear.lags[0] < PATIENCE

    on(server, scenario)


def test_the_servers_time_is_asked_for_anew_when_the_last_answer_is_old(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        clock = ManualClock()
        a, (b, ear) = site.join(), await site.join_hearing(clock=clock)
        await b.read(0)
        assert b._asking_time is not None
        await b._asking_time  # since it hears: an answer from before the jump would count by half of it
        clock.advance(3600.0)  # by the server's clock, no time has passed
        await mark(a, "first")
        await ear.until_marked("first")
        assert ear.lags[0] > 3000.0
        async with asyncio.timeout(PATIENCE):
            while ear.lags[-1] > PATIENCE:
                await ear.until_number(await mark(a, "later"))

    on(server, scenario)


# --- a server that forgets --------------------------------------------------------------------------------


def test_after_a_flush_whatever_was_stored_before_is_dead_for_every_machine(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        (a, a_ear), (b, _) = await site.join_hearing(), await site.join_hearing()
        known = [await mark(a, "tag") for _ in range(5)][-1]
        await b.read(0)
        server.do("DEL", site.numbers, site.markers)
        newcomer, newcomer_ear = await site.join_hearing()
        assert (await newcomer.read(0)).everything == 0, "it has seen nothing, and can miss nothing"
        assert await mark(newcomer, "tag") == 1, "and below it would be all that the others have stored"
        await a_ear.until(lambda: a_ear.told[-3:] == ["lost", "restored", "marked"])
        marks = await a.read(known)
        assert marks.everything == marks.number > known
        await newcomer_ear.until_number(marks.number)
        assert newcomer_ear.told == ["lost", "restored", "marked"]
        assert newcomer_ear.marks[-1].everything
        for backplane in (b, newcomer, a):
            assert await backplane.read(1) == marks, "told once, not once by every machine"

    on(server, scenario)


def test_a_machine_that_was_cut_off_during_a_flush_finds_everything_dead(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, cut_off = site.join(), site.join()
        first = await mark(a, "first")
        await cut_off.read(0)
        missed = await mark(a, "missed")
        server.do("DEL", site.numbers, site.markers)
        newcomer = site.join()
        for _ in range(missed + 5):
            await mark(newcomer, "other")  # the numbers have passed those of before
        marks = await cut_off.read(first)
        assert marks.everything > first

    on(server, scenario)


def test_who_marks_after_a_flush_tells_everything_invalid_with_it(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (_, ear) = site.join(), await site.join_hearing()
        known = await mark(a, "before")
        await ear.until_number(known)
        server.do("DEL", site.numbers, site.markers)
        number = await mark(a, "after", seen=known)
        await ear.until_number(number)
        assert ear.told == ["marked", "lost", "restored", "marked"], "so that they read"
        assert (await site.join().read(0)).everything == number > known

    on(server, scenario)


def test_a_server_that_has_lost_its_last_numbers_gives_out_no_number_twice(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, b = site.join(), site.join()
        numbers = [await mark(a, "tag") for _ in range(5)]
        await b.read(0)
        server.do("HSET", site.numbers, "number", numbers[1])  # a replica that lagged has taken over
        marks = await b.read(numbers[-1])
        assert marks.number == marks.everything > numbers[-1]
        assert await mark(a, "tag") > marks.number
        assert (await b.read(0)).everything == marks.everything, "once is enough"

    on(server, scenario)


def test_markers_that_were_evicted_are_noticed(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, b = site.join(), site.join()
        number = await mark(a, "tag")
        server.do("DEL", site.markers)  # as allkeys-lru does
        marks = await b.read(0)
        assert marks.everything == marks.number > number

    on(server, scenario)


def test_numbers_that_only_this_machine_has_given_out_while_it_was_cut_off_are_no_loss(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a = site.join()
        number = await mark(a, "tag")
        assert await mark(a, "untold", seen=number + 10) == number + 11
        assert (await a.read(number)).everything == 0

    on(server, scenario)


def test_a_restart_is_a_gap_and_what_was_kept_is_read_as_lost(own: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, ear = await site.join_hearing()
        known = await mark(a, "tag")
        own.kill()
        await ear.until(lambda: "lost" in ear.told)
        for operation in (mark(a, "tag"), a.read(0), a.tell_replaced(b"key")):
            with pytest.raises(StoreError):
                await operation
        own.start()
        await ear.until(lambda: ear.hears)
        marks = await a.read(known)
        assert marks.everything == marks.number > known

    on(own, scenario)


def test_what_was_told_while_the_connection_was_gone_is_read(own: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (b, ear) = site.join(), await site.join_hearing()
        own.do("CLIENT", "KILL", "TYPE", "pubsub")
        number = await mark(a, "missed, or not")
        await ear.until(lambda: ear.told[:2] == ["lost", "restored"])
        assert (await b.read(0)).tags == {"missed, or not": number}
        await mark(a, "after")
        await ear.until_marked("after")

    on(own, scenario)


def test_a_hung_server_is_noticed_and_heard_again(own: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (_, ear) = site.join(), await site.join_hearing(ping_every=0.1)
        own.signal(signal.SIGSTOP)
        await ear.until(lambda: ear.told == ["lost"])
        own.signal(signal.SIGCONT)
        await ear.until(lambda: ear.hears)
        await mark(a, "after")
        await ear.until_marked("after")

    on(own, scenario)


# --- errors -----------------------------------------------------------------------------------------------


def test_nonsense_from_the_server_is_a_store_error(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a = site.join()
        server.do("HSET", site.numbers, "birth", b"\xff")
        with pytest.raises(StoreError, match="UnicodeDecodeError"):
            await a.read(0)

    on(server, scenario)


def test_a_tag_that_somebody_else_wrote_does_not_keep_the_others_from_being_read(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a = site.join()
        number = await mark(a, "tag")
        server.do("ZADD", site.markers, number, b"\xff")
        assert (await a.read(0)).tags == {"tag": number, "\N{REPLACEMENT CHARACTER}": number}

    on(server, scenario)


def test_a_tag_that_has_no_bytes_is_a_store_error(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        with pytest.raises(StoreError):
            await mark(site.join(), "\ud800")

    on(server, scenario)


def test_when_no_numbers_are_left_nothing_is_marked(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a = site.join()
        assert await mark(a, "last", seen=MAX_NUMBER - 1) == MAX_NUMBER
        with pytest.raises(StoreError, match="no numbers are left"):
            await mark(a, "tag")
        assert (await a.read(0)).tags == {"last": MAX_NUMBER}

    on(server, scenario)


def test_a_caller_that_is_cancelled_does_not_disturb_the_mark(server: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (_, ear) = site.join(), await site.join_hearing()
        for number in range(20):
            caller = asyncio.create_task(mark(a, f"tag {number}"))
            await asyncio.sleep(0)
            caller.cancel()
            with pytest.raises(asyncio.CancelledError):
                await caller
        await ear.until_marked(*(f"tag {number}" for number in range(20)))
        assert len(ear.marks) == 20

    on(server, scenario)


def test_a_new_answer_is_told_without_a_task_and_whoever_leaves_meanwhile_does_not_keep_it_back(
    server: RedisProcess,
) -> None:
    async def scenario(site: Site) -> None:
        a, (_, ear) = site.join(), await site.join_hearing()
        await a.tell_replaced(b"first")  # there is a connection from here on
        callers = [asyncio.create_task(a.tell_replaced(b"%d" % number)) for number in range(20)]
        await asyncio.sleep(0)
        assert not a._calls._tasks
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        assert all(caller.cancelled() for caller in callers)
        await ear.until(lambda: set(ear.keys) == {b"first", *(b"%d" % number for number in range(20))})

    on(server, scenario)


def test_a_new_answer_that_cannot_be_told_is_a_store_error() -> None:
    def nobody() -> Redis:
        raise OSError("no client")

    async def scenario() -> None:
        a = RedisBackplane(nobody, machine="a")
        with pytest.raises(StoreError, match="OSError: no client"):
            await a.tell_replaced(b"key")

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["server", "cluster"])
def test_a_flood_of_new_answers_needs_one_connection(kind: str, request: pytest.FixtureRequest) -> None:
    """Each over one of its own would leave none for what goes on beside it, and most would not be told."""
    process: RedisProcess = request.getfixturevalue(kind)
    scheme = "redis+cluster" if process.is_cluster else "redis"
    keys = {f"{number:032d}".encode() for number in range(300)}

    async def scenario() -> None:
        url, ear = f"{scheme}://127.0.0.1:{process.port}", Ear()
        options = UNHURRIED | {"max_connections": 1, "prefix": f"flood-{kind}"}
        one, other = (RedisStore.from_url(url, **options) for _ in range(2))
        await other.backplane.start(ear)
        await ear.until(lambda: ear.hears)
        await asyncio.gather(*(one.backplane.tell_replaced(key) for key in keys))
        await ear.until(lambda: set(ear.keys) == keys)
        await one.aclose()
        await other.aclose()

    asyncio.run(scenario())


# --- cluster: the message goes out after the script ----------------------------------------------------------


def test_on_a_cluster_a_message_that_did_not_go_out_is_an_error_and_shows_as_a_gap(cluster: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (b, ear) = site.join(), await site.join_hearing()
        number = await mark(a, "heard")
        await ear.until_number(number)
        cluster.do("ACL", "SETUSER", "default", "-spublish")
        try:
            with pytest.raises(StoreError, match="spublish"):
                await mark(a, "kept, not told")
        finally:
            cluster.do("ACL", "SETUSER", "default", "+spublish")
            cluster.do("ACL", "LOG", "RESET")
        await mark(a, "next")
        await ear.until_marked("next")
        assert ear.told == ["marked", "lost", "restored", "marked"]
        assert "kept, not told" in (await b.read(number)).tags

    on(cluster, scenario, cluster.cluster_client)


def test_on_a_cluster_lost_numbers_are_told_by_who_notices(cluster: RedisProcess) -> None:
    async def scenario(site: Site) -> None:
        a, (_, ear) = site.join(), await site.join_hearing()
        known = await mark(a, "tag")
        await ear.until_number(known)
        cluster.do("DEL", site.numbers)
        marks = await a.read(known)
        await ear.until_number(marks.number)
        assert ear.told == ["marked", "lost", "restored", "marked"]
        assert ear.marks[-1].everything

    on(cluster, scenario, cluster.cluster_client)
