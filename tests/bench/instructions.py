"""`make instructions`: how many instructions an operation takes, counted by callgrind, beside those that are kept.

Unlike times they hardly depend on the machine and on what else it does, but on the interpreter and on the versions of
what is installed: so a change is printed, and nothing fails. Decides what is counted: what runs inside of `dir()` of an
object of ours, since callgrind can be told to begin and end with the C function behind it. Must never fail where there
is no valgrind.

    python -m tests.bench.instructions [--keep]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from glasscache import Cache, MemoryStore
from glasscache.asgi import CacheMiddleware
from tests.bench import cases, sizes
from tests.bench.cases import RAW, RAW_POST
from tests.bench.measure import Case, Work
from tests.bench.peers import ROOT
from tests.bench.traffic import ever_new, get, one_by_one, post, question, raw, raw_reading
from tests.support.null_telemetry import NullTelemetry

KEPT = Path(__file__).with_name("instructions.json")
FOLDER = ROOT / "build" / "instructions"
_FUNCTION = "PyObject_Dir"
_COUNT = 200


class StillClock:
    """The time stands nearly still, by functions of C as those of the system's clock are: no header is told anew."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = itertools.count(1000.0, 1e-6).__next__
        self.wall: Callable[[], float] = itertools.repeat(1e9).__next__


class Counted:
    """What `dir()` of it runs is counted."""

    def __init__(self, run: Callable[[], object]) -> None:
        self._run = run

    def __dir__(self) -> list[str]:
        self._run()
        return []


def still_cache() -> Cache:
    """A cache that nobody observes, at nearly one moment."""
    return Cache(MemoryStore(), telemetry=NullTelemetry(), clock=StillClock())


def counted() -> Sequence[Case]:
    """What is counted: raw apps, hits, misses, crowds of which all but one follow."""
    limits = [
        Case(name=RAW, prepare=one_by_one(raw, get())),
        Case(name=RAW_POST, prepare=one_by_one(raw_reading, post(question(211)))),
    ]
    hits = [line.case for line in cases.hits(still_cache)]
    first = one_by_one(sizes.filled(still_cache(), 1000), get(query=lambda number: b"q=%d" % number))
    hits.append(Case(name="GET hit, question first seen", prepare=first))
    told = Cache(MemoryStore(), clock=StillClock())
    misses = [
        cases.missing("miss", still_cache()),
        cases.missing("miss, OpenTelemetry API only", told),
        cases.missing("miss, an answer of another length each time", still_cache(), origin=ever_new()),
        cases.crowd("follower", CacheMiddleware(raw, cache=still_cache(), rules=cases.rules())),
        cases.crowd("follower, OpenTelemetry API only", CacheMiddleware(raw, cache=told, rules=cases.rules())),
    ]
    return [*limits, *hits, *[line.case for line in cases.in_code(still_cache)], *misses]


async def done(work: Work) -> None:
    """Do it inside of the loop, where a gathering has to begin."""
    await work()


def child(names: Path) -> None:
    """Under callgrind: run all of them, each inside of a `dir()`, and write down their order."""
    loop, all_of_them = asyncio.new_event_loop(), counted()
    for case in all_of_them:
        if case.verify is not None:
            loop.run_until_complete(case.verify())
        for _ in range(2):  # until the interpreter has adapted its code to what it meets
            loop.run_until_complete(done(case.prepare(_COUNT)))
        work = case.prepare(_COUNT)
        gc.collect()
        gc.disable()
        dir(Counted(lambda work=work: loop.run_until_complete(done(work))))  # type: ignore[misc]
        gc.enable()
    loop.close()
    names.write_text(json.dumps([case.name for case in all_of_them]))


def count(folder: Path = FOLDER) -> dict[str, int]:
    """Instructions per operation, by name."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    command = [
        "valgrind",
        "--tool=callgrind",
        "--collect-atstart=no",
        f"--toggle-collect={_FUNCTION}",
        f"--dump-after={_FUNCTION}",
        f"--callgrind-out-file={folder / 'out'}",
        sys.executable,
        "-m",
        "tests.bench.instructions",
        "--child",
        str(folder / "names.json"),
    ]
    quiet = {
        name: value for name, value in os.environ.items() if not name.startswith(("GLASSCACHE_", "CACHE_", "OTEL_"))
    }
    subprocess.run(command, cwd=ROOT, env=quiet | {"PYTHONHASHSEED": "0"}, capture_output=True, text=True, check=True)
    names = json.loads((folder / "names.json").read_text())
    dumps = sorted(folder.glob("out.*"), key=lambda path: int(path.suffix[1:]))[-len(names) :]
    return {name: _total(dump) // _COUNT for name, dump in zip(names, dumps, strict=True)}


def _total(dump: Path) -> int:
    return next(int(line.split()[1]) for line in dump.read_text().splitlines() if line.startswith("totals:"))


def table(found: dict[str, int], kept: dict[str, int]) -> Table:
    """Found beside kept."""
    made = Table(title="Instructions per operation", title_justify="left", box=None, padding=(0, 1))
    made.add_column("operation")
    for name in ("kept", "now", "change", "x raw"):
        made.add_column(name, justify="right")
    for name, now in found.items():
        was = kept.get(name)
        change = "" if was is None else f"{(now / was - 1) * 100:+.1f} %"
        made.add_row(name, "" if was is None else f"{was:,}", f"{now:,}", change, f"{now / found[RAW]:.2f}")
    return made


def main(given: Sequence[str] | None = None, kept: Path = KEPT) -> int:
    """Count, print, and with `--keep` write them down."""
    parser = argparse.ArgumentParser(prog="instructions", description="Count instructions; see docs/benchmarks.md.")
    parser.add_argument("--keep", action="store_true", help="keep these counts, to compare later ones with")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(given)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    if options.child is not None:
        child(options.child)
    elif shutil.which("valgrind") is None:
        console.print("Instructions are not counted: valgrind is not on the path (Debian: apt-get install valgrind)")
    else:
        here = f"{platform.python_implementation()} {platform.python_version()}, {platform.machine()}"
        known: dict[str, Any] = json.loads(kept.read_text()) if kept.is_file() else {"on": here, "counts": {}}
        found = count()
        console.print(table(found, known["counts"]))
        if known["on"] != here:
            console.print(f"Kept are those of {known['on']}; this is {here}: compare with care.")
        if options.keep:
            kept.write_text(json.dumps({"on": here, "counts": found}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
