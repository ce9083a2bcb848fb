"""A machine that is cut off from the others, and back: what was told invalid meanwhile is never served again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, Self

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from glasscache import Cache, Limits, MemoryStore, RedisStore, TieredStore
from glasscache.stats import stats
from tests.support.chaos_proxy import ChaosProxy
from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED, RedisProcess

pytestmark = pytest.mark.usefixtures("no_leaks")

SECRET = "a secret that all machines of this test share"


class TwoWays:
    """A client whose subscriptions take another way than its commands."""

    def __init__(self, commands: Any, listens: Redis) -> None:
        self._commands = commands
        self.pubsub = listens.pubsub

    def __getattr__(self, name: str) -> Any:
        return getattr(self._commands, name)


class Machine:
    """A cache that reaches the server's commands and its messages by two different ways."""

    def __init__(self, server: RedisProcess, prefix: str) -> None:
        self.commands, self.bus = ChaosProxy(server.port), ChaosProxy(server.port)
        self._prefix = prefix
        self._stack = AsyncExitStack()
        self.answers: list[str] = []

    async def __aenter__(self) -> Self:
        for proxy in (self.commands, self.bus):
            await self._stack.enter_async_context(proxy)
        store = RedisStore.from_url(f"redis://127.0.0.1:{self.commands.port}", prefix=self._prefix, **UNHURRIED)
        options: dict[str, Any] = {"protocol": 3, "socket_timeout": 10.0, "retry": Retry(NoBackoff(), 0)}
        listens = Redis(port=self.bus.port, driver_info=None, **options)
        self._stack.push_async_callback(listens.aclose)
        commands = store.backplane._client
        store.backplane._client = lambda: TwoWays(commands(), listens)  # type: ignore[assignment, return-value]
        memory, limits = MemoryStore(), Limits(far_timeout=10.0)
        self.cache = Cache(TieredStore([memory, store]), limits=limits, key_secret=SECRET)
        self._stack.push_async_callback(self.cache.aclose)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._stack.aclose()

    async def ask(self, load: Callable[[], Awaitable[str]]) -> str:
        """The answer to the one question."""
        self.answers.append(await self.cache.get_or_load("question", load, tags=("doc",)))
        return self.answers[-1]

    async def settle(self, load: Callable[[], Awaitable[str]]) -> None:
        """Until it has the answer, and hears."""
        await self.ask(load)
        await eventually(lambda: self.hears, lambda: self.ask(load))

    @property
    def hears(self) -> bool:
        """Whether it knows of all invalidations."""
        return self.cache._engine._state.coherence.in_step

    @property
    def is_well(self) -> bool:
        """Whether commands are answered."""
        return stats(self.cache)["tiers"] == {"redis": "ok"}


async def eventually(wanted: Callable[[], Any], meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Until it is so; requests go on."""
    async with asyncio.timeout(PATIENCE):
        while not wanted():
            await meanwhile()
            await asyncio.sleep(0.005)


ORDERS = {
    "Redis and bus down": ("commands bus", ["commands bus"]),
    "bus back first": ("commands bus", ["bus", "commands"]),
    "Redis back first": ("commands bus", ["commands", "bus"]),
    "bus down only": ("bus", ["bus"]),
}


@pytest.mark.parametrize(("down", "back"), ORDERS.values(), ids=ORDERS)
def test_what_was_told_invalid_while_a_machine_was_cut_off_is_never_served_again_after_it_is_back(
    server: RedisProcess, down: str, back: list[str]
) -> None:
    async def scenario() -> None:
        version = "old"

        async def load() -> str:
            return version

        prefix = f"cut-{down}-{back}".replace(" ", "")
        async with Machine(server, prefix) as one, Machine(server, prefix) as two:
            await one.settle(load)
            await two.settle(load)
            for way in down.split():
                getattr(one, way).cut()
            version = "new"
            assert await two.cache.invalidate(tag="doc") == 1
            await eventually(lambda: not one.hears, lambda: one.ask(load))
            assert await two.ask(load) == "new"
            for ways in back:
                for way in ways.split():
                    getattr(one, way).heal()
                if "commands" in ways:
                    await eventually(lambda: one.is_well, lambda: one.ask(load))
                    one.answers.clear()
                    assert await one.ask(load) == "new", "as soon as the server can be asked"
                if "bus" in ways and down == "bus":
                    assert await one.ask(load) == "new", "the server could be asked all the time"
            await eventually(lambda: one.hears, lambda: one.ask(load))
            assert await one.ask(load) == "new"
            first_new = one.answers.index("new")
            assert set(one.answers[first_new:]) == {"new"}, "never the old one again"

    asyncio.run(scenario())


def test_an_invalidation_by_a_machine_that_is_cut_off_holds_there_at_once_and_reaches_the_others_later(
    server: RedisProcess,
) -> None:
    async def scenario() -> None:
        version = "old"

        async def load() -> str:
            return version

        async with Machine(server, "untold") as one, Machine(server, "untold") as two:
            await one.settle(load)
            await two.settle(load)
            one.commands.cut()
            one.bus.cut()
            version = "new"
            await one.cache.invalidate(tag="doc")
            assert await one.ask(load) == "new"
            assert await two.ask(load) == "old", "nobody could tell it"
            one.commands.heal()
            one.bus.heal()
            await eventually(lambda: two.answers[-1] == "new", lambda: asyncio.gather(one.ask(load), two.ask(load)))
            assert set(one.answers[1:]) <= {"new", "old"}
            assert await one.ask(load) == await two.ask(load) == "new"

    asyncio.run(scenario())
