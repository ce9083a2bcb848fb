"""Operations run to their end whoever waits for them, and fail in one way only."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar

import pytest
import redis

from glasscache.errors import ConfigurationError, StoreError
from glasscache.stores._redis_calls import Calls

pytestmark = pytest.mark.usefixtures("no_leaks")


async def answer(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def fail(error: BaseException) -> int:
    await asyncio.sleep(0)
    raise error


def test_it_returns_what_the_operation_returns() -> None:
    assert asyncio.run(Calls().run(answer(7))) == 7


@pytest.mark.parametrize(
    "error",
    [
        redis.ConnectionError("gone"),
        redis.ResponseError("WRONGTYPE"),
        TimeoutError(),
        OSError("no route"),
        ValueError("?"),
    ],
)
def test_every_error_becomes_a_store_error_that_tells_its_cause(error: Exception) -> None:
    with pytest.raises(StoreError, match=type(error).__name__) as raised:
        asyncio.run(Calls().run(fail(error)))
    assert raised.value.__cause__ is error


def test_an_error_of_ours_passes_as_it_is() -> None:
    with pytest.raises(ConfigurationError, match="as it is"):
        asyncio.run(Calls().run(fail(ConfigurationError("as it is"))))


def test_a_cancelled_caller_does_not_disturb_the_operation() -> None:
    async def scenario() -> None:
        calls, gate, done = Calls(), asyncio.Event(), asyncio.Event()

        async def operation() -> None:
            await gate.wait()
            done.set()

        caller = asyncio.create_task(calls.run(operation()))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gate.set()
        await done.wait()

    asyncio.run(scenario())


def test_nobody_is_told_of_an_error_that_nobody_waits_for() -> None:
    async def scenario() -> None:
        told: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        calls = Calls()
        calls.soon(fail(OSError("unseen")), Context())
        await calls.aclose(1.0)
        assert told == []

    asyncio.run(scenario())


def test_what_runs_soon_is_in_the_context_that_it_is_given() -> None:
    variable = ContextVar("variable", default="nobody")

    async def scenario() -> None:
        variable.set("somebody")

        async def operation() -> str:
            return variable.get()

        calls = Calls()
        assert await calls.run(operation()) == "somebody"
        assert await calls.soon(operation(), Context()) == "nobody"

    asyncio.run(scenario())


def test_closing_waits_for_what_is_under_way_and_ends_what_takes_too_long() -> None:
    async def scenario() -> None:
        calls, never = Calls(), asyncio.Event()
        await calls.aclose(0.0)
        quick = asyncio.create_task(calls.run(answer(1)))
        slow = asyncio.create_task(calls.run(never.wait()))
        await asyncio.sleep(0)
        await calls.aclose(0.01)
        assert await quick == 1
        with pytest.raises(StoreError, match="closed"):
            await slow
        assert await calls.run(answer(2)) == 2, "it can be used again"

    asyncio.run(scenario())
