"""`configure()` on a real server: what arrives at real receivers, directly and through a real collector."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.otlp import grpc_receiver, http_receiver
from tests.telemetry import story
from tests.telemetry.processes import site
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
