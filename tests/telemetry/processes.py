"""Servers and collectors as people start them, each a process on a free port of 127.0.0.1.

Decides how a process is started, watched and stopped, and that what it said is shown when a test fails. Must never
leave a process behind, wait without a deadline, or hand a test's own OTEL_* settings on by accident.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.telemetry import uvicorn_log

ROOT = Path(__file__).parents[2]
SITE = "tests.telemetry.site:app"
UVICORN = f"uvicorn {SITE} --no-access-log --port {{port}} --log-config {{log}}"
FAST = {"OTEL_METRIC_EXPORT_INTERVAL": "100", "OTEL_BSP_SCHEDULE_DELAY": "50"}
"""Milliseconds after which the SDK sends: a test waits for what arrives, not for the end of a process."""


@dataclass
class Process:
    """A process under way; `said` is what it wrote, by stream."""

    port: int
    popen: subprocess.Popen[bytes]
    folder: Path

    def said(self, stream: str) -> str:
        return (self.folder / stream).read_text(errors="replace")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Tell it to end, wait for that, return its exit status."""
        self.popen.send_signal(number)
        return self.popen.wait(PATIENCE)


@contextmanager
def running(command: Sequence[str], port: int, folder: Path, settings: Mapping[str, str]) -> Iterator[Process]:
    """Run the command until the block ends; it listens on `port` before the block begins."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            ("CACHE_", "GLASSCACHE_", "OTEL_", "ROTEL_", "SITE_", "PYTHONWARNINGS", "WEB_CONCURRENCY")
        )
    }
    environment = {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path])), **settings}
    with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
        popen = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=stdout, stderr=stderr)
    process = Process(port, popen, folder)
    try:
        until(lambda: _is_open(process), f"{command!r} to listen")
        yield process
    except BaseException as error:
        error.add_note(f"{command!r} said:\n{process.said('stdout')[-4_000:]}\n{process.said('stderr')[-8_000:]}")
        raise
    finally:
        if popen.poll() is None:
            popen.kill()
        popen.wait()


def _is_open(process: Process) -> bool:
    assert process.popen.poll() is None, "the process ended"
    try:
        socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE).close()
    except OSError:
        return False
    return True


def until(condition: Callable[[], object], what: str) -> None:
    """Wait for something in another process, which cannot tell us."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


@contextmanager
def site(
    folder: Path, settings: Mapping[str, str], *, command: str = UVICORN, instrumented: bool = False
) -> Iterator[Process]:
    """The site, served by `python -m command`: by default one uvicorn. Perhaps under `opentelemetry-instrument`."""
    python = [sys.executable]
    if instrumented:
        python = [sys.executable, f"{sysconfig.get_path('scripts')}/opentelemetry-instrument", sys.executable]
    log = folder / "log.json"
    log.write_text(json.dumps(uvicorn_log.CONFIG))
    with free_port() as port:
        arguments = command.format(port=port, log=log).split()
        with running([*python, "-m", *arguments], port, folder, {**FAST, **settings}) as process:
            yield process


class Client:
    """Asks the site, and its desk."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.http.get(path, headers=headers)

    async def desk(self, **wanted: Any) -> dict[str, Any]:
        found: dict[str, Any] = (await self.http.get("/_desk", params=wanted)).json()
        return found

    async def until(self, **expected: object) -> None:
        """Wait until the desk says so."""
        async with asyncio.timeout(PATIENCE):
            while not expected.items() <= (await self.desk()).items():  # noqa: ASYNC110 - another process cannot tell
                await asyncio.sleep(0.01)

    async def crowd(
        self, path: str, gate: str, headers: Sequence[Mapping[str, str]], waiting: float = 0.3
    ) -> list[httpx.Response]:
        """The first leads the load, 0.2 s later the others begin to wait for it, for so many seconds."""
        asking = [asyncio.create_task(self.get(path, **headers[0]))]
        await self.until(loads=1)
        await self.desk(advance=0.2)
        for position, own in enumerate(headers[1:], 1):
            asking.append(asyncio.create_task(self.get(path, **own)))
            await self.until(waiters=position)
        await self.desk(advance=waiting)
        await self.desk(open=gate)
        return list(await asyncio.gather(*asking))


@asynccontextmanager
async def client_of(process: Process) -> AsyncIterator[Client]:
    """A client with a connection for each request: after an error that passed through, uvicorn closes its own."""
    limits = httpx.Limits(max_keepalive_connections=0)
    async with httpx.AsyncClient(base_url=process.url, timeout=PATIENCE, trust_env=False, limits=limits) as http:
        yield Client(http)
