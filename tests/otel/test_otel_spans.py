"""Spans, links, exemplars, the server span's attributes and log events, as the real SDK records them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, StatusCode

from glasscache import otel
from glasscache._events import (
    Answered,
    Invalidation,
    LookedUp,
    Outcome,
    Pressed,
    Revalidation,
    SpanRef,
    TierCall,
    TierChanged,
    TierGauge,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


from glasscache.errors import StoreError
from tests.support.otel_rig import KEY, Rig, Source, drive_everything, ids, linked, load, parent, run_load, wait


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_load_is_a_child_of_its_request_and_the_parent_of_what_the_origin_does(rig: Rig) -> None:
    work = load()
    own = None
    with rig.tracer.start_as_current_span("GET /ask") as server:
        own = contextvars.copy_context()
        section = rig.telemetry.span(work)
        own.run(section.__enter__)
        assert trace.get_current_span() is server
    own.run(lambda: rig.tracer.start_span("retrieval").end())
    section.__exit__(None, None, None)
    span, server_span, origin = rig.span("cache.load"), rig.span("GET /ask"), rig.span("retrieval")
    assert span.parent is not None
    assert parent(span) == ids(server_span).span_id
    assert parent(origin) == ids(span).span_id
    assert work.ref == (ids(span).trace_id, ids(span).span_id, True)
    assert span.kind is SpanKind.INTERNAL
    assert dict(span.attributes or {}) == {
        "cache.key_group": "/ask",
        "cache.load.trigger": "miss",
        "cache.lock.waiter.count": 0,
    }
    assert span.links == ()
    assert span.status.status_code is StatusCode.UNSET


def test_a_background_refresh_is_a_new_root_that_is_linked_to_the_request_that_set_it_off(rig: Rig) -> None:
    token = context.attach(baggage.set_baggage("user", "ann"))
    with rig.tracer.start_as_current_span("GET /ask"):
        cause = rig.telemetry.current()
        work = load(trigger="refresh", cause=cause, fencing_token=7)
        own = contextvars.copy_context()
    context.detach(token)
    section = rig.telemetry.span(work)
    own.run(section.__enter__)
    section.__exit__(None, None, None)
    span, server = rig.span("cache.load"), rig.span("GET /ask")
    assert span.parent is None
    assert ids(span).trace_id != ids(server).trace_id
    assert linked(span) == [("refresh_trigger", ids(server).span_id)]
    assert (span.attributes or {})["cache.load.trigger"] == "refresh"
    assert (span.attributes or {})["cache.fencing_token"] == 7
    assert own.run(baggage.get_all) == {}


def test_the_load_of_an_answer_that_is_not_stored_says_why(rig: Rig) -> None:
    run_load(rig.telemetry, load(unstored="set_cookie"))
    assert (rig.span("cache.load").attributes or {})["cache.unstored.reason"] == "set_cookie"


def test_a_waiter_and_its_holder_are_linked_both_ways(rig: Rig) -> None:
    work = load(queue_length=1)
    holding = rig.telemetry.span(work)
    contextvars.copy_context().run(holding.__enter__)
    with rig.tracer.start_as_current_span("GET /ask") as server:
        waiting = wait(work, position=4)
        with rig.telemetry.span(waiting):
            assert trace.get_current_span() is server
    assert waiting.ref is not None
    work.waiters.append(waiting.ref)
    holding.__exit__(None, None, None)
    holder_span, wait_span, server_span = (rig.span(n) for n in ("cache.load", "cache.lock.wait", "GET /ask"))
    holder, waiter = ids(holder_span), ids(wait_span)
    assert linked(wait_span) == [("lock_holder", holder.span_id)]
    assert linked(holder_span) == [("lock_waiter", waiter.span_id)]
    assert wait_span.links[0].context.trace_id == holder.trace_id
    assert wait_span.links[0].context.trace_flags.sampled
    assert parent(wait_span) == ids(server_span).span_id
    told = dict(wait_span.attributes or {})
    assert told.pop("cache.lock.holder.elapsed") == pytest.approx(0.1)
    assert told == {
        "cache.key_group": "/ask",
        "cache.lock.scope": "process",
        "cache.lock.outcome": "served",
        "cache.lock.queue.position": 4,
        "cache.lock.queue.length": 1,
        "cache.lock.holder.trace_id": f"{holder.trace_id:032x}",
        "cache.lock.holder.span_id": f"{holder.span_id:016x}",
        "cache.lock.holder.sampled": True,
    }


def test_a_sampler_sees_the_link_to_the_holder_when_the_wait_begins() -> None:
    seen: list[object] = []

    class Curious(Sampler):
        def should_sample(self, *_: Any, links: Sequence[Link] | None = None, **__: Any) -> SamplingResult:
            seen.extend((links or _[-1])[:1])
            return SamplingResult(Decision.RECORD_AND_SAMPLE)

        def get_description(self) -> str:
            return "curious"

    rig = Rig(Curious())
    with rig.telemetry.span(wait(load(ref=SpanRef(1, 2, True)))):
        (link,) = seen
        assert isinstance(link, Link)
        assert link.context.span_id == 2


def test_a_wait_for_a_holder_without_a_span_has_no_link(rig: Rig) -> None:
    with rig.telemetry.span(wait(load())):
        pass
    span = rig.span("cache.lock.wait")
    assert span.links == ()
    assert not [name for name in span.attributes or {} if "holder" in name and not name.endswith("elapsed")]


def test_a_load_links_to_sixteen_of_its_waiters(rig: Rig) -> None:
    work = load(waiters=[SpanRef(1, number, False) for number in range(1, 21)], queue_length=20)
    run_load(rig.telemetry, work)
    span = rig.span("cache.load")
    assert linked(span) == [("lock_waiter", number) for number in range(1, 17)]
    assert (span.attributes or {})["cache.lock.waiter.count"] == 20
    (queue,) = rig.points("glasscache.lock.queue.length")
    assert (queue.sum, queue.attributes["cache.lock.scope"]) == (20, "process")


def test_a_failed_load_says_so_in_its_span_and_its_duration(rig: Rig) -> None:
    run_load(rig.telemetry, load(error=subprocess.SubprocessError("origin is down")))
    span = rig.span("cache.load")
    assert (span.attributes or {})["error.type"] == "subprocess.SubprocessError"
    assert span.status.status_code is StatusCode.ERROR
    assert (span.status.description, span.events) == (None, ())  # an exception's words may quote the question
    (point,) = rig.points("glasscache.load.duration")
    assert point.attributes["error.type"] == "subprocess.SubprocessError"
    assert point.sum == pytest.approx(0.3)


def test_a_cancelled_load_has_an_error_type_but_is_no_error_of_the_origin(rig: Rig) -> None:
    run_load(rig.telemetry, load(error=asyncio.CancelledError()))
    span = rig.span("cache.load")
    assert (span.attributes or {})["error.type"] == "asyncio.exceptions.CancelledError"
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())


def test_an_error_that_leaves_the_block_passes_on_and_is_told(rig: Rig) -> None:
    with pytest.raises(OSError, match="down"), rig.telemetry.span(Invalidation(source="api")):
        raise OSError("down")
    assert (rig.span("cache.invalidate").attributes or {})["error.type"] == "OSError"

    def fail() -> None:
        with rig.telemetry.span(load()):
            raise KeyError

    with pytest.raises(KeyError):
        contextvars.copy_context().run(fail)
    assert (rig.span("cache.load").attributes or {})["error.type"] == "KeyError"


def test_a_write_to_a_shared_tier_has_a_span_and_a_read_has_none(rig: Rig) -> None:
    with rig.telemetry.span(TierCall(tier="redis", operation="get", begun=1.0, ended=1.1, found=False)):
        assert trace.get_current_span() is trace.INVALID_SPAN
    assert rig.exporter.get_finished_spans() == ()
    with rig.telemetry.span(TierCall(tier="redis", operation="set", size=99, ttl=60.0, begun=1.0, ended=1.1)) as _:
        rig.tracer.start_span("SETEX").end()
    assert trace.get_current_span() is trace.INVALID_SPAN
    span, client = rig.span("cache.store"), rig.span("SETEX")
    assert dict(span.attributes or {}) == {"cache.tier": "redis", "cache.item_size": 99, "cache.ttl": 60.0}
    assert parent(client) == ids(span).span_id
    told = [(p.attributes["cache.operation"], p.attributes.get("cache.result")) for p in operations(rig)]
    assert told == [("get", "miss"), ("set", None)]


def operations(rig: Rig) -> list[Any]:
    return rig.points("glasscache.tier.operation.duration")


@pytest.mark.parametrize(("found", "leads"), [(True, 0), (None, 0), (False, 1)])
def test_what_a_refresh_asked_leads_to_its_trace_only_if_a_load_came_of_it(
    rig: Rig, found: bool | None, leads: int
) -> None:
    asked = TierCall(tier="redis", operation="get", begun=1.0, ended=1.1, found=found)
    with rig.tracer.start_as_current_span("its root"), rig.telemetry.hushed(), rig.telemetry.span(asked):
        pass
    (point,) = operations(rig)
    assert len(point.exemplars) == leads


def test_a_failed_write_is_an_error_of_its_span(rig: Rig) -> None:
    with rig.telemetry.span(TierCall(tier="redis", operation="set", error=OSError("full"))):
        pass
    assert rig.span("cache.store").status.status_code is StatusCode.ERROR
    (point,) = operations(rig)
    assert point.attributes["error.type"] == "OSError"


@pytest.mark.parametrize(("cause", "told"), [(TimeoutError(), "TimeoutError"), (None, "glasscache.errors.StoreError")])
def test_why_a_store_could_not_answer_is_told(rig: Rig, cause: Exception | None, told: str) -> None:
    failure = StoreError("no answer")
    failure.__cause__ = cause
    with rig.telemetry.span(TierCall(tier="redis", operation="get", error=failure)):
        pass
    (point,) = operations(rig)
    assert point.attributes["error.type"] == told


def test_an_invalidation_tells_who_demanded_it_and_how_much_it_removed(rig: Rig) -> None:
    work = Invalidation(source="tag")
    with rig.telemetry.span(work):
        work.count = 3
    assert dict(rig.span("cache.invalidate").attributes or {}) == {
        "cache.invalidation.source": "tag",
        "cache.invalidation.entry.count": 3,
    }
    assert rig.values("glasscache.invalidations") == {("tag",): 3}


def test_spans_carry_no_attribute_that_the_table_for_docs_does_not_name(rig: Rig) -> None:
    drive_everything(rig, Source())
    seen = {span.name for span in rig.exporter.get_finished_spans()}
    assert seen == set(otel.SPANS)
    for span in rig.exporter.get_finished_spans():
        assert set(span.attributes or {}) <= set(otel.SPANS[span.name]), span.name


@pytest.mark.parametrize(
    ("metric", "span_name"),
    [
        ("glasscache.lock.wait.duration", "cache.lock.wait"),
        ("glasscache.load.duration", "cache.load"),
        ("glasscache.lock.hold.duration", "cache.load"),
        ("glasscache.lock.queue.length", "cache.load"),
        ("glasscache.tier.operation.duration", "cache.store"),
    ],
)
def test_the_exemplar_of_a_histogram_leads_to_the_span_that_took_so_long(rig: Rig, metric: str, span_name: str) -> None:
    holder = load()
    with rig.tracer.start_as_current_span("GET /ask"):
        run_load(rig.telemetry, holder)
        with rig.telemetry.span(wait(holder)), rig.telemetry.span(TierCall(tier="redis", operation="set")):
            pass
    (point,) = rig.points(metric)
    assert isinstance(point, HistogramDataPoint)
    (exemplar,) = point.exemplars
    span = ids(rig.span(span_name))
    assert (exemplar.trace_id, exemplar.span_id) == (span.trace_id, span.span_id)


def test_the_exemplar_of_a_request_leads_to_its_server_span(rig: Rig) -> None:
    with rig.tracer.start_as_current_span("GET /ask") as server:
        rig.telemetry.emit(Answered(result="miss", duration=0.3))
    (exemplar,) = rig.points("glasscache.request.duration")[0].exemplars
    assert exemplar.span_id == ids(server).span_id


def test_a_holder_that_is_not_sampled_is_linked_as_such() -> None:
    rig = Rig(ALWAYS_OFF)
    work = load()
    run_load(rig.telemetry, work)
    assert work.ref is not None
    assert not work.ref.sampled
    watching = Rig()
    with watching.telemetry.span(wait(work)):
        pass
    span = watching.span("cache.lock.wait")
    assert (span.attributes or {})["cache.lock.holder.sampled"] is False
    assert not span.links[0].context.trace_flags.sampled


@pytest.mark.parametrize(("confirmed", "result"), [(True, "revalidated"), (False, "miss")])
def test_a_conditional_request_is_a_span_inside_of_its_load(rig: Rig, confirmed: bool, result: str) -> None:
    work = Revalidation(group="/ask")
    section, own = rig.telemetry.span(work), contextvars.copy_context()
    with rig.tracer.start_as_current_span("a load"):
        own = contextvars.copy_context()
    own.run(section.__enter__)
    own.run(lambda: rig.tracer.start_span("the origin's").end())
    work.confirmed = confirmed
    section.__exit__(None, None, None)
    span = rig.span("cache.revalidate")
    assert dict(span.attributes or {}) == {"cache.key_group": "/ask", "cache.result": result}
    assert parent(span) == ids(rig.span("a load")).span_id
    assert parent(rig.span("the origin's")) == ids(span).span_id


def test_a_conditional_request_that_failed_has_no_result(rig: Rig) -> None:
    section, error = rig.telemetry.span(Revalidation(group="/ask")), OSError("down")
    contextvars.copy_context().run(section.__enter__)
    section.__exit__(OSError, error, None)
    told = dict(rig.span("cache.revalidate").attributes or {})
    assert told == {"cache.key_group": "/ask", "error.type": "OSError"}


def test_the_span_of_a_hit_is_told_when_it_is_over_and_lasted_as_long_as_it_took(rig: Rig) -> None:
    with rig.tracer.start_as_current_span("GET /ask") as server:
        rig.telemetry.emit(LookedUp(group="/ask", tier="redis", size=99, seconds=2.0))
    span = rig.span("cache.lookup")
    assert dict(span.attributes or {}) == {"cache.key_group": "/ask", "cache.tier": "redis", "cache.item_size": 99}
    assert parent(span) == ids(server).span_id
    assert ((span.end_time or 0) - (span.start_time or 0)) / 1e9 == pytest.approx(2.0, abs=0.5)


def test_clear_text_is_shown_where_the_record_has_it_and_nowhere_else(rig: Rig) -> None:
    asked = load(text="GET /ask?q=one")
    run_load(rig.telemetry, asked)
    with rig.telemetry.span(wait(asked)):
        pass
    for name in ("cache.load", "cache.lock.wait"):
        assert (rig.span(name).attributes or {})["cache.key"] == "GET /ask?q=one"
    hit = Outcome(result="hit", tier="memory", group="/ask", key=KEY, text="GET /ask?q=one")
    assert annotated(rig, hit)["cache.key"] == "GET /ask?q=one"


# --- the server span ----------------------------------------------------------------------------------------


def annotated(rig: Rig, outcome: Outcome) -> dict[str, object]:
    rig.exporter.clear()
    with rig.tracer.start_as_current_span("GET /ask"):
        rig.telemetry.annotate(outcome)
    return dict(rig.span("GET /ask").attributes or {})


def test_a_hit_sets_four_attributes_on_the_server_span(rig: Rig) -> None:
    outcome = Outcome(result="hit", tier="memory", group="/ask", key=KEY, age=1.0, ttl=59.0)
    assert annotated(rig, outcome) == {
        "cache.result": "hit",
        "cache.tier": "memory",
        "cache.key_group": "/ask",
        "cache.key_hash": "hash of a key",
    }


def test_a_hit_that_takes_the_short_way_sets_the_same_four(rig: Rig) -> None:
    outcome = Outcome(result="hit", tier="memory", group="/ask", key=KEY)
    with rig.tracer.start_as_current_span("GET /ask again"):
        rig.telemetry.on_hit("/ask", KEY)
    again = dict(rig.span("GET /ask again").attributes or {})
    assert annotated(rig, outcome) == again


def test_only_a_recording_span_is_annotated(rig: Rig) -> None:
    ended = rig.tracer.start_span("GET /ask")
    ended.end()
    seen = [rig.telemetry.annotates]
    rig.telemetry.on_hit("/ask", KEY)
    for current in (rig.tracer.start_span("GET /ask"), Rig(ALWAYS_OFF).tracer.start_span("GET /ask"), ended):
        with trace.use_span(current, end_on_exit=True):
            seen.append(rig.telemetry.annotates)
            rig.telemetry.on_hit("/ask", KEY)
    assert seen == [False, True, False, False]
    assert [len(span.attributes or ()) for span in rig.exporter.get_finished_spans()] == [0, 4]


@pytest.mark.parametrize(
    ("kind", "known", "name"),
    [
        (SpanKind.SERVER, None, "GET /docs/{id}"),
        (SpanKind.SERVER, "/docs", "GET"),
        (SpanKind.INTERNAL, None, "GET"),
    ],
)
def test_only_a_server_span_without_a_route_is_named_by_it(
    rig: Rig, kind: SpanKind, known: str | None, name: str
) -> None:
    with rig.tracer.start_as_current_span("GET", kind=kind, attributes={"http.route": known} if known else {}):
        assert rig.telemetry.on_hit("/docs", KEY)
        rig.telemetry.name_route("GET", "/docs/{id}")
    found = (rig.span(name).attributes or {}).get("http.route")
    assert found == (known or ("/docs/{id}" if kind is SpanKind.SERVER else None))


def test_no_span_is_named_where_there_is_none(rig: Rig) -> None:
    assert not rig.telemetry.on_hit("/docs", KEY)
    rig.telemetry.name_route("GET", "/docs/{id}")
    assert rig.exporter.get_finished_spans() == ()


def test_other_outcomes_tell_more(rig: Rig) -> None:
    stale = Outcome(result="stale", tier="memory", group="/ask", key=KEY, age=61.0, ttl=-1.0)
    assert annotated(rig, stale) == {
        "cache.result": "stale",
        "cache.tier": "memory",
        "cache.key_group": "/ask",
        "cache.key_hash": "hash of a key",
        "cache.name": "knowledge",
        "cache.age": 61.0,
        "cache.ttl": -1.0,
    }
    bypass = Outcome(result="bypass", tier="none", group="/ask", bypass="unscoped")
    assert annotated(rig, bypass) == {
        "cache.result": "bypass",
        "cache.tier": "none",
        "cache.key_group": "/ask",
        "cache.name": "knowledge",
        "cache.bypass.reason": "unscoped",
    }


def test_the_current_span_can_be_linked_to_and_outside_of_a_trace_there_is_none(rig: Rig) -> None:
    assert rig.telemetry.current() is None
    with rig.tracer.start_as_current_span("GET /ask") as span:
        found = ids(span)
        assert rig.telemetry.current() == SpanRef(found.trace_id, found.span_id, True)


# --- log events ---------------------------------------------------------------------------------------------


def records(caplog: pytest.LogCaptureFixture) -> list[tuple[int, object]]:
    return [(record.levelno, getattr(record, "event.name", None)) for record in caplog.records]


def test_a_long_wait_is_logged_as_contention(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    holder = load(ref=SpanRef(0xABC, 0xDEF, True), queue_length=5)
    with rig.telemetry.span(wait(holder, begun=10.0, ended=11.0)):
        pass
    assert not caplog.records  # exactly the threshold is not over it
    with rig.telemetry.span(wait(holder, begun=10.0, ended=12.0)):
        pass
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("glasscache", logging.WARNING)
    told = {key: value for key, value in vars(record).items() if "." in key}
    assert told == {
        "event.name": "glasscache.lock.contention",
        "cache.name": "knowledge",
        "cache.key_group": "/ask",
        "cache.key_hash": "hash of a key",
        "cache.lock.scope": "process",
        "cache.lock.wait": 2.0,
        "cache.lock.queue.length": 5,
        "cache.lock.holder.trace_id": f"{0xABC:032x}",
        "cache.lock.holder.span_id": f"{0xDEF:016x}",
    }


def test_a_wait_that_was_given_up_is_logged_as_an_error(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with rig.telemetry.span(wait(load(), begun=10.0, ended=10.5, outcome="timeout", position=3)):
        pass
    assert records(caplog) == [(logging.ERROR, "glasscache.lock.timeout")]
    assert getattr(caplog.records[0], "cache.lock.queue.length") == 3


def test_each_event_is_logged_at_most_once_a_second(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    long_wait = wait(load(), ended=99.0, outcome="timeout")
    both = [(logging.WARNING, "glasscache.lock.contention"), (logging.ERROR, "glasscache.lock.timeout")]
    for _ in range(3):
        with rig.telemetry.span(long_wait):
            pass
    assert records(caplog) == both
    rig.clock.advance(1.0)
    with rig.telemetry.span(long_wait):
        pass
    assert records(caplog) == both * 2


def test_a_tier_that_is_too_small_is_logged_with_its_rate_and_its_limits(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    rig.telemetry.emit(Pressed(rate=9.5, gauge=TierGauge("memory", 100, 0, 700, 64_000)))
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("glasscache", logging.WARNING)
    assert {key: value for key, value in vars(record).items() if "." in key} == {
        "event.name": "glasscache.eviction.pressure",
        "cache.name": "knowledge",
        "cache.tier": "memory",
        "cache.eviction.rate": 9.5,
        "cache.entry.count": 100,
        "cache.memory.usage": 700,
        "cache.memory.limit": 64_000,
    }


def test_every_event_carries_what_the_table_for_docs_names_and_no_more(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    there = SpanRef(1, 2, sampled=True)
    with caplog.at_level(logging.INFO, logger="glasscache"):
        with rig.telemetry.span(wait(load(ref=there, machine="m"), ended=99.0, outcome="timeout")):
            pass
        run_load(rig.telemetry, load(fencing_token=41, release="lost"))
        rig.telemetry.emit(TierChanged(tier="redis", state="open", error=OSError()))
        rig.telemetry.emit(TierChanged(tier="redis", state="ok"))
        rig.telemetry.emit(Pressed(rate=9.5, gauge=TierGauge("memory", 100, 100, 700, 64_000)))
    told = {
        (record.__dict__["event.name"], record.levelno, frozenset(key for key in vars(record) if key.count(".")))
        for record in caplog.records
    }
    assert told == {(event.name, event.level, frozenset(event.attributes) | {"event.name"}) for event in otel.EVENTS}
