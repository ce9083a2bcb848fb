"""Several processes: whatever they inherit or share, each request is counted once over all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from tests.support.otlp import Receiver, grpc_receiver, http_receiver
from tests.telemetry.processes import UVICORN, Process, client_of, site

GUNICORN = (
    "gunicorn --preload --no-control-socket --workers 4 --worker-class uvicorn_worker.UvicornWorker"
    " --bind 127.0.0.1:{port}"
)
BATCH = 40


def ask(process: Process) -> int:
    """Ask until more than one worker has answered; how many requests that took."""

    async def scenario() -> int:
        workers: set[int] = set()
        sent = 0
        async with asyncio.timeout(60), client_of(process) as client:
            while len(workers) < 2 or sent < 100:
                batch = [client.get(f"/ask?q={number % 7}") for number in range(BATCH)]
                answers = await asyncio.gather(*batch)
                assert {answer.status_code for answer in answers} == {200}
                sent += BATCH
                figures = [await client.desk() for _ in range(8)]
                workers |= {each["pid"] for each in figures if each["total_requests"]}  # the desk's own do not count
        return sent

    return asyncio.run(scenario())


def counted(receiver: Receiver) -> dict[str, Counter[str]]:
    """Requests by group and then by process, after all processes have ended."""
    found: dict[str, Counter[str]] = {}
    for point in receiver.metrics()["glasscache.requests"].points:
        by_process = found.setdefault(point.attributes["cache.key_group"], Counter())
        by_process[point.resource["service.instance.id"]] += int(point.value)
    return {group: +by_process for group, by_process in found.items()}


def assert_counted_once(receiver: Receiver, sent: int) -> None:
    by_process = counted(receiver)["/ask"]
    assert len(by_process) > 1
    assert by_process.total() == sent
    misses = sum(
        point.value
        for point in receiver.metrics()["glasscache.requests"].points
        if point.attributes["cache.result"] == "miss" and point.attributes["cache.key_group"] == "/ask"
    )
    loads = [span for span in receiver.spans() if span.attributes.get("cache.key_group") == "/ask"]
    assert len({span.span_id for span in loads}) == len(loads) == misses


def test_workers_that_uvicorn_spawns_count_each_request_once(tmp_path: Path) -> None:
    with grpc_receiver() as receiver:
        command = f"{UVICORN} --workers 4"
        with site(tmp_path, {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint}, command=command) as process:
            sent = ask(process)
            process.stop()
        assert_counted_once(receiver, sent)


def test_workers_forked_from_a_cache_in_use_do_not_count_what_they_inherited(tmp_path: Path) -> None:
    with http_receiver() as receiver:
        settings = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        }
        command = f"{GUNICORN} tests.telemetry.preloaded:app"
        with site(tmp_path, settings, command=command) as process:
            sent = ask(process)
            process.stop()
        assert_counted_once(receiver, sent)
        assert list(counted(receiver)["before"].values()) == [2]  # by the parent alone


def test_workers_that_set_up_their_own_exporters_after_the_fork_may_use_grpc(tmp_path: Path) -> None:
    with grpc_receiver() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "SITE_SETUP": "post_fork"}
        command = f"{GUNICORN} --config python:tests.telemetry.gunicorn_conf tests.telemetry.preloaded:app"
        with site(tmp_path, settings, command=command) as process:
            sent = ask(process)
            process.stop()
        assert_counted_once(receiver, sent)
        assert "before" not in counted(receiver)  # nobody told of it: the parent has no exporters
