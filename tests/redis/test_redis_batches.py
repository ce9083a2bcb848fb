"""Script calls that go together: each gets its own answer, or its own error, whoever waits for it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import SlotNotCoveredError

from glasscache._clock import SystemClock
from glasscache._entry import Entry
from glasscache._lease import Claim
from glasscache.errors import StoreError
from glasscache.stores._redis_batches import Batches
from glasscache.stores._redis_clients import ClientOptions, Clients, clients_of
from glasscache.stores._redis_scripts import Script, send
from glasscache.stores.redis import RedisStore
from glasscache.testing import entry
from tests.support.chaos_proxy import ChaosProxy, Faults
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess, cluster_options
from tests.support.redis_sets import move_slots, two_nodes

pytestmark = pytest.mark.usefixtures("no_leaks")

ECHO = Script("return ARGV[1]")
KEEP = Script("return redis.call('SET', KEYS[1], ARGV[1])")
FUSSY = Script("if ARGV[1] == 'bad' then return redis.error_reply('ERR it is bad') end return ARGV[1]")


@pytest.fixture
def halves(tmp_path: Path) -> Iterator[tuple[RedisProcess, RedisProcess]]:
    """A cluster of two nodes, each with half of the slots."""
    with two_nodes(tmp_path, first=8192) as nodes:
        yield nodes


def clients(url: str, timeout: float = 10.0) -> Clients:
    options = ClientOptions(connect_timeout=10.0, timeout=timeout, max_connections=16, protocol=3)
    return clients_of(url, options)


def at(server: RedisProcess, kind: str = "redis") -> str:
    return f"{kind}://127.0.0.1:{server.port}"


def connections(server: RedisProcess) -> int:
    """Of what is tested: the user of the tests has others, and the server lists one for a moment after its end."""
    listed: bytes = server.do("CLIENT", "LIST")
    return listed.count(b" user=default ")


async def answers(batches: Batches, script: Script, count: int) -> list[object]:
    calls = [batches.call(script, [b"key %d" % number], [b"%d" % number]) for number in range(count)]
    return list(await asyncio.gather(*calls, return_exceptions=True))


def test_calls_of_one_turn_share_connections_and_each_gets_its_own_answer(server: RedisProcess) -> None:
    async def scenario() -> None:
        who = clients(at(server))
        batches = Batches(who, limit=16)
        server.until(lambda: connections(server) == 0)
        assert await answers(batches, ECHO, 300) == [b"%d" % number for number in range(300)]
        assert connections(server) <= 3, "128 calls go together"
        server.do("SCRIPT", "FLUSH")
        assert await answers(batches, ECHO, 3) == [b"0", b"1", b"2"], "a server that has forgotten the script"
        await batches.aclose(1.0)
        await who.aclose()

    asyncio.run(scenario())


def test_never_more_connections_than_allowed_and_who_comes_later_goes_with_the_next_batch(
    server: RedisProcess,
) -> None:
    async def scenario() -> None:
        who = clients(at(server))
        batches = Batches(who, limit=1)
        server.until(lambda: connections(server) == 0)
        server.do("SCRIPT", "LOAD", "return ARGV[1]")  # else the client itself sends it, over a connection of its own
        first = batches.call(ECHO, [b"k"], [b"first"])
        await asyncio.sleep(0)
        assert await answers(batches, ECHO, 300) == [b"%d" % number for number in range(300)]
        assert await first == b"first"
        assert connections(server) == 1
        await who.aclose()

    asyncio.run(scenario())


def test_a_call_in_the_moment_of_the_last_answer_is_made_as_well(server: RedisProcess) -> None:
    async def scenario() -> None:
        who = clients(at(server))
        batches = Batches(who, limit=1)
        async with asyncio.timeout(PATIENCE):
            for number in range(10):
                assert await answers(batches, FUSSY, 1 + number) == [b"%d" % each for each in range(1 + number)]
                with pytest.raises(StoreError):
                    await batches.call(FUSSY, [b"k"], [b"bad"])
        await who.aclose()

    asyncio.run(scenario())


def test_an_error_of_one_call_is_nobody_elses(server: RedisProcess) -> None:
    async def scenario() -> None:
        who = clients(at(server))
        batches = Batches(who, limit=16)
        for _ in range(2):  # the server knows the script the second time
            calls = [batches.call(FUSSY, [b"k"], [word]) for word in (b"one", b"bad", b"two", b"bad")]
            one, bad, two, worse = await asyncio.gather(*calls, return_exceptions=True)
            assert (one, two) == (b"one", b"two")
            assert isinstance(bad, StoreError)
            assert isinstance(worse, StoreError)
            assert bad is not worse, "an error that is raised twice would gather the frames of both"
            assert "it is bad" in str(bad)
        await who.aclose()

    asyncio.run(scenario())


def test_a_caller_that_leaves_disturbs_nobody_and_its_call_is_made(server: RedisProcess) -> None:
    async def scenario() -> None:
        who = clients(at(server))
        batches = Batches(who, limit=16)

        async def keep(word: bytes) -> None:
            await batches.call(KEEP, [b"kept " + word], [word])

        gone, stays = asyncio.create_task(keep(b"gone")), asyncio.create_task(keep(b"stays"))
        await asyncio.sleep(0)
        gone.cancel()
        await stays
        assert gone.cancelled()
        refused = batches.call(FUSSY, [b"k"], [b"bad"])
        refused.cancel()
        await batches.aclose(10.0)
        assert server.do("GET", "kept gone") == b"gone"
        await who.aclose()

    asyncio.run(scenario())


def test_a_client_that_cannot_be_made_fails_every_call() -> None:
    def broken() -> object:
        raise OSError("no such certificate")

    async def scenario() -> None:
        batches = Batches(Clients(broken, "nowhere"), limit=16)  # type: ignore[arg-type]
        for failed in await answers(batches, ECHO, 3):
            assert isinstance(failed, StoreError)
            assert "no such certificate" in str(failed)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["redis", "redis+cluster"])
def test_calls_that_are_not_answered_in_time_fail_and_their_connection_is_used_no_more(
    kind: str, tmp_path: Path
) -> None:
    async def scenario() -> None:
        with RedisProcess(tmp_path, *(cluster_options() if "cluster" in kind else ())) as server:
            async with ChaosProxy(server.port) as proxy:
                if server.is_cluster:
                    server.do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                    server.until_cluster_ok()
                    server.do("CONFIG", "SET", "cluster-announce-port", proxy.port)
                who = clients(f"{kind}://127.0.0.1:{proxy.port}", timeout=0.2)
                batches = Batches(who, limit=16)

                async def answered() -> None:
                    async with asyncio.timeout(PATIENCE):  # a busy machine may miss the 0.2 s
                        while await answers(batches, ECHO, 40) != [b"%d" % number for number in range(40)]:
                            pass

                await answered()
                proxy.faults = Faults(drops_replies=True)
                for failed in await answers(batches, ECHO, 3):
                    assert "no answer within 0.2 s" in str(failed)
                proxy.heal()
                await answered()
                await batches.aclose(1.0)
                await who.aclose()

    asyncio.run(scenario())


def test_a_call_that_was_sent_in_part_leaves_no_answer_to_the_next(tmp_path: Path) -> None:
    async def scenario() -> None:
        with RedisProcess(tmp_path) as server:
            who = clients(at(server), timeout=0.5)
            batches = Batches(who, limit=1)
            await answers(batches, ECHO, 1)
            server.signal(signal.SIGSTOP)
            large = batches.call(ECHO, [b"k"], [b"x" * 32 * 1024**2])  # more than all buffers on the way hold
            with pytest.raises(StoreError, match=r"no answer within 0\.5 s"):
                await large
            server.signal(signal.SIGCONT)
            async with asyncio.timeout(PATIENCE):  # a busy machine may miss the 0.5 s
                while isinstance(answer := (await answers(batches, ECHO, 1))[0], StoreError):
                    pass
            assert answer == b"0", "not what was left over"
            await batches.aclose(1.0)
            await who.aclose()

    asyncio.run(scenario())


def test_closing_ends_what_takes_too_long_and_what_waits_behind_it(server: RedisProcess) -> None:
    async def scenario() -> None:
        async with ChaosProxy(server.port) as proxy:
            who = clients(f"redis://127.0.0.1:{proxy.port}")
            batches = Batches(who, limit=1)
            assert await batches.call(ECHO, [b"k"], [b"well"]) == b"well"
            proxy.faults = Faults(drops_replies=True)
            under_way = [batches.call(ECHO, [b"k"], [b"under way"]) for _ in range(128)]
            behind = batches.call(KEEP, [b"behind"], [b"behind"])
            await batches.aclose(0.01)
            for failed in await asyncio.gather(*under_way, behind, return_exceptions=True):
                assert isinstance(failed, StoreError)
                assert "closed" in str(failed)
            proxy.heal()
            assert await batches.call(ECHO, [b"k"], [b"again"]) == b"again", "it can be used again"
            await batches.aclose(1.0)
            assert server.do("EXISTS", "behind") == 0, "what has failed is not made later"
            await who.aclose()

    asyncio.run(scenario())


def test_each_node_of_a_cluster_gets_its_calls_and_fails_for_its_own_alone(
    halves: tuple[RedisProcess, RedisProcess],
) -> None:
    async def scenario() -> None:
        one, two = halves
        who = clients(at(one, "redis+cluster"))
        batches = Batches(who, limit=16)
        assert await answers(batches, ECHO, 64) == [b"%d" % number for number in range(64)]
        two.kill()
        there = [isinstance(answer, bytes) for answer in await answers(batches, ECHO, 64)]
        assert any(there)
        assert not all(there)
        await batches.aclose(1.0)
        await who.aclose()

    asyncio.run(scenario())


def test_a_slot_that_moves_is_followed(halves: tuple[RedisProcess, RedisProcess]) -> None:
    async def scenario() -> None:
        one, two = halves
        who = clients(at(one, "redis+cluster"))
        batches = Batches(who, limit=16)
        assert await answers(batches, ECHO, 64) == [b"%d" % number for number in range(64)]
        slot = one.do("CLUSTER", "KEYSLOT", "key 1")
        giver, taker = (one, two) if slot < 8192 else (two, one)
        move_slots((slot,), taker, giver)
        assert await answers(batches, ECHO, 64) == [b"%d" % number for number in range(64)]
        await batches.aclose(1.0)
        await who.aclose()

    asyncio.run(scenario())


def test_lookups_that_went_together_follow_a_slot_that_moves_each_for_itself(
    halves: tuple[RedisProcess, RedisProcess],
) -> None:
    async def scenario() -> None:
        one, two = halves
        store = RedisStore.from_url(at(one, "redis+cluster"), **UNHURRIED)
        keys, now = [b"%d" % number for number in range(64)], SystemClock().now()
        for key in keys:
            await store.set(key, entry(key, born=now, fresh_until=now + 300.0, settled_until=now + 300.0))

        async def told() -> dict[bytes, object]:
            await store.look(keys[0], Claim())
            loop = asyncio.get_running_loop()
            found: dict[bytes, asyncio.Future[object]] = {key: loop.create_future() for key in keys}
            assert all(store.glance(key, found[key].set_result) for key in keys)
            answers = {key: await one for key, one in found.items()}
            return {key: answer.body if isinstance(answer, Entry) else answer for key, answer in answers.items()}

        async with asyncio.timeout(PATIENCE):
            assert await told() == {key: key for key in keys}
            slot = one.do("CLUSTER", "KEYSLOT", keys[1].hex())
            giver, taker = (one, two) if slot < 8192 else (two, one)
            giver.do("DEL", f"glasscache:{{{keys[1].hex()}}}:e")
            move_slots((slot,), taker, giver)
            assert await told() == {key: key for key in keys} | {keys[1]: None}
        await store.aclose()

    asyncio.run(scenario())


def test_a_slot_that_nobody_serves_fails_alone_until_somebody_does(tmp_path: Path) -> None:
    async def scenario() -> None:
        with RedisProcess(tmp_path, *cluster_options()) as server:
            slot = server.do("CLUSTER", "KEYSLOT", "key 1")
            server.do("CLUSTER", "ADDSLOTSRANGE", 0, slot - 1, slot + 1, 16383)
            server.until_cluster_ok()
            who = clients(at(server, "redis+cluster"))
            batches = Batches(who, limit=16)
            for _ in range(2):
                zero, one = await answers(batches, ECHO, 2)
                assert zero == b"0"
                assert isinstance(one, StoreError)
            with pytest.raises((SlotNotCoveredError, KeyError)):
                await send(who(), "GET", "key 1")
            server.do("CLUSTER", "ADDSLOTS", slot)
            await answers(batches, ECHO, 2)
            assert await send(who(), "GET", "key 1") is None
            assert await answers(batches, ECHO, 2) == [b"0", b"1"]
            server.do("CLUSTER", "DELSLOTS", slot)
            _, one = await answers(batches, ECHO, 2)
            assert "ClusterDownError" in str(one), "said by the server this time"
            server.do("CLUSTER", "ADDSLOTS", slot)
            await answers(batches, ECHO, 2)
            assert await answers(batches, ECHO, 2) == [b"0", b"1"]
            await batches.aclose(1.0)
            await who.aclose()

    asyncio.run(scenario())


def test_a_server_that_talks_nonsense_is_a_store_that_cannot_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            while asked := await reader.read(65536):
                writer.write(b"*1\r\n:1\r\n" * asked.count(b"*"))
        writer.close()

    async def scenario() -> None:
        async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            store = RedisStore.from_url(f"redis://127.0.0.1:{port}", protocol=2, **UNHURRIED)
            with pytest.raises(StoreError, match="ValueError"):
                await store.look(b"k", Claim())
            with pytest.raises(StoreError, match="TypeError"):
                await store.get(b"k")
            await store.aclose()

    asyncio.run(scenario())
