"""The dashboards drawn from real answers: one picture for each, for the docs and for the eyes of who changes them.

Decides what a panel looks like here; near enough to Grafana's to judge words, units, places and whether a picture says
anything. Must never make a number up.
"""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any, Final, NamedTuple

import matplotlib as mpl
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, MultipleLocator
from matplotlib.transforms import Bbox

from tests.dashboards import model
from tests.dashboards.check import traceql, units
from tests.dashboards.check.ask import Series, Store
from tests.dashboards.model import Target
from tests.support.otlp_model import Span

FOLDER: Final = Path(__file__).parents[3] / "docs" / "dashboards"
_HEAD = 2  # rows of the grid for the title
_COLUMN, _ROW = 0.62, 0.36  # inches of a unit of the grid
_PAGE, _PANEL, _TEXT, _FAINT = "#111217", "#181b1f", "#d8d9da", "#6e7379"
_COLOURS = [
    "#73bf69",
    "#f2cc0c",
    "#8ab8ff",
    "#ff780a",
    "#f2495c",
    "#5794f2",
    "#b877d9",
    "#96d98d",
    "#ffa6b0",
    "#fade2a",
]
_NAMED = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c", "text": _TEXT, "blue": "#5794f2"}
_NAMED |= {"light-blue": "#8ab8ff", "purple": "#b877d9", "yellow": "#fade2a"}
_ROWS_SHOWN = 9
_POINT: dict[str, Any] = {"marker": "D", "markersize": 2.2, "color": "#ff00ff"}
"""An exemplar."""


class Sources(NamedTuple):
    """Where numbers, exemplars and spans come from."""

    metrics: Store
    exemplars: Store
    trees: list[traceql.Tree]
    spans: list[Span]


def draw(sources: Sources) -> list[Path]:
    """All of them; the pictures."""
    FOLDER.mkdir(exist_ok=True)
    drawn = []
    with mpl.rc_context({"font.size": 7, "text.color": _TEXT, "axes.prop_cycle": cycler(color=_COLOURS)}):
        for uid, board in model.boards().items():
            figure = _board(uid, board, sources)
            drawn.append(_save(figure, uid.removeprefix("glasscache-"), None))
            if uid == "glasscache-contention":
                drawn.append(_save(figure, "waits", _part(board, "Who waits")))
    return drawn


def _save(figure: Figure, name: str, part: Bbox | None) -> Path:
    path = FOLDER / f"{name}.png"
    figure.savefig(path, dpi=96, facecolor=_PAGE, bbox_inches=part, pil_kwargs={"optimize": True})
    return path


def _height(board: dict[str, Any]) -> int:
    last: int = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    return last + _HEAD


def _part(board: dict[str, Any], row: str) -> Bbox:
    """Where a row of the dashboard stands, to the next one."""
    rows = [panel for panel in board["panels"] if panel["type"] == "row"]
    number = [panel["title"] for panel in rows].index(row)
    top, bottom = (rows[each]["gridPos"]["y"] + _HEAD for each in (number, number + 1))
    height = _height(board)
    return Bbox([[0, (height - bottom) * _ROW], [24 * _COLUMN, (height - top) * _ROW]])


def _board(uid: str, board: dict[str, Any], sources: Sources) -> Figure:
    height = _height(board)
    figure = Figure(figsize=(24 * _COLUMN, height * _ROW))
    figure.text(0.008, 1 - 1.2 / height, board["title"], size=12, weight="bold", va="center")
    targets = [target for target in model.targets() if target.uid == uid]
    for panel in board["panels"]:
        place = panel["gridPos"]
        left, bottom = place["x"] / 24, 1 - (place["y"] + place["h"] + _HEAD) / height
        if panel["type"] == "row":
            figure.text(0.008, bottom + 0.4 / height, f"▾ {panel['title']}", size=8, weight="bold", va="center")
            continue
        gap = 0.0025
        frame = figure.add_axes(
            (left + gap, bottom + 0.15 / height, place["w"] / 24 - 2 * gap, (place["h"] - 0.3) / height)
        )
        frame.set_facecolor(_PANEL)
        frame.set(xticks=[], yticks=[])
        for spine in frame.spines.values():
            spine.set_color("#2c3235")
        frame.text(
            0.012, 1 - 0.45 / place["h"], panel["title"], transform=frame.transAxes, size=7, weight="bold", va="center"
        )
        mine = [target for target in targets if target.panel is panel]
        _KINDS[panel["type"]](frame, panel, mine, sources)
    return figure


