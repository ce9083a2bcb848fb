"""The alert rules: one text for Prometheus and for Grafana, each with its section of the runbook.

That they fire when they should, and only then, is tested with promtool by `make dashboards-check`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from glasscache._variables import VARIABLES
from glasscache_dashboards import alert_rules
from tests.dashboards import model

RUNBOOK = Path(__file__).parents[2] / "docs" / "runbook.md"
PROMETHEUS = model.alerts()
every_alert = pytest.mark.parametrize("alert", PROMETHEUS, ids=[alert["alert"] for alert in PROMETHEUS])


def of_grafana() -> dict[str, dict[str, Any]]:
    (group,) = yaml.safe_load(alert_rules("grafana"))["groups"]
    return {rule["title"]: rule for rule in group["rules"]}


def anchors() -> set[str]:
    """As renderers of Markdown make them of headings."""
    return {heading.lower() for heading in re.findall(r"^## (\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)}


def test_the_runbook_has_a_section_for_each_alert_and_no_other() -> None:
    linked = {alert["annotations"]["runbook_url"] for alert in PROMETHEUS}
    assert linked == {f"docs/runbook.md#{anchor}" for anchor in anchors()}


def test_the_runbook_leads_to_panels_that_are_there() -> None:
    text = " ".join(RUNBOOK.read_text("utf-8").split())
    quoted = set(re.findall(r'"([^"]+)"', text))
    titles = {panel["title"] for _, panel in model.panels(rows=True)}
    assert {name for name in quoted if not any(title.startswith(name) for title in titles)} == set()
    boards = {board["title"].removeprefix("glasscache / ") for board in model.boards().values()}
    assert set(re.findall(r"\*([A-Z][\w ]+)\*(?!\*)", text)) - boards == {"Instance"}


def test_settings_that_are_advised_are_settings() -> None:
    words = RUNBOOK.read_text("utf-8") + (RUNBOOK.parent / "dashboards.md").read_text("utf-8")
    words += "".join(panel.get("description", "") for _, panel in model.panels())
    advised = set(re.findall(r"\b(?:GLASSCACHE|CACHE|REDIS)_[A-Z_]+", words))
    assert len(advised) > 5
    assert advised - set(VARIABLES) == set()


@every_alert
def test_an_alert_says_who_is_concerned_and_how_badly(alert: dict[str, Any]) -> None:
    assert alert["alert"].startswith("Glasscache")
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert "{{ $labels." in alert["annotations"]["summary"]
    assert alert["annotations"]["description"]
    assert re.fullmatch(r"\d+[mh]", alert["for"])


@every_alert
def test_labels_in_its_words_are_labels_of_its_series(alert: dict[str, Any]) -> None:
    words = alert["annotations"]["summary"] + alert["annotations"]["description"]
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]+)\)", alert["expr"])))) - {"le"}
    assert set(re.findall(r"\$labels\.(\w+)", words)) <= kept


@every_alert
def test_grafana_has_the_same_alert(alert: dict[str, Any]) -> None:
    rule = of_grafana()[alert["alert"]]
    asked, compared = rule["data"]
    assert (asked["datasourceUid"], compared["datasourceUid"]) == ("prometheus", "__expr__")
    assert rule["condition"] == compared["refId"]
    assert compared["model"]["expression"] == asked["refId"]
    (condition,) = compared["model"]["conditions"]
    operator = {"gt": ">", "lt": "<"}[condition["evaluator"]["type"]]
    (threshold,) = condition["evaluator"]["params"]
    assert alert["expr"] == f"(\n{asked['model']['expr']}\n) {operator} {threshold:g}"
    assert (rule["for"], rule["labels"]) == (alert["for"], alert["labels"])
    assert rule["annotations"]["runbook_url"] == alert["annotations"]["runbook_url"]
    assert "$value " not in rule["annotations"]["description"]


def test_grafana_has_no_alert_more() -> None:
    rules = of_grafana()
    assert set(rules) == {alert["alert"] for alert in PROMETHEUS}
    uids = [rule["uid"] for rule in rules.values()]
    assert len(uids) == len(set(uids))
    assert all(len(uid) <= 40 for uid in uids)
