"""How the results of the public suite become a score, and what of the list of known failures is told to be wrong."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.asgi.site import Origin
from tests.conformance import report
from tests.conformance.late import Lateness
from tests.conformance.suite import Case, Judged, Peer, SuiteError, listens, results_in
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.servers import live_server
from tests.telemetry.processes import until

ROOT = Path(__file__).parents[1]
KNOWN = Path(report.__file__).with_name("known_failures.toml")


def case(name: str, kind: str = "required", *, applies: bool = True) -> Case:
    return Case(id=name, name=f"It must {name}", suite="group", kind=kind, applies=applies)


def judged(*runs: dict[str, str]) -> Judged:
    tests = [case("a"), case("b"), case("c", "optimal"), case("d", "check"), case("browser", applies=False)]
    return Judged(tests=tests, peers=[Peer(name="p", version="1", type="cdn", verdicts=runs[0])], runs=list(runs))


GOOD = {"a": "pass", "b": "pass", "c": "pass", "d": "no", "browser": "fail"}


def test_a_test_counts_as_passed_only_if_it_passed_in_every_run() -> None:
    ours, (peer,), unstable = report.scores(judged(GOOD, GOOD | {"b": "fail"}, GOOD | {"b": "retry"}))
    assert unstable == ["b"]
    assert (ours.verdicts["b"], ours.passed("required"), ours.passed("optimal")) == ("fail", (1, 2), (1, 1))
    assert ours.passed("check") == (0, 1)
    assert (peer.name, peer.passed("required")) == ("p 1", (2, 2))


def test_what_is_not_as_the_list_says_is_told() -> None:
    ours, _, _ = report.scores(judged(GOOD | {"a": "fail", "c": "optional_fail"}))
    assert report.changes(ours, {"a": "because", "c": "because"}) == []
    assert report.changes(ours, {"a": "because"}) == ["c fails, and is no known failure: It must c"]
    assert report.changes(ours, {"a": " ", "b": "because", "c": "because", "e": "because"}) == [
        "b passes: strike it off the list",
        "e is no test of this suite: strike it off the list",
        "a has no reason",
    ]


def test_what_is_asked_again_on_a_machine_that_was_late_is_what_did_not_go_as_the_list_says() -> None:
    ours, _, unstable = report.scores(judged(GOOD | {"a": "fail"}, GOOD | {"a": "fail", "d": "yes"}))
    assert report.doubtful(ours, unstable, {}) == ["a", "d"]
    assert report.doubtful(ours, [], {"a": "because"}) == []
    assert report.doubtful(ours, [], {"a": "because", "c": "because"}) == ["c"]


def test_how_late_answers_are_is_measured_through_the_cache() -> None:
    with live_server(Origin()) as server, Lateness(server.port) as lateness:
        until(lambda: lateness.worst > 0, "an answer")
    assert 0 < lateness.worst < PATIENCE


def test_the_list_gives_one_line_of_reason_for_each_failure() -> None:
    for suite in ("npm", "newest"):
        known = report.known_failures(KNOWN, suite)
        assert known
        assert all(reason.strip() and "\n" not in reason for reason in known.values())


def test_the_table_has_our_row_first_and_the_best_peer_next() -> None:
    ours, peers, _ = report.scores(judged(GOOD))
    worse = report.Score(name="worse", verdicts=GOOD | {"a": "fail"}, tests=ours.tests)
    lines = report.by_cache(ours, [worse, *peers]).splitlines()
    assert [line.split()[1] for line in lines] == ["cache", "----------", "glasscache", "p", "worse"]
    assert lines[2] == "| glasscache |      2/2 |     1/1 |"
    assert report.by_group(ours).splitlines()[-1] == "| all   |      2/2 |     1/1 |   0/1 |"


def test_results_are_found_behind_what_else_the_client_prints() -> None:
    assert results_in('a note\n{\n  "a": true\n}\n') == {"a": True}
    with pytest.raises(SuiteError, match="printed no results"):
        results_in("a note\n")


COMMAND = """
import sys, time
from pathlib import Path
from tests.conformance.suite import running
from tests.support.ending import end_in_order

end_in_order()
port, log = sys.argv[1:]
with running("an origin", [sys.executable, "-m", "http.server", port, "--bind", "127.0.0.1"], int(port), Path(log)):
    print("it runs", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_ends_it_ends_what_it_started_in_a_session_of_its_own(number: signal.Signals, tmp_path: Path) -> None:
    with free_port() as port:
        command = [sys.executable, "-c", COMMAND, str(port), str(tmp_path / "log")]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == "it runs\n"
                for _ in range(2):  # make passes on what its whole group was sent
                    process.send_signal(number)
                _, said = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        assert (process.returncode, said) == (128 + number, "")
        until(lambda: not listens(port), "the origin to end")
