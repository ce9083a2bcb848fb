"""The public suite for HTTP caches: where it is, how it is run, and what it says of the results.

Decides how the suite's two halves (an origin, and a client that goes to it through the cache) and the cache between
them are started and ended. The verdicts are the suite's own (`judge.mjs`): nothing here judges a result.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PACKAGE = "http-cache-tests@0.4.5"
_START = 60.0  # seconds
_RUN = 900.0


class SuiteError(RuntimeError):
    """No result could be obtained; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One test of the suite."""

    id: str
    name: str
    suite: str
    kind: str
    """required, optimal, or check (a question without a right answer)"""
    applies: bool
    """Whether it is about a cache like ours."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A cache whose results the suite publishes."""

    name: str
    version: str
    type: str
    verdicts: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the suite says: of itself, of the published caches, and of our runs."""

    tests: list[Case]
    peers: list[Peer]
    runs: list[dict[str, str]]
    """One verdict a test: pass, yes, or what else became of it."""


class Suite:
    """A copy of the suite with what it needs installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        engine = directory / "test-engine"
        root = engine if engine.is_dir() else directory
        self._server, self._client = root / "server" / "server.mjs", root / "cli.mjs"
        if not self._server.is_file() or not self._client.is_file():
            raise SuiteError(f"{directory} is no copy of http-tests/cache-tests")
        if not any((folder / "node_modules").is_dir() for folder in (directory, directory.parent.parent)):
            raise SuiteError(f"{directory} has no node_modules: run `npm install --ignore-scripts` in it")

    @classmethod
    def installed(cls, folder: Path) -> Suite:
        """The release that we are measured by, from npm into `folder`, once."""
        directory = folder / "node_modules" / "http-cache-tests"
        if not directory.is_dir():
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "package.json").write_text('{"private": true}\n', "utf-8")
            options = ("--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
            _run([_tool("npm"), "install", *options, PACKAGE], folder)
        return cls(directory)

    @contextmanager
    def origin(self, port: int, log: Path) -> Iterator[None]:
        """The suite's origin on this port, while the block runs."""
        settings = {"port": str(port), "protocol": "http", "pidfile": str(log.with_suffix(".pid"))}
        command = [_tool("node"), "--no-warnings", str(self._server)]
        with running("the suite's origin", command, port, log, cwd=self.directory, env=_settings(settings)):
            yield

    def run(self, port: int, test: str = "") -> str:
        """What the suite's client prints; it goes through the cache on this port."""
        settings = {"base": f"http://127.0.0.1:{port}", "id": test}
        return _run([_tool("node"), "--no-warnings", str(self._client)], self.directory, _settings(settings))

    def passes(self, port: int, test: str) -> bool:
        """Whether this test, alone, is passed, or answered with yes."""
        return self.run(port, test).rstrip().rpartition("\n")[2].startswith(("\N{WHITE HEAVY CHECK MARK}", "Y"))

    def judge(self, results: Sequence[Path]) -> Judged:
        """What the suite says of these results of runs."""
        command = [_tool("node"), "--no-warnings", str(HERE / "judge.mjs"), str(self.directory), *map(str, results)]
        said: dict[str, Any] = json.loads(_run(command, self.directory))
        return Judged(
            tests=[Case(**test) for test in said["tests"]],
            peers=[Peer(**peer) for peer in said["published"]],
            runs=said["runs"],
        )


def results_in(output: str) -> dict[str, Any]:
    """The results at the end of what the client printed."""
    start = output.rfind("\n{\n") + 1
    with suppress(ValueError):
        results: dict[str, Any] = json.loads(output[start:])
        return results
    raise SuiteError(f"the suite's client printed no results:\n{output[-2000:]}")


@contextmanager
def running(
    what: str, command: Sequence[str], port: int, log: Path, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that listens on a port, while the block runs; it and its children end with it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options
        )
    try:
        deadline = time.monotonic() + _START
        while not listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SuiteError(f"{what} did not listen on port {port}:\n{log.read_text('utf-8', 'replace')[-2000:]}")
            time.sleep(0.05)
        yield process
        if process.poll() is not None:
            raise SuiteError(f"{what} ended by itself:\n{log.read_text('utf-8', 'replace')[-2000:]}")
    finally:
        for sign in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, sign)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
                break


def listens(port: int) -> bool:
    """Whether somebody does on this port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SuiteError(f"{name} is not on the path: the suite needs Node.js 18 or newer, and npm")
    return found


def _settings(given: dict[str, str]) -> dict[str, str]:
    """What `npm run` would pass to the suite, and no proxy between it and the cache."""
    proxies = {"http_proxy", "https_proxy", "all_proxy"}
    env = {name: value for name, value in os.environ.items() if name.lower() not in proxies}
    for name in ("base", "id", "port", "protocol", "pidfile"):
        env[f"npm_config_{name}"] = env[f"npm_package_config_{name}"] = given.get(name, "")
    return env


def _run(command: Sequence[str], cwd: Path, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=_RUN, check=False
        )
    except subprocess.TimeoutExpired:
        raise SuiteError(f"{Path(command[0]).name} was not done in {_RUN:g} s") from None
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        raise SuiteError(f"{' '.join(command)} failed:\n{output[-1000:]}\n{done.stderr.decode('utf-8', 'replace')}")
    return output
