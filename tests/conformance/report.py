"""From verdicts to a score, a table, and a comparison with the failures that we know of.

Decides what counts as passed: what the suite says passed, in every run. The list of known failures can only shrink: a
new failure is an error, and so is an entry that passes.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.suite import Case, Judged

GOOD = frozenset({"pass", "yes"})
KINDS = ("required", "optimal", "check")
COUNTED = ("required", "optimal")


@dataclass(frozen=True, kw_only=True)
class Score:
    """What one cache reached."""

    name: str
    verdicts: Mapping[str, str]
    tests: tuple[Case, ...]
    """Those that apply."""

    def passed(self, kind: str, suite: str | None = None) -> tuple[int, int]:
        """How many of a kind passed, and of how many; in one group of tests, or all."""
        chosen = [test for test in self.tests if test.kind == kind and suite in (None, test.suite)]
        return sum(self.verdicts[test.id] in GOOD for test in chosen), len(chosen)

    def failed(self) -> list[Case]:
        """The tests with a right answer that did not pass."""
        return [test for test in self.tests if test.kind in COUNTED and self.verdicts[test.id] not in GOOD]


def merged(runs: Iterable[Mapping[str, str]]) -> tuple[dict[str, str], list[str]]:
    """One verdict a test: of several the first that is no pass; and the tests whose verdicts differ."""
    verdicts: dict[str, str] = {}
    unstable: set[str] = set()
    for run in runs:
        for test, verdict in run.items():
            known = verdicts.setdefault(test, verdict)
            if known != verdict:
                unstable.add(test)
                verdicts[test] = known if known not in GOOD else verdict
    return verdicts, sorted(unstable)


def scores(judged: Judged) -> tuple[Score, list[Score], list[str]]:
    """Ours, those of the published caches that are no browsers, and our unstable tests."""
    tests = tuple(test for test in judged.tests if test.applies)
    verdicts, unstable = merged(judged.runs)
    peers = [
        Score(name=f"{peer.name} {peer.version}".strip(), verdicts=peer.verdicts, tests=tests)
        for peer in judged.peers
        if peer.type != "browser"
    ]
    return Score(name="glasscache", verdicts=verdicts, tests=tests), peers, unstable


def known_failures(file: Path, suite: str) -> dict[str, str]:
    """Why each test of the list does not pass, by id."""
    lists = tomllib.loads(file.read_text("utf-8"))
    known: dict[str, str] = lists.get(suite, {})
    return known


def changes(score: Score, known: Mapping[str, str]) -> list[str]:
    """What of the list of known failures is not true; empty if all is as it says."""
    failed = {test.id for test in score.failed()}
    ids = {test.id for test in score.tests}
    found = [
        f"{test.id} fails, and is no known failure: {test.name}" for test in score.failed() if test.id not in known
    ]
    found += [f"{name} passes: strike it off the list" for name in known if name in ids and name not in failed]
    found += [f"{name} is no test of this suite: strike it off the list" for name in known if name not in ids]
    found += [f"{name} has no reason" for name, reason in known.items() if not reason.strip()]
    return found


def doubtful(score: Score, unstable: Iterable[str], known: Mapping[str, str]) -> list[str]:
    """The tests that did not go as the list says, or not the same way in every run."""
    other = {test.id for test in score.tests if test.kind in COUNTED} - {test.id for test in score.failed()}
    wrong = {test.id for test in score.failed() if test.id not in known} | (other & known.keys())
    return sorted(wrong | set(unstable))


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table as Markdown has it; the first column to the left, the others to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    text = [
        "| "
        + " | ".join(
            cell.ljust(w) if at == 0 else cell.rjust(w) for at, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    ]
    rule = "| " + " | ".join("-" * w if at == 0 else "-" * (w - 1) + ":" for at, w in enumerate(widths)) + " |"
    return "\n".join([text[0], rule, *text[1:]])


def by_cache(ours: Score, peers: Iterable[Score]) -> str:
    """Our row beside those of the peers, best first."""
    ranked = sorted(peers, key=lambda score: -score.passed("required")[0])
    rows = [[score.name, *(_of(score.passed(kind)) for kind in COUNTED)] for score in [ours, *ranked]]
    return table(["cache", *COUNTED], rows)


def by_group(score: Score) -> str:
    """How it went in each group of tests."""
    groups = dict.fromkeys(test.suite for test in score.tests)
    rows = [[group, *(_of(score.passed(kind, group)) for kind in KINDS)] for group in groups]
    rows.append(["all", *(_of(score.passed(kind)) for kind in KINDS)])
    return table(["tests", *KINDS], rows)


def _of(counted: tuple[int, int]) -> str:
    passed, total = counted
    return f"{passed}/{total}" if total else "-"
