"""What is told of other machines: leases, waits for them, invalidations from them, tiers that fail."""

from __future__ import annotations

import contextvars
import logging
import re
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, NoOpTracerProvider

from glasscache._events import Invalidation, SpanRef, TierChanged
from glasscache.otel import OtelTelemetry
from tests.support.otel_rig import Rig, ids, linked, load, parent, run_load, wait

_THERE = SpanRef(0xABC, 0xDEF, sampled=True)


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_follower_of_a_load_that_waits_for_another_machine_waits_for_that_one(rig: Rig) -> None:
    there = load(ref=_THERE, machine="host-7-ab", begun=90.0, fencing_token=41)
    here = load(waits_for=there)
    with rig.telemetry.span(wait(here, scope="cluster", begun=100.0, ended=100.2)):
        pass
    span = rig.span("cache.lock.wait")
    assert linked(span) == [("lock_holder", _THERE.span_id)]
    told = dict(span.attributes or {})
    assert told["cache.lock.scope"] == "cluster"
    assert told["cache.lock.holder.id"] == "host-7-ab"
    assert told["cache.fencing_token"] == 41, "of the loads in that trace, this one"
    assert told["cache.lock.holder.elapsed"] == pytest.approx(10.0)
    assert told["cache.lock.holder.trace_id"] == f"{_THERE.trace_id:032x}"


