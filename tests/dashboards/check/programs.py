"""Programs that are not on PyPI, installed below build/dashboards: Prometheus, VictoriaMetrics, parsers of queries.

Decides their versions, and that nothing of the machine is changed: Debian's packages come through an apt configuration
of our own (apt checks their signatures) and are only unpacked. Must never name a mirror: the machine's own is used.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[3]
HOME: Final = ROOT / "build" / "dashboards"

# Suite, package, version: VictoriaMetrics takes OTLP with Prometheus' names since 1.112, which is not in bookworm.
PACKAGES: Final = (
    ("trixie", "victoria-metrics", "1.112.*"),
    ("bookworm", "prometheus", "2.42.*"),
    ("bookworm", "prometheus-redis-exporter", "1.45.*"),
)
MODULES: Final = (
    "@grafana/lezer-traceql@1.0.0",
    "@lezer/common@1.5.0",
    "@lezer/highlight@1.2.3",
    "@lezer/lr@1.4.7",
    "@prometheus-io/lezer-promql@0.315.0",
)
KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_NEEDED = {
    "apt-get": "a Debian machine (12 or newer)",
    "dpkg-deb": "a Debian machine (12 or newer)",
    "npm": "Node.js with npm",
    "node": "Node.js with npm",
}


class Programs(NamedTuple):
    """Where they are."""

    victoria_metrics: Path
    prometheus: Path
    promtool: Path
    vmalert: Path
    redis_exporter: Path
    modules: Path


def install() -> Programs:
    """Install what is not there yet; SystemExit with the remedy if that cannot be done here."""
    for command, remedy in _NEEDED.items():
        if shutil.which(command) is None:
            raise SystemExit(f"make dashboards-check: {command} is not on the path; it needs {remedy}")
    wanted = json.dumps([PACKAGES, MODULES])
    done = HOME / "installed.json"
    if not done.exists() or done.read_text() != wanted:
        shutil.rmtree(HOME, ignore_errors=True)
        _unpack_packages(HOME / "debian")
        _install_modules(HOME / "node")
        done.write_text(wanted)
    programs = HOME / "debian" / "usr" / "bin"
    return Programs(
        victoria_metrics=programs / "victoria-metrics",
        prometheus=programs / "prometheus",
        promtool=programs / "promtool",
        vmalert=programs / "vmalert",
        redis_exporter=programs / "prometheus-redis-exporter",
        modules=HOME / "node",
    )


def _unpack_packages(target: Path) -> None:
    private = HOME / "apt"
    for folder in ("lists/partial", "cache/archives/partial", "parts", "preferences", "debs"):
        (private / folder).mkdir(parents=True)
    (private / "status").touch()
    suites = sorted({suite for suite, _, _ in PACKAGES})
    mirror = _mirror()
    sources = "".join(f"deb [signed-by={KEYS}] {mirror} {suite} main\n" for suite in suites)
    (private / "sources.list").write_text(sources)
    options = {
        "Dir::State::Lists": private / "lists",
        "Dir::State::status": private / "status",
        "Dir::Cache": private / "cache",
        "Dir::Etc::SourceList": private / "sources.list",
        "Dir::Etc::SourceParts": private / "parts",
        "Dir::Etc::Preferences": private / "none",
        "Dir::Etc::PreferencesParts": private / "preferences",
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*apt, "update"], private)
    _run([*apt, "download", *(f"{name}={version}" for _, name, version in PACKAGES)], private / "debs")
    for package in (private / "debs").glob("*.deb"):
        _run(["dpkg-deb", "-x", str(package), str(target)], private)


def _mirror() -> str:
    """Where this machine gets Debian from."""
    asked = [
        "apt-get",
        "indextargets",
        "--format",
        "$(REPO_URI) $(ORIGIN) $(COMPONENT) $(RELEASE)",
        "Created-By: Packages",
    ]
    told = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
    for line in told.splitlines():
        address, *words = line.split()
        if "main" in words and "security" not in address and not words[-1].endswith(("-updates", "-security")):
            return address
    raise SystemExit("make dashboards-check: apt on this machine knows no source with a component main")


def _install_modules(target: Path) -> None:
    target.mkdir(parents=True)
    _run(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(target), *MODULES], target)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"make dashboards-check: {' '.join(command)} failed:\n{done.stdout}")
