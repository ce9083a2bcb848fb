"""The contracts of clocks, codecs, key builders and telemetry: what is right passes, what is broken fails."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import msgspec
import pytest

from glasscache._clock import SystemClock
from glasscache._events import Load, SpanRef, Wait
from glasscache.errors import CodecError
from glasscache.stats import stats
from glasscache.testing import (
    ClockContract,
    CodecContract,
    KeyBuilderContract,
    ManualClock,
    RecordingTelemetry,
    TelemetryContract,
)
from glasscache.testing._contracts import _Source
from tests.support.null_telemetry import NullTelemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from glasscache._events import Work
    from glasscache.interfaces import Clock, Codec, KeyBuilder, Observable, Telemetry

T = TypeVar("T")


class TestSystemClock(ClockContract):
    def make_clock(self) -> Clock:
        return SystemClock()


class TestManualClock(ClockContract):
    def make_clock(self) -> Clock:
        return ManualClock()


class TestNullTelemetry(TelemetryContract):
    def make_telemetry(self) -> Telemetry:
        return NullTelemetry()


class TestRecordingTelemetry(TelemetryContract):
    def make_telemetry(self) -> Telemetry:
        return RecordingTelemetry()


def test_the_cache_that_the_telemetry_contract_observes_has_all_that_is_read() -> None:
    assert stats(_Source())["tiers"] == {"far": "ok"}


class MsgpackCodec:
    """The least that is a codec."""

    def encode(self, value: object) -> bytes:
        try:
            return msgspec.msgpack.encode(value)
        except TypeError as error:
            raise CodecError("cannot be encoded") from error

    def decode(self, data: bytes, type: type[T]) -> T:  # noqa: A002 - as the Protocol has it
        try:
            return msgspec.msgpack.decode(data, type=type)
        except msgspec.DecodeError as error:
            raise CodecError("cannot be decoded") from error


class TestMsgpackCodec(CodecContract):
    def make_codec(self) -> Codec:
        return MsgpackCodec()


class PathKey:
    """The least that is a key builder."""

    bypass_reason = "method"

    def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
        return b"%d %s" % (len(body), scope["path"].encode() + body) if scope["method"] == "GET" else None


class TestPathKey(KeyBuilderContract):
    keyed: ClassVar[tuple[tuple[dict[str, Any], bytes], ...]] = (
        ({"method": "GET", "path": "/a"}, b""),
        ({"method": "GET", "path": "/b"}, b""),
        ({"method": "GET", "path": "/b"}, b"body"),
    )
    bypassed: ClassVar[tuple[tuple[dict[str, Any], bytes], ...]] = (({"method": "PUT", "path": "/a"}, b""),)

    def make_key_builder(self) -> KeyBuilder:
        return PathKey()


# --- the contracts notice -----------------------------------------------------------------------------------


class BackwardClock:
    def __init__(self) -> None:
        self._now = 0.0

    def now(self) -> float:
        self._now -= 1.0
        return self._now

    def wall(self) -> float:
        return self._now


class SharingCodec(MsgpackCodec):
    """Hands the same object to everyone."""

    def __init__(self) -> None:
        self.last: Any = None

    def encode(self, value: object) -> bytes:
        self.last = value
        return super().encode(value)

    def decode(self, data: bytes, type: type[T]) -> T:  # noqa: A002 - as the Protocol has it
        super().decode(data, type)
        return self.last  # type: ignore[no-any-return]


class LeakyCodec(MsgpackCodec):
    """Lets its library's errors through."""

    def decode(self, data: bytes, type: type[T]) -> T:  # noqa: A002 - as the Protocol has it
        return msgspec.msgpack.decode(data, type=type)


class TrustingCodec(MsgpackCodec):
    """Takes whatever comes out."""

    def decode(self, data: bytes, type: type[T]) -> T:  # noqa: A002 - as the Protocol has it
        return msgspec.msgpack.decode(data)  # type: ignore[no-any-return]


class ForgetfulKey(PathKey):
    """Leaves the body out, writes to the request, and cannot say why."""

    bypass_reason = ""

    def __call__(self, scope: Mapping[str, Any], body: bytes) -> bytes | None:
        scope["seen"] = True  # type: ignore[index]
        return super().__call__(scope, b"")


