"""A subscription knows when it hears and when it does not, whatever happens to the server."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import hiredis
import pytest
from redis.asyncio import Connection, ConnectionPool, Redis, RedisCluster
from redis.asyncio.client import PubSub

from glasscache.stores._redis_channel import Subscription
from tests.support.patience import PATIENCE
from tests.support.redis_process import RedisProcess, client_options

pytestmark = pytest.mark.usefixtures("no_leaks")

_QUICK = 0.05  # seconds between signs of life, where silence is what is tested


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with RedisProcess(tmp_path_factory.mktemp("redis")) as process:
        yield process


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    """A server of the test's own, to be maltreated."""
    with RedisProcess(tmp_path) as process:
        yield process


class Told:
    """What a subscription tells, in order."""

    def __init__(self) -> None:
        self._events: asyncio.Queue[Any] = asyncio.Queue()
        self.count = 0

    def hear(self, channel: bytes, data: bytes) -> None:
        self._put((channel, data))

    def lost(self) -> None:
        self._put("lost")

    def restored(self) -> None:
        self._put("restored")

    def _put(self, event: object) -> None:
        self.count += 1
        self._events.put_nowait(event)

    async def next(self) -> object:
        async with asyncio.timeout(PATIENCE):
            return await self._events.get()

    @property
    def nothing_more(self) -> bool:
        return self._events.empty()


def subscription(pubsub: Callable[[], PubSub], told: Told, *channels: bytes, **options: Any) -> Subscription:
    return Subscription(
        pubsub, channels or (b"channel",), hear=told.hear, lost=told.lost, restored=told.restored, **options
    )


def with_subscription(
    client: Redis | RedisCluster,
    scenario: Callable[[Subscription, Told, Any], Awaitable[None]],
    *channels: bytes,
    **options: Any,
) -> None:
    """Run the scenario with a subscription that hears."""

    async def run() -> None:
        told = Told()
        sub = subscription(client.pubsub, told, *channels, **options)
        try:
            sub.start()
            assert await told.next() == "restored"
            await scenario(sub, told, client)
        finally:
            await sub.aclose()
            await client.aclose()

    asyncio.run(run())


# --- while all is well ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_of_all_channels_arrive_in_order_with_every_byte(shared: RedisProcess, protocol: int) -> None:
    async def scenario(_: Subscription, told: Told, client: Redis) -> None:
        wanted = [((b"a", b"b\x00\xff")[i % 2], b"\x00\xff\r\n%d" % i) for i in range(200)]
        for channel, data in wanted:
            await client.publish(channel, data)
        assert [await told.next() for _ in wanted] == wanted

    with_subscription(shared.client(protocol), scenario, b"a", b"b\x00\xff")


def test_starting_twice_is_starting_once(shared: RedisProcess) -> None:
    async def scenario(sub: Subscription, told: Told, client: Redis) -> None:
        sub.start()
        assert sub.live
        await client.publish("once", "x")
        assert await told.next() == (b"once", b"x")
        assert shared.do("PUBSUB", "NUMSUB", "once") == [b"once", 1]
        assert told.nothing_more

    with_subscription(shared.client(), scenario, b"once")


