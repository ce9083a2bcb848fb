"""What every `Clock`, `Codec`, `KeyBuilder` and `Telemetry` promises: tests to subclass.

Decides nothing that `interfaces.py` does not say.
"""

from __future__ import annotations

import contextvars
import gc
import weakref
from copy import deepcopy
from typing import TYPE_CHECKING, Any, ClassVar

from glasscache._counters import Counters
from glasscache._events import (
    Acquired,
    Answered,
    Event,
    Invalidation,
    Load,
    LookedUp,
    Outcome,
    Pressed,
    Removed,
    Revalidation,
    ServedStale,
    SpanRef,
    TierCall,
    TierChanged,
    TierGauge,
    TierState,
    Wait,
    Work,
)
from glasscache.errors import CodecError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from glasscache.interfaces import Clock, Codec, KeyBuilder, Telemetry


class ClockContract:
    """What every `Clock` promises. Override `make_clock`."""

    def make_clock(self) -> Clock:
        """The clock to test."""
        raise NotImplementedError

    def test_now_never_runs_backwards(self) -> None:
        clock = self.make_clock()
        readings = [clock.now() for _ in range(1000)]
        assert readings == sorted(readings)

    def test_both_clocks_tell_seconds_as_float(self) -> None:
        clock = self.make_clock()
        assert isinstance(clock.now(), float)
        assert isinstance(clock.wall(), float)

    def test_wall_is_a_date_of_this_century(self) -> None:
        assert 946_684_800 <= self.make_clock().wall() < 4_102_444_800, "seconds since 1970, from 2000 to 2099"

    def test_a_reading_taken_from_the_clock_goes_on(self) -> None:
        clock = self.make_clock()
        now = clock.now
        assert clock.now() <= now() <= clock.now()


class CodecContract:
    """What every `Codec` promises. Override `make_codec`, and `samples` and `foreign` where yours differ."""

    samples: ClassVar[tuple[tuple[Any, Any], ...]] = (
        (None, None),
        (True, bool),
        (-7, int),
        (0.1, float),
        ("K\N{LATIN SMALL LETTER O WITH DIAERESIS}ln", str),
        (b"\x00\xff", bytes),
        ([1, [2, {"a": None}]], Any),
        ({"a": [1, 2]}, dict[str, list[int]]),
    )
    """(value, the type that it is decoded as)."""
    foreign: ClassVar[tuple[object, ...]] = (object(), lambda: None)
    """Values of which `encode` says that they cannot be encoded (CodecError)."""

    def make_codec(self) -> Codec:
        """The codec to test."""
        raise NotImplementedError

    def test_a_value_comes_back_as_it_was(self) -> None:
        codec = self.make_codec()
        for value, kind in self.samples:
            data = codec.encode(value)
            assert isinstance(data, bytes)
            found = codec.decode(data, kind)
            assert found == value
            assert type(found) is type(value)

    def test_no_two_readers_share_what_one_could_change(self) -> None:
        codec, value = self.make_codec(), {"a": [1]}
        data = codec.encode(value)
        value["a"].append(2)
        first = codec.decode(data, dict[str, list[int]])
        first["a"].append(3)
        assert codec.decode(data, dict[str, list[int]]) == {"a": [1]}

    def test_bytes_that_are_no_value_are_a_codec_error(self) -> None:
        codec = self.make_codec()
        data = codec.encode({"a": [1, 2]})
        for broken in (b"", data[:-1]):
            self._refuses(lambda broken=broken: codec.decode(broken, dict[str, list[int]]))

    def test_a_value_of_another_type_is_a_codec_error(self) -> None:
        codec = self.make_codec()
        self._refuses(lambda: codec.decode(codec.encode("text"), list[int]))

    def test_what_cannot_be_encoded_is_a_codec_error(self) -> None:
        codec = self.make_codec()
        for value in self.foreign:
            self._refuses(lambda value=value: codec.encode(value))

    @staticmethod
    def _refuses(call: Any) -> None:
        try:
            call()
        except CodecError:
            return
        raise AssertionError("no CodecError was raised")


class KeyBuilderContract:
    """What every `KeyBuilder` promises. Override `make_key_builder`, and the samples.

    `keyed`: requests (scope, body) that have a key, each another one. `bypassed`: requests that have none.
    """

    keyed: ClassVar[tuple[tuple[dict[str, Any], bytes], ...]] = ()
    bypassed: ClassVar[tuple[tuple[dict[str, Any], bytes], ...]] = ()

    def make_key_builder(self) -> KeyBuilder:
        """The key builder to test."""
        raise NotImplementedError

    def test_there_are_samples_to_judge_by(self) -> None:
        assert self.keyed or self.bypassed, "give `keyed` or `bypassed` requests"

    def test_the_same_request_has_the_same_key(self) -> None:
        one, other = self.make_key_builder(), self.make_key_builder()
        for scope, body in deepcopy(self.keyed):
            key = one(scope, body)
            assert isinstance(key, bytes)
            assert key == one(deepcopy(scope), bytes(bytearray(body))) == other(scope, body)

    def test_different_requests_have_different_keys(self) -> None:
        build = self.make_key_builder()
        keys = [build(scope, body) for scope, body in deepcopy(self.keyed)]
        assert len(set(keys)) == len(keys)

    def test_a_bypass_has_a_reason_in_one_word(self) -> None:
        build = self.make_key_builder()
        for scope, body in deepcopy(self.bypassed):
            assert build(scope, body) is None
            assert build.bypass_reason.isidentifier()

    def test_the_request_is_left_as_it_was(self) -> None:
        build = self.make_key_builder()
        for scope, body in deepcopy(self.keyed + self.bypassed):
            before = deepcopy(scope)
            build(scope, body)
            assert scope == before


