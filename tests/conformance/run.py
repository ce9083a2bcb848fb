"""`make conformance`: the public suite for HTTP caches against `glasscache proxy`, as it comes.

Runs the suite several times, prints how it went beside the published caches, and fails when that is not what
`known_failures.toml` says, or when a test does not go the same way in every run.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.conformance import report
from tests.conformance.late import LATE, Lateness
from tests.conformance.suite import Judged, Suite, SuiteError, results_in, running
from tests.support.ending import end_in_order
from tests.support.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "conformance"
KNOWN = Path(__file__).with_name("known_failures.toml")
PROXY = f"{shlex.quote(sys.executable)} -m glasscache proxy --upstream {{upstream}} --port {{port}}"

# The suite asks everything at once, each test under its own URLs: of the default of 100 entries some would be evicted.
_ENVIRONMENT = {"CACHE_MAX_SIZE": "10000"}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make conformance", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--suite", type=Path, metavar="DIR", help="another copy of the suite, with its packages installed"
    )
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="runs (default: %(default)s)")
    parser.add_argument("--id", default="", metavar="TEST", help="run this test alone, and show what is said")
    parser.add_argument(
        "--proxy", default=PROXY, metavar="COMMAND", help="another cache; {upstream} and {port} are filled in"
    )
    parser.add_argument("--messages", action="store_true", help="show what the suite says of each failure")
    return parser.parse_args()


def _run(suite: Suite, options: argparse.Namespace, folder: Path, known: Mapping[str, str]) -> _Ran:
    """Run the suite as often as asked."""
    ran, late = _Ran(), 0.0
    with free_port() as origin, free_port() as port, ExitStack() as stack:
        filled = {"{upstream}": f"http://127.0.0.1:{origin}", "{port}": str(port)}
        command = [_filled(word, filled) for word in shlex.split(options.proxy)]
        stack.enter_context(suite.origin(origin, folder / "origin.log"))
        env = os.environ | _ENVIRONMENT
        stack.enter_context(running("the cache", command, port, BUILD / "proxy.log", cwd=ROOT, env=env))
        if options.id:
            print(suite.run(port, options.id))
            print((folder / "origin.log").read_text("utf-8", "replace"))
            return ran
        for number in range(options.repeat):
            file = folder / f"{number}.json"
            with Lateness(port) as lateness:
                file.write_text(json.dumps(results_in(suite.run(port))), "utf-8")
            late = max(late, lateness.worst)
            ran.files.append(file)
        ran.judged = suite.judge(ran.files)
        print(f"{options.repeat} runs; an answer took {late * 1e3:.0f} ms at worst")
        if late > LATE:
            _ask_again(suite, port, ran.judged, known)
    return ran


def _ask_again(suite: Suite, port: int, judged: Judged, known: Mapping[str, str]) -> None:
    """What went another way on a machine that was late goes as it does alone, if it goes the same way three times."""
    ours, _, unstable = report.scores(judged)
    for test in report.doubtful(ours, unstable, known):
        verdicts = ["pass" if suite.passes(port, test) else "fail" for _ in range(3)]
        print(f"the machine was late; {test}, three times alone: {', '.join(verdicts)}")
        if len(set(verdicts)) == 1:
            for run in judged.runs:
                run[test] = verdicts[0]


@dataclass
class _Ran:
    """What came of the runs; nothing is judged where one test was shown alone."""

    files: list[Path] = field(default_factory=list)
    judged: Judged | None = None


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word


def _show_messages(score: report.Score, files: list[Path]) -> None:
    results = [json.loads(file.read_text("utf-8")) for file in files]
    for test in score.failed():
        said = {": ".join(map(str, run[test.id])) for run in results if run.get(test.id) not in (True, None)}
        print(f"{test.id} ({test.kind}, {score.verdicts[test.id]}): {' / '.join(sorted(said)) or 'passed itself'}")


def main() -> int:
    """Run it; 0 if all is as the list of known failures says."""
    options = _arguments()
    BUILD.mkdir(parents=True, exist_ok=True)
    suite = Suite(options.suite.resolve()) if options.suite else Suite.installed(BUILD)
    known = report.known_failures(KNOWN, "newest" if options.suite else "npm")
    with tempfile.TemporaryDirectory(prefix="glasscache-conformance-") as home:
        ran = _run(suite, options, Path(home), known)
        if ran.judged is None:
            return 0
        ours, peers, unstable = report.scores(ran.judged)
        print(report.by_group(ours), report.by_cache(ours, peers), sep="\n\n", end="\n\n")
        if options.messages:
            _show_messages(ours, ran.files)
    wrong = [f"{test} did not go the same way in every run" for test in unstable] + report.changes(ours, known)
    for line in wrong:
        print(f"conformance: {line}", file=sys.stderr)
    print(f"{len(ran.files)} runs; {len(known)} known failures in {KNOWN.relative_to(ROOT)}; {len(wrong)} surprises")
    return 1 if wrong else 0


if __name__ == "__main__":
    end_in_order()
    try:
        sys.exit(main())
    except SuiteError as error:
        sys.exit(f"conformance: {error}")
