"""Runs machines (machine.py), and talks to them.

Decides how long anything may take before a test has failed. Must never leave a process behind, stopped or not.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE
from tests.support.redis_process import UNHURRIED_VARIABLES, RedisProcess

ROOT = Path(__file__).parents[2]
SECRET = "a secret that all machines of this test share"


class Machine:
    """A process that answers questions."""

    def __init__(self, environment: Mapping[str, str], module: str = "tests.machines.machine") -> None:
        self._heard: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._kept: list[dict[str, Any]] = []
        self.late = 0.0
        """Seconds at worst until it told its status: how late a busy test machine makes it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._ear = threading.Thread(target=self._listen)
        self._ear.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._heard.put(json.loads(line))
        self._heard.put(None)

    def do(self, command: str, **options: object) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": command, **options}) + "\n")
        self._process.stdin.flush()

    def hear(self, kind: str, **fields: object) -> dict[str, Any]:
        """The next thing of this kind that it says."""
        wanted = {"kind": kind, **fields}
        for told in self._kept:
            if wanted.items() <= told.items():
                self._kept.remove(told)
                return told
        while (heard := self._heard.get(timeout=PATIENCE)) is not None:
            if wanted.items() <= heard.items():
                return heard
            self._kept.append(heard)
        raise AssertionError(f"machine {self.pid} ended before it told {wanted}")

    def status(self) -> dict[str, Any]:
        """As things are now; how long it took to tell them counts as `late`."""
        asked = time.monotonic()
        self.do("status")
        told = self.hear("status")
        self.late = max(self.late, time.monotonic() - asked)
        return told

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP, SIGCONT, SIGKILL."""
        self._process.send_signal(number)

    def leave(self) -> None:
        """Let it end by itself: there is nothing more to do."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)

    def end(self) -> None:
        """Whatever state it is in."""
        self._process.kill()
        self._process.wait()
        self._ear.join()
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()


class Fleet:
    """Machines before one server."""

    def __init__(self, server: RedisProcess, module: str, settings: Mapping[str, str]) -> None:
        self.server = server
        self._module = module
        self._environment = {
            "CACHE_TYPE": "hybrid",
            "REDIS_URL": f"redis://127.0.0.1:{server.port}",
            "GLASSCACHE_KEY": SECRET,
            **UNHURRIED_VARIABLES,
            **settings,
        }
        self.machines: list[Machine] = []

    def grow(self, count: int) -> None:
        """Have `count` machines."""
        new = [Machine(self._environment, self._module) for _ in range(count - len(self.machines))]
        self.machines += new
        for machine in new:
            machine.hear("ready")

    def bury(self, machine: Machine) -> None:
        """It is dead: have one less."""
        machine.end()
        self.machines.remove(machine)

    def by_pid(self, pid: int) -> Machine:
        """That of a process."""
        (found,) = [machine for machine in self.machines if machine.pid == pid]
        return found

    def loads(self, name: str) -> list[int]:
        """Who has loaded, in order."""
        return [int(pid) for pid in self.server.do("LRANGE", f"loads:{name}", 0, -1)]

    def open_gate(self, name: str, pid: int) -> None:
        """Let a load of that process end."""
        self.server.do("RPUSH", f"gate:{name}:{pid}", "go")


@contextmanager
def fleet(
    server: RedisProcess, count: int, *, module: str = "tests.machines.machine", **settings: str
) -> Iterator[Fleet]:
    """Machines that are ended with the block; `module` is what they run."""
    machines = Fleet(server, module, settings)
    try:
        machines.grow(count)
        yield machines
    finally:
        for machine in machines.machines:
            machine.end()


def until(wanted: Callable[[], bool], pause: float = 0.005) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(pause)


def answers(machines: Sequence[Machine], name: str) -> dict[str, int]:
    """All bodies that came of a question, and how many got each; an error counts as one."""
    every: dict[str, int] = {}
    for machine in machines:
        for body, count in machine.hear("answered", name=name)["bodies"].items():
            every[body] = every.get(body, 0) + count
    return every
