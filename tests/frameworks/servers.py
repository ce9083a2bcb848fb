"""Servers as people start them: by their command lines, on a free port of 127.0.0.1, stopped by SIGTERM.

Decides how a cell's server is started and stopped, and that its output is shown when something fails. Must never leave
a process behind, nor wait without a deadline.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import STDOUT, Process
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.frameworks.origin import TOLD
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.servers import RawConnection

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Server:
    """A server's name in tests and docs, and the arguments after `python -m`; `{port}` and `{app}` are filled in."""

    id: str
    title: str
    arguments: str

    def command(self, app: str, port: int) -> list[str]:
        """The command line."""
        return [sys.executable, "-m", *self.arguments.format(app=app, port=port).split()]


SERVERS = (
    Server(
        "uvicorn-uvloop",
        "uvicorn (uvloop, httptools)",
        "uvicorn --loop uvloop --http httptools --host 127.0.0.1 --port {port} {app}",
    ),
    Server(
        "uvicorn-asyncio",
        "uvicorn (asyncio, h11)",
        "uvicorn --loop asyncio --http h11 --host 127.0.0.1 --port {port} {app}",
    ),
    Server("hypercorn", "hypercorn", "hypercorn --workers 0 --bind 127.0.0.1:{port} {app}"),
    Server("granian", "granian", "granian --interface asgi --host 127.0.0.1 --port {port} {app}"),
    Server("daphne", "daphne", "daphne --bind 127.0.0.1 --port {port} {app}"),
)


@dataclass(frozen=True)
class Running:
    """A server that runs."""

    port: int
    output: Path
    _process: Process

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self._process.pid

    async def stop(self) -> int:
        """SIGTERM; how it ended."""
        self._process.terminate()
        await _until_ended(self._process)
        assert self._process.returncode is not None
        return self._process.returncode


@asynccontextmanager
async def serving(server: Server, app: str, folder: Path, told: Path) -> AsyncIterator[int]:
    """Serve `app` (`module:name`) and yield the port. When the block has ended, so has the server.

    `folder`: where its output goes. `told`: where the app tells what happened.
    """
    async with running(server, app, folder, told) as served:
        yield served.port
        await served.stop()


@asynccontextmanager
async def running(server: Server, app: str, folder: Path, told: Path, **variables: str) -> AsyncIterator[Running]:
    """As `serving`, for a block that stops it. `variables`: of its environment, beside those that all have."""
    with free_port() as port, _output(folder, told) as output:
        process = await asyncio.create_subprocess_exec(
            *server.command(app, port),
            cwd=ROOT,
            env={**_environment(told), **variables},
            stdout=output,
            stderr=STDOUT,
            start_new_session=True,
        )
        try:
            await _until_open(process, port)
            yield Running(port, folder / "output.txt", process)
        finally:
            with suppress(ProcessLookupError):  # as it should be
                os.killpg(process.pid, signal.SIGKILL)  # its workers, too
            await process.wait()


async def _until_ended(process: Process) -> None:
    """Wait for it; one that does not end says where each of its processes stands."""
    try:
        async with asyncio.timeout(PATIENCE):
            await process.wait()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGABRT)
        await process.wait()
        raise


@contextmanager
def _output(folder: Path, told: Path) -> Iterator[IO[bytes]]:
    """Where the server's output goes; the end of it is added to whatever fails."""
    path = folder / "output.txt"
    told.touch()
    try:
        with path.open("wb") as output:
            yield output
    except Exception as error:
        error.add_note(f"The server said:\n{path.read_text(errors='replace')[-8_000:]}")
        raise


_KEPT_OUT = ("CACHE_", "GLASSCACHE_", "OTEL_", "PYTHONWARNINGS", "HYPERCORN_", "GRANIAN_", "COVERAGE_")
"""What would configure the cache or the server, makes warnings errors, or measures: tracing the imports of eight
frameworks on every server takes half as long again as running them.
"""


def _environment(told: Path) -> Mapping[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_KEPT_OUT)}
    return {**kept, TOLD: str(told), "PYTHONFAULTHANDLER": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


async def _until_open(process: Process, port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while process.returncode is None:
            with suppress(OSError):
                async with RawConnection(port):
                    return
            await asyncio.sleep(0.02)
    raise AssertionError(f"the server ended with {process.returncode} before it listened")
