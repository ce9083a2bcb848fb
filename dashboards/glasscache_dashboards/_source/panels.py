"""The few kinds of panel that our dashboards are made of.

Decides how each kind looks, and that every panel has a title, a description, a unit and a templated data source.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote

from glasscache.otel import Metric
from glasscache_dashboards._source.promql import Lens, legend
from glasscache_dashboards._source.sdk import (
    PromQueryFormat,
    SearchTableType,
    common,
    common_models,
    dashboard,
    heatmap,
    heatmap_models,
    models,
    prometheus,
    stat,
    statetimeline,
    table,
    tempo,
    timeseries,
)

METRICS: Final = common_models.DataSourceRef("prometheus", "${datasource}")
TRACES: Final = common_models.DataSourceRef("tempo", "${tempo}")

OUTCOMES: Final = {
    "hit": "green",
    "stale": "blue",
    "revalidated": "light-blue",
    "collapsed": "purple",
    "miss": "yellow",
    "bypass": "text",
    "error": "red",
}
"""A result has the same colour wherever it is shown."""
Steps: TypeAlias = tuple[tuple[float, str], ...]
"""From which value on a figure has which colour; below the first it is the colour of `_BASE`."""
GOOD, WATCH, BAD, PLAIN = "green", "orange", "red", "text"


class Words(NamedTuple):
    """What a panel says of itself: the unit is one of Grafana's."""

    title: str
    description: str
    unit: str


class Query(NamedTuple):
    """One expression, and what its series are called."""

    expr: str
    legend: str = ""


class State(NamedTuple):
    """A value of a state timeline, shown as a word."""

    value: int
    text: str
    colour: str


def p50_and_p99(lens: Lens, metric: Metric, *by: str) -> tuple[Query, Query]:
    """What is usual of a histogram, and what is bad."""
    low, high = (
        Query(lens.quantile(rank, metric, *by), " ".join((name, *map(legend, by))))
        for rank, name in ((0.5, "p50"), (0.99, "p99"))
    )
    return low, high


def figure(words: Words, expr: str, *, base: str = PLAIN, steps: Steps = (), empty: str = "0") -> models.Panel:
    """One number, as it is now, before a faint line of how it was. `empty`: shown where there is no data."""
    panel = _stat(words, _prometheus(0, Query(expr, words.title)), base, steps, empty)
    return panel.graph_mode(common_models.BigValueGraphMode.AREA).build()


def sum_figure(words: Words, expr: str) -> models.Panel:
    """One number over all the time that the dashboard shows."""
    panel = _stat(words, _prometheus(0, Query(expr, words.title)).instant(), PLAIN, (), "0")
    return panel.graph_mode(common_models.BigValueGraphMode.NONE).build()


