"""`make bench` and `make bench-quick`: measure, print the table, keep the samples in build/bench.json.

    python -m tests.bench.run [--quick] [--only PART] [--no-peers] [--no-wire] [--seed N] [--out FILE]

Decides how long everything takes, and in which order. Exit code 0 whatever the figures are: a machine that is shared
with others proves no regression.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from glasscache.interfaces import Store
from glasscache.stores.disk import DiskStore
from tests.bench import debian, disk_tier, imports, peers, redis_tier, report, sizes, wire
from tests.bench.cases import Line, crowds, one_at_a_time
from tests.bench.measure import Timings, measure
from tests.bench.report import Row
from tests.bench.traced import traced
from tests.support.ending import end_in_order

_OURS = ("GLASSCACHE_", "CACHE_", "OTEL_", "REDIS_")
PARTS = ("process", "sizes", "import", "tier", "peers", "http")
IMPORT_GOAL = 60.0  # milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is measured."""

    rounds: int
    crowd_rounds: int
    peer_rounds: int
    imports: int
    wire_rounds: int
    wire_seconds: int
    connections: tuple[int, ...]
    entries: tuple[int, ...]
    entries_weighed: int
    size_rounds: int
    tier_rounds: int
    all_places: bool
    stall_requests: int
    scale: float = 1.0


QUICK = Effort(
    rounds=80,
    crowd_rounds=8,
    peer_rounds=30,
    imports=3,
    wire_rounds=2,
    wire_seconds=1,
    connections=(64,),
    entries=(100, 10_000),
    entries_weighed=2_000,
    size_rounds=60,
    tier_rounds=40,
    all_places=False,
    stall_requests=8,
)
FULL = Effort(
    rounds=700,
    crowd_rounds=50,
    peer_rounds=200,
    imports=10,
    wire_rounds=4,
    wire_seconds=2,
    connections=(32, 64),
    entries=(100, 10_000, 1_000_000),
    entries_weighed=20_000,
    size_rounds=300,
    tier_rounds=200,
    all_places=True,
    stall_requests=20,
)


class Bench:
    """One run: what was found so far."""

    def __init__(self, effort: Effort, seed: int, console: Console) -> None:
        self._effort = effort
        self._seed = seed
        self._console = console
        self.sections: dict[str, Sequence[Row]] = {}
        self.timings: dict[str, Any] = {}

    def _add(self, title: str, rows: Sequence[Row], timings: Any, unit: str = "us") -> None:
        self.sections[title], self.timings[title] = rows, timings
        report.show(self._console, title, rows, unit)

    def in_process(self) -> None:
        """glasscache against the raw app."""
        effort = self._effort
        self._measured("In process, 2 KB answer", one_at_a_time, effort.rounds)
        self._measured("In process, 1,000 equal requests at once", crowds, effort.crowd_rounds)
        # apart from the others: its exporters work, and take turns with whatever is measured meanwhile
        with traced() as (alone, together):
            self._measured("In process, the OpenTelemetry SDK exporting", lambda: alone, effort.rounds)
            self._measured("In process, crowds, the OpenTelemetry SDK exporting", lambda: together, effort.crowd_rounds)

    def sizes(self) -> None:
        """What must not grow with the number of entries, and with the size of bodies."""
        effort = self._effort
        lines = [*sizes.among(effort.entries), *sizes.bodies()]
        self._measured("As the store and the bodies grow", lambda: lines, effort.size_rounds)
        self._add("Memory", [sizes.bytes_per_entry(effort.entries_weighed)], {}, "")
        self._measured("Eviction", sizes.eviction, effort.size_rounds)

    def _measured(self, title: str, make: Callable[[], Sequence[Line]], rounds: int) -> Timings:
        async def run() -> Timings:
            lines = make()
            cases = [line.case for line in lines]
            found = await measure(cases, rounds=rounds, seed=self._seed, scale=self._effort.scale)
            self._add(title, [report.row(line, found) for line in lines], found.rounds)
            return found

        return asyncio.run(run())

    def tiers(self) -> None:
        """All that are outside of the process."""
        self.disk()
        self.shared_tier()

    def shared_tier(self) -> None:
        """Redis and Valkey, wherever there is a server."""
        effort = self._effort
        try:
            servers = redis_tier.places(debian.find("redis-server"), debian.environment())
            with servers as found:
                for place in found if effort.all_places else found[:1]:
                    asyncio.run(self._tier(place))
                self._stalls("a shared tier", [redis_tier.store_of(found[0], "stalls") for _ in range(2)])
        except OSError as error:
            self._console.print(f"The shared tier is left out: {error}\n", markup=False)

    async def _tier(self, place: redis_tier.Place) -> None:
        tier = redis_tier.Tier(place)
        try:
            await tier.fill()
            found = await measure(tier.cases(), rounds=self._effort.tier_rounds, seed=self._seed)
        finally:
            await tier.close()
        kept = {"processor": found.rounds, "elapsed": found.elapsed}
        self._add(f"Shared tier: {place.name} (us: elapsed)", redis_tier.rows(found), kept)

    def disk(self) -> None:
        """On the disk that the sources are on."""

        async def run(path: Path) -> Timings:
            tier = disk_tier.DiskTier(path)
            await tier.fill()
            try:
                return await measure(tier.cases(), rounds=self._effort.tier_rounds, seed=self._seed)
            finally:
                await tier.close()

        with disk_tier.folder() as folder:
            found = asyncio.run(run(folder / "lookups"))
            kept = {"processor": found.rounds, "elapsed": found.elapsed}
            self._add("Disk tier (us: elapsed)", disk_tier.rows(found), kept)
            self._stalls("a disk tier", [DiskStore(folder / "stalls") for _ in range(2)])

    def _stalls(self, where: str, stores: Sequence[Store]) -> None:
        row = asyncio.run(sizes.stalls(where, stores, self._effort.stall_requests))
        self._add(f"The event loop, {where}", [row], {}, "ms")

    def importing(self) -> None:
        """The time that an import takes."""
        above, whole = imports.milliseconds(self._effort.imports)
        own = Row(
            name="import glasscache.asgi, above other modules",
            us=above,
            goal=f"{IMPORT_GOAL:g} ms",
            found=f"{above:.1f} ms",
            met=above <= IMPORT_GOAL,
        )
        whole_row = Row(name="import glasscache.asgi, with all that it needs", us=whole)
        self._add("Import", [own, whole_row], {"above_ms": above, "whole_ms": whole}, "ms")

    def peers(self, *, may_install: bool) -> None:
        """The others, as far as they work."""
        effort = self._effort
        try:
            if not peers.ready():
                if not may_install:
                    raise peers.NoPeersError("`make bench` makes their environment")
                self._console.print("Setting up the peers' environment in build/bench-venv, once ...")
                peers.set_up()
            found = peers.timings(effort.peer_rounds, self._seed, effort.scale)
        except peers.NoPeersError as error:
            self._console.print(f"Peers are left out: {error}\n", markup=False)
            return
        for name, reason in found["missing"].items():
            self._console.print(f"{name} is left out: {reason}", markup=False)
        timings = Timings(found["timings"])
        self._add("Peers, in a process of their own", report.peer_rows(timings), found)

    def over_http(self, *, may_install: bool) -> None:
        """uvicorn and others under wrk."""
        effort = self._effort
        if may_install and (reason := debian.set_up()):
            self._console.print(f"Debian's packages are left out: {reason}", markup=False)
        try:
            with ExitStack() as stack:
                servers = wire.Wire(stack, everything=effort.all_places)
                for name, reason in servers.left_out.items():
                    self._console.print(f"{name} is left out: {reason}", markup=False)
                for connections in effort.connections:
                    found = servers.measure(effort.wire_rounds, effort.wire_seconds, connections, self._seed)
                    title = f"Over HTTP, wrk with {connections} connections (us: the server's CPU per request)"
                    self._add(title, report.wire_rows(*found), {"rates": found[0], "costs": found[1].rounds})
        except (wire.NoWireError, subprocess.SubprocessError) as error:
            self._console.print(f"HTTP is left out: {error}\n", markup=False)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "load_before": load,
    }


