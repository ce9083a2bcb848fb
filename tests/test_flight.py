"""One flight with its readers: who is woken, who sets the pace, how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from glasscache._entry import Entry
from glasscache._events import Load
from glasscache._flight import Flight
from glasscache._inside import Chain
from glasscache._reader import Reader, ReaderGone, Sight
from glasscache._stream import Head
from glasscache._wait import Commons
from glasscache.errors import LoadTimeoutError, ReaderCutError
from glasscache.policy import Limits, Share
from glasscache.testing import RecordingTelemetry, entry
from tests.flights.rig import run
from tests.flights.site import LoopClock
from tests.support.seeded_loop import World


class Told(Flight):
    """A flight that writes down what a run would decide about."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.told: list[str] = []

    def _record(self) -> Load:
        return Load(group="g", key=self.key, trigger="miss")

    def _headed(self, head: Head) -> None:
        self.told.append("headed")

    def _complete(self) -> Entry | None:
        self.told.append("complete")
        return entry()

    def _closed(self) -> None:
        self.told.append("closed")

    def _voided(self) -> None:
        self.told.append("voided")

    def _landed(self) -> None:
        self.told.append("landed")
        self._commons.rest()  # it has no other

    def _gone(self) -> None:
        self.told.append("gone")


def open_flight(world: World, *, generation: int = 0, **limits: Any) -> Told:
    commons = Commons(Limits(**limits), LoopClock(world.loop), RecordingTelemetry())
    flight = Told(b"k", commons, world.loop, 0, generation)
    flight.grow_up()
    return flight


def head(share: Share = Share.ALL, status: int = 200) -> Head:
    return Head(status=status, headers=(), share=share)


async def take(reader: Reader) -> list[bytes]:
    chunks = []
    try:
        while (chunk := await reader.next()) is not None:
            chunks.append(chunk)
    finally:
        reader.leave()
    return chunks


def test_every_reader_sees_everything_from_byte_0_and_the_end_is_told_in_order() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        readers = [flight.join(leader=True, group="g"), flight.join(leader=False, group="g")]
        tasks = [world.spawn(take(reader)) for reader in readers]
        flight.begin(head())
        await flight.write(b"a")
        await flight.write(b"")
        await asyncio.sleep(0)
        late = flight.join(leader=False, group="g")
        await flight.write(b"b")
        flight.finish()
        flight.finish()
        flight.fail(ValueError("too late"))
        flight.stop(ValueError("too late"))
        assert await take(late) == [b"a", b"b"]
        assert late.at_end
        assert [await task for task in tasks] == [[b"a", b"b"]] * 2
        assert flight.told == ["headed", "complete", "closed", "landed"]
        assert flight._commons.held_bytes == 0
        await flight.until_over()

    run(scenario)


def test_an_empty_body_ends_the_wait_at_its_end() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        reader = flight.join(leader=False, group="g")
        flight.begin(head())
        flight.finish()
        assert reader.waiting is not None
        assert flight._commons.waiters == 1
        assert await take(reader) == []
        assert flight._commons.waiters == 0
        assert reader.waiting.work.outcome == "served"

    run(scenario)


def test_a_crowd_is_woken_64_readers_at_a_time() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        woken: list[int] = []

        async def wait(number: int, reader: Reader) -> None:
            await reader.sight(None)
            woken.append(number)
            reader.leave()

        tasks = [world.spawn(wait(number, flight.join(leader=False, group="g"))) for number in range(150)]
        await asyncio.sleep(0)
        flight.begin(head())
        counts = []
        while len(woken) < 150:
            await asyncio.sleep(0)
            counts.append(len(woken))
        assert [count for count in sorted({*counts}) if count] == [64, 128, 150]
        flight.finish()
        await asyncio.wait(tasks)

    run(scenario)


def test_an_error_reaches_those_who_have_begun_as_a_cut_and_the_leader_as_it_is() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        leader, follower = flight.join(leader=True, group="g"), flight.join(leader=False, group="g")
        assert follower.waiting is not None
        flight.begin(head())
        error = ValueError("broken")
        flight.fail(error)
        with pytest.raises(ValueError, match="broken"):
            await take(leader)
        with pytest.raises(ReaderCutError) as cut:
            await take(follower)
        assert cut.value.__cause__ is error
        assert follower.waiting.work.outcome == "holder_failed"
        assert flight.told == ["headed", "closed", "landed"]

    run(scenario)