class Curious(Sampler):
    """Keeps everything, and notes which spans were linked to when a sampler was asked."""

    def __init__(self) -> None:
        self.seen: dict[str, list[list[int]]] = {}

    def should_sample(
        self,
        parent_context: Any,
        trace_id: int,
        name: str,
        kind: Any = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        self.seen.setdefault(name, []).append([link.context.span_id for link in links or ()])
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "curious"


def test_the_span_of_a_wait_that_began_before_anyone_knew_who_loads_has_its_link_when_a_sampler_is_asked() -> None:
    sampler = Curious()
    rig, work = Rig(sampler), load()
    waiting = wait(work)
    with rig.tracer.start_as_current_span("GET /ask") as server, rig.telemetry.span(waiting):
        early = waiting.ref
        holding = rig.telemetry.span(work)
        contextvars.copy_context().run(holding.__enter__)
        shown = waiting.ref
    holding.__exit__(None, None, None)
    span, holder = rig.span("cache.lock.wait"), rig.span("cache.load")
    assert early is None
    assert shown is not None, "while it lasts"
    assert shown.span_id == ids(span).span_id
    assert sampler.seen["cache.lock.wait"] == [[ids(holder).span_id]]
    assert linked(span) == [("lock_holder", ids(holder).span_id)]
    assert (span.attributes or {})["cache.lock.holder.span_id"] == f"{ids(holder).span_id:016x}"
    assert parent(span) == ids(server).span_id
    assert (span.start_time or 0) < (holder.start_time or 0), "it began when the wait did"
    assert ("lock_waiter", ids(span).span_id) in linked(holder)


def test_of_a_crowd_that_came_before_its_load_sixteen_spans_begin_with_it_and_the_rest_when_their_waits_end() -> None:
    sampler = Curious()
    rig, work = Rig(sampler), load()
    waits = [wait(work, position=number) for number in range(1, 21)]
    sections = [rig.telemetry.span(each) for each in waits]
    for section in sections:
        section.__enter__()
    holding = rig.telemetry.span(work)
    contextvars.copy_context().run(holding.__enter__)
    assert [each.position for each in waits if each.ref is not None] == list(range(1, 17))
    for section in sections:
        section.__exit__(None, None, None)
    holding.__exit__(None, None, None)
    holder = rig.span("cache.load")
    assert sampler.seen["cache.lock.wait"] == [[ids(holder).span_id]] * 20
    assert linked(holder) == [("lock_waiter", each.ref.span_id) for each in waits[:16] if each.ref is not None]
    told = [span for span in rig.exporter.get_finished_spans() if span.name == "cache.lock.wait"]
    assert len(told) == 20
    assert all((span.start_time or 0) < (holder.start_time or 0) for span in told)


def test_a_wait_for_another_machine_is_known_to_its_followers_as_soon_as_it_begins(rig: Rig) -> None:
    work = load()
    waiting = wait(work)
    with rig.telemetry.span(waiting):
        work.waits_for = load(ref=_THERE, machine="host-7-ab")
        work.named()
        assert waiting.ref is not None
    assert linked(rig.span("cache.lock.wait")) == [("lock_holder", _THERE.span_id)]


def test_a_wait_that_ends_before_anyone_knows_who_loads_is_told_once_and_without_a_link(rig: Rig) -> None:
    work = load()
    with rig.telemetry.span(wait(work, outcome="cancelled")):
        pass
    run_load(rig.telemetry, work)
    span = rig.span("cache.lock.wait")
    assert linked(span) == []
    assert linked(rig.span("cache.load")) == []


def test_without_an_sdk_there_is_nothing_to_link_to() -> None:
    telemetry, work = OtelTelemetry(name="knowledge", label=repr, tracer_provider=NoOpTracerProvider()), load()
    waiting = wait(work)
    with telemetry.span(waiting):
        run_load(telemetry, work)
    assert (waiting.ref, work.waiters) == (None, [])


def test_a_wait_whose_holder_is_replaced_is_linked_to_both(rig: Rig) -> None:
    work = load(waits_for=load(ref=_THERE, machine="host-7-ab"))
    with rig.telemetry.span(wait(work)):
        work.waits_for = None
        run_load(rig.telemetry, work)
    span, holder = rig.span("cache.lock.wait"), rig.span("cache.load")
    assert linked(span) == [("lock_holder", _THERE.span_id), ("lock_holder", ids(holder).span_id)]
    assert (span.attributes or {})["cache.lock.holder.span_id"] == f"{ids(holder).span_id:016x}"


def test_a_load_under_a_lease_tells_what_became_of_it_and_links_to_who_waited_elsewhere(rig: Rig) -> None:
    work = load(fencing_token=41, held=2.5, remote_waiters=[_THERE], told_after=100.0)
    section = rig.telemetry.span(work)
    contextvars.copy_context().run(section.__enter__)
    section.__exit__(None, None, None)
    span = rig.span("cache.load")
    assert linked(span) == [("lock_waiter", _THERE.span_id)]
    assert (span.attributes or {})["cache.fencing_token"] == 41
    assert (span.start_time or 0) - (span.end_time or 0) > 99e9  # it ended before it was told
    held = {p.attributes["cache.lock.scope"]: p for p in rig.points("glasscache.lock.hold.duration")}
    assert held["cluster"].sum == 2.5
    assert held["cluster"].attributes["cache.lock.release"] == "released"
    queues = {p.attributes["cache.lock.scope"]: p.sum for p in rig.points("glasscache.lock.queue.length")}
    assert queues == {"process": 0, "cluster": 1}


def test_a_lost_lease_is_an_error_in_the_log(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="glasscache"):
        run_load(rig.telemetry, load(fencing_token=41, release="lost", held=2.5, remote_waiters=[_THERE]))
    (record,) = caplog.records
    span = ids(rig.span("cache.load"))
    assert (record.name, record.levelno) == ("glasscache", logging.ERROR)
    assert {key: value for key, value in vars(record).items() if "." in key} == {
        "event.name": "glasscache.lock.lost",
        "cache.name": "knowledge",
        "cache.key_group": "/ask",
        "cache.key_hash": "hash of a key",
        "cache.lock.scope": "cluster",
        "cache.lock.hold": 2.5,
        "cache.lock.release": "lost",
        "cache.lock.queue.length": 1,
        "cache.lock.holder.trace_id": f"{span.trace_id:032x}",
        "cache.lock.holder.span_id": f"{span.span_id:016x}",
        "cache.fencing_token": 41,
    }


def test_a_long_wait_for_another_machine_names_it(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    there = load(machine="host-7-ab")
    with rig.telemetry.span(wait(load(waits_for=there), scope="cluster", begun=0.0, ended=3.0)):
        pass
    (record,) = caplog.records
    assert record.__dict__["cache.lock.holder.id"] == "host-7-ab"
    assert "cache.lock.holder.trace_id" not in record.__dict__
    assert re.fullmatch(
        r"waited long for another request's load: name=\S+ key_group=\S+ lock.wait=3", record.getMessage()
    )


def test_an_invalidation_from_another_machine_is_linked_to_it_and_its_lag_measured(rig: Rig) -> None:
    with rig.telemetry.span(Invalidation(source="backplane", count=3, cause=_THERE, lag=0.25)):
        pass
    span = rig.span("cache.invalidate")
    assert linked(span) == [("invalidation_source", _THERE.span_id)]
    (lag,) = rig.points("glasscache.invalidation.lag")
    assert lag.sum == 0.25


def test_a_tier_that_fails_and_recovers_is_logged(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="glasscache"):
        rig.telemetry.emit(TierChanged(tier="redis", state="open", error=ConnectionError("no")))
        rig.telemetry.emit(TierChanged(tier="redis", state="ok"))
    told = [(record.levelno, record.__dict__["event.name"]) for record in caplog.records]
    assert told == [(logging.WARNING, "glasscache.tier.degraded"), (logging.INFO, "glasscache.tier.recovered")]
    assert caplog.records[0].__dict__["error.type"] == "ConnectionError"
    assert "error.type" not in caplog.records[1].__dict__
    assert [record.getMessage().partition("name=")[0] for record in caplog.records] == [
        "a tier does not answer as it should: ",
        "a tier answers again: ",
    ]
    assert caplog.records[0].getMessage().endswith(" tier=redis tier.state=open error.type=ConnectionError (no)")
