"""compose.yaml: no container runs where these tests run, so every promise that its parts make each other is checked.

The service itself is started here as compose would, by the same command and with the same environment.
"""

from __future__ import annotations

import asyncio
import re
import sysconfig
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import compose_spec
import pytest
import yaml

from glasscache.settings import Settings
from glasscache_dashboards import DASHBOARDS, alert_rules
from tests.dashboards import model
from tests.support.otlp import Receiver, grpc_receiver
from tests.support.ports import free_port
from tests.support.redis_process import RedisProcess
from tests.telemetry.processes import ROOT, client_of, running

pytestmark = pytest.mark.no_cover

FILE = ROOT / "dashboards" / "compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
GRAFANA = "/otel-lgtm/grafana/conf/provisioning"
OF_THE_IMAGE = {"lgtm": {3000, 4317, 4318}, "redis-exporter": {9121}, "valkey": {6379}}
"""Ports on which the programs of the images listen by themselves."""


def mounts() -> dict[str, Path]:
    """Path in the container -> file or folder beside compose.yaml."""
    found = {}
    for mount in SERVICES["lgtm"]["volumes"]:
        source, target, mode = mount.split(":")
        assert mode == "ro"
        found[target] = FILE.parent / source
    return found


def ports(service: str) -> set[int]:
    """What it listens on."""
    command = SERVICES[service].get("command", ())
    own = {int(command[command.index("--port") + 1])} if "--port" in command else set()
    return own | OF_THE_IMAGE.get(service, set())


def test_it_is_a_compose_file() -> None:
    parsed = compose_spec.PyCompose.from_yaml(FILE.read_text("utf-8"))
    assert set(parsed.service_names()) == set(SERVICES)
    with pytest.raises(ValueError, match="ports"):
        compose_spec.PyCompose.from_yaml("services: {a: {image: b, ports: [nonsense]}}")


def test_what_is_mounted_is_there() -> None:
    assert [str(path) for path in mounts().values() if not path.exists()] == []


def test_services_wait_only_for_services_that_can_say_they_are_well() -> None:
    for service in SERVICES.values():
        for name, needs in service.get("depends_on", {}).items():
            assert needs == {"condition": "service_healthy"}
            assert "healthcheck" in SERVICES[name] or name == "lgtm", "that image brings its own"


def test_every_address_is_that_of_a_service_which_listens_there() -> None:
    text = FILE.read_text("utf-8") + (FILE.parent / "compose" / "prometheus.yaml").read_text("utf-8")
    addresses = re.findall(r"(?:http|redis)://([\w-]+):(\d+)", text) + re.findall(r'"([\w-]+):(\d+)"\]', text)
    named = [(host, int(port)) for host, port in addresses if host != "localhost" and not host.isdigit()]
    assert {host for host, _ in named} == {"demo", "valkey", "lgtm", "redis-exporter"}
    for host, port in named:
        assert port in ports(host), f"{host} does not listen on {port}"


def test_published_ports_are_listened_on() -> None:
    for name, service in SERVICES.items():
        for published in service.get("ports", ()):
            outside, inside = published.split(":")
            assert outside == inside
            assert int(inside) in ports(name)


def test_the_image_of_the_demo_has_what_it_is_built_from() -> None:
    build = SERVICES["demo"]["build"]
    context = (FILE.parent / build["context"]).resolve()
    assert context == ROOT
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (.+)$", build["dockerfile_inline"], re.MULTILINE)]
    assert [name for names in copied for name in names if not (context / name).exists()] == []
    assert SERVICES["visitors"]["image"] == SERVICES["demo"]["image"]


def test_grafana_finds_the_dashboards_the_alerts_and_the_data_sources_that_they_name() -> None:
    there = mounts()
    (provider,) = yaml.safe_load(there[f"{GRAFANA}/dashboards/glasscache.yaml"].read_text("utf-8"))["providers"]
    folder = there[provider["options"]["path"]]
    assert {path.stem for path in folder.glob("*.json")} == set(DASHBOARDS)
    home = Path(SERVICES["lgtm"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert str(home.parent) == provider["options"]["path"]
    assert (folder / home.name).exists()
    assert there[f"{GRAFANA}/alerting/glasscache.yaml"].read_text("utf-8") == alert_rules("grafana")
    sources = yaml.safe_load(there[f"{GRAFANA}/datasources/grafana-datasources.yaml"].read_text("utf-8"))
    uids = {source["uid"]: source["type"] for source in sources["datasources"]}
    asked = {data["datasourceUid"] for rule in rules() for data in rule["data"]} - {"__expr__"}
    assert asked <= set(uids)
    wanted = {v["query"] for v in model.boards()[DASHBOARDS[0]]["templating"]["list"] if v["type"] == "datasource"}
    assert wanted <= set(uids.values())


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(alert_rules("grafana"))["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def test_metrics_come_as_often_as_grafana_is_told() -> None:
    text = (FILE.parent / "compose" / "datasources.yaml").read_text("utf-8")
    (prometheus,) = [s for s in yaml.safe_load(text)["datasources"] if s["uid"] == "prometheus"]
    every = int(SERVICES["demo"]["environment"]["OTEL_METRIC_EXPORT_INTERVAL"]) // 1_000
    assert prometheus["jsonData"]["timeInterval"] == f"{every}s"
    scraping = yaml.safe_load((FILE.parent / "compose" / "prometheus.yaml").read_text("utf-8"))
    assert scraping["global"]["scrape_interval"] == f"{every}s"


def test_the_cache_of_the_demo_is_what_its_environment_says() -> None:
    settings = Settings.from_env(SERVICES["demo"]["environment"])
    assert (settings.kind, urlsplit(settings.redis.url or "").hostname) == ("hybrid", "valkey")


def test_the_demo_starts_by_that_command_and_tells_the_collector(tmp_path: Path) -> None:
    with RedisProcess(tmp_path) as server, grpc_receiver() as receiver, free_port() as port:
        environment = SERVICES["demo"]["environment"] | {
            "REDIS_URL": f"redis://127.0.0.1:{server.port}/0",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint,
            "OTEL_METRIC_EXPORT_INTERVAL": "200",
            "KNOWLEDGE_PASSAGES": "20",
            "HF_HUB_OFFLINE": "1",
        }
        program, *arguments = SERVICES["demo"]["command"]
        arguments[arguments.index("--port") + 1] = str(port)
        arguments[arguments.index("--workers") + 1] = "1"
        arguments[arguments.index("--host") + 1] = "127.0.0.1"
        command = [f"{sysconfig.get_path('scripts')}/{program}", "--app-dir", str(ROOT / "examples"), *arguments]
        with running(command, port, tmp_path / "demo", environment) as process:

            async def scenario() -> None:
                async with client_of(process) as client:
                    first, second = [await client.get("/search?q=sort+a+list") for _ in range(2)]
                    assert (first.status_code, second.status_code) == (200, 200)
                    assert "; hit" in second.headers["cache-status"]

            asyncio.run(scenario())
            receiver.wait_until(has_told)
            process.stop()


def has_told(receiver: Receiver) -> bool:
    metrics = receiver.metrics()
    return {"glasscache.requests", "db.client.operation.duration"} <= set(metrics) and bool(receiver.spans())
