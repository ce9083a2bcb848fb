"""The slow-lock finder's figures: which waits are kept, and what is shown of them and of what goes on now."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from glasscache._contention import KEPT, KEPT_OF_ONE_LOAD, Contentions
from glasscache._events import Load, SpanRef, Wait
from glasscache.cache import Cache
from glasscache.contention import contention, contention_json
from glasscache.errors import ConfigurationError
from glasscache.policy import Limits
from glasscache.testing import ManualClock, RecordingTelemetry
from tests.support.null_telemetry import NullTelemetry

SECRET = "a secret for the tests, long enough"


def wait(load: Load, *, ended: float = 5.0) -> Wait:
    """A wait of 3 s."""
    return Wait(
        group="/ask",
        key=b"key",
        scope="process",
        holder=load,
        position=1,
        begun=ended - 3,
        ended=ended,
        outcome="served",
    )


def load(begun: float = 1.0) -> Load:
    return Load(group="/ask", key=b"key", trigger="miss", begun=begun)


# --- what is kept ---------------------------------------------------------------------------------------------------


def test_the_last_256_are_kept_and_all_are_counted() -> None:
    kept = Contentions()
    for number in range(KEPT + 44):
        kept.add(wait(load(begun=number)), wall=float(number))
    assert [one.ended for one in kept] == [float(number) for number in reversed(range(44, KEPT + 44))]
    assert kept.seen == KEPT + 44


def test_a_crowd_behind_one_load_does_not_push_out_the_others() -> None:
    kept, slow = Contentions(), load(begun=2.0)
    kept.add(wait(load(begun=1.0)), wall=0.0)
    for number in range(1000):
        kept.add(wait(slow), wall=float(number))
    assert [one.load for one in kept] == [2] * KEPT_OF_ONE_LOAD + [1]
    assert [one.ended for one in kept][:-1] == [float(number) for number in reversed(range(KEPT_OF_ONE_LOAD))]
    assert kept.seen == 1001


def test_a_load_that_is_forgotten_may_be_waited_for_again() -> None:
    kept, slow = Contentions(), load(begun=0.5)
    for _ in range(KEPT_OF_ONE_LOAD + 1):
        kept.add(wait(slow), wall=0.0)
    for number in range(KEPT):
        kept.add(wait(load(begun=1.0 + number)), wall=0.0)
    kept.add(wait(slow), wall=9.0)
    newest = next(iter(kept))
    assert (newest.ended, newest.load) == (9.0, KEPT + 2)  # a number of its own: what it was called before is gone


def test_it_is_kept_with_who_is_really_waited_for() -> None:
    kept, here = Contentions(), load(begun=4.0)
    there = load(begun=3.0)
    there.machine, there.ref, here.waits_for = "other-1", SpanRef(1, 2, True), there
    kept.add(wait(here), wall=100.0)
    (one,) = kept
    assert (one.machine, one.holder, one.running, one.elapsed, one.held) == (
        "other-1",
        SpanRef(1, 2, True),
        2.0,
        0.0,
        None,
    )


# --- what is shown --------------------------------------------------------------------------------------------------


class Story:
    """A cache on a clock that is moved by hand, a slow load in it, and who waits for it."""

    def __init__(self, *, limits: Limits | None = None, telemetry: Any = None) -> None:
        self.clock = ManualClock()
        self.cache = Cache(
            clock=self.clock,
            limits=limits,
            telemetry=telemetry or RecordingTelemetry(),
            key_secret=SECRET,
            name="knowledge",
        )
        self.gate = asyncio.Event()

    async def ask(self, key: str = "who asks what") -> str:
        async def loader() -> str:
            await self.gate.wait()
            return "a secret answer"

        return await self.cache.get_or_load(key, loader, ttl=60, group="app.retrieve")

    async def crowd(self, size: int, *, apart: float = 0.0) -> asyncio.Future[list[str]]:
        """So many ask, one after the other, and wait."""
        asking = []
        for _ in range(size):
            asking.append(asyncio.ensure_future(self.ask()))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            self.clock.advance(apart)
        return asyncio.gather(*asking)

    def tell(self, **options: Any) -> dict[str, Any]:
        told: dict[str, Any] = contention(self.cache, **options)
        return told


def test_who_waits_for_whom_now_is_shown_while_it_lasts() -> None:
    async def scenario() -> None:
        story = Story()
        crowd = await story.crowd(3, apart=0.5)
        now = story.tell()
        assert (now["waiters"], now["seen"], now["contentions"]) == (2, 0, [])
        (slow,) = now["loads"]
        assert slow == {
            "key_group": "app.retrieve",
            "key_hash": story.cache.keyring.label(story.cache.keyring.digest(b"value", b"who asks what")),
            "trigger": "miss",
            "running": 1.5,
            "holder": {"id": None, "trace_id": f"{1:032x}", "span_id": f"{1:016x}", "fencing_token": None},
            "waiting": 2,
            "waiters": [
                {"waited": 1.0, "queue_position": 1, "trace_id": f"{2:032x}", "span_id": f"{2:016x}"},
                {"waited": 0.5, "queue_position": 2, "trace_id": f"{3:032x}", "span_id": f"{3:016x}"},
            ],
        }
        story.gate.set()
        await crowd
        after = story.tell()
        assert (after["waiters"], after["loads"]) == (0, [])

    asyncio.run(scenario())


def test_a_wait_over_the_threshold_is_shown_with_all_that_leads_to_its_holder() -> None:
    async def scenario() -> None:
        story = Story()
        first = await story.crowd(1, apart=2.0)
        second = await story.crowd(2, apart=0.5)
        story.clock.advance(0.25)
        story.gate.set()
        await asyncio.gather(first, second)
        told = story.tell()
        (one,) = told["contentions"]  # the other waited for 0.75 s
        assert one == {
            "number": 1,
            "load": 1,
            "ended": story.clock.wall(),
            "waited": 1.25,
            "key_group": "app.retrieve",
            "key_hash": story.cache.keyring.label(story.cache.keyring.digest(b"value", b"who asks what")),
            "scope": "process",
            "outcome": "served",
            "queue_position": 1,
            "queue_length": 2,
            "waiter": {"trace_id": f"{2:032x}", "span_id": f"{2:016x}"},
            "holder": {
                "id": None,
                "trace_id": f"{1:032x}",
                "span_id": f"{1:016x}",
                "fencing_token": None,
                "elapsed": 2.0,
                "running": 3.25,
                "held": 3.25,
            },
        }
        assert (told["seen"], told["threshold"], told["at"]) == (1, 1.0, story.clock.wall())
        assert story.tell(since=1)["contentions"] == []

    asyncio.run(scenario())


def test_without_any_telemetry_all_but_the_traces_is_there() -> None:
    async def scenario() -> None:
        story = Story(limits=Limits(contention_threshold=0.2), telemetry=NullTelemetry())
        crowd = await story.crowd(2)
        story.clock.advance(0.25)
        story.gate.set()
        await crowd
        (one,) = story.tell()["contentions"]
        assert one["waiter"] == {"trace_id": None, "span_id": None}
        assert (one["waited"], one["holder"]["held"], one["holder"]["trace_id"]) == (0.25, 0.25, None)

    asyncio.run(scenario())


def test_a_crowd_is_counted_and_its_first_sixteen_are_shown() -> None:
    async def scenario() -> None:
        story = Story()
        crowd = await story.crowd(41)
        (slow,) = story.tell()["loads"]
        assert (slow["waiting"], len(slow["waiters"])) == (40, KEPT_OF_ONE_LOAD)
        story.gate.set()
        await crowd

    asyncio.run(scenario())


def test_nothing_that_was_asked_or_answered_is_shown() -> None:
    async def scenario() -> None:
        story = Story(limits=Limits(contention_threshold=0.5))
        crowd = await story.crowd(3, apart=1.0)
        during = contention_json(story.cache, of=2).decode()
        story.gate.set()
        await crowd
        after = contention_json(story.cache, of=2).decode()
        for text in (during, after):
            assert "who asks" not in text
            assert "secret" not in text
            assert json.loads(text)["of"] == 2
        assert len(json.loads(after)["contentions"]) == 2

    asyncio.run(scenario())


def test_a_threshold_that_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="contention_threshold=0"):
        Limits(contention_threshold=0)