def say_where(console: Console, found: dict[str, Any]) -> None:
    """Name the machine, and warn if it is at work for others."""
    console.print(f"{found['python']}, {found['system']}, {found['cores']} cores, load {found['load_before']}")
    if (found["load_before"] or 0) > 0.3:
        console.print("[yellow]Other work runs on this machine: compare ratios, and only within this run.[/]")
    console.print()


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    """What the user asked for."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure glasscache; see docs/benchmarks.md.")
    parser.add_argument(
        "--quick", action="store_true", help="under a minute: fewer rounds, peers only if set up already"
    )
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--no-peers", action="store_true", help="leave the peers out")
    parser.add_argument("--no-wire", action="store_true", help="leave uvicorn and wrk out")
    parser.add_argument("--seed", type=int, default=7, help="another seed, another order of the samples (7)")
    parser.add_argument("--out", type=Path, default=peers.ROOT / "build" / "bench.json", help="build/bench.json")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/benchmarks.md as well")
    options = parser.parse_args(given)
    if options.docs and options.only:
        parser.error("--docs writes the whole page: leave --only out")
    return options


def main(given: Sequence[str] | None = None, effort: Effort | None = None) -> int:
    """Run it all. `effort`: by default what `--quick` says."""
    options = arguments(given)
    for name in [name for name in os.environ if name.startswith(_OURS)]:
        del os.environ[name]  # measured is what the code says, not what this shell was set to
    logging.getLogger("glasscache").addHandler(logging.NullHandler())  # it would warn of a store that is kept full
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 150)
    where, begun = machine(), time.monotonic()
    say_where(console, where)
    bench = Bench(effort or (QUICK if options.quick else FULL), options.seed, console)
    may_install = not options.quick
    parts: dict[str, Callable[[], None]] = {
        "process": bench.in_process,
        "sizes": bench.sizes,
        "import": bench.importing,
        "tier": bench.tiers,
        "peers": lambda: bench.peers(may_install=may_install),
        "http": lambda: bench.over_http(may_install=may_install),
    }
    left_out = {"peers": options.no_peers, "http": options.no_wire}
    for name, part in parts.items():
        if not left_out.get(name) and options.only in (None, name):
            part()
    report.save(options.out, {**where, "seed": options.seed}, bench.sections, bench.timings)
    if options.docs:
        said = f"{where['python']}, {where['system']}, {where['cores']} cores; load before: {where['load_before']:.1f}."
        report.write_page(peers.ROOT / "docs" / "benchmarks.md", said, bench.sections)
    console.print(f"{time.monotonic() - begun:.0f} s; every sample is in {options.out}", soft_wrap=True)
    return 0


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
