"""The real programs of the check, as processes: a Redis server and its exporter, a collector, two stores of metrics.

Decides how they are wired: SDK -> OTLP -> rotel -> VictoriaMetrics (spans: to a receiver of ours), and
SDK -> OpenMetrics -> Prometheus. They end with the check.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import yaml

from glasscache_dashboards import FILES
from tests.dashboards.check.programs import Programs
from tests.support.otlp import Receiver, http_receiver
from tests.support.ports import free_port
from tests.support.redis_process import ADMIN, RedisProcess
from tests.telemetry.processes import Process, running
from tests.telemetry.rotel import rotel

JOB = "knowledge"
REDIS_JOB = "redis"
_EVERY = "1s"


@dataclass(frozen=True)
class Site:
    """One process of the service."""

    name: str
    process: Process
    protocol: str


@dataclass(frozen=True)
class Backends:
    """All that runs. `sites`: by name; the last one, D, is there to hang."""

    redis: RedisProcess
    spans: Receiver
    victoria: str
    prometheus: str
    sites: dict[str, Site]


PROTOCOLS = {"A": "grpc", "B": "grpc", "C": "http/protobuf", "D": "http/protobuf"}


@contextmanager
def backends(folder: Path, programs: Programs) -> Iterator[Backends]:
    """Run them."""
    with ExitStack() as stack:
        enter = stack.enter_context
        ports = {name: enter(free_port()) for name in (*PROTOCOLS, "exporter", "victoria", "prometheus")}
        redis = enter(RedisProcess(folder, "maxmemory 64mb", "maxmemory-policy volatile-lru"))
        exporter = [str(programs.redis_exporter), "-web.listen-address", f"127.0.0.1:{ports['exporter']}"]
        exporter += ["-redis.addr", f"redis://127.0.0.1:{redis.port}"]
        exporter += ["-redis.user", ADMIN["username"], "-redis.password", ADMIN["password"]]
        enter(running(exporter, ports["exporter"], folder / "exporter", {}))
        spans = enter(http_receiver())
        victoria = enter(_victoria(folder / "victoria", programs, ports))
        collector = enter(_collector(folder / "rotel", spans, victoria))
        prometheus = enter(_prometheus(folder / "prometheus", programs, ports))
        shared = {
            "CACHE_TYPE": "hybrid",
            "REDIS_URL": f"redis://127.0.0.1:{redis.port}",
            "CACHE_MAX_SIZE": "120",
            "GLASSCACHE_NAME": "knowledge",
            "GLASSCACHE_MAX_BYTES": "200kB",
            "GLASSCACHE_KEY": "k" * 32,
            "GLASSCACHE_TIME_HITS": "4",
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        }
        sites = {}
        for name, protocol in PROTOCOLS.items():
            own = {
                "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
                "OTEL_EXPORTER_OTLP_ENDPOINT": collector[protocol],
                "OTEL_RESOURCE_ATTRIBUTES": f"service.instance.id=127.0.0.1:{ports[name]}",
                "GLASSCACHE_WAIT_TIMEOUT": "600" if name == "D" else "2.5",
            }
            command = [*_PYTHON, "tests.dashboards.check.site:app", "--port", str(ports[name]), "--no-access-log"]
            process = enter(running(command, ports[name], folder / name, {**shared, **own}))
            sites[name] = Site(name, process, protocol)
        yield Backends(redis=redis, spans=spans, victoria=victoria, prometheus=prometheus, sites=sites)


_PYTHON = (f"{sysconfig.get_path('scripts')}/python", "-m", "uvicorn")
_RELABEL = [
    {"source_labels": ["service_name"], "regex": "(.+)", "target_label": "job"},
    {"source_labels": ["service_instance_id"], "regex": "(.+)", "target_label": "instance"},
]
"""VictoriaMetrics makes no job and instance of the resource by itself: docs/dashboards.md tells users, too."""


@contextmanager
def _victoria(folder: Path, programs: Programs, ports: dict[str, int]) -> Iterator[str]:
    folder.mkdir()
    (folder / "relabel.yaml").write_text(yaml.dump(_RELABEL))
    (folder / "scrape.yaml").write_text(yaml.dump({"scrape_configs": [_job(REDIS_JOB, [ports["exporter"]])]}))
    command = [
        str(programs.victoria_metrics),
        f"-httpListenAddr=127.0.0.1:{ports['victoria']}",
        f"-storageDataPath={folder / 'data'}",
        "-opentelemetry.usePrometheusNaming",
        f"-relabelConfig={folder / 'relabel.yaml'}",
        f"-promscrape.config={folder / 'scrape.yaml'}",
        "-retentionPeriod=3d",
        "-search.latencyOffset=0s",
        "-search.disableCache",
    ]
    with running(command, ports["victoria"], folder, {}) as process:
        yield process.url


@contextmanager
def _prometheus(folder: Path, programs: Programs, ports: dict[str, int]) -> Iterator[str]:
    folder.mkdir()
    config = {
        "scrape_configs": [_job(JOB, [ports[name] for name in PROTOCOLS]), _job(REDIS_JOB, [ports["exporter"]])],
        "rule_files": [str(FILES / "alerts" / "prometheus.yaml")],
    }
    (folder / "prometheus.yaml").write_text(yaml.dump(config))
    command = [
        str(programs.prometheus),
        f"--config.file={folder / 'prometheus.yaml'}",
        f"--web.listen-address=127.0.0.1:{ports['prometheus']}",
        f"--storage.tsdb.path={folder / 'data'}",
        "--enable-feature=exemplar-storage,native-histograms",
        "--log.level=warn",
    ]
    with running(command, ports["prometheus"], folder, {}) as process:
        yield process.url


def _job(job: str, ports: Sequence[int]) -> dict[str, object]:
    targets = [f"127.0.0.1:{port}" for port in ports]
    return {
        "job_name": job,
        "scrape_interval": _EVERY,
        "scrape_timeout": _EVERY,
        "metrics_path": "/metrics",
        "static_configs": [{"targets": targets}],
    }


def _collector(folder: Path, spans: Receiver, victoria: str) -> AbstractContextManager[dict[str, str]]:
    """rotel; its endpoint for each protocol."""
    settings = {
        "ROTEL_BATCH_TIMEOUT": "100ms",
        "ROTEL_EXPORTER": "otlp",
        "ROTEL_OTLP_EXPORTER_PROTOCOL": "http",
        "ROTEL_OTLP_EXPORTER_METRICS_ENDPOINT": f"{victoria}/opentelemetry/v1/metrics",
        "ROTEL_OTLP_EXPORTER_TRACES_ENDPOINT": f"{spans.endpoint}/v1/traces",
        "ROTEL_OTLP_EXPORTER_LOGS_ENDPOINT": f"{spans.endpoint}/v1/logs",
    }
    return rotel(folder, settings)