def lines(
    words: Words,
    *queries: Query,
    stacked: bool = False,
    exemplars: bool = False,
    most: float | None = None,
    colours: Mapping[str, str] = {},
) -> models.Panel:
    """Lines over time; `stacked` as areas that add up. `most`: the end of the scale. `colours`: by name of series."""
    panel = (
        timeseries.Panel()
        .title(words.title)
        .description(words.description)
        .unit(words.unit)
        .datasource(METRICS)
        .min(0)
        .fill_opacity(40 if stacked else 8)
        .line_width(1)
        .show_points(common_models.VisibilityMode.NEVER)
        .legend(
            common.VizLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.LIST)
            .placement(common_models.LegendPlacement.BOTTOM)
            .calcs([])
        )
        .tooltip(
            common.VizTooltipOptions()
            .mode(common_models.TooltipDisplayMode.MULTI)
            .sort(common_models.SortOrder.DESCENDING)
        )
    )
    if stacked:
        panel.stacking(common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A"))
    if most is not None:
        panel.max(most)
    for name, colour in colours.items():
        fixed = models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": colour})
        panel.override_by_name(name, [fixed])
    for number, query in enumerate(queries):
        panel.with_target(_prometheus(number, query).exemplar(exemplars))
    return panel.build()


def heat(words: Words, expr: str) -> models.Panel:
    """How measured values are distributed over time, with exemplars that lead to traces."""
    query = _prometheus(0, Query(expr, "{{le}}")).format(PromQueryFormat.HEATMAP).exemplar(True)
    panel = (
        heatmap.Panel()
        .title(words.title)
        .description(words.description)
        .unit("cps")
        .datasource(METRICS)
        .calculate(False)
        .y_axis(heatmap.YAxisConfig().unit(words.unit).axis_placement(common_models.AxisPlacement.LEFT))
        .color(
            heatmap.HeatmapColorOptions()
            .mode(heatmap_models.HeatmapColorMode.SCHEME)
            .scheme("Spectral")
            .scale(heatmap_models.HeatmapColorScale.EXPONENTIAL)
            .exponent(0.5)
            .steps(64)
            .fill("dark-orange")
        )
        .filter_values(heatmap.FilterValueRange().le(1e-9))
        .exemplars_color("rgba(255,0,255,0.7)")
        .show_legend()
        .with_target(query)
    )
    return panel.build()


def states(words: Words, query: Query, *known: State) -> models.Panel:
    """Which state something was in, over time."""
    options = {str(s.value): models.ValueMappingResult(text=s.text, color=s.colour, index=s.value) for s in known}
    panel = (
        statetimeline.Panel()
        .title(words.title)
        .description(words.description)
        .unit(words.unit)
        .datasource(METRICS)
        .mappings([models.ValueMap(options=options)])
        .merge_values(True)
        .show_value(common_models.VisibilityMode.AUTO)
        .row_height(0.8)
        .legend(common.VizLegendOptions().show_legend(True).placement(common_models.LegendPlacement.BOTTOM).calcs([]))
        .with_target(_prometheus(0, query))
    )
    return panel.build()


def spans(words: Words, query: str, *, sort_by: str, trace_ids: str | None = None) -> models.Panel:
    """A search for spans; each row links to its trace. `trace_ids`: a column that leads to another trace."""
    search = (
        tempo.Dataquery()
        .ref_id("A")
        .datasource(TRACES)
        .query_type("traceql")
        .query(query)
        .limit(50)
        .spss(10)
        .table_type(SearchTableType.SPANS)
        .filters([])
    )
    panel = (
        table.Panel()
        .title(words.title)
        .description(words.description)
        .unit(words.unit)
        .datasource(TRACES)
        .sort_by([common.TableSortByFieldState().display_name(sort_by).desc(True)])
        .with_target(search)
    )
    if trace_ids is not None:
        link = {"title": "Open the trace of who held the lock", "url": _trace_url(), "targetBlank": False}
        panel.override_by_name(trace_ids, [models.DynamicConfigValue("links", [link])])
    return panel.build()


def alerts(words: Words, prefix: str) -> models.Panel:
    """Alerts whose names begin with `prefix`, of Grafana's own rules and of the data source's."""
    options = {
        "alertInstanceLabelFilter": "",
        "alertName": prefix,
        "dashboardAlerts": False,
        "groupBy": [],
        "groupMode": "default",
        "maxItems": 20,
        "sortOrder": 3,  # by importance
        "stateFilter": {"error": True, "firing": True, "noData": False, "normal": False, "pending": True},
        "viewMode": "list",
    }
    panel = dashboard.Panel().type("alertlist").title(words.title).description(words.description).options(options)
    return panel.build()


def _stat(words: Words, query: prometheus.Dataquery, base: str, steps: Steps, empty: str) -> stat.Panel:
    return (
        stat.Panel()
        .title(words.title)
        .description(words.description)
        .unit(words.unit)
        .datasource(METRICS)
        .no_value(empty)
        .thresholds(_thresholds(base, steps))
        .color_mode(common_models.BigValueColorMode.VALUE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]).values(False).fields(""))
        .with_target(query)
    )


def _prometheus(number: int, query: Query) -> prometheus.Dataquery:
    name = ascii_uppercase[number]
    return prometheus.Dataquery().ref_id(name).datasource(METRICS).expr(query.expr).legend_format(query.legend).range()


def _thresholds(base: str, steps: Steps) -> dashboard.ThresholdsConfig:
    above = [models.Threshold(value, colour) for value, colour in steps]
    return (
        dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps([models.Threshold(None, base), *above])
    )


def _trace_url() -> str:
    """Grafana's own page for one trace; what stands in `${}` it fills in."""
    pane = (
        '{"trace":{"datasource":"${tempo}","queries":[{"refId":"A","queryType":"traceql","query":"${__value.raw}"}],'
        '"range":{"from":"${__from}","to":"${__to}"}}}'
    )
    return f"/explore?schemaVersion=1&panes={quote(pane, safe='${}_.:,')}"