def test_a_reader_that_has_passed_nothing_on_sees_the_failure_before_the_head() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        reader = flight.join(leader=False, group="g")
        flight.begin(head())
        flight.fail(ValueError("broken"))
        assert await reader.sight(None) is Sight.FAILED
        reader.leave()

    run(scenario)


@pytest.mark.parametrize(
    ("share", "follower_sees"), [(Share.LEADER, Sight.REFUSED), (Share.NONE, Sight.PRIVATE), (Share.ALL, Sight.PLAY)]
)
def test_what_a_head_says_about_others(share: Share, follower_sees: Sight) -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        leader, follower = flight.join(leader=True, group="g"), flight.join(leader=False, group="g")
        flight.begin(head(share))
        assert await leader.sight(None) is Sight.PLAY
        assert await follower.sight(None) is follower_sees
        assert ("closed" in flight.told) is (share is not Share.ALL)
        assert flight.is_watched is (share is not Share.ALL)
        follower.leave()
        flight.finish()
        leader.leave()
        leader.leave()

    run(scenario)


@pytest.mark.parametrize(("share", "generation"), [(Share.WHEN_COMPLETE, 0), (Share.LEADER, 1)])
def test_some_answers_are_shared_when_they_are_complete(share: Share, generation: int) -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, generation=generation)
        leader, follower = flight.join(leader=True, group="g"), flight.join(leader=False, group="g")
        flight.begin(head(share, 503))
        assert await leader.sight(None) is Sight.PLAY
        assert await follower.sight(1.0) is Sight.TIMEOUT
        waiting = world.spawn(follower.sight(10.0))
        await asyncio.sleep(1)
        flight.finish()
        assert await waiting is Sight.PLAY
        assert await take(leader) == await take(follower) == []

    run(scenario)


def test_an_answer_too_large_to_be_kept_is_not_shared_when_complete() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, max_entry_bytes=3)
        leader, follower = flight.join(leader=True, group="g"), flight.join(leader=False, group="g")
        flight.begin(head(Share.WHEN_COMPLETE, 503))
        await flight.write(b"four")
        assert await follower.sight(None) is Sight.REFUSED
        follower.leave()
        flight.finish()
        assert await take(leader) == [b"four"]

    run(scenario)


def test_all_buffers_together_are_bounded() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, max_flight_bytes=3)
        reader = flight.join(leader=True, group="g")
        flight.begin(head())
        await flight.write(b"abc")
        paced = [flight.buffer.paced]
        await flight.write(b"d")
        await flight.write(b"e")
        assert [*paced, flight.buffer.paced] == [False, True]
        assert flight.told == ["headed", "closed"]
        flight.finish()
        assert await take(reader) == [b"abc", b"d", b"e"]
        assert flight._commons.held_bytes == 0

    run(scenario)


def test_an_answer_that_outgrows_its_buffer_with_nobody_left_is_stopped() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, max_entry_bytes=3)
        flight.begin(head())
        with pytest.raises(OSError, match="nobody reads"):
            await flight.write(b"four")
        with pytest.raises(OSError, match="nobody reads"):
            await flight.write(b"more")
        assert isinstance(flight.error, ReaderCutError)
        assert flight._commons.held_bytes == 0

    run(scenario)


_BIG = b"x" * 300_000


def test_a_reader_that_holds_up_others_is_cut_and_a_lonely_one_is_not() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, max_entry_bytes=1, reader_timeout=10.0)
        slow, quick = flight.join(leader=True, group="g"), flight.join(leader=False, group="g")
        flight.begin(head())
        writing = world.spawn(flight.write(_BIG))
        await asyncio.sleep(15)  # both stand at byte 0: nobody holds up anybody
        assert flight.readers.keys() == {slow, quick}
        assert await quick.next() == _BIG
        assert flight.buffer.is_waiting
        await asyncio.sleep(15)
        assert flight.readers.keys() == {quick}
        with pytest.raises(ReaderCutError, match="too slow"):
            await slow.next()
        await writing
        writing = world.spawn(flight.write(_BIG))
        await asyncio.sleep(50)
        assert not writing.done()
        assert await quick.next() == _BIG
        await writing
        flight.finish()
        assert await take(quick) == []

    run(scenario)