class SwallowingTelemetry(RecordingTelemetry):
    """Changes answers, by keeping errors to itself, and keeps caches alive."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Observable] = []

    @contextmanager
    def span(self, work: Work) -> Iterator[None]:
        with suppress(LookupError):
            yield

    def observe(self, source: Observable) -> None:
        self.held.append(source)


class BrokenClock(ClockContract):
    def make_clock(self) -> Clock:
        return BackwardClock()


def broken_codec(codec: Callable[[], Codec]) -> type[CodecContract]:
    class Broken(CodecContract):
        def make_codec(self) -> Codec:
            return codec()

    return Broken


class BrokenKey(TestPathKey):
    __test__ = False

    def make_key_builder(self) -> KeyBuilder:
        return ForgetfulKey()


class BrokenTelemetry(TelemetryContract):
    def make_telemetry(self) -> Telemetry:
        return SwallowingTelemetry()


@pytest.mark.parametrize(
    ("contract", "test", "error"),
    [
        (BrokenClock, "test_now_never_runs_backwards", AssertionError),
        (BrokenClock, "test_wall_is_a_date_of_this_century", AssertionError),
        (BrokenClock, "test_a_reading_taken_from_the_clock_goes_on", AssertionError),
        (broken_codec(SharingCodec), "test_no_two_readers_share_what_one_could_change", AssertionError),
        (broken_codec(LeakyCodec), "test_bytes_that_are_no_value_are_a_codec_error", msgspec.DecodeError),
        (broken_codec(TrustingCodec), "test_a_value_of_another_type_is_a_codec_error", AssertionError),
        (BrokenKey, "test_different_requests_have_different_keys", AssertionError),
        (BrokenKey, "test_a_bypass_has_a_reason_in_one_word", AssertionError),
        (BrokenKey, "test_the_request_is_left_as_it_was", AssertionError),
        (KeyBuilderContract, "test_there_are_samples_to_judge_by", AssertionError),
        (BrokenTelemetry, "test_an_error_passes_through_a_span_untouched", AssertionError),
        (BrokenTelemetry, "test_a_cache_that_is_observed_can_still_be_freed", AssertionError),
    ],
)
def test_what_breaks_a_promise_fails_the_contract(
    contract: Callable[[], object], test: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        getattr(contract(), test)()


@pytest.mark.parametrize(
    "make",
    [
        ClockContract().make_clock,
        CodecContract().make_codec,
        KeyBuilderContract().make_key_builder,
        TelemetryContract().make_telemetry,
    ],
)
def test_a_contract_without_its_subject_says_what_is_missing(make: Callable[[], object]) -> None:
    with pytest.raises(NotImplementedError):
        make()


# --- recording ----------------------------------------------------------------------------------------------


def test_recording_telemetry_gives_loads_and_waits_spans_of_their_own() -> None:
    telemetry = RecordingTelemetry()
    load = Load(group="rule", key=b"key", trigger="miss")
    wait = Wait(group="rule", key=b"key", scope="process", holder=load, position=1)
    with telemetry.span(load):
        with telemetry.span(wait):
            assert telemetry.ended == []
        assert telemetry.ended == [wait]
    assert telemetry.works == [load, wait]
    assert telemetry.ended == [wait, load]
    assert load.ref is not None
    assert wait.ref is not None
    assert load.ref != wait.ref


def test_recording_telemetry_answers_the_span_that_the_test_set() -> None:
    telemetry = RecordingTelemetry()
    assert telemetry.current() is None
    telemetry.current_span = SpanRef(1, 2, sampled=True)
    assert telemetry.current() == SpanRef(1, 2, sampled=True)


def test_recording_telemetry_knows_the_caches_it_observes() -> None:
    telemetry, source = RecordingTelemetry(), _Source()
    telemetry.observe(source)
    assert [gauge.tier for seen in telemetry.sources for gauge in seen.gauges()] == ["memory"]


def test_a_work_that_fails_has_ended_too() -> None:
    telemetry = RecordingTelemetry()
    load = Load(group="rule", key=b"key", trigger="miss")
    with pytest.raises(LookupError), telemetry.span(load):
        raise LookupError
    assert telemetry.ended == [load]


def test_a_manual_clock_moves_forward_only_and_both_hands_together() -> None:
    clock = ManualClock(now=5.0, wall=1_800_000_000.0)
    clock.advance(2.5)
    assert (clock.now(), clock.wall()) == (7.5, 1_800_000_002.5)
    with pytest.raises(ValueError, match="give 0 seconds or more"):
        clock.advance(-1.0)
