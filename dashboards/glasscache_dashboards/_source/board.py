"""A dashboard of sections: variables, links, and where each panel stands.

Decides the grid (24 columns; the SDK's own layout overflows it), the ids of panels and the variables that all
dashboards have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from glasscache.otel import names
from glasscache_dashboards._source.panels import METRICS
from glasscache_dashboards._source.promql import INSTANCE, JOB, label, prometheus_name
from glasscache_dashboards._source.sdk import dashboard, models, plain

COLUMNS: Final = 24
TAG: Final = "glasscache"
_NAME = label(names.NAME)
_REQUESTS = prometheus_name(names.REQUESTS)
_ALL = models.VariableOption(selected=True, text="All", value="$__all")


class Band:
    """Panels side by side, so many rows high, each as wide as the others unless `widths` says how wide."""

    def __init__(self, height: int, *panels: models.Panel, widths: tuple[int, ...] = ()) -> None:
        self.height = height
        self.panels = panels
        self.widths = widths or (COLUMNS // len(panels),) * len(panels)
        assert sum(self.widths) == COLUMNS, "a band fills the grid"


class Section(NamedTuple):
    """A row of the dashboard, with its bands."""

    title: str
    bands: tuple[Band, ...]


class Choice(NamedTuple):
    """One more variable to choose from: the values that a label of a metric has."""

    name: str
    title: str
    metric: str
    label: str


class Text(NamedTuple):
    """One more variable to write into."""

    name: str
    title: str
    description: str
    value: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """One dashboard, with the variables that it has beside those of all."""

    uid: str
    title: str
    description: str
    sections: tuple[Section, ...]
    choices: tuple[Choice, ...] = ()
    texts: tuple[Text, ...] = ()

    def build(self) -> dict[str, Any]:
        """As JSON has it."""
        builder = (
            dashboard.Dashboard(self.title)
            .uid(self.uid)
            .description(self.description)
            .tags([TAG])
            .readonly()
            .tooltip(models.DashboardCursorSync.CROSSHAIR)
            .time("now-1h", "now")
            .refresh("30s")
            .variables([*_sources(), *_common(), *map(_choice, self.choices), *map(_text, self.texts)])
            .link(_others())
        )
        built = builder.build()
        built.panels = _placed(self.sections)
        return plain(built)


def _placed(sections: tuple[Section, ...]) -> list[models.Panel | models.RowPanel]:
    placed: list[models.Panel | models.RowPanel] = []
    down = 0
    for section in sections:
        row = dashboard.Row(section.title).grid_pos(models.GridPos(h=1, w=COLUMNS, x=0, y=down)).build()
        placed.append(row)
        down += 1
        for band in section.bands:
            across = 0
            for width, panel in zip(band.widths, band.panels, strict=True):
                panel.grid_pos = models.GridPos(h=band.height, w=width, x=across, y=down)
                placed.append(panel)
                across += width
            down += band.height
    for number, panel_or_row in enumerate(placed, 1):
        panel_or_row.id_val = number
    return placed


def _sources() -> list[dashboard.DatasourceVariable]:
    return [
        dashboard.DatasourceVariable("datasource").label("Prometheus data source").type("prometheus"),
        dashboard.DatasourceVariable("tempo").label("Tempo data source").type("tempo"),
    ]


def _common() -> list[dashboard.QueryVariable]:
    """Each chooses among what the ones before it leave."""
    so_far: list[str] = []
    made = []
    for name, of, title in (
        (JOB, JOB, "Job"),
        (INSTANCE, INSTANCE, "Instance"),
        (_NAME, _NAME, "Cache"),
        ("key_group", label(names.GROUP), "Key group"),
    ):
        series = f"{_REQUESTS}{{{', '.join(so_far)}}}" if so_far else _REQUESTS
        made.append(_choice(Choice(name, title, series, of)))
        so_far.append(f'{of}=~"${name}"')
    return made


def _choice(choice: Choice) -> dashboard.QueryVariable:
    query = f"label_values({choice.metric}, {choice.label})"
    return (
        dashboard.QueryVariable(choice.name)
        .label(choice.title)
        .datasource(METRICS)
        .query({"query": query, "refId": "StandardVariableQuery"})
        .definition(query)
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(_ALL)
    )


def _text(text: Text) -> dashboard.TextBoxVariable:
    option = models.VariableOption(selected=True, text=text.value, value=text.value)
    builder = dashboard.TextBoxVariable(text.name).label(text.title).description(text.description)
    return builder.default_value(text.value).current(option)


def _others() -> dashboard.DashboardLink:
    return (
        dashboard.DashboardLink("glasscache")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([TAG])
        .as_dropdown(False)
        .include_vars(True)
        .keep_time(True)
    )
