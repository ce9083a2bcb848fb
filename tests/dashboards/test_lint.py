"""The rules of Grafana's dashboard-linter (its names in brackets), and some of our own.

Decides which exceptions there are: each is written down here with its reason.
"""

from __future__ import annotations

import re
from typing import Any, get_args, get_type_hints

import pytest

from glasscache import _events as words
from glasscache.otel import METRICS, Metric, names
from glasscache_dashboards._source import foreign
from glasscache_dashboards._source.promql import label, prometheus_name
from tests.dashboards import model
from tests.dashboards.model import RATE_INTERVAL, Selector, Target

# [template-datasource-rule] wants prometheus_datasource and tempo_datasource. Ours are called datasource and tempo, as
# on most of Grafana's own dashboards, so that links from those carry the choice over.
SOURCE_VARIABLES = {"datasource": ("prometheus", "Prometheus data source"), "tempo": ("tempo", "Tempo data source")}
# [template-job-rule], [template-instance-rule] want .+ for "All". With .* series without that label are shown, too, as
# those of a collector that makes no job or instance of the resource.
ALL_VALUE = ".*"
# [target-job-rule], [target-instance-rule]: redis_exporter is a job of its own, so its panels choose by $redis alone.
OF_THE_SERVER = {
    prometheus_name(m) for m in vars(foreign).values() if isinstance(m, Metric) and m.name.startswith("redis.")
}
OF_THE_SERVER -= {prometheus_name(foreign.CLIENT_ERRORS)}
# [panel-title-description-rule] and others look at few kinds of panel; ours hold for all but rows.
# Units of Grafana that our panels use; panel-units-rule knows them all.
UNITS = {"none", "short", "percentunit", "s", "reqps", "ops", "cps", "bytes", "Bps", "currencyUSD"}

TARGETS = list(model.targets())
PANELS = list(model.panels())
every_target = pytest.mark.parametrize("target", TARGETS, ids=str)
every_panel = pytest.mark.parametrize(("uid", "panel"), PANELS, ids=[f"{uid} / {p['title']}" for uid, p in PANELS])
every_board = pytest.mark.parametrize("uid", list(model.boards()))


def variables(uid: str, kind: str) -> dict[str, dict[str, Any]]:
    return {v["name"]: v for v in model.boards()[uid]["templating"]["list"] if v["type"] == kind}


@every_board
def test_data_sources_are_variables(uid: str) -> None:
    """[template-datasource-rule]"""
    found = {name: (v["query"], v["label"]) for name, v in variables(uid, "datasource").items()}
    assert found == SOURCE_VARIABLES


@every_board
def test_job_instance_cache_and_group_can_be_chosen(uid: str) -> None:
    """[template-job-rule] [template-instance-rule] [template-on-time-change-reload-rule]"""
    chosen = variables(uid, "query")
    assert list(chosen)[:4] == ["job", "instance", "cache_name", "key_group"]
    assert (chosen["job"]["label"], chosen["instance"]["label"]) == ("Job", "Instance")
    for variable in chosen.values():
        assert variable["datasource"]["uid"] == "${datasource}"
        assert variable["multi"]
        assert variable["includeAll"]
        assert variable["allValue"] == ALL_VALUE
        assert variable["refresh"] == 2


@every_board
def test_what_variables_offer_is_asked_for_in_promql(uid: str) -> None:
    """[template-label-promql-rule]"""
    for variable in variables(uid, "query").values():
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert found
        assert len(model.selectors(found[1])) == 1


@every_board
def test_a_provisioned_dashboard_is_not_edited(uid: str) -> None:
    """[uneditable-dashboard]"""
    assert model.boards()[uid]["editable"] is False


@every_board
def test_grafana_10_loads_it(uid: str) -> None:
    """Its schema is that of the oldest Grafana; newer ones bring it up to their own."""
    assert model.boards()[uid]["schemaVersion"] == 38


@every_panel
def test_every_panel_asks_a_data_source_that_can_be_chosen(uid: str, panel: dict[str, Any]) -> None:
    """[panel-datasource-rule]"""
    for asking in (panel, *panel.get("targets", ())):
        if panel["type"] != "alertlist":  # it asks Grafana itself
            assert asking["datasource"]["uid"] in ("${datasource}", "${tempo}")


@every_panel
def test_every_panel_says_what_it_shows_and_what_to_do(uid: str, panel: dict[str, Any]) -> None:
    """[panel-title-description-rule]"""
    assert panel["title"]
    assert len(panel["description"]) > 60
    assert panel["description"].endswith((".", "?", ")", "?)."))


@every_panel
def test_every_panel_has_a_unit(uid: str, panel: dict[str, Any]) -> None:
    """[panel-units-rule]"""
    if panel["type"] != "alertlist":
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS


@every_panel
def test_every_panel_has_a_target(uid: str, panel: dict[str, Any]) -> None:
    """[panel-no-targets-rule]; the list of alerts has none"""
    assert bool(panel.get("targets")) == (panel["type"] != "alertlist")
    references = [target["refId"] for target in panel.get("targets", ())]
    assert len(references) == len(set(references))


@every_target
def test_every_expression_is_promql(target: Target) -> None:
    """[target-promql-rule]"""
    assert model.selectors(target.expr)


@every_target
def test_rates_are_over_the_rate_interval(target: Target) -> None:
    """[target-rate-interval-rule]"""
    for selector in model.selectors(target.expr):
        if "rate" in selector.around:
            assert f"[{RATE_INTERVAL}]" in model.filled(target.expr)
            assert selector.seconds == 3 * 3_600 + 17 * 60, selector


