"""The benchmark's arithmetic is right, and it runs: whatever the figures are, none is judged here."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from glasscache.asgi import CacheMiddleware
from tests.bench import debian, habits, imports, instructions, peers, report, run, wire
from tests.bench.cases import RAW, Goal, Line, crowds, expect, null_cache, one_at_a_time, rules
from tests.bench.measure import Case, Timings, Work, measure
from tests.bench.traced import traced
from tests.bench.traffic import ANSWER, App, Message, ask, get, new, post, question, raw, raw_reading, raw_unsafe

pytestmark = pytest.mark.no_cover

TINY = run.Effort(
    rounds=1,
    crowd_rounds=1,
    peer_rounds=1,
    imports=1,
    wire_rounds=1,
    wire_seconds=1,
    connections=(1,),
    entries=(100, 200),
    entries_weighed=200,
    size_rounds=1,
    tier_rounds=1,
    all_places=True,
    stall_requests=2,
    scale=0.03,
)


def counted(calls: list[str], name: str) -> Callable[[int], Work]:
    def prepare(count: int) -> Work:
        async def work() -> None:
            calls.extend([name] * count)

        return work

    return prepare


def timings(**rounds: list[float]) -> Timings:
    return Timings(rounds)


class TestArithmetic:
    def test_a_figure_is_the_median_of_its_samples(self) -> None:
        assert timings(a=[5.0, 1.0, 100.0]).us("a") == 5
        assert timings(a=[5.0, 1.0, 100.0, 7.0]).us("a") == 6

    def test_a_ratio_compares_samples_of_the_same_round_so_that_a_slow_round_does_not_count(self) -> None:
        found = timings(a=[2.0, 20.0, 200.0], base=[1.0, 10.0, 50.0])
        assert found.times("a", "base") == 2
        assert found.added("a", "base") == 10

    def test_the_spread_of_equal_samples_is_one(self) -> None:
        assert timings(a=[3.0] * 8).spread("a") == 1
        assert timings(a=[1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 4.0, 4.0]).spread("a") == 4

    @pytest.mark.parametrize(
        ("goal", "found", "met"),
        [
            (Goal("times", 5), "4.00 x", True),
            (Goal("times", 3.9), "4.00 x", False),
            (Goal("added", 6), "+ 6.00 us", True),
            (Goal("added", 5.9), "+ 6.00 us", False),
            (None, "", None),
        ],
    )
    def test_a_goal_is_met_up_to_its_limit(self, goal: Goal | None, found: str, met: bool | None) -> None:
        line = Line(case=Case(name="hit", prepare=counted([], "hit")), goal=goal)
        row = report.row(line, Timings({"hit": [8.0], RAW: [2.0]}))
        assert (row.us, row.times_raw, row.found, row.met) == (8, 4, found, met)

    def test_what_has_no_goal_is_compared_with_its_base_if_that_is_not_the_raw_app(self) -> None:
        case = Case(name="bare", prepare=counted([], "bare"))
        found = Timings({"bare": [8.0], "few": [2.0], RAW: [1.0]})
        assert [report.row(Line(case=case, base=base), found).found for base in ("few", RAW)] == ["4.00 x", ""]

    def test_a_goal_against_another_base_names_it(self) -> None:
        line = Line(case=Case(name="hit", prepare=counted([], "hit")), base="span", goal=Goal("times", 1.2))
        row = report.row(line, Timings({"hit": [11.0], "span": [10.0], RAW: [1.0]}))
        assert (row.goal, row.found, row.times_raw, row.met) == ("1.2 x span", "1.10 x", 11, True)

    def test_peers_are_compared_with_the_raw_app_of_their_own_process(self) -> None:
        found = Timings({RAW: [2.0], "Starlette route, no cache": [40.0], "other": [10.0]})
        route, other = report.peer_rows(found)
        assert (route.times_raw, other.times_raw) == (20, 5)

    @pytest.mark.parametrize(("us", "met"), [(30.0, False), (40.0, True)])
    def test_what_has_to_take_at_least_so_many_times_as_long_says_so(self, us: float, met: bool) -> None:
        line = Line(case=Case(name="route", prepare=counted([], "route")), base="hit", goal=Goal("at least", 4))
        row = report.row(line, Timings({"hit": [10.0], "route": [us], RAW: [1.0]}))
        assert (row.goal, row.found, row.met) == ("at least 4 x hit", f"{us / 10:.2f} x", met)

    def test_over_http_a_hit_has_to_meet_both_goals(self) -> None:
        costs = Timings({RAW: [10.0], wire.HIT: [11.0], wire.ROUTE: [20.0]})
        rows = report.wire_rows({RAW: [1000.0], wire.HIT: [950.0], wire.ROUTE: [500.0]}, costs)
        assert [row.met for row in rows] == [None, True, None, True]
        rows = report.wire_rows({RAW: [1000.0], wire.HIT: [850.0], wire.ROUTE: [700.0]}, costs)
        assert [row.met for row in rows] == [None, False, None, False]

    def test_over_http_a_hit_is_compared_with_the_best_of_the_peers_and_with_whoever_is_there(self) -> None:
        names = (RAW, wire.HIT, wire.SHARED, wire.PEER + "slow", wire.PEER + "fast", wire.VARNISH)
        rates = dict(zip(names, ([1000.0], [900.0], [600.0], [10.0], [100.0], [1800.0]), strict=True))
        rows = report.wire_rows(rates, Timings({name: [1.0] for name in names}))
        assert [(row.name, row.found, row.met) for row in rows[len(names) :]] == [
            (f"{wire.HIT} over {wire.PEER}fast", "9.00 x", True),
            (f"{wire.HIT} over {wire.VARNISH}", "0.50 x", None),
        ]

    def test_the_page_gets_the_tables_between_its_marks_and_keeps_the_rest(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text(f"before\n\n{report.BEGIN}\nold\n{report.END}\nafter\n")
        rows = [report.Row(name="hit | miss", us=1.234, times_raw=4, goal="5 x raw", found="4.00 x", met=True)]
        report.write_page(page, "This machine.", {"Some title": rows})
        text = page.read_text()
        assert text.startswith("before\n")
        assert text.endswith(f"{report.END}\nafter\n")
        assert "| hit / miss | 1.23 | 4.00 | 5 x raw | 4.00 x | yes |" in text
        assert "old" not in text


class TestMeasuring:
    def test_every_round_has_a_sample_of_every_case_in_an_order_that_the_seed_decides(self) -> None:
        def calls(seed: int) -> list[str]:
            told: list[str] = []
            cases = [Case(name=name, prepare=counted(told, name), count=10) for name in "abcd"]
            found = asyncio.run(measure(cases, rounds=6, seed=seed, scale=0.1))
            assert {name: len(samples) for name, samples in found.rounds.items()} == dict.fromkeys("abcd", 6)
            return told

        first = calls(1)
        assert first[:4] == ["a", "b", "c", "d"]  # the warm-up
        rounds = [first[at : at + 4] for at in range(4, len(first), 4)]
        assert all(sorted(one) == ["a", "b", "c", "d"] for one in rounds)
        assert len({tuple(one) for one in rounds}) > 1
        assert calls(1) == first != calls(2)

    def test_time_is_told_per_operation(self) -> None:
        def prepare(count: int) -> Work:
            async def work() -> None:
                sum(range(20_000 * count))

            return work

        found = asyncio.run(measure([Case(name="a", prepare=prepare, count=4)], rounds=1, seed=1))
        assert 0 < found.us("a") < 1e6

    def test_a_case_that_does_not_do_what_it_says_is_refused(self) -> None:
        app = CacheMiddleware(raw, cache=null_cache(), rules=rules())
        wrong = Case(name="hit", prepare=counted([], "hit"), verify=expect(app, get("/other"), b"glasscache; hit"))
        with pytest.raises(RuntimeError, match="not what it claims"):
            asyncio.run(measure([wrong], rounds=1, seed=1))


class TestTraffic:
    @pytest.mark.parametrize("size", [211, 2048])
    def test_questions_have_their_size_and_differ_only_where_the_rule_does_not_look(self, size: int) -> None:
        one, other = question(size)(1), question(size)(2)
        assert len(one) == len(other) == size
        first, second = json.loads(one), json.loads(other)
        assert first.pop("trace_id") != second.pop("trace_id")
        assert first == second

    def test_strings_of_a_request_are_new_every_time(self) -> None:
        one, other = get()(1)[0], get()(1)[0]
        assert one == other
        for name in ("path", "raw_path", "query_string", "method"):
            assert one[name] is not other[name]
        for (name, value), (same_name, same_value) in zip(one["headers"], other["headers"], strict=True):
            assert name is not same_name
            assert value is not same_value
        text = b"some bytes"
        assert new(text) == text
        assert new(text) is not text

    def test_a_post_has_its_body_and_its_length(self) -> None:
        async def scenario() -> tuple[Message, dict[bytes, bytes]]:
            scope, receive = post(lambda number: b"%d" % number)(123)
            return await receive(), dict(scope["headers"])

        message, fields = asyncio.run(scenario())
        assert message["body"] == b"123"
        assert fields[b"content-length"] == b"3"

    @pytest.mark.parametrize("app", [raw, raw_unsafe, raw_reading])
    def test_the_raw_apps_answer(self, app: App) -> None:
        fields, body = asyncio.run(ask(app, post(question(211))(1)))
        assert body == ANSWER
        assert fields[b"content-length"] == b"%d" % len(ANSWER)


class TestTheCommand:
    def test_it_measures_every_line_and_keeps_every_sample(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")  # must not change what is measured
        out = tmp_path / "made" / "bench.json"
        assert run.main(["--quick", "--no-peers", "--no-wire", "--out", str(out)], TINY) == 0
        kept = json.loads(out.read_text())
        for title, lines in asyncio.run(names()).items():
            assert [row["name"] for row in kept["rows"][title]] == lines
            assert {name: len(samples) for name, samples in kept["timings"][title].items()} == dict.fromkeys(lines, 1)
        assert kept["timings"]["Import"]["above_ms"] > 0
        assert kept["machine"]["cores"] >= 1
        shown = capsys.readouterr().out
        assert "GET hit" in shown
        assert "5 x raw" in shown

    def test_one_part_alone_is_measured_and_the_page_is_not_written_of_it(self, tmp_path: Path) -> None:
        out = tmp_path / "bench.json"
        assert run.main(["--quick", "--only", "import", "--out", str(out)], TINY) == 0
        assert list(json.loads(out.read_text())["rows"]) == ["Import"]
        with pytest.raises(SystemExit):
            run.main(["--only", "import", "--docs"], TINY)

    def test_quick_leaves_peers_out_that_are_not_set_up_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(peers, "ready", lambda: False)
        bench = run.Bench(TINY, 1, Console())
        bench.peers(may_install=False)
        assert "Peers are left out" in capsys.readouterr().out
        assert bench.sections == {}

    def test_without_wrk_it_says_how_to_get_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(debian, "FOLDER", tmp_path)
        assert debian.environment()["PATH"] == ""
        run.Bench(TINY, 1, Console()).over_http(may_install=False)
        assert "apt-get install wrk" in capsys.readouterr().out

    def test_a_server_is_there_while_it_is_measured_and_gone_afterwards(self) -> None:
        with wire.server("hit") as (_, pid):
            assert wire.processor_seconds(pid) >= 0
        assert not Path(f"/proc/{pid}").exists()

    def test_an_environment_of_peers_is_ready_once_it_has_the_list_of_today(self, tmp_path: Path) -> None:
        assert not peers.ready(tmp_path)
        (tmp_path / "peers.txt").write_bytes(peers.LIST.read_bytes())
        assert peers.ready(tmp_path)
        (tmp_path / "peers.txt").write_text("older==1.0\n")
        assert not peers.ready(tmp_path)

    def test_peers_that_cannot_be_imported_are_named_and_the_others_are_measured(self) -> None:
        # In our own environment there are Starlette and FastAPI, and no other cache.
        found = peers.timings(1, 1, 0.1, python=Path(sys.executable))
        assert {RAW, "Starlette route, no cache", "FastAPI route, no cache"} <= found["timings"].keys()
        assert all("Error" in reason for reason in found["missing"].values())

    def test_an_environment_that_breaks_off_is_told_with_its_reason(self, tmp_path: Path) -> None:
        broken = tmp_path / "python"
        broken.write_text("#!/bin/sh\necho no such interpreter >&2\nexit 3\n")
        broken.chmod(0o755)
        with pytest.raises(peers.NoPeersError, match="no such interpreter"):
            peers.timings(1, 1, 1.0, python=broken)


class TestHabits:
    def test_what_docs_compared_says_of_us_is_what_we_do(self) -> None:
        lines = (peers.ROOT / "docs" / "compared.md").read_text("utf-8").splitlines()
        for rows in habits.ours():
            for line in habits.table(rows).splitlines()[2:]:
                assert any(said.startswith(line) for said in lines), line

    def test_peers_are_asked_what_we_are(self) -> None:
        rows = habits.ours()[0]
        table = habits.table(rows | {"peer": dict.fromkeys(next(iter(rows.values())), "?")})
        assert table.splitlines()[0] == "|  | glasscache, `ttl` | glasscache, HTTP | peer |"
        assert table.splitlines()[2].endswith("| 1 | 1 | ? |")


class TestInstructions:
    def test_without_valgrind_it_says_so_and_goes_on(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", "")
        assert instructions.main([]) == 0
        assert "apt-get install valgrind" in capsys.readouterr().out

    def test_what_is_counted_is_what_is_kept(self, tmp_path: Path) -> None:
        names = tmp_path / "names.json"
        assert instructions.main(["--child", str(names)]) == 0
        kept = json.loads(instructions.KEPT.read_text())
        assert list(kept["counts"]) == json.loads(names.read_text())

    def test_counts_stand_beside_the_kept_ones_with_their_change(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        found = {RAW: 1000, "GET hit": 4000}
        monkeypatch.setattr(instructions, "count", lambda: found)
        monkeypatch.setattr(shutil, "which", lambda name: name)
        kept = tmp_path / "kept.json"
        instructions.main(["--keep"], kept)
        found["GET hit"] = 3000
        instructions.main([], kept)
        assert "-25.0 %" in capsys.readouterr().out
        kept.write_text(json.dumps({"on": "another", "counts": {}}))
        instructions.main([], kept)
        assert "Kept are those of another" in capsys.readouterr().out

    def test_a_dump_of_callgrind_says_how_many(self, tmp_path: Path) -> None:
        dump = tmp_path / "out.1"
        dump.write_text("version: 1\nsummary: 12\n\ntotals: 34\n")
        assert instructions._total(dump) == 34


def test_the_time_of_an_import_is_read_from_an_interpreter_of_its_own() -> None:
    assert all(milliseconds > 0 for milliseconds in imports.milliseconds(1))


async def names() -> dict[str, list[str]]:
    with traced() as (alone, together):
        for line in alone:
            if line.case.verify is not None:
                await line.case.verify()
            await line.case.prepare(1)()
            line.case.prepare(0)
        await together[1].case.prepare(2)()
    sections = {
        "In process, 2 KB answer": one_at_a_time(),
        "In process, 1,000 equal requests at once": crowds(),
        "In process, the OpenTelemetry SDK exporting": alone,
        "In process, crowds, the OpenTelemetry SDK exporting": together,
    }
    return {title: [line.case.name for line in lines] for title, lines in sections.items()}
