"""Several processes: whatever they inherit or share, each request is counted once over all of them."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.otlp import Receiver, grpc_receiver, http_receiver
from tests.support.patience import PATIENCE
from tests.support.ports import free_ports
from tests.telemetry.processes import UVICORN, Process, client_of, site

GUNICORN_WITHOUT_NUMBER = (
    "gunicorn --preload --no-control-socket --worker-class uvicorn_worker.UvicornWorker --bind 127.0.0.1:{port}"
)
GUNICORN = f"{GUNICORN_WITHOUT_NUMBER} --workers 4"
WORKERS = 2  # where the environment says how many
BATCH = 40


def ask(process: Process) -> int:
    """Ask until more than one worker has answered; how many requests that took."""

    async def scenario() -> int:
        workers: set[int] = set()
        sent = 0
        async with asyncio.timeout(PATIENCE), client_of(process) as client:
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
    spans = [span for span in receiver.spans() if span.attributes.get("cache.key_group") == "/ask"]
    loads = [span for span in spans if span.name == "cache.load"]
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
        loads = receiver.metrics()["glasscache.load.duration"].points
        assert sum(point.count for point in loads if point.attributes["cache.key_group"] == "before") == 1


def test_workers_that_set_up_their_own_exporters_after_the_fork_may_use_grpc(tmp_path: Path) -> None:
    with grpc_receiver() as receiver:
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, "SITE_SETUP": "post_fork"}
        command = f"{GUNICORN} --config python:tests.telemetry.gunicorn_conf tests.telemetry.preloaded:app"
        with site(tmp_path, settings, command=command) as process:
            sent = ask(process)
            process.stop()
        assert_counted_once(receiver, sent)
        assert "before" not in counted(receiver)  # nobody told of it: the parent has no exporters


def pages(first: int, count: int) -> dict[str, Counter[str]]:
    """What the workers' pages on these ports say: requests by process and group."""
    found: dict[str, Counter[str]] = {}
    for port in range(first, first + count):
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE, trust_env=False).text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        (whose,) = [sample.labels for sample in samples if sample.name == "glasscache_worker_info"]
        assert whose["of"] == str(WORKERS)
        by_group = found.setdefault(whose["worker"], Counter())
        for sample in samples:
            if sample.name == "glasscache_requests_total":
                by_group[sample.labels["cache_key_group"]] += int(sample.value)
    return found


@pytest.mark.parametrize(
    ("command", "parents"),
    [(UVICORN, 0), (f"{GUNICORN_WITHOUT_NUMBER} tests.telemetry.preloaded:app", 1)],
    ids=["spawned", "forked"],
)
def test_the_pages_of_all_workers_together_count_each_request_once(tmp_path: Path, command: str, parents: int) -> None:
    with free_ports(WORKERS + parents) as first:
        settings = {
            **dict.fromkeys(("OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_LOGS_EXPORTER"), "none"),
            "GLASSCACHE_METRICS_PORT": str(first),
            "WEB_CONCURRENCY": str(WORKERS),
        }
        with site(tmp_path, settings, command=command) as process:
            sent = ask(process)
            found = pages(first, WORKERS + parents)
            process.stop()
    assert len(found) == WORKERS + parents
    assert sum(by_group["/ask"] for by_group in found.values()) == sent
    before = [by_group["before"] for by_group in found.values() if by_group["before"]]
    assert before == [2] * parents  # what the parent counted, it alone tells