def _inner(frame: Axes, *, left: float = 0.085, bottom: float = 0.12, top: float = 0.86) -> Axes:
    axes = frame.inset_axes((left, bottom, 0.985 - left, top - bottom))
    axes.set_facecolor(_PANEL)
    axes.tick_params(colors=_FAINT, labelsize=6, length=0)
    axes.grid(color="#2c3235", linewidth=0.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return axes


def _name(target: Target, series: Series) -> str:
    legend = str(target.target.get("legendFormat", ""))
    return re.sub(r"\{\{(\w+)\}\}", lambda found: series.labels.get(found[1], ""), legend)


def _columns(series: Series, began: float) -> tuple[list[float], list[float]]:
    return [at - began for at, _ in series.points], [value for _, value in series.points]


def _all(targets: list[Target], sources: Sources) -> list[tuple[str, Series]]:
    return [(_name(target, one), one) for target in targets for one in sources.metrics.panel(target)]


def _time_axis(axes: Axes, sources: Sources) -> None:
    spans = sources.metrics.spans
    axes.set_xlim(0, spans.ended - spans.began)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0f}s")


def _lines(frame: Axes, panel: dict[str, Any], targets: list[Target], sources: Sources) -> None:
    unit, place = panel["fieldConfig"]["defaults"]["unit"], panel["gridPos"]
    stacked = panel["fieldConfig"]["defaults"]["custom"].get("stacking", {}).get("mode") == "normal"
    found = _all(targets, sources)
    columns = max(1, place["w"] * 10 // (12 + max((len(name) for name, _ in found), default=0) * 1.05))
    under = math.ceil(len(found) / columns)
    axes = _inner(frame, left=0.5 / place["w"] + 0.03, bottom=(0.75 + 0.42 * under) / place["h"])
    fixed = {each["matcher"]["options"]: each["properties"][0]["value"] for each in panel["fieldConfig"]["overrides"]}
    own = itertools.cycle(_COLOURS)
    colours = [_NAMED[fixed[name]["fixedColor"]] if name in fixed else next(own) for name, _ in found]
    if stacked and found:
        times = sorted({at for _, series in found for at, _ in series.points})
        heights = [[dict(series.points).get(at, 0.0) for at in times] for _, series in found]
        seconds = [at - sources.metrics.spans.began for at in times]
        axes.stackplot(seconds, heights, labels=[name for name, _ in found], colors=colours, alpha=0.75, linewidth=0.4)
    else:
        for (name, series), colour in zip(found, colours, strict=True):
            axes.plot(*_columns(series, sources.metrics.spans.began), color=colour, linewidth=1.0, label=name)
    top = axes.get_ylim()[1] * 1.05
    axes.set_ylim(0, top)
    axes.yaxis.set_major_formatter(lambda value, _: units.shown(value, unit))
    in_bytes = unit in ("bytes", "Bps")
    axes.yaxis.set_major_locator(MultipleLocator(2.0 ** math.ceil(math.log2(top / 4))) if in_bytes else MaxNLocator(4))
    for at, value in _exemplars(targets[0], sources):
        if value > top / 20:  # Grafana thins them out, too
            axes.plot(at, value, **_POINT)
    _time_axis(axes, sources)
    if found:
        frame.legend(
            *axes.get_legend_handles_labels(),
            loc="lower left",
            ncols=int(columns),
            fontsize=6,
            frameon=False,
            labelcolor=_TEXT,
            handlelength=1.0,
            columnspacing=0.9,
            borderaxespad=0.2,
        )


def _figure(frame: Axes, panel: dict[str, Any], targets: list[Target], sources: Sources) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    found = _all(targets, sources)
    text, colour = defaults["noValue"], _TEXT
    if found:
        series = found[0][1]
        value = series.points[-1][1]
        text = units.shown(value, defaults["unit"])
        for step in defaults["thresholds"]["steps"]:
            if step["value"] is None or value >= step["value"]:
                colour = _NAMED[step["color"]]
        if len(series.points) > 1:
            axes = _inner(frame, left=0.0, bottom=0.0, top=0.4)
            axes.axis("off")
            seconds, values = _columns(series, sources.metrics.spans.began)
            axes.fill_between(seconds, values, alpha=0.25, color=colour, linewidth=0)
            axes.plot(seconds, values, color=colour, linewidth=0.8)
    frame.text(
        0.5, 0.5, text, transform=frame.transAxes, size=15, color=colour, weight="bold", ha="center", va="center"
    )


def _heat(frame: Axes, panel: dict[str, Any], targets: list[Target], sources: Sources) -> None:
    axes, (target,) = _inner(frame, left=0.09, bottom=0.12), targets
    by_bound = {float(s.labels["le"]): dict(s.points) for s in sources.metrics.panel(target) if "le" in s.labels}
    bounds = sorted(by_bound)
    times = sorted({at for points in by_bound.values() for at in points})
    if times:
        grid = np.array([[by_bound[bound].get(at, 0.0) for at in times] for bound in bounds])
        within = np.diff(grid, axis=0, prepend=0.0).clip(min=0.0)
        shown = np.ma.masked_less_equal(within, 1e-9)
        edges = [at - sources.metrics.spans.began for at in times]
        axes.pcolormesh(edges, np.arange(len(bounds)), shown, cmap="Spectral_r", norm=PowerNorm(0.5), shading="nearest")
        for at, value in _exemplars(target, sources):
            axes.plot(at, next(row for row, bound in enumerate(bounds) if value <= bound), **_POINT)
    axes.set_ylim(-0.5, len(bounds) - 0.5)
    every = max(1, len(bounds) // 7)
    names = ["+Inf" if bound == float("inf") else units.shown(bound, "s") for bound in bounds]
    axes.set_yticks(range(len(bounds))[::every], names[::every])
    _time_axis(axes, sources)


def _exemplars(target: Target, sources: Sources) -> list[tuple[float, float]]:
    """When, and of which value; none where the panel does not show them."""
    if not target.target.get("exemplar"):
        return []
    began, found = sources.metrics.spans.began, sources.exemplars.exemplars(target)
    return [(float(exemplar["timestamp"]) - began, float(exemplar["value"])) for exemplar in found]


def _states(frame: Axes, panel: dict[str, Any], targets: list[Target], sources: Sources) -> None:
    axes = _inner(frame, left=0.24, bottom=0.14)
    (mapping,) = panel["fieldConfig"]["defaults"]["mappings"]
    known = {float(value): option for value, option in mapping["options"].items()}
    found = _all(targets, sources)
    for row, (_, series) in enumerate(found):
        for at, value in series.points:
            colour = _NAMED[known[value]["color"]]
            axes.barh(row, 1.0, left=at - sources.metrics.spans.began, height=0.8, color=colour, linewidth=0)
    axes.set_yticks(range(len(found)), [name for name, _ in found])
    axes.grid(visible=False)
    _time_axis(axes, sources)


def _table(frame: Axes, panel: dict[str, Any], targets: list[Target], sources: Sources) -> None:
    order = [target.panel["title"] for target in model.targets("tempo")]
    rows = traceql.search(sources.trees[order.index(panel["title"])], sources.spans)
    (sort,) = panel["options"]["sortBy"]
    key = next(
        name for name in rows[0] if name.removeprefix("span.") == sort["displayName"].replace("Duration", "duration")
    )
    rows.sort(key=lambda row: row[key], reverse=True)  # type: ignore[arg-type,return-value]
    names = [name for name in rows[0] if name != "trace"]
    heads = [name.removeprefix("span.cache.").removeprefix("lock.") for name in names]
    cells = [[_short(row[name]) for name in names] for row in rows[:_ROWS_SHOWN]]
    axes = _inner(frame, left=0.01, bottom=0.02)
    axes.axis("off")
    made = axes.table(cells, colLabels=heads, loc="upper left", cellLoc="left", edges="horizontal")
    made.auto_set_font_size(False)
    made.set_fontsize(6)
    made.scale(1, 1.25)
    for cell in made.get_celld().values():
        cell.set_edgecolor("#2c3235")
        cell.get_text().set_color(_TEXT)


def _short(value: object) -> str:
    if isinstance(value, float):
        return units.shown(value, "s")
    text = "" if value is None else str(value)
    return f"{text[:8]}…" if len(text) > 14 else text


def _alerts(frame: Axes, panel: dict[str, Any], targets: list[Target], sources: Sources) -> None:
    told = sources.exemplars.http.get(f"{sources.exemplars.url}/api/v1/alerts").json()["data"]["alerts"]
    shown = sorted({(alert["labels"]["alertname"], alert["labels"]["severity"], alert["state"]) for alert in told})
    for row, (name, severity, state) in enumerate(shown[:7]):
        colour = {"critical": "#f2495c", "warning": "#ff9830"}[severity]
        frame.text(0.03, 0.8 - row * 0.11, f"● {name}", transform=frame.transAxes, color=colour, size=6.5)
        frame.text(0.97, 0.8 - row * 0.11, state, transform=frame.transAxes, color=_FAINT, size=6.5, ha="right")


_KINDS = {
    "timeseries": _lines,
    "stat": _figure,
    "heatmap": _heat,
    "state-timeline": _states,
    "table": _table,
    "alertlist": _alerts,
}