@every_target
def test_job_and_instance_hold_for_every_series(target: Target) -> None:
    """[target-job-rule] [target-instance-rule]"""
    for selector in model.selectors(target.expr):
        wanted = [("job", "=~", "$job"), ("instance", "=~", "$instance")]
        if selector.name in OF_THE_SERVER:
            wanted = [("instance", "=~", "$redis")]
        assert set(wanted) <= set(selector.matchers), selector


@every_target
def test_counters_are_shown_as_what_they_gain(target: Target) -> None:
    """[target-counter-agg-rule], for the parts of histograms, too"""
    for selector in model.selectors(target.expr):
        if selector.name.endswith(("_total", "_bucket", "_sum", "_count")) and selector.name not in LEVELS:
            assert selector.seconds is not None, selector
            assert selector.around[0] in ("rate", "increase"), selector


# --- our own --------------------------------------------------------------------------------------------------------


FOREIGN = [metric for metric in vars(foreign).values() if isinstance(metric, Metric)]
LEVELS = {prometheus_name(m) for m in (*METRICS, *FOREIGN) if m.kind == "observable_up_down_counter"}
HINTS = get_type_hints(words.Acquired) | {"operation": get_type_hints(words.TierCall)["operation"]}
VALUES: dict[str, tuple[str, ...]] = {
    names.RESULT: get_args(words.Result),
    names.TIER: ("memory", "redis", "disk", "origin", "none"),
    names.LOCK_SCOPE: get_args(words.LockScope),
    names.LOCK_RESULT: get_args(HINTS["result"]),
    names.EVICTION_REASON: get_args(words.Cause),
    names.TIER_STATE: get_args(words.TierState),
    names.OPERATION: get_args(HINTS["operation"]),
}
"""What the values of an attribute may be."""


def parts(metric: Metric) -> set[str]:
    """The names of a metric's series."""
    name = prometheus_name(metric)
    return {name, *(f"{name}_{part}" for part in ("bucket", "sum", "count"))} if metric.kind == "histogram" else {name}


BY_NAME = {part: metric for metric in (*METRICS, *FOREIGN) for part in parts(metric)}
EXPRESSIONS = [(str(target), target.expr) for target in TARGETS] + [(a["alert"], a["expr"]) for a in model.alerts()]


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_only_series_and_values_of_the_contract_are_asked_for(where: str, expr: str) -> None:
    for selector in model.selectors(expr):
        metric = BY_NAME[selector.name]
        attributes = {label(attribute): attribute for attribute in (names.NAME, *metric.attributes)}
        for name, operator, value in selector.matchers:
            if value.startswith("$"):
                continue
            assert operator in ("=", "=~")
            assert name in attributes, selector
            if value != ".+":
                assert set(value.split("|")) <= set(VALUES[attributes[name]]), selector


@pytest.mark.parametrize("target", [t for t in TARGETS if "histogram_quantile" in t.expr], ids=str)
def test_quantiles_are_of_buckets_or_else_of_native_histograms(target: Target) -> None:
    """A user's View may make native (exponential) histograms of ours."""
    found = [s for s in model.selectors(target.expr) if "histogram_quantile" in s.around]
    assert_classic_then_native(found)


@pytest.mark.parametrize(("uid", "panel"), [p for p in PANELS if p[1]["type"] == "heatmap"])
def test_heatmaps_are_of_buckets_or_else_of_native_histograms_and_lead_to_traces(
    uid: str, panel: dict[str, Any]
) -> None:
    (target,) = panel["targets"]
    assert target["exemplar"]
    assert target["format"] == "heatmap"
    assert_classic_then_native(model.selectors(target["expr"]))


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS, ids=[where for where, _ in EXPRESSIONS])
def test_a_share_is_nought_before_its_part_has_happened_for_the_first_time(where: str, expr: str) -> None:
    """A counter's series is not there before that: nothing over something is nothing, and says "no requests"."""
    assert not re.search(r"^\(*sum.*(rate|increase)\(.*\n/\nsum", expr, re.MULTILINE)


def assert_classic_then_native(found: list[Selector]) -> None:
    classic, native = found
    assert classic.name == f"{native.name}_bucket"
    assert classic.matchers == native.matchers


def test_every_metric_of_the_contract_is_shown() -> None:
    shown = {BY_NAME[selector.name] for target in TARGETS for selector in model.selectors(target.expr)}
    assert [metric.name for metric in METRICS if metric not in shown] == []


@every_board
def test_panels_stand_side_by_side_on_24_columns(uid: str) -> None:
    taken: dict[tuple[int, int], str] = {}
    numbers = []
    for owner, panel in model.panels(rows=True):
        if owner == uid:
            numbers.append(panel["id"])
            place = panel["gridPos"]
            assert place["x"] + place["w"] <= 24, panel["title"]
            for x in range(place["x"], place["x"] + place["w"]):
                for y in range(place["y"], place["y"] + place["h"]):
                    assert (x, y) not in taken, f"{panel['title']} over {taken[x, y]}"
                    taken[x, y] = panel["title"]
    assert len(numbers) == len(set(numbers))
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height, "there is a hole"


@every_board
def test_dashboards_lead_to_each_other(uid: str) -> None:
    board = model.boards()[uid]
    (link,) = board["links"]
    assert (link["type"], link["tags"]) == ("dashboards", board["tags"])
    assert link["includeVars"]
    assert link["keepTime"]


def test_searches_for_spans_ask_for_names_of_the_contract() -> None:
    searches = list(model.targets("tempo"))
    assert len(searches) == 2
    for search in searches:
        query = search.target["query"]
        (span,) = re.findall(r'\bname = "([\w.]+)"', query)
        asked = set(re.findall(r"span\.([\w.]+)", query))
        assert asked <= set(names.SPANS[span])
        assert 'resource.service.name =~ "$job"' in query
