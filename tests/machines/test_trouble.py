"""A whole system in trouble: three processes, memory before a disk before a real server, asked while all that breaks.

Every answer is whole, its tenant's own, and not older than what its process was told invalid before the request began;
once the trouble is over, not older than what any of them was told. No request fails. A run of the soak: it takes long.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from tests.machines import trouble_app
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.redis_process import RedisProcess

pytestmark = pytest.mark.soak

ROOT = Path(__file__).parents[2]
KINDS = ("plain", "plain", "value", "value", "varied", "streamed", "large")
TENANTS, LANGUAGES = ("alice", "bob", "carol"), ("de", "en")
DOCUMENTS = 60
RUN = 60.0
"""Seconds of one run."""
OVER = 8.0
"""Seconds after the end of a trouble within which everybody has heard of all: two pings, a pause, a second telling."""
LAG = 2.0
"""Seconds that a message may take on a busy machine."""

ENVIRONMENT = {
    "CACHE_TYPE": "hybrid",
    "GLASSCACHE_KEY": "a secret that all machines of this test share",
    "GLASSCACHE_SUSPECT_TTL": "3",
    "GLASSCACHE_LEASE_SECONDS": "2",
    "CACHE_MAX_SIZE": "200",
}


class Process:
    """A server, which may be killed and started again."""

    def __init__(self, port: int, environment: dict[str, str]) -> None:
        self.port = port
        self.life = 0
        self._environment = {**os.environ, **ENVIRONMENT, **environment}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        app = ("tests.machines.trouble_app:app", "--port", str(self.port), "--log-level", "error")
        self._process = subprocess.Popen([sys.executable, "-m", "uvicorn", *app], cwd=ROOT, env=self._environment)
        self.life += 1

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class System:
    """All of it, and the books: which version was told when, and by whom."""

    def __init__(self, seed: int, folder: Path, stack: ExitStack) -> None:
        self.random = random.Random(seed)
        self.server = stack.enter_context(RedisProcess(folder))
        self.versions = [1] * DOCUMENTS
        self._file = folder / "versions"
        self._write()
        self.disks = [folder / "disks" / name for name in ("one", "one", "other")]
        self.processes = []
        for disk in self.disks:
            environment = {
                "REDIS_URL": f"redis://127.0.0.1:{self.server.port}",
                "GLASSCACHE_DISK_PATH": str(disk),
                trouble_app.VERSIONS: str(self._file),
            }
            process = Process(stack.enter_context(free_port()), environment)
            stack.callback(process.kill)
            process.start()
            self.processes.append(process)
        self.told: list[tuple[float, int, int, Process, int]] = []
        """When, of which document, which version, by which process, in which of its lives."""
        self.trouble, self.over = "none", time.monotonic()
        self.counts: Counter[str] = Counter()
        self.wrong: list[object] = []

    def _write(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_bytes(struct.pack(f"<{DOCUMENTS}I", *self.versions))
        fresh.replace(self._file)

    def pick(self) -> int:
        """A document: a few are asked for often."""
        return min(DOCUMENTS - 1, int(self.random.paretovariate(0.7)) - 1)

    async def ask(self, client: httpx.AsyncClient) -> None:
        """One request, and what is wrong with its answer."""
        process, kind = self.random.choice(self.processes), self.random.choice(KINDS)
        tenant, language, document = self.random.choice(TENANTS), self.random.choice(LANGUAGES), self.pick()
        headers = {"authorization": tenant, "accept-language": language}
        life, began, trouble = process.life, time.monotonic(), self.trouble
        try:
            url = f"http://127.0.0.1:{process.port}/ask/{kind}/{document}"
            got = await client.get(url, headers=headers, timeout=PATIENCE)
        except httpx.TransportError as error:
            if process.life == life and trouble != "death":
                self.wrong.append((trouble, kind, repr(error)))
            return
        self.counts[got.headers.get("cache-status", "glasscache; value").split("; ")[1]] += 1
        if got.status_code != 200:
            self.wrong.append((trouble, kind, got.status_code, got.text[:200]))
            return
        said = json.loads(got.content)
        expected = trouble_app.told(kind, tenant, document, said["version"], language if kind == "varied" else "")
        if got.content != expected:
            self.wrong.append((trouble, kind, "not its own, or not whole", said, tenant, document))
        if said["version"] < self.newest(document, process, life, began):
            self.wrong.append((trouble, kind, "too old", said["version"], began - self.over))

    def newest(self, document: int, process: Process, life: int, began: float) -> int:
        """The version that a request to this process may expect at least."""
        is_over = self.trouble == "none" and began - self.over > OVER
        heard = began - LAG if is_over else -1.0
        told = [
            version
            for at, of, version, by, in_life in self.told
            if of == document and (at < heard or (at < began and (by, in_life) == (process, life)))
        ]
        return max(told, default=0)

    async def change(self, client: httpx.AsyncClient) -> None:
        """A new version, told by one of the processes."""
        process, document = self.random.choice(self.processes), self.pick()
        self.versions[document] += 1
        version, life = self.versions[document], process.life
        self._write()
        try:
            got = await client.post(f"http://127.0.0.1:{process.port}/invalidate/{document}", timeout=PATIENCE)
        except httpx.TransportError:
            return
        if got.status_code != 200:
            self.wrong.append((self.trouble, "an invalidation failed", got.text[:200]))
        elif process.life == life:
            self.told.append((time.monotonic(), document, version, process, life))

    # --- troubles -----------------------------------------------------------------------------------------------------

    async def death_of_the_server(self) -> None:
        self.server.kill()
        await asyncio.sleep(self.random.random() * 3)
        self.server.start()

    async def standstill(self) -> None:
        self.server.signal(signal.SIGSTOP)
        await asyncio.sleep(self.random.random() * 5)
        self.server.signal(signal.SIGCONT)

    async def loss(self) -> None:
        for _ in range(self.random.randint(1, 4)):
            self.server.do("FLUSHALL")
            await asyncio.sleep(self.random.random())

    async def want_of_room(self) -> None:
        policies = ("allkeys-lru", "allkeys-random", "volatile-ttl", "noeviction")
        self.server.do("CONFIG", "SET", "maxmemory-policy", self.random.choice(policies))
        self.server.do("CONFIG", "SET", "maxmemory", self.random.choice(("1", "1500kb", "2mb")))
        await asyncio.sleep(1 + self.random.random() * 3)
        self.server.do("CONFIG", "SET", "maxmemory", "0")

    async def lost_connections(self) -> None:
        for _ in range(self.random.randint(1, 5)):
            self.server.do("CLIENT", "KILL", "TYPE", self.random.choice(("normal", "pubsub")))
            await asyncio.sleep(self.random.random() / 2)

    async def a_broken_disk(self) -> None:
        for path in (self.random.choice(self.disks) / "default").glob("glasscache.db*"):
            if path.suffix == ".db-shm":  # it is mapped: to cut it short would end the process
                continue
            if self.random.random() < 0.5:
                path.unlink(missing_ok=True)
            else:
                os.truncate(path, self.random.randrange(5_000))
        await asyncio.sleep(1)

    async def death(self) -> None:
        await asyncio.sleep(OVER)  # what it could not tell yet would die with it
        process = self.random.choice(self.processes)
        process.kill()
        process.start()
        await self.up(process)

    async def up(self, process: Process) -> None:
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", process.port)
                except OSError:
                    await asyncio.sleep(0.05)
                else:
                    writer.close()
                    return

    async def troubles(self, until: float) -> None:
        """One after the other, with times of peace between them."""
        kinds: tuple[Callable[[], Awaitable[None]], ...] = (
            *(self.death_of_the_server, self.standstill, self.loss, self.want_of_room, self.lost_connections),
            *(self.a_broken_disk, self.death),
        )
        while time.monotonic() < until - OVER:
            trouble = self.random.choice(kinds)
            self.trouble = trouble.__name__
            await trouble()
            self.counts[trouble.__name__] += 1
            self.trouble, self.over = "none", time.monotonic()
            await asyncio.sleep(self.random.choice((0.5, 3, OVER + 4)))


async def again(until: float, do: Callable[[], Awaitable[None]], pause: Callable[[], float]) -> None:
    """Until then, one after the other."""
    while time.monotonic() < until:
        await do()
        await asyncio.sleep(pause())


@pytest.mark.parametrize("seed", range(4))
def test_whatever_breaks_every_answer_is_whole_its_tenants_own_and_not_too_old(seed: int, tmp_path: Path) -> None:
    async def scenario(system: System) -> None:
        for process in system.processes:
            await system.up(process)
        until, chance = time.monotonic() + RUN, system.random.random
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(limits=limits) as client, asyncio.TaskGroup() as crowd:
            for _ in range(6):
                crowd.create_task(again(until, lambda: system.ask(client), lambda: chance() * 0.02))
            crowd.create_task(again(until, lambda: system.change(client), chance))
            crowd.create_task(system.troubles(until))

    with ExitStack() as stack:
        system = System(seed, tmp_path, stack)
        asyncio.run(scenario(system))
        print(f"seed {seed}: {dict(system.counts)}, {len(system.told)} invalidations")
        assert not system.wrong, system.wrong[:20]
        assert system.counts["hit"] > 20
