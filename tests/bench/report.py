"""From timings to rows, and from rows to a table and a file.

Decides what is printed beside each other. Must never show a figure that was not measured in this run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench import wire
from tests.bench.cases import RAW, Line
from tests.bench.measure import Timings


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line as it is printed. `us` and `times_raw` are None where they would mean nothing."""

    name: str
    us: float | None = None
    times_raw: float | None = None
    goal: str = ""
    found: str = ""
    met: bool | None = None
    """None: there is no goal."""


def row(line: Line, timings: Timings) -> Row:
    """What was found about a line, beside its goal."""
    name, goal = line.case.name, line.goal
    us = timings.us(name)
    times_raw = timings.times(name, RAW) if RAW in timings.rounds else None
    if goal is None:
        compares = line.base not in (RAW, name)
        return Row(
            name=name,
            us=us,
            times_raw=times_raw,
            found=f"{timings.times(name, line.base):.2f} x" if compares else "",
        )
    base = "raw" if line.base == RAW else line.base
    if goal.kind != "added":
        value, wanted, found = timings.times(name, line.base), f"{goal.limit:g} x {base}", "{:.2f} x"
    else:
        value, wanted, found = timings.added(name, line.base), f"{base} + {goal.limit:g} us", "+ {:.2f} us"
    met = value <= goal.limit
    if goal.kind == "at least":
        wanted, met = f"at least {wanted}", value >= goal.limit
    return Row(name=name, us=us, times_raw=times_raw, goal=wanted, found=found.format(value), met=met)


def peer_rows(timings: Timings) -> list[Row]:
    """The peers, each compared with the raw app of its own process."""
    return [
        Row(name=name, us=timings.us(name), times_raw=timings.times(name, RAW))
        for name in timings.rounds
        if name != RAW
    ]


def wire_rows(rates: Mapping[str, Sequence[float]], costs: Timings) -> list[Row]:
    """Over HTTP: requests per second and the server's processor time, against the raw app's."""
    per_second = Timings(rates)
    rows = []
    for name in rates:
        rate, share, cost = per_second.us(name), per_second.times(name, RAW), costs.times(name, RAW)
        met = None
        if name == wire.HIT:
            met = share >= 0.9 and cost <= 1.12
        elif name == wire.SHARED:
            met = share >= 0.55
        rows.append(
            Row(
                name=f"{name}: {rate:,.0f} requests/s",
                us=costs.us(name),
                times_raw=cost,
                goal=_WIRE_GOALS.get(name, ""),
                found=f"{share:.2f} of raw's requests/s",
                met=met,
            )
        )
    return [*rows, *_hit_against(per_second)]


_WIRE_GOALS = {
    wire.HIT: "at least 0.90 of raw's requests/s, at most 1.12 x its CPU",
    wire.SHARED: "at least 0.55 of raw's requests/s",
}


def _hit_against(per_second: Timings) -> list[Row]:
    """The hit's requests per second over those of others."""
    names = per_second.rounds
    best = max((name for name in names if name.startswith(wire.PEER)), key=per_second.us, default="no peer")
    rows = []
    for one, other, least in (
        (wire.HIT, wire.ROUTE, 1.35),
        (wire.HIT, best, 1.35),
        (wire.HIT, wire.NGINX, 0.45),
        (wire.HIT, wire.VARNISH, None),
        (wire.GRANIAN_HIT, wire.GRANIAN_RAW, 0.9),
    ):
        if one in names and other in names:
            found = per_second.times(one, other)
            goal, met = ("", None) if least is None else (f"at least {least:g} x", found >= least)
            rows.append(Row(name=f"{one} over {other}", goal=goal, found=f"{found:.2f} x", met=met))
    return rows


def table(title: str, rows: Sequence[Row], unit: str = "us") -> Table:
    """Rows for the terminal."""
    made = Table(title=title, title_justify="left", box=None, padding=(0, 1))
    made.add_column("operation")
    for name in (unit, "x raw"):
        made.add_column(name, justify="right")
    for name in ("goal", "found", "met"):
        made.add_column(name)
    for one in rows:
        met = {None: "", True: "[green]yes[/]", False: "[red]no[/]"}[one.met]
        numbers = ("" if value is None else f"{value:,.2f}" for value in (one.us, one.times_raw))
        made.add_row(one.name, *numbers, one.goal, one.found, met)
    return made


def show(console: Console, title: str, rows: Sequence[Row], unit: str = "us") -> None:
    """Print a table, and a blank line."""
    console.print(table(title, rows, unit))
    console.print()


def save(
    path: Path, machine: Mapping[str, Any], sections: Mapping[str, Sequence[Row]], timings: Mapping[str, Any]
) -> None:
    """Everything as JSON: the rows, and every single sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {title: [asdict(one) for one in found] for title, found in sections.items()}
    path.write_text(json.dumps({"machine": machine, "rows": rows, "timings": timings}, indent=1) + "\n")


BEGIN, END = "<!-- begin: make bench ARGS=--docs -->", "<!-- end -->"


def write_page(page: Path, where: str, sections: Mapping[str, Sequence[Row]]) -> None:
    """Put the tables into a page, between its two marks."""
    before, _, rest = page.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = [where, *(_markdown(title, rows) for title, rows in sections.items())]
    page.write_text(f"{before}{BEGIN}\n\n" + "\n\n".join(parts) + f"\n\n{END}{after}")


def _markdown(title: str, rows: Sequence[Row]) -> str:
    unit = {"Import": "ms", "The event loop": "ms", "Memory": ""}.get(title, "us")
    lines = [f"### {title}", "", f"| operation | {unit} | x raw | goal | found | met |", "|---|---|---|---|---|---|"]
    for one in rows:
        numbers = ["" if value is None else f"{value:,.2f}" for value in (one.us, one.times_raw)]
        met = {None: "", True: "yes", False: "no"}[one.met]
        cells = [one.name, *numbers, one.goal, one.found, met]
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)
