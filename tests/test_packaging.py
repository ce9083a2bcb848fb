"""What the wheel holds and says of itself, and whether the lock file can be trusted.

Decides: nothing more than pyproject.toml promises to whoever installs glasscache. Must never reach the
network: the wheel is built with the hatchling that is installed; `make package` installs it elsewhere.
"""

import importlib.metadata
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = ("middleware", "exporters", "dashboards")


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def source_packages() -> set[str]:
    return {p.parent.name for root in SOURCE_ROOTS for p in (ROOT / root).glob("*/__init__.py")}


def normal(requirement: str) -> str:
    """The distribution's name alone, as PEP 503 spells it."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert name, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def metadata(wheel: zipfile.ZipFile) -> Message:
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/METADATA")]
    return HeaderParser().parsestr(wheel.read(name).decode())


def requires(wheel: zipfile.ZipFile, extra: str | None) -> set[str]:
    mark = f"extra == '{extra}'"
    lines = [line.replace('"', "'") for line in metadata(wheel).get_all("Requires-Dist", [])]
    return {normal(line) for line in lines if (mark in line if extra else "extra ==" not in line)}


def test_the_wheel_holds_exactly_the_packages_of_the_source_roots(wheel: zipfile.ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == source_packages()
    assert {"glasscache", "glasscache_exporters"} <= source_packages()


def test_the_wheel_holds_every_module_and_no_more(wheel: zipfile.ZipFile) -> None:
    sources = {p.relative_to(ROOT / root).as_posix() for root in SOURCE_ROOTS for p in (ROOT / root).rglob("*.py")}
    made_by = {name for name in sources if name.startswith("glasscache_dashboards/_source/")}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == sources - made_by
    assert made_by


def test_the_wheel_holds_the_dashboards_and_the_alert_rules(wheel: zipfile.ZipFile) -> None:
    files = {name for name in wheel.namelist() if name.endswith((".json", ".yaml"))}
    assert {name.rpartition("/")[0] for name in files} == {
        "glasscache_dashboards/grafana",
        "glasscache_dashboards/alerts",
    }
    assert len(files) == 6


def test_the_wheel_holds_the_parts_of_the_live_page(wheel: zipfile.ZipFile) -> None:
    folder = ROOT / "middleware" / "glasscache" / "asgi" / "live"
    parts = {f"glasscache/asgi/live/{path.name}" for path in folder.iterdir()}
    assert {Path(part).suffix for part in parts} == {".html", ".css", ".js"}
    assert parts <= set(wheel.namelist())


def test_every_package_in_the_wheel_is_marked_as_typed(wheel: zipfile.ZipFile) -> None:
    assert {f"{package}/py.typed" for package in source_packages()} <= set(wheel.namelist())


def test_the_wheel_carries_its_licence(wheel: zipfile.ZipFile) -> None:
    (name,) = [n for n in wheel.namelist() if n.endswith(".dist-info/licenses/LICENSE")]
    text = wheel.read(name).decode()
    assert "Apache License" in text
    assert "Version 2.0" in text
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"


def test_the_core_needs_three_distributions(wheel: zipfile.ZipFile) -> None:
    assert requires(wheel, None) == {"cachetools", "msgspec", "opentelemetry-api"}


def test_the_extra_all_is_the_union_of_the_others(wheel: zipfile.ZipFile) -> None:
    extras = set(metadata(wheel).get_all("Provides-Extra", []))
    assert extras == set(pyproject()["project"]["optional-dependencies"])
    assert {"exporters", "all"} <= extras
    union = set[str]().union(*(requires(wheel, extra) for extra in extras - {"all"}))
    assert requires(wheel, "exporters") == {"opentelemetry-sdk", "opentelemetry-exporter-otlp"}
    assert requires(wheel, "all") in (union, {"glasscache"})


def test_the_wheel_asks_for_python_3_11(wheel: zipfile.ZipFile) -> None:
    assert metadata(wheel)["Requires-Python"] == ">=3.11"


def locked() -> dict[str, int]:
    """Every distribution in the lock file, with the number of its hashes."""
    found: dict[str, int] = {}
    name = ""
    for line in (ROOT / "requirements.lock").read_text("utf-8").splitlines():
        if pinned := re.match(r"([A-Za-z0-9._-]+)(\[.+\])?==\S+", line):
            name = normal(pinned[1])
        found[name] = found.get(name, 0) + ("--hash=sha256:" in line)
    found.pop("", None)
    return found


def test_the_lock_pins_every_distribution_by_hash() -> None:
    assert [name for name, hashes in locked().items() if not hashes] == []


@pytest.mark.parametrize("lock", ["requirements.lock", "tests/browser/requirements.txt"])
def test_the_lock_names_no_index_and_no_host(lock: str) -> None:
    lines = (ROOT / lock).read_text("utf-8").splitlines()
    shapes = re.compile(
        r"#.*|[A-Za-z0-9._-]+(\[[a-z,-]+\])?==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?|    #.*"
    )
    assert [line for line in lines if not shapes.fullmatch(line) or "://" in line] == []


def test_the_lock_pins_what_is_asked_for_with_extras_as_such() -> None:
    """Or pip 23 takes the newest release of it there is, which has no hash here, from the day that one comes out."""
    text = (ROOT / "requirements.lock").read_text("utf-8")
    pinned = {
        normal(name): set(extras.split(",")) for name, extras in re.findall(r"^(\S+)\[(.+)\]==", text, re.MULTILINE)
    }
    asked: dict[str, set[str]] = {}
    for distribution in importlib.metadata.distributions():
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.extras and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
                asked.setdefault(normal(requirement.name), set()).update(requirement.extras)
    asked.pop("glasscache", None)
    missing = {name: extras - pinned.get(name, set()) for name, extras in asked.items()}
    assert "coverage" in missing
    assert [name for name, extras in missing.items() if extras] == []


def test_without_its_extra_the_package_is_whole_but_for_redis_and_says_what_is_missing() -> None:
    code = """
