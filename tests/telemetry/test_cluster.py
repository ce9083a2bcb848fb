"""Three processes before one real server: what they tell over OTLP is the contract, and leads from waits to loads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest

from tests.machines.fleet import until
from tests.support.otlp import Receiver
from tests.support.otlp_model import Log, Metric, Span
from tests.support.redis_ear import Ear
from tests.telemetry import contract
from tests.telemetry.cluster import CANARY, Cluster, cluster, contend, release, trace_of
from tests.telemetry.locks import told as story
from tests.telemetry.walk import walk

NOT_TOLD = {"glasscache.lock.timeout", "glasscache.eviction.pressure"}
"""Events that this script has no time for."""
COLLAPSED = "glasscache; fwd=uri-miss; collapsed"


@dataclass
class Told:
    """What came of the script."""

    metrics: dict[str, Metric]
    spans: list[Span]
    logs: list[Log]
    events: list[dict[str, Any]]
    stored: bytes
    """Everything that was in the server while one machine loaded and two waited."""
    commands: str
    """Everything that the server was told to do."""
    callers: list[str]
    holder: int

    def ours(self, name: str) -> list[Span]:
        return [span for span in self.spans if span.scope == "glasscache" and span.name == name]

    def of_group(self, name: str) -> list[Span]:
        """Loads of this name's question."""
        return [span for span in self.ours("cache.load") if span.attributes["cache.key_group"] == name]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Told]:
    with cluster(tmp_path_factory.mktemp("cluster")) as of:
        script = Script(of)
        yield script.run()


class Script:
    """Everything that may happen among machines, once."""

    def __init__(self, of: Cluster) -> None:
        self.of = of
        self.events: list[dict[str, Any]] = []

    def run(self) -> Told:
        of = self.of
        for machine in of.fleet.machines:
            of.answer(machine, f"free-{machine.pid}")
            until(lambda machine=machine: machine.status()["in_step"])  # type: ignore[misc]
        with Ear(of.server) as ear:
            holder, stored = self.contention()
            self.tiers_and_invalidation()
            self.lost_lease()
            self.refresh()
        self.outage()
        with suppress(TimeoutError):  # the assertions below say what is missing
            of.receiver.wait_until(lambda receiver: _is_complete(receiver, of.callers))
        commands = "\n".join(command for _, command in ear.heard)
        return Told(
            of.receiver.metrics(),
            of.receiver.spans(),
            of.receiver.logs(),
            self.events,
            stored,
            commands,
            of.callers,
            holder,
        )

    def hear(self, machine: Any, name: str) -> None:
        self.events.append(machine.hear("event", **{"event.name": name}))

    def contention(self) -> tuple[int, bytes]:
        of = self.of
        holder = contend(of, "crowd")
        server = of.server
        keys = [key for key in server.do("KEYS", "*") if server.do("TYPE", key) in (b"string", b"hash")]
        stored = b"\n".join(repr((key, server.do("DUMP", key), _content(server, key))).encode() for key in keys)
        assert release(of, "crowd", holder) == ["glasscache; fwd=uri-miss; stored", *[COLLAPSED] * 5]
        for machine in of.fleet.machines:
            self.hear(machine, "glasscache.lock.contention")
        return holder.pid, stored

    def tiers_and_invalidation(self) -> None:
        of = self.of
        one, two, _ = of.fleet.machines
        two.do("forget")
        two.hear("forgot")
        for _ in range(2):  # from the shared tier, then from memory
            assert of.answer(two, "crowd").startswith("glasscache; hit")
        assert of.answer(two, "free", more="authorization: Bearer somebody").startswith("glasscache; fwd=bypass")
        assert of.answer(two, "free-private") == "glasscache; fwd=uri-miss; detail=private"
        one.do("invalidate", tag="docs")
        one.hear("invalidated")

    def lost_lease(self) -> None:
        of = self.of
        one = of.fleet.machines[0]
        of.ask(one, "lost")
        until(lambda: of.fleet.loads("lost") == [one.pid])
        (lease,) = of.server.do("KEYS", "*:l")
        of.server.do("DEL", lease)
        of.fleet.open_gate("lost", one.pid)
        of.statuses(one, "lost")
        self.hear(one, "glasscache.lock.lost")

    def refresh(self) -> None:
        of = self.of
        three = of.fleet.machines[2]
        until(lambda: "detail=revalidating" in of.answer(three, "never", path="/soon/"))
        until(lambda: not three.status()["holders"])  # one that loses its server meanwhile takes what is near

    def outage(self) -> None:
        of = self.of
        two = of.fleet.machines[1]
        of.server.kill()
        two.do("ask", name="never", count=1, path="/away/", headers=[of.caller()])
        two.hear("answered", name="never")
        self.hear(two, "glasscache.tier.degraded")
        of.server.start()
        until(
            lambda: bool(
                of.answer(two, f"never-{of.traces}", path="/away/") and two.status()["tiers"] == {"redis": "ok"}
            )
        )
        self.hear(two, "glasscache.tier.recovered")


def _content(server: Any, key: bytes) -> Any:
    return server.do("GET", key) if server.do("TYPE", key) == b"string" else server.do("HGETALL", key)


def _is_complete(receiver: Receiver, callers: list[str]) -> bool:
    spans, metrics = receiver.spans(), receiver.metrics()
    told = [span for span in spans if span.name == "cache.invalidate" and span.links]
    refreshed = [span for span in spans if span.name == "cache.load" and not span.parent]
    lag = metrics.get("glasscache.invalidation.lag")
    known = {span.span_id for span in spans}
    return (
        len(told) == 2
        and bool(refreshed)
        and lag is not None
        and {f"glasscache.{name}" for name in contract.METRICS} <= set(metrics)
        and all(link.span_id in known for span in spans for link in span.links)
        and not contract.orphans(spans, callers)
        and contract.EVENTS.keys() - {log.event_name for log in receiver.logs()} == NOT_TOLD
    )


