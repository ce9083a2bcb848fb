"""Over HTTP: servers under wrk, on a system with /proc; nginx and Varnish beside them, where they can be had.

Decides how a server is loaded: one process of ours, its connections kept alive, all on this machine. A short run of
each server in every round, in shuffled order; figures are medians. Must never leave a server behind.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from random import Random

from tests.bench import debian, peers
from tests.bench.measure import Timings
from tests.bench.peers import ROOT
from tests.support.ports import free_port
from tests.support.redis_process import RedisProcess

RAW = "raw ASGI constant"
HIT = "GET hit, OpenTelemetry API only"
ROUTE = "Starlette route, no cache"
SHARED = "GET hit from Redis alone"
GRANIAN_RAW, GRANIAN_HIT = "granian: raw ASGI constant", "granian: GET hit"
NGINX, VARNISH = "nginx, proxy_cache", "Varnish"
PEER = "peer: "
_PEERS = ("hishel, rfc=False, dict as storage", "aiocache in a Starlette route")
"""The fastest of them in process (tests/bench/peer_apps.py); `make bench` prints all of those."""

_RATE = re.compile(r"Requests/sec:\s*([\d.]+)")
_COUNT = re.compile(r"(\d+) requests in")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_PATIENCE = 30.0  # seconds until a server answers

Command = Callable[[int], Sequence[str]]


class NoWireError(Exception):
    """Nothing can be measured over HTTP; says why."""


def _uvicorn(name: str) -> Command:
    return lambda port: [sys.executable, "-m", "tests.bench.wire_apps", name, str(port)]


def _granian(name: str) -> Command:
    options = "--interface asgi --host 127.0.0.1 --workers 1 --loop uvloop --no-ws --log-level critical --factory"
    return lambda port: [
        *(sys.executable, "-m", "granian", *options.split(), "--port", str(port)),
        f"tests.bench.wire_apps:{name}",
    ]


def _peer(name: str) -> Command:
    python = str(peers.FOLDER / "bin" / "python")
    return lambda port: [python, "-m", "tests.bench.wire_peers", name, str(port)]


def _nginx(program: str, folder: Path, origin: int) -> Command:
    def command(port: int) -> Sequence[str]:
        config = folder / "nginx.conf"
        config.write_text(
            f"daemon off; master_process off; error_log {folder}/errors crit; pid {folder}/nginx.pid;\n"
            "events { worker_connections 512; }\n"
            "http { access_log off; keepalive_requests 100000000;\n"
            + "".join(f"{kind}_temp_path {folder}/{kind};\n" for kind in ("client_body", "fastcgi", "scgi", "uwsgi"))
            + f"proxy_temp_path {folder}/proxy; proxy_cache_path {folder}/cache keys_zone=all:10m;\n"
            f"server {{ listen 127.0.0.1:{port} backlog=1024;\n"
            f"location / {{ proxy_pass http://127.0.0.1:{origin}; proxy_cache all; proxy_cache_valid 200 1h; }} }} }}\n"
        )
        return [program, "-p", str(folder), "-c", str(config)]

    return command


def _varnish(program: str, folder: Path, origin: int) -> Command:
    return lambda port: [
        *(program, "-F", "-n", str(folder / "varnish"), "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{origin}"),
        *("-t", "3600", "-s", "malloc,64m", "-j", "none"),
    ]


@contextmanager
def running(command: Command, env: dict[str, str] | None = None) -> Iterator[tuple[int, int]]:
    """A server that answers: its port and its process id."""
    quiet = subprocess.DEVNULL
    with free_port() as port, subprocess.Popen(command(port), cwd=ROOT, env=env, stdout=quiet, stderr=quiet) as process:
        try:
            deadline = time.monotonic() + _PATIENCE
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NoWireError(f"{command(port)[0]} did not start")
                time.sleep(0.02)
            yield port, process.pid
        finally:
            process.terminate()


def server(name: str) -> AbstractContextManager[tuple[int, int]]:
    """One of `wire_apps` under uvicorn."""
    return running(_uvicorn(name))


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    try:
        connection.request("GET", "/answer")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def load(wrk: str, port: int, seconds: int, connections: int) -> tuple[float, int]:
    """Requests per second, and how many there were."""
    url = f"http://127.0.0.1:{port}/answer"
    command = [wrk, "-t1", f"-c{connections}", f"-d{seconds}s", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=debian.environment())
    rate, count = _RATE.search(done.stdout), _COUNT.search(done.stdout)
    if rate is None or count is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise NoWireError(f"wrk met errors: {done.stdout}")
    return float(rate[1]), int(count[1])


def processor_seconds(pid: int) -> float:
    """What the process and its children have used so far."""
    folder = Path(f"/proc/{pid}")
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / _TICKS
    children = {int(child) for task in folder.glob("task/*/children") for child in task.read_text().split()}
    return own + sum(map(processor_seconds, children))


class Wire:
    """All servers, running."""

    def __init__(self, stack: ExitStack, *, everything: bool) -> None:
        wrk = debian.find("wrk")
        if wrk is None:
            raise NoWireError("wrk is not on the path (Debian: apt-get install wrk), nor has `make bench` unpacked it")
        if not Path("/proc/self/stat").is_file():
            raise NoWireError("this system has no /proc to read a server's processor time from")
        self._wrk = wrk
        self.left_out: dict[str, str] = {}
        self._stack = stack
        self.servers: dict[str, tuple[int, int]] = {}
        for name, command in ((RAW, "constant"), (HIT, "hit"), (ROUTE, "starlette_route")):
            self._start(name, _uvicorn(command))
        if everything:
            self._start_others(Path(stack.enter_context(tempfile.TemporaryDirectory())))

    def _start_others(self, folder: Path) -> None:
        redis = self._stack.enter_context(RedisProcess(folder))
        url = {**os.environ, "BENCH_REDIS_URL": f"redis://127.0.0.1:{redis.port}"}
        self._start(SHARED, _uvicorn("redis_hit"), url)
        self._start(GRANIAN_RAW, _granian("constant"))
        self._start(GRANIAN_HIT, _granian("hit"))
        for name in _PEERS if peers.ready() else ():
            self._start(PEER + name, _peer(name))
        origin, _ = self.servers[RAW]
        for name, program, made in ((NGINX, "nginx", _nginx), (VARNISH, "varnishd", _varnish)):
            found = debian.find(program)
            if found is None:
                self.left_out[name] = "it is not on the path, and `make bench` could not unpack Debian's package"
            else:
                self._start(name, made(found, folder, origin), debian.environment())

    def _start(self, name: str, command: Command, env: dict[str, str] | None = None) -> None:
        try:
            self.servers[name] = self._stack.enter_context(running(command, env))
        except NoWireError as error:
            self.left_out[name] = str(error)

    def measure(self, rounds: int, seconds: int, connections: int, seed: int) -> tuple[dict[str, list[float]], Timings]:
        """Requests per second, and microseconds of the server's processor time per request, by server and round."""
        rates: dict[str, list[float]] = {name: [] for name in self.servers}
        costs: dict[str, list[float]] = {name: [] for name in self.servers}
        order, random = list(self.servers), Random(seed)
        for port, _ in self.servers.values():
            load(self._wrk, port, 1, connections)
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                port, pid = self.servers[name]
                begun = processor_seconds(pid)
                rate, count = load(self._wrk, port, seconds, connections)
                time.sleep(0.05)  # what is in flight when wrk leaves
                rates[name].append(rate)
                costs[name].append((processor_seconds(pid) - begun) / count * 1e6)
        return rates, Timings(costs)
