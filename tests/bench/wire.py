"""Over HTTP: uvicorn (uvloop, httptools) under wrk, if wrk is there and the system has /proc.

Decides how a server is loaded: one process, its connections kept alive, all on this machine. A short run of each
server in every round, in shuffled order; figures are medians. Must never leave a server behind.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random

from tests.bench.measure import Timings
from tests.bench.peers import ROOT

SERVERS = {
    "raw ASGI constant": "constant",
    "GET hit, OpenTelemetry API only": "hit",
    "Starlette route, no cache": "starlette_route",
}
_RATE = re.compile(r"Requests/sec:\s*([\d.]+)")
_COUNT = re.compile(r"(\d+) requests in")
_TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100


class NoWireError(Exception):
    """Nothing can be measured over HTTP; says why."""


@contextmanager
def server(name: str) -> Iterator[tuple[int, int]]:
    """A running server: its port and its process id."""
    command = [sys.executable, "-m", "tests.bench.wire_apps", name]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            port = process.stdout.readline()
            if not port:
                raise NoWireError(f"the server {name!r} did not start")
            yield int(port), process.pid
        finally:
            process.terminate()


def load(port: int, seconds: int, connections: int) -> tuple[float, int]:
    """Requests per second, and how many there were."""
    url = f"http://127.0.0.1:{port}/answer"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rate, count = _RATE.search(done.stdout), _COUNT.search(done.stdout)
    if rate is None or count is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
        raise NoWireError(f"wrk met errors: {done.stdout}")
    return float(rate[1]), int(count[1])


def processor_seconds(pid: int) -> float:
    """What the process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def measure(rounds: int, seconds: int, connections: int, seed: int) -> tuple[dict[str, list[float]], Timings]:
    """Requests per second, and microseconds of the server's processor time per request, by server and round."""
    if shutil.which("wrk") is None:
        raise NoWireError("wrk is not on the path (Debian: apt-get install wrk)")
    if not Path("/proc/self/stat").is_file():
        raise NoWireError("this system has no /proc to read a server's processor time from")
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    costs: dict[str, list[float]] = {name: [] for name in SERVERS}
    order, random = list(SERVERS), Random(seed)
    with ExitStack() as stack:
        running = {name: stack.enter_context(server(factory)) for name, factory in SERVERS.items()}
        for port, _ in running.values():
            load(port, 1, connections)
        for _ in range(rounds):
            random.shuffle(order)
            for name in order:
                port, pid = running[name]
                begun = processor_seconds(pid)
                rate, count = load(port, seconds, connections)
                time.sleep(0.05)  # what is in flight when wrk leaves
                rates[name].append(rate)
                costs[name].append((processor_seconds(pid) - begun) / count * 1e6)
    return rates, Timings(costs)
