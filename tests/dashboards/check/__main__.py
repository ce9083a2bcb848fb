"""`make dashboards-check`: a scripted load on real processes, and all that dashboards and alerts ask of real backends.

Prints a table, line by line; the exit code is 1 if an expression returns nothing. `--draw`: docs/dashboards/*.png anew.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from glasscache_dashboards import FILES
from tests.dashboards import model
from tests.dashboards.check import load, sheet, traceql
from tests.dashboards.check.ask import Store, filled, move
from tests.dashboards.check.backends import JOB, Backends, backends
from tests.dashboards.check.programs import Programs, install
from tests.dashboards.check.verdict import Cell, Line, cell, table
from tests.dashboards.check.walk import walk
from tests.support.ending import end_in_order
from tests.support.otlp_model import Span

DAY, A_WHILE = 86_400.0, 1_200.0
ONLY_HERE = {"GlasscacheHitRatioDropped", "GlasscacheSilent"}
"""Alerts that compare with the past, which was told to VictoriaMetrics alone."""


def tell(line: str) -> None:
    """As it happens."""
    print(line, flush=True)


def check_rules(programs: Programs) -> None:
    """The rules are well formed, for Prometheus and for VictoriaMetrics, and fire when they should."""
    tests = Path(__file__).with_name("alerts_test.yaml")
    rules = FILES / "alerts" / "prometheus.yaml"
    for program, *arguments in (
        (programs.promtool, "check", "rules", str(rules)),
        (programs.promtool, "test", "rules", str(tests)),
        (programs.vmalert, "-dryRun", f"-rule={rules}"),
    ):
        done = subprocess.run([str(program), *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{program.name} {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
        tell(f"{program.name} {arguments[0]}: ok")


def check_syntax(programs: Programs) -> list[traceql.Tree]:
    """The parsers of Grafana's editor: every query is read; the trees of those in TraceQL."""
    promql = [target.expr for target in model.targets()] + [alert["expr"] for alert in model.alerts()]
    searches = [target.target["query"] for target in model.targets("tempo")]
    an_hour = {"__range": "1h"}  # variables are no durations before they are filled in
    asked = [("promql", filled(expr, an_hour)) for expr in promql]
    asked += [("traceql", filled(query, an_hour)) for query in searches]
    trees = traceql.parse(programs.modules, asked)
    tell(f"lezer-promql reads {len(promql)} expressions, lezer-traceql {len(searches)} searches")
    return trees[len(promql) :]


def panels(stores: tuple[Store, ...]) -> list[Line]:
    """Every expression of every panel."""
    return [
        Line(
            target.uid,
            f"{target.panel['title']} ({target.target['refId']})",
            tuple(cell(s.panel(target)) for s in stores),
        )
        for target in model.targets()
    ]


def alerts(victoria: Store, prometheus: Store) -> list[Line]:
    """Every alert: the whole condition, threshold and all, was true at some time."""
    return [
        Line(
            "alerts",
            alert["alert"],
            (
                cell(victoria.over_time(alert["expr"])),
                None if alert["alert"] in ONLY_HERE else cell(prometheus.over_time(alert["expr"])),
            ),
        )
        for alert in model.alerts()
    ]


def searches(trees: list[traceql.Tree], spans: list[Span]) -> list[Line]:
    """Every search for spans, with variables as Grafana fills them in."""
    lines = []
    for target, tree in zip(model.targets("tempo"), trees, strict=True):
        rows = traceql.search(tree, spans)
        lines.append(Line(target.uid, target.panel["title"], (Cell(len(rows), sum(len(row) for row in rows)),)))
    return lines


def exemplars(prometheus: Store, spans: list[Span]) -> list[Line]:
    """Every panel that shows exemplars: there are some, and each leads to a span that was exported."""
    known = {(span.trace_id, span.span_id) for span in spans}
    lines = []
    for target in model.targets():
        if target.target.get("exemplar"):
            labels = [exemplar["labels"] for exemplar in prometheus.exemplars(target)]
            led = [found for found in labels if (found.get("trace_id"), found.get("span_id")) in known]
            title = f"{target.panel['title']} ({target.target['refId']})"
            # of requests that ended a moment ago, spans may still be on their way
            leading = len(led) if len(led) >= 0.95 * len(labels) else 0
            lines.append(Line(target.uid, title, (Cell(len(labels), len(labels)), Cell(leading, leading))))
    return lines


def ask(world: Backends, spans: load.Spans, programs: Programs, *, draw: bool) -> bool:
    """All of it; whether everything returned data."""
    trees = check_syntax(programs)
    with httpx.Client(timeout=60, trust_env=False) as http:
        victoria = Store("VictoriaMetrics", world.victoria, http, spans)
        prometheus = Store("Prometheus", world.prometheus, http, spans)
        move(victoria, "glasscache_requests_total", until=spans.good_until, by=DAY, job=JOB)
        move(victoria, "glasscache_lock_waiter_count", until=spans.good_until, by=A_WHILE, job="gone")
        arrived = world.spans.spans()
        stores = (victoria, prometheus)
        names = tuple(store.name for store in stores)
        parts = [
            ("Panels", names, panels(stores)),
            (
                "Alerts (the day before, and a service that fell silent: the good day, told anew)",
                names,
                alerts(*stores),
            ),
            ("Searches for spans (rows, cells)", ("exported spans",), searches(trees, arrived)),
            (
                "Exemplars (in Prometheus; leading to an exported span)",
                ("exemplars", "with span"),
                exemplars(prometheus, arrived),
            ),
        ]
        for title, sources, lines in parts:
            tell(table(title, sources, lines))
        tell("\nFrom a slow p99 to who held the lock")
        for step in walk(prometheus, arrived):
            tell(f"  {step}")
        if draw:
            for path in sheet.draw(sheet.Sources(victoria, prometheus, trees, arrived)):
                tell(f"drawn: {path}")
    return all(line.is_good for _, _, lines in parts for line in lines)


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="make dashboards-check")
    parser.add_argument("--draw", action="store_true", help="draw docs/dashboards/*.png anew")
    options = parser.parse_args()
    begun = time.monotonic()
    programs = install()
    check_rules(programs)
    with (
        tempfile.TemporaryDirectory(prefix="glasscache-dashboards-") as folder,
        backends(Path(folder), programs) as world,
    ):
        tell("a scripted load on three processes (and one that hangs):")
        spans = asyncio.run(load.run(world, tell))
        is_good = ask(world, spans, programs, draw=options.draw)
    verdict = "every expression returns data" if is_good else "SOME EXPRESSIONS RETURN NOTHING"
    tell(f"\n{verdict}, {time.monotonic() - begun:.0f} s")
    return 0 if is_good else 1


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