import sys
sys.modules["redis"] = None  # as if it were not installed
import glasscache
from glasscache import *
for name in ("RedisStore", "Nonsense"):
    try:
        getattr(glasscache, name)
    except (ImportError, AttributeError) as error:
        print(f"{type(error).__name__}: {error}")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    missing, unknown = done.stdout.splitlines()
    assert missing.startswith("MissingExtraError: ")
    assert missing.endswith("RedisStore needs it, pip install 'glasscache[redis]'")
    assert unknown == "AttributeError: module 'glasscache' has no attribute 'Nonsense'"


def test_the_core_imports_nothing_of_an_extra() -> None:
    code = "import sys, glasscache, glasscache.asgi; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = {name.partition(".")[0] for name in done.stdout.split()}
    assert not names & {"redis", "hiredis", "zstandard", "cryptography"}
    assert names & {"cachetools", "msgspec"}


def test_the_lock_covers_all_that_pyproject_asks_for() -> None:
    project = pyproject()
    asked = list(project["project"]["dependencies"]) + list(project["build-system"]["requires"])
    for group in (
        *project["project"]["optional-dependencies"].values(),
        *project["dependency-groups"].values(),
    ):
        asked += [requirement for requirement in group if isinstance(requirement, str)]
    assert {normal(requirement) for requirement in asked} - {"glasscache"} - set(locked()) == set()


def test_what_an_index_shows_links_to_nothing_that_is_not_there(wheel: zipfile.ZipFile) -> None:
    shown = metadata(wheel).get_payload()
    assert isinstance(shown, str)
    assert not re.findall(r"\]\((?!https?:)|<img|<picture", shown)
    assert "docs/compared.md has the rest" in shown  # a link is its words


def test_every_file_that_the_readme_links_to_is_in_the_sdist(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    readme = (ROOT / "README.md").read_text("utf-8")
    linked = set(re.findall(r"(?:\]\(|src=\"|srcset=\")(?!https?:)([^)\"#]+)", readme))
    assert len(linked) > 20
    assert linked <= held