def test_a_callback_that_raises_is_logged_and_the_next_message_is_heard(
    shared: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        client, told = shared.client(), Told()

        def hear(channel: bytes, data: bytes) -> None:
            told.hear(channel, data)
            raise RuntimeError("a listener's own mistake")

        sub = Subscription(client.pubsub, [b"channel"], hear=hear, lost=told.lost, restored=told.restored)
        sub.start()
        assert await told.next() == "restored"
        for data in (b"1", b"2"):
            await client.publish("channel", data)
            assert await told.next() == (b"channel", data)
        await sub.aclose()
        await client.aclose()

    asyncio.run(scenario())
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["a listener's own mistake"] * 2


def test_a_closed_subscription_leaves_nothing_at_the_server_and_may_be_started_again(shared: RedisProcess) -> None:
    async def scenario(sub: Subscription, told: Told, client: Redis) -> None:
        await sub.aclose()
        await sub.aclose()
        assert await told.next() == "lost"
        assert sub.live is False
        await asyncio.sleep(0)  # a transport closes in the next turn of the loop
        shared.until(lambda: shared.do("PUBSUB", "NUMSUB", "again") == [b"again", 0])
        sub.start()
        assert await told.next() == "restored"
        assert await client.publish("again", "heard") == 1
        assert await told.next() == (b"again", b"heard")

    with_subscription(shared.client(), scenario, b"again")


def test_what_was_never_started_can_be_closed(shared: RedisProcess) -> None:
    asyncio.run(subscription(shared.client().pubsub, Told()).aclose())


def test_every_event_loop_starts_its_own(shared: RedisProcess) -> None:
    words: list[str] = []
    clients: list[Redis] = []
    tolds: list[Told] = []

    def pubsub() -> PubSub:
        return clients[-1].pubsub()

    def restored() -> None:
        words.append("restored")
        tolds[-1].restored()

    sub = Subscription(pubsub, [b"c"], hear=lambda *_: None, lost=lambda: words.append("lost"), restored=restored)

    async def live_once() -> None:
        clients.append(shared.client())
        tolds.append(Told())
        sub.start()
        assert await tolds[-1].next() == "restored"
        await clients[-1].aclose()

    asyncio.run(live_once())
    asyncio.run(live_once())
    asyncio.run(sub.aclose())  # in a loop in which it does not run
    assert words == ["restored", "lost"] * 2


# --- faults of a real server ----------------------------------------------------------------------------------------


async def assert_it_recovers(told: Told, client: Redis, channel: str = "channel") -> None:
    assert await told.next() == "restored"
    await client.publish(channel, "after")
    assert await told.next() == (channel.encode(), b"after")


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_connection_that_is_killed_is_lost_and_made_anew(server: RedisProcess, protocol: int) -> None:
    async def scenario(_: Subscription, told: Told, client: Redis) -> None:
        for _turn in range(3):
            server.do("CLIENT", "KILL", "TYPE", "pubsub")
            assert await told.next() == "lost"
            await assert_it_recovers(told, client)

    with_subscription(server.client(protocol), scenario)


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_server_that_hangs_is_lost_after_two_signs_of_life_that_do_not_come(
    server: RedisProcess, protocol: int
) -> None:
    async def scenario(_: Subscription, told: Told, client: Redis) -> None:
        server.signal(signal.SIGSTOP)
        assert await told.next() == "lost"
        server.signal(signal.SIGCONT)
        await assert_it_recovers(told, client)

    with_subscription(server.client(protocol, socket_timeout=10 * PATIENCE), scenario, ping_every=0.25)


def test_a_server_that_dies_is_lost_and_heard_again_when_it_is_back(
    server: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(sub: Subscription, told: Told, client: Redis) -> None:
        server.kill()
        assert await told.next() == "lost"
        assert not sub.live
        server.start()
        await assert_it_recovers(told, client)

    with caplog.at_level(logging.WARNING, "glasscache"):
        with_subscription(server.client(), scenario)
    assert len(caplog.records) == 1, "one outage, one record"


def test_a_server_that_is_not_there_yet_is_waited_for(server: RedisProcess) -> None:
    async def scenario() -> None:
        server.kill()
        client, told = server.client(), Told()
        tries = asyncio.Semaphore(0)

        def pubsub() -> PubSub:
            tries.release()
            return client.pubsub()

        sub = subscription(pubsub, told)
        sub.start()
        async with asyncio.timeout(PATIENCE):
            for _ in range(4):
                await tries.acquire()
        assert told.nothing_more, "what was never restored cannot be lost"
        server.start()
        await assert_it_recovers(told, client)
        await sub.aclose()
        await client.aclose()

    asyncio.run(scenario())


def test_who_may_not_subscribe_goes_on_trying_until_it_may(server: RedisProcess) -> None:
    async def scenario() -> None:
        server.do("ACL", "SETUSER", "default", "resetchannels")
        client, told = server.client(), Told()
        refused = asyncio.Semaphore(0)

        def pubsub() -> PubSub:
            refused.release()
            return client.pubsub()

        sub = subscription(pubsub, told)
        sub.start()
        async with asyncio.timeout(PATIENCE):
            for _ in range(3):
                await refused.acquire()
        assert told.nothing_more
        server.do("ACL", "SETUSER", "default", "allchannels")
        await assert_it_recovers(told, client)
        await sub.aclose()
        await client.aclose()
        assert set(server.refused()) == {"channel: channel"}
        server.do("ACL", "LOG", "RESET")

    asyncio.run(scenario())


def test_a_client_that_cannot_be_made_is_tried_again(shared: RedisProcess) -> None:
    async def scenario() -> None:
        client, told = shared.client(), Told()
        errors = [OSError("no such file"), ValueError("bad url")]

        def pubsub() -> PubSub:
            if errors:
                raise errors.pop()
            return client.pubsub()

        sub = subscription(pubsub, told, b"late")
        sub.start()
        await assert_it_recovers(told, client, "late")
        await sub.aclose()
        await client.aclose()

    asyncio.run(scenario())


# --- what a real server cannot be made to do ------------------------------------------------------------------------

Answer = Callable[[list[bytes]], bytes]


@asynccontextmanager
async def scripted_server(answer: Answer) -> AsyncIterator[Redis]:
    """A client of a server that answers each command as it is told to."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        parser = hiredis.Reader()
        try:
            while data := await reader.read(4096):
                parser.feed(data)
                while (command := parser.gets()) is not False:
                    writer.write(answer(command))
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = Redis(port=port, protocol=2, **client_options())  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.aclose()
        server.close()
        await server.wait_closed()
        await asyncio.sleep(0)


def confirmed(*channels: bytes) -> bytes:
    return b"".join(b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%b\r\n:1\r\n" % (len(name), name) for name in channels)


def message(channel: bytes, data: bytes) -> bytes:
    return b"*3\r\n$7\r\nmessage\r\n$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(channel), channel, len(data), data)


def test_it_is_not_restored_before_the_server_has_confirmed_every_channel() -> None:
    async def scenario() -> None:
        answers = [
            b"",
            confirmed(b"a"),
            confirmed(b"a") + message(b"a", b"early") + confirmed(b"b"),
        ]
        told = Told()
        async with scripted_server(lambda _: answers.pop(0)) as client:
            sub = subscription(client.pubsub, told, b"a", b"b", ping_every=0.2)
            sub.start()
            assert await told.next() == (b"a", b"early")
            assert await told.next() == "restored"
            assert answers == []
            await sub.aclose()

    asyncio.run(scenario())


def test_a_quiet_server_that_gives_signs_of_life_is_not_lost() -> None:
    async def scenario() -> None:
        pings = asyncio.Semaphore(0)
        told = Told()

        def answer(command: list[bytes]) -> bytes:
            if command[0] == b"SUBSCRIBE":
                return confirmed(b"channel")
            pings.release()
            return b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"

        async with scripted_server(answer) as client:
            sub = subscription(client.pubsub, told, ping_every=10 * _QUICK)  # a busy machine is no silence
            sub.start()
            async with asyncio.timeout(PATIENCE):
                for _ in range(3):
                    await pings.acquire()
            assert await told.next() == "restored"
            assert told.nothing_more
            await sub.aclose()

    asyncio.run(scenario())


def test_closing_does_not_wait_for_a_server_that_does_not_answer() -> None:
    async def scenario() -> None:
        asked = asyncio.Event()

        def answer(_: list[bytes]) -> bytes:
            asked.set()
            return b""

        async with scripted_server(answer) as client:
            sub = subscription(client.pubsub, Told(), ping_every=1000.0)
            sub.start()
            await asked.wait()
            async with asyncio.timeout(PATIENCE):
                await sub.aclose()

    asyncio.run(scenario())


def test_closing_ends_it_though_what_sends_swallows_the_cancellation(shared: RedisProcess) -> None:
    asking = asyncio.Event()

    class Swallowing(Connection):
        """As `asyncio.wait_for` of Python 3.11, when what it waits for ends in the moment of the cancellation."""

        async def send_command(self, *args: Any, **kwargs: Any) -> None:
            if args[0] == "PING":
                asking.set()
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
            await super().send_command(*args, **kwargs)

    async def scenario() -> None:
        options: dict[str, Any] = client_options()
        pool = ConnectionPool(connection_class=Swallowing, port=shared.port, protocol=2, **options)
        client = Redis(connection_pool=pool)
        told = Told()
        sub = subscription(client.pubsub, told, ping_every=_QUICK)
        sub.start()
        async with asyncio.timeout(PATIENCE):
            await asking.wait()
            await sub.aclose()
        assert [await told.next(), await told.next()] == ["restored", "lost"]
        await client.aclose()
        await pool.aclose()

    asyncio.run(scenario())
