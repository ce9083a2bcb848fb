"""What others may leave under our keys: nothing of it comes out, nothing of it stays."""

from __future__ import annotations

import asyncio
import random

import pytest
from redis.asyncio import Redis

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache._entry import Entry, Key
from glasscache._lease import Claim
from glasscache.stores._envelope import Envelope
from glasscache.stores._redis_server import Server
from glasscache.testing import entry
from tests.support.patience import PATIENCE
from tests.support.redis_process import ADMIN, UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")

CAP = 200_000
"""Bytes: of an entry."""
BLOBS = 5_000  # plain, and as many encrypted
SECRET = "an old secret that is for tests only"
BODY = b"knowledge " * 500
PICKLE = b"\x80\x04\x95(\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01C\x1eknowledge knowledge knowledge \x94e."


def key_of(number: int) -> Key:
    return number.to_bytes(16, "big")


class Attacker:
    """Makes what looks like an entry, but is none for its key."""

    def __init__(self, secrets: tuple[str, ...], now: float) -> None:
        self.chance = random.Random(7)
        self.envelope = Envelope(secrets=secrets, max_size=CAP)
        self.answer: Entry = entry(BODY, born=now, fresh_until=now + 300.0, settled_until=now + 290.0)
        self.huge: Entry = entry(bytes(10_000_000), born=now, fresh_until=now + 300.0, settled_until=now + 290.0)
        self.bombers = [Envelope(secrets=secrets, compression=kind, max_size=10**8) for kind in ("zstd", "zlib")]

    def blob(self, number: int) -> bytes:
        """The bytes under the key of this number."""
        chance, good = self.chance, bytearray(self.envelope.seal(key_of(number), self.answer))
        match number % 6:
            case 0:
                good[chance.randrange(len(good))] ^= 1 << chance.randrange(8)
            case 1:
                del good[chance.randrange(len(good)) :]
            case 2:
                good = bytearray(PICKLE)
            case 3:
                good = bytearray(self.envelope.seal(key_of(number + 1), self.answer))
            case 4:
                good[2] += 1  # the version
            case _:
                good = bytearray(chance.randbytes(chance.randrange(300)))
        if number % 50 == 0:
            good = bytearray(self.bombers[number // 50 % 2].seal(key_of(number), self.huge))
        return b"0 0 0\n" * (number % 70 != 1) + bytes(good)


@pytest.mark.parametrize("secrets", [(), (SECRET,)], ids=["plain", "encrypted"])
def test_ten_thousand_hostile_blobs_are_no_entries_and_are_deleted_and_counted(
    server: RedisProcess, secrets: tuple[str, ...]
) -> None:
    prefix = f"hostile{len(secrets)}"

    async def scenario() -> None:
        store = RedisStore.from_url(
            f"redis://127.0.0.1:{server.port}", prefix=prefix, **UNHURRIED, secrets=secrets, max_entry_bytes=CAP
        )
        attacker = Attacker(secrets, store._now())
        async with Redis(port=server.port, **ADMIN) as redis:
            for first in range(0, BLOBS, 500):
                async with redis.pipeline(transaction=False) as pipe:
                    for number in range(first, first + 500):
                        name = f"{prefix}:{{{key_of(number).hex()}}}:e"
                        pipe.set(name, attacker.blob(number), px=300_000 if number % 80 else None)
                    await pipe.execute()
                found = await asyncio.gather(*(store.get(key_of(number)) for number in range(first, first + 500)))
                assert found == [None] * 500
            assert await redis.keys(f"{prefix}:*") == []
        assert store.rejected.total() == BLOBS
        assert store.rejected["bomb"] == sum(1 for number in range(0, BLOBS, 50) if number % 80)
        assert set(store.rejected) >= {"foreign", "version", "truncated"} | {"sealed" if secrets else "checksum"}
        await store.aclose()

    asyncio.run(scenario())


def test_a_cache_loads_instead_of_what_is_hostile(server: RedisProcess) -> None:
    async def scenario() -> None:
        store = RedisStore.from_url(f"redis://127.0.0.1:{server.port}", prefix="loads", **UNHURRIED)
        cache = Cache(TieredStore([MemoryStore(), store]), limits=Limits(far_timeout=10.0), key_secret=SECRET)
        attacker = Attacker((), store._now())

        async def load() -> str:
            return "the origin's"

        async with Redis(port=server.port, **ADMIN) as redis:
            for number in range(70):
                digest = cache.keyring.digest(b"value", str(number).encode())
                await redis.set(f"loads:{{{digest.hex()}}}:e", attacker.blob(number), px=300_000)
                assert await cache.get_or_load(str(number), load) == "the origin's"
        assert store.rejected.total() == 70
        await cache.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize("lease", [b"", b"nonsense", b"5||7", b"9999999999999999|||5|7", b"5|t|m|x|7"])
def test_a_lease_that_no_machine_wrote_holds_nobody_up(server: RedisProcess, lease: bytes) -> None:
    async def scenario() -> None:
        store = RedisStore.from_url(f"redis://127.0.0.1:{server.port}", prefix="leases", **UNHURRIED)
        async with Redis(port=server.port, **ADMIN) as redis:
            await redis.set(f"leases:{{{key_of(1).hex()}}}:l", lease)
            assert (await store.look(key_of(1), Claim())).lease is not None
            await redis.flushall()
        await store.aclose()

    asyncio.run(scenario())


def test_what_is_of_another_type_is_in_nobodys_way(server: RedisProcess) -> None:
    async def scenario() -> None:
        url = f"redis://127.0.0.1:{server.port}"
        one, two = (RedisStore.from_url(url, prefix="types", **UNHURRIED) for _ in range(2))
        name = f"types:{{{key_of(1).hex()}}}:"
        async with Redis(port=server.port, **ADMIN) as redis:
            for part in "elqr":
                await redis.sadd(f"{name}{part}", "a set")
            assert await one.get(key_of(1)) is None
            await redis.sadd(f"{name}e", "a set")
            refused = await one.look(key_of(1), Claim())
            assert refused.refused, "a refusal is whatever is there"
            await redis.delete(f"{name}r")
            lease = (await one.look(key_of(1), Claim())).lease
            assert lease is not None
            holder = (await two.look(key_of(1), Claim())).holder
            assert holder is not None
            assert holder.position == 1
            await redis.delete(f"{name}q")
            await redis.sadd(f"{name}q", "a set")
            now = one._now()
            kept = entry(born=now, fresh_until=now + 300.0, settled_until=now + 290.0)
            assert await one.commit(key_of(1), lease, kept) == ()
            assert await two.get(key_of(1)) is not None
        await one.aclose()
        await two.aclose()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "nonsense", [("set", "{ns}:n", "x"), ("sadd", "{ns}:m", "x"), ("hset", "{ns}:n", "number", "x")]
)
def test_numbers_of_invalidations_that_no_machine_wrote_count_as_lost(
    server: RedisProcess, nonsense: tuple[str, ...]
) -> None:
    command, name, *rest = nonsense

    async def scenario() -> None:
        store = RedisStore.from_url(f"redis://127.0.0.1:{server.port}", prefix="numbers", **UNHURRIED)
        backplane = store.backplane
        async with Redis(port=server.port, **ADMIN) as redis:
            assert await backplane.mark(["a"], everything=False, seen=0, source=None) == 1
            await redis.delete(f"numbers:{name}")
            server.do(command, f"numbers:{name}", *rest)
            assert await backplane.mark(["b"], everything=False, seen=1, source=None) == 2
            assert (await backplane.read(0)).everything == 2, "nobody knows what was lost beside them"
            assert await backplane.mark(["c"], everything=False, seen=2, source=None) == 3
            assert (await backplane.read(2)).tags == {"c": 3}
            await redis.flushall()
        await store.aclose()

    asyncio.run(scenario())


def test_what_comes_between_the_two_questions_of_a_lookup_is_found_or_is_nothing(server: RedisProcess) -> None:
    async def scenario() -> None:
        url = f"redis://127.0.0.1:{server.port}"
        one, two = (RedisStore.from_url(url, prefix="between", **UNHURRIED) for _ in range(2))
        now, glance = one._now(), one._glances.found
        kept = entry(born=now, fresh_until=now + 300.0, settled_until=now + 290.0)
        nonsense = {f"between:{{{key_of(2).hex()}}}:e": "nonsense"}
        async with Redis(port=server.port, **ADMIN) as redis:

            async def nothing_yet(at: Server, key: Key) -> Entry | None:
                found = await glance(at, key)
                await (two.set(key, kept) if key == key_of(1) else redis.mset(nonsense))
                return found

            async with asyncio.timeout(PATIENCE):
                while one._batches.near(b"k") is None:  # as long as it is not known to be, nobody asks twice
                    await one.get(key_of(1))
            one._glances.found = nothing_yet  # type: ignore[assignment]
            assert (await one.look(key_of(1), Claim())).entry is not None
            assert (await one.look(key_of(2), Claim())).lease is not None
            assert one.rejected == {"foreign": 1}
        await one.aclose()
        await two.aclose()

    asyncio.run(scenario())
