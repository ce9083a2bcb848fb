"""`configure()` on a real server: what arrives at real receivers, directly and through a real collector."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.otlp import Receiver, grpc_receiver, http_receiver
from tests.telemetry import contract, story
from tests.telemetry.processes import Process, client_of, site
from tests.telemetry.rotel import collector

RECEIVERS = {"grpc": grpc_receiver, "http/protobuf": http_receiver}


def tell(tmp_path: Path, endpoint: str, protocol: str) -> None:
    settings = {
        "SITE_ORDER": "asgi outside",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
    }
    with site(tmp_path, settings) as process:
        story.run(process)
        process.stop()


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_the_whole_story_of_a_cache_arrives_as_the_contract_has_it(tmp_path: Path, protocol: str) -> None:
    with RECEIVERS[protocol]() as receiver:
        tell(tmp_path, receiver.endpoint, protocol)
        story.assert_arrived(receiver)
        assert {span.resource["service.name"] for span in receiver.spans()} == {"site"}


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_the_whole_story_survives_a_collector(tmp_path: Path, protocol: str) -> None:
    with RECEIVERS[protocol]() as receiver, collector(tmp_path / "rotel", receiver, protocol) as endpoints:
        tell(tmp_path, endpoints[protocol], protocol)
        story.assert_arrived(receiver)


@pytest.mark.parametrize("protocol", RECEIVERS)
def test_a_long_wait_arrives_as_an_event_that_leads_to_the_trace_of_who_waited_and_of_who_held_them_up(
    tmp_path: Path, protocol: str
) -> None:
    async def scenario(process: Process) -> None:
        async with client_of(process) as client:
            await client.crowd("/slow?q=crowd", "crowd", [story.calling(number) for number in range(2)], waiting=1.5)

    with RECEIVERS[protocol]() as receiver, collector(tmp_path / "rotel", receiver, protocol) as endpoints:
        settings = {
            "SITE_ORDER": "asgi outside",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoints[protocol],
            "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        }
        with site(tmp_path, settings) as process:
            asyncio.run(scenario(process))
            process.stop()
        receiver.wait_until(lambda got: bool(got.logs()))
        (event,) = receiver.logs()
    assert (event.severity, event.body) == ("WARN", "waited long for another request's load")
    assert event.attributes["event.name"] == "glasscache.lock.contention"
    assert event.attributes["cache.key_group"] == "/slow"
    assert event.attributes["cache.lock.wait"] == pytest.approx(1.5)
    assert event.attributes["cache.lock.holder.trace_id"] == story.TRACES[0]
    assert event.trace_id == story.TRACES[1]
    assert event.resource["service.name"] == "site"


def test_what_is_told_by_opt_in_alone_arrives_as_the_contract_has_it(tmp_path: Path) -> None:
    async def scenario(process: Process) -> None:
        async with client_of(process) as client:
            for _ in range(3):
                await client.get("/ask?q=one")
            for _ in range(2):
                await client.http.post("/question", json={"question": "who?"}, headers={"x-tenant": "one"})

    with grpc_receiver() as receiver:
        settings = {
            "SITE_ORDER": "asgi outside",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "SITE_DETAIL": "all",
        }
        with site(tmp_path, settings) as process:
            asyncio.run(scenario(process))
            process.stop()
        receiver.wait_until(lambda got: len([s for s in got.spans() if s.kind == "server"]) == 5)
        spans, metrics = receiver.spans(), receiver.metrics()
    contract.assert_spans(spans, contract.words("cache.load cache.lookup"), clear=contract.CLEAR)
    contract.assert_server_spans(spans, clear=contract.CLEAR)
    found = [span for span in spans if span.name == "cache.lookup"]
    assert {frozenset(span.attributes) for span in found} == {contract.SPANS["cache.lookup"]}
    asked = {"GET /ask?q=one", 'POST /question {"question":"who?"}'}
    for shown in (
        [span for span in spans if span.kind == "server"],
        [span for span in spans if span.name == "cache.load"],
    ):
        assert {span.attributes["cache.key"] for span in shown} == asked
    assert metrics["glasscache.request.duration"].point({"cache.result": "hit"}).count == len(found) == 3
    ours = {name: metric for name, metric in metrics.items() if name.startswith(contract.PREFIX)}
    assert "q=one" not in repr(ours), "on spans alone"
    assert "who?" not in repr(ours)


def test_a_wait_that_is_given_up_arrives_as_an_error_that_names_who_held_it_up(tmp_path: Path) -> None:
    async def scenario(process: Process, receiver: Receiver) -> None:
        async with client_of(process) as client:
            asking = [asyncio.create_task(client.get("/slow?q=crowd", **story.calling(0)))]
            await client.until(loads=1)
            asking.append(asyncio.create_task(client.get("/slow?q=crowd", **story.calling(1))))
            await asyncio.to_thread(receiver.wait_until, lambda got: bool(got.logs()))
            await client.desk(open="crowd")
            assert [answer.text for answer in await asyncio.gather(*asking)] == ["at last"] * 2

    with grpc_receiver() as receiver:
        settings = {"SITE_ORDER": "asgi outside", "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}
        with site(tmp_path, {**settings, "SITE_WAIT_TIMEOUT": "0.2"}) as process:
            asyncio.run(scenario(process, receiver))
            process.stop()
        (event,) = receiver.logs()
        (wait,) = [span for span in receiver.spans() if span.name == "cache.lock.wait"]
    # who loads is in this process: it has no other machine's id
    contract.assert_record(event, "glasscache.lock.timeout", without=frozenset({"cache.lock.holder.id"}))
    assert (event.trace_id, event.attributes["cache.lock.holder.trace_id"]) == (story.TRACES[1], story.TRACES[0])
    assert wait.attributes["cache.lock.outcome"] == "timeout"
