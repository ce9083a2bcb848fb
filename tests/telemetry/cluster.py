"""Three machines before one real server, all that they export arriving at a real OTLP receiver.

Decides how they are asked, and how a crowd comes to wait for one of them. Each step waits for what it is about.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.machines.fleet import Fleet, Machine, fleet, until
from tests.support.otlp import Receiver, grpc_receiver
from tests.support.redis_process import RedisProcess

CANARY = "s3cr3tcanary0f4ll"
SETTINGS = {
    "OTEL_METRIC_EXPORT_INTERVAL": "100",
    "OTEL_BSP_SCHEDULE_DELAY": "50",
    "GLASSCACHE_NAME": "knowledge",
    "GLASSCACHE_CONTENTION_THRESHOLD": "0.001",
    "GLASSCACHE_LEASE_SECONDS": "30",  # a busy test machine is no dead one
    "GLASSCACHE_COMPRESSION": "none",  # so that what is stored can be read
}


def trace_of(number: int) -> str:
    """The trace id of one request of the script, in hex."""
    return hashlib.sha256(b"%d" % number).hexdigest()[:32]


@dataclass
class Cluster:
    """What a test of it looks at."""

    server: RedisProcess
    fleet: Fleet
    receiver: Receiver
    traces: int = 0
    callers: list[str] = field(default_factory=list)
    """The span ids of all who asked, in hex: the parents of server spans."""

    def caller(self) -> list[str]:
        """The headers of a request in a trace of its own, with everything in them that must not travel further."""
        self.traces += 1
        trace, span = trace_of(self.traces), trace_of(-self.traces)[:16]
        self.callers.append(span)
        return [
            f"traceparent: 00-{trace}-{span}-01",
            f"tracestate: vendor={CANARY}",
            f"baggage: user={CANARY}",
        ]

    def ask(self, machine: Machine, name: str, count: int = 1, *, more: str = "", **options: Any) -> None:
        """Have it ask so often at once; `more` is one more header."""
        headers = [[*self.caller(), *([more] if more else [])] for _ in range(count)]
        machine.do("ask", name=name, count=count, headers=headers, **options)

    def statuses(self, machine: Machine, name: str) -> list[str]:
        """The Cache-Status of each answer, when all are complete."""
        found: list[str] = machine.hear("answered", name=name)["statuses"]
        return found

    def answer(self, machine: Machine, name: str, **options: Any) -> str:
        """Ask once, and what came of it."""
        self.ask(machine, name, **options)
        (status,) = self.statuses(machine, name)
        return status


@contextmanager
def cluster(folder: Path, **settings: str) -> Iterator[Cluster]:
    """Run it as long as the block runs."""
    with grpc_receiver() as receiver, RedisProcess(folder) as server:
        environment = {**SETTINGS, "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.endpoint, **settings}
        with fleet(server, 3, module="tests.telemetry.member", **environment) as machines:
            yield Cluster(server, machines, receiver)


def contend(of: Cluster, name: str) -> Machine:
    """One machine loads; a second request of it, and two of each other one wait. The one that loads."""
    loads, *others = of.fleet.machines
    of.ask(loads, name)
    until(lambda: of.fleet.loads(name) == [loads.pid])
    of.ask(loads, name)
    until(lambda: bool(loads.status()["waiters"] == 1))
    for machine in others:
        of.ask(machine, name, 2)
        until(lambda machine=machine: _waiting(machine) == (1, 1))  # type: ignore[misc]
    return loads


def _waiting(machine: Machine) -> tuple[int, int]:
    status = machine.status()
    return status["waiting_abroad"], status["waiters"]


def release(of: Cluster, name: str, holder: Machine) -> list[str]:
    """Let the load end; the Cache-Status of all who waited."""
    of.fleet.open_gate(name, holder.pid)
    answered = [*of.statuses(holder, name), *of.statuses(holder, name)]
    for machine in of.fleet.machines:
        if machine is not holder:
            answered += of.statuses(machine, name)
    return answered
