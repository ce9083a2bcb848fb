"""The alerts as files: rules for Prometheus, and for Grafana's own alerting.

Decides the form alone; what fires when is in `alerts.py`.
"""

from __future__ import annotations

from typing import Any, Final

import yaml

from glasscache_dashboards._source.alerts import ALERTS, PREFIX, Alert

RUNBOOK: Final = "docs/runbook.md"
"""Where the sections are; users give their own address (`glasscache_dashboards.alert_rules`)."""
GROUP: Final = "glasscache"
_HEAD = "# Made by `make dashboards`: change dashboards/glasscache_dashboards/_source/alerts.py instead.\n"
_EVERY = "30s"
_SOURCE = "prometheus"
_LOOK_BACK = 600  # seconds that Grafana asks for; the expressions are instant and reach further by themselves

__all__ = ["ALERTS", "PREFIX", "anchor", "grafana", "prometheus"]


def anchor(alert: Alert) -> str:
    """Of its section, as renderers of Markdown make it of the heading."""
    return alert.name.lower()


def prometheus() -> str:
    """A rule file."""
    rules = [
        {
            "alert": alert.name,
            "expr": _Block(alert.expr),
            "for": alert.lasts,
            "labels": _labels(alert),
            "annotations": _annotations(alert, alert.summary, alert.description),
        }
        for alert in ALERTS
    ]
    return _yaml({"groups": [{"name": GROUP, "interval": _EVERY, "rules": rules}]})


def grafana() -> str:
    """Alert rules as Grafana provisions them, over the data source with the uid `prometheus`."""
    group = {
        "orgId": 1,
        "name": GROUP,
        "folder": GROUP,
        "interval": _EVERY,
        "rules": [_grafana_rule(alert) for alert in ALERTS],
    }
    return _yaml({"apiVersion": 1, "groups": [group]})


def _grafana_rule(alert: Alert) -> dict[str, Any]:
    comparison = {">": "gt", "<": "lt"}[alert.is_bad]
    query = {"refId": "A", "expr": _Block(alert.value), "instant": True, "range": False}
    threshold = {
        "refId": "B",
        "type": "threshold",
        "expression": "A",
        "conditions": [{"evaluator": {"type": comparison, "params": [alert.threshold]}}],
    }
    return {
        "uid": alert.name.lower(),
        "title": alert.name,
        "condition": "B",
        "for": alert.lasts,
        "noDataState": "OK",
        "execErrState": "Error",
        "labels": _labels(alert),
        "annotations": _annotations(alert, *map(_for_grafana, (alert.summary, alert.description))),
        "data": [_data(_SOURCE, query), _data("__expr__", threshold)],
    }


def _data(source: str, model: dict[str, Any]) -> dict[str, Any]:
    look_back = {"from": _LOOK_BACK, "to": 0}
    return {"refId": model["refId"], "relativeTimeRange": look_back, "datasourceUid": source, "model": model}


def _for_grafana(text: str) -> str:
    """In Grafana `$value` is a text with all values; a single one has the name of its query."""
    return text.replace("$value", "$values.A.Value")


def _labels(alert: Alert) -> dict[str, str]:
    return {"severity": alert.severity, "component": GROUP}


def _annotations(alert: Alert, summary: str, description: str) -> dict[str, str]:
    return {"summary": summary, "description": description, "runbook_url": f"{RUNBOOK}#{anchor(alert)}"}


class _Block(str):
    """A text of several lines that stays readable in YAML."""

    __slots__ = ()


class _Dumper(yaml.SafeDumper):
    """YAML as people write it."""


def _block(dumper: yaml.SafeDumper, text: _Block) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|")


_Dumper.add_representer(_Block, _block)


def _yaml(document: dict[str, Any]) -> str:
    return _HEAD + yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=1_000)