def test_an_app_that_sends_from_two_tasks_is_let_on_in_both() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, max_entry_bytes=1)
        reader = flight.join(leader=True, group="g")
        flight.begin(head(Share.NONE))
        writing = [world.spawn(flight.write(_BIG)) for _ in range(2)]
        await asyncio.sleep(1)
        assert await reader.next() == await reader.next() == _BIG
        await asyncio.wait_for(asyncio.gather(*writing), 1)
        flight.finish()
        reader.leave()

    run(scenario)


def test_a_private_answer_that_its_reader_left_is_stopped() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        reader = flight.join(leader=True, group="g")
        flight.begin(head(Share.NONE))
        writing = world.spawn(flight.write(_BIG))
        await asyncio.sleep(1)
        over = world.spawn(flight.until_over())
        again = world.spawn(flight.until_over())
        await asyncio.sleep(1)
        reader.leave()
        await asyncio.gather(over, again)
        with pytest.raises(OSError, match="nobody reads"):
            await writing
        assert flight.stopping

    run(scenario)


def test_a_client_that_is_gone_is_told_apart_from_a_slow_one() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        reader = flight.join(leader=True, group="g")
        flight.begin(head())
        reading = world.spawn(reader.next())
        await asyncio.sleep(0)
        reader.gone()
        with pytest.raises(ReaderGone):
            await reading
        assert await reader.sight(None) is Sight.GONE
        flight.finish()

    run(scenario)


def test_readers_are_asked_to_watch_their_clients_after_a_second() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        watched: list[float] = []
        reader = flight.join(leader=True, group="g")
        silent = flight.join(leader=False, group="g")
        reader.watch = lambda: watched.append(world.loop.time())
        await asyncio.sleep(2)
        assert watched == [1.0]
        assert flight.is_watched
        flight.begin(head())
        flight.finish()
        reader.leave()
        silent.leave()

    run(scenario)


def test_a_load_without_progress_is_given_up_and_progress_gives_it_time() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, load_timeout=10.0)
        reader = flight.join(leader=True, group="g")
        await asyncio.sleep(8)
        flight.begin(head())
        await asyncio.sleep(8)
        assert not flight.ended
        await asyncio.sleep(3)
        assert isinstance(flight.error, LoadTimeoutError)
        reader.leave()

    run(scenario)


def test_an_unread_load_has_its_time_in_all() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, load_timeout=10.0)
        flight.join(leader=True, group="g").leave()
        flight.begin(head())
        for _ in range(9):
            await asyncio.sleep(1)
            await flight.write(b"x")
        assert not flight.ended
        await asyncio.sleep(1.5)
        assert isinstance(flight.error, LoadTimeoutError)
        assert flight._commons.held_bytes == 0

    run(scenario)


def test_an_origin_that_waits_for_its_readers_is_not_at_fault() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world, load_timeout=5.0, reader_timeout=100.0)
        reader = flight.join(leader=True, group="g")
        flight.begin(head(Share.NONE))
        writing = world.spawn(flight.write(_BIG))
        await asyncio.sleep(30)
        assert not flight.ended
        await reader.next()
        await writing
        flight.finish()
        reader.leave()

    run(scenario)


def test_a_stopped_task_has_a_second_to_notice_before_it_is_cancelled() -> None:
    async def scenario(world: World) -> None:
        flight = open_flight(world)
        flight.task = world.spawn(asyncio.sleep(100))
        flight.stop(ValueError("enough"))
        await asyncio.sleep(0.9)
        assert not flight.task.done()
        await asyncio.wait([flight.task])
        assert world.loop.time() == 1.0
        assert flight.told == ["closed", "landed", "gone"]

        quick = open_flight(world)
        quick.task = world.spawn(asyncio.sleep(0.5))
        quick.stop(ValueError("enough"))
        await asyncio.sleep(2)
        assert quick.task.done()
        assert not quick.task.cancelled()
        assert quick.told == ["closed", "landed"]

    run(scenario)


def test_chains_find_those_they_lead_to_through_others_and_end_in_circles() -> None:
    a, b, c, d = (Chain(name) for name in (b"a", b"b", b"c", b"d"))
    a.awaits = [b, c]
    b.awaits = [c]
    c.awaits = [a]
    assert a.leads_to((c,))
    assert c.leads_to((b,))
    assert a.leads_to((a,))
    assert not a.leads_to((d,))