def test_what_machines_tell_is_exactly_the_contract(told: Told) -> None:
    contract.assert_metrics(told.metrics, machines=True)
    contract.assert_spans(told.spans, contract.OF_SEVERAL)
    contract.assert_server_spans(told.spans)
    for event in told.events:
        contract.assert_event(event)
    assert {event["event.name"] for event in told.events} == contract.EVENTS.keys() - NOT_TOLD


def test_events_arrive_as_log_records_in_the_trace_of_who_waited(told: Told) -> None:
    assert {log.event_name for log in told.logs} == contract.EVENTS.keys() - NOT_TOLD
    waits = {span.trace_id for span in told.ours("cache.lock.wait")}
    contentions = [log for log in told.logs if log.event_name == "glasscache.lock.contention"]
    assert {log.trace_id for log in contentions} <= waits
    assert all(CANARY not in repr(log) for log in told.logs)


def test_the_walk_of_the_docs_is_told_step_by_step(told: Told) -> None:
    way = walk(told.metrics["glasscache.lock.wait.duration"], told.spans)
    text = "\n".join(story(way, told.spans, told.logs))
    for step in (
        "1. The metric",
        "2. An exemplar",
        "cache.lock.wait",
        "4. The link",
        "retrieval",
        "6. The same in the log",
    ):
        assert step in text
    assert way.load.trace_id[-8:] in text


def test_the_slowest_bucket_of_waits_leads_to_the_load_on_the_other_machine(told: Told) -> None:
    way = walk(told.metrics["glasscache.lock.wait.duration"], told.spans)
    assert way.exemplar.value > way.above
    assert way.wait.attributes["cache.lock.scope"] == "cluster"
    assert way.wait.resource["service.instance.id"] != way.load.resource["service.instance.id"]
    assert f"-{told.holder}-" in way.wait.attributes["cache.lock.holder.id"]
    assert way.load.attributes["cache.fencing_token"] == way.wait.attributes["cache.fencing_token"]
    assert way.load.start_ns < way.wait.end_ns
    (origin,) = [span for span in told.spans if span.parent == way.load.span_id and span.scope == "origin"]
    below = [span.name for span in told.spans if span.parent == origin.span_id]
    assert (origin.name, below) == ("retrieval", ["RPUSH", "BLPOP"]), "what the origin did all the while"


def test_who_loads_is_linked_to_who_waited_here_and_elsewhere(told: Told) -> None:
    (load,) = [span for span in told.ours("cache.load") if span.attributes["cache.lock.waiter.count"]]
    waits = {
        span.span_id: span
        for span in told.ours("cache.lock.wait")
        if span.attributes["cache.lock.holder.trace_id"] == load.trace_id
    }
    assert len(waits) == 5
    here = [link.span_id for link in load.links if link.span_id in waits]
    assert len(here) == 1
    requests = {wait.parent: wait for wait in waits.values()}
    elsewhere = [link.span_id for link in load.links if link.span_id not in waits]
    assert len(elsewhere) == 2, "one request of each other machine"
    assert set(elsewhere) <= set(requests)
    assert {wait.attributes["cache.lock.holder.sampled"] for wait in waits.values()} == {True}


def test_an_invalidation_on_another_machine_is_linked_to_who_told_it_and_its_lag_is_measured(told: Told) -> None:
    (source,) = [
        span for span in told.ours("cache.invalidate") if span.attributes["cache.invalidation.source"] == "tag"
    ]
    reached = [span for span in told.ours("cache.invalidate") if span.links]
    for span in reached:
        (link,) = span.links
        assert (link.trace_id, link.span_id) == (source.trace_id, source.span_id)
        assert span.attributes["cache.invalidation.source"] == "backplane"
        assert span.trace_id != source.trace_id
    assert len({span.resource["service.instance.id"] for span in (source, *reached)}) == 3
    lags = told.metrics["glasscache.invalidation.lag"].points
    assert sum(point.count for point in lags) >= 2, "a server that has lost its memory is told invalid, too"


def test_a_refresh_and_what_another_machine_told_are_the_only_roots(told: Told) -> None:
    contract.assert_no_orphans(told.spans, *told.callers)
    roots = [span for span in told.spans if not span.parent]
    assert {span.name for span in roots} == {"cache.load", "cache.invalidate"}
    for span in roots:
        if span.name == "cache.load":
            assert [link.attributes["cache.link.type"] for link in span.links] == ["refresh_trigger"]


def test_however_often_a_wait_asks_the_server_its_client_makes_no_spans_of_it(told: Told) -> None:
    abroad = [
        span
        for span in told.ours("cache.lock.wait")
        if span.attributes["cache.lock.scope"] == "cluster" and span.attributes["cache.lock.holder.id"]
    ]
    assert len(abroad) == 4
    waited = {wait.trace_id for wait in abroad}
    clients = [span for span in told.spans if span.scope == "opentelemetry.instrumentation.redis"]
    assert {"RPUSH", "BLPOP"} <= {span.name for span in clients}, "the origin's own client is instrumented"
    # a machine that may have missed messages reads them, once, before its wait begins
    assert len([span for span in clients if span.trace_id in waited]) <= len(waited) / 2


def test_nothing_but_the_traceparent_is_told_to_the_server(told: Told) -> None:
    for written in (told.stored.decode(), told.commands):
        assert trace_of(4) in written, "the trace of who loads"
        assert CANARY not in written
        assert "vendor" not in written