_ABROAD = SpanRef(3, 4, sampled=True)


class _Source:
    """The least that can be observed."""

    name = "contract"
    waiters = 0
    holders = 0
    abroad = (0, 0)

    def __init__(self) -> None:
        self.counters = Counters()
        self.counters.group("rule").hits += 1

    def gauges(self) -> Iterable[TierGauge]:
        """A memory tier that is half full."""
        return (TierGauge("memory", 1, 2, 10, 20),)

    def tier_states(self) -> Iterable[tuple[str, TierState]]:
        """One far tier, which answers."""
        return (("far", "ok"),)


class TelemetryContract:
    """What every `Telemetry` promises: never to raise or to change an answer. Override `make_telemetry`."""

    def make_telemetry(self) -> Telemetry:
        """Telemetry that nobody else writes to."""
        raise NotImplementedError

    @staticmethod
    def works() -> tuple[Work, ...]:
        """A record of each kind of work, and of each way in which it is told apart."""
        load = Load(group="rule", key=b"key", trigger="miss")
        ours = Load(group="rule", key=b"key", trigger="miss", fencing_token=7, release="lost", remote_waiters=[_ABROAD])
        theirs = Load(group="rule", key=b"key", trigger="miss", machine="host-7", ref=_ABROAD)
        return (
            load,
            Load(group="rule", key=b"key", trigger="refresh", cause=SpanRef(1, 2, sampled=True)),
            Wait(group="rule", key=b"key", scope="process", holder=load, position=1),
            TierCall(tier="redis", operation="get"),
            Invalidation(source="tag"),
            ours,
            Wait(group="rule", key=b"key", scope="cluster", holder=theirs, position=1),
            Invalidation(source="backplane", cause=_ABROAD, lag=0.1),
            Revalidation(group="rule"),
            Revalidation(group="rule", confirmed=True),
        )

    def test_a_span_goes_around_every_kind_of_work(self) -> None:
        telemetry = self.make_telemetry()
        for work in self.works():
            with telemetry.span(work):
                pass

    def test_an_error_passes_through_a_span_untouched(self) -> None:
        telemetry = self.make_telemetry()
        for work in self.works():
            error, seen = LookupError("the origin's own"), None
            try:
                with telemetry.span(work):
                    raise error
            except LookupError as caught:
                seen = caught
            assert seen is error

    def test_the_span_of_a_load_may_be_closed_in_another_context(self) -> None:
        telemetry = self.make_telemetry()
        for work in self.works()[:2]:
            span = telemetry.span(work)
            contextvars.Context().run(span.__enter__)
            contextvars.Context().run(span.__exit__, None, None, None)

    def test_a_load_has_a_reference_to_its_span_or_none(self) -> None:
        telemetry = self.make_telemetry()
        load = Load(group="rule", key=b"key", trigger="miss")
        with telemetry.span(load):
            assert load.ref is None or isinstance(load.ref, SpanRef)

    def test_spans_nest(self) -> None:
        telemetry = self.make_telemetry()
        load, _, wait, call, *_ = self.works()
        with telemetry.span(load), telemetry.span(wait), telemetry.span(call):
            pass

    def test_every_kind_of_event_may_be_told(self) -> None:
        telemetry = self.make_telemetry()
        events: tuple[Event, ...] = (
            Answered(result="miss", duration=0.2),
            Answered(result="error", duration=0.2, error=LookupError()),
            Acquired(scope="process", result="immediate"),
            ServedStale(reason="revalidating", age=1.5),
            Removed(tier="memory", cause="evicted", age=10.0),
            TierChanged(tier="redis", state="open", error=StoreError("no answer")),
            LookedUp(group="rule", tier="memory", size=99, seconds=0.001),
            Pressed(rate=9.5, gauge=TierGauge("memory", 100, 100, 700, 64_000)),
        )
        for event in events:
            telemetry.emit(event)
        assert isinstance(telemetry.hears(), bool)

    def test_an_outcome_may_be_told_without_a_span(self) -> None:
        telemetry = self.make_telemetry()
        assert isinstance(telemetry.annotates, bool)
        telemetry.annotate(Outcome(result="bypass", tier="none", group="rule", bypass="method"))
        telemetry.annotate(Outcome(result="hit", tier="memory", group="rule", key=b"key", age=1.0, ttl=299.0))
        if telemetry.on_hit is not None:
            telemetry.on_hit("rule", b"key")
        telemetry.name_route("GET", "/docs/{id}")

    def test_the_current_span_is_a_reference_or_none(self) -> None:
        current = self.make_telemetry().current()
        assert current is None or isinstance(current, SpanRef)

    def test_what_is_done_under_a_hush_is_done_and_its_errors_pass_through(self) -> None:
        telemetry = self.make_telemetry()
        error, seen = LookupError("the server's own"), None
        try:
            with telemetry.hushed(), telemetry.hushed():
                raise error
        except LookupError as caught:
            seen = caught
        assert seen is error

    def test_a_cache_that_is_observed_can_still_be_freed(self) -> None:
        telemetry = self.make_telemetry()
        source = _Source()
        telemetry.observe(source)
        gone = weakref.ref(source)
        del source
        gc.collect()
        assert gone() is None
