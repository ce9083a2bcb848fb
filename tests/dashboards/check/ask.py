"""Asks both stores of metrics what Grafana would ask, over all the time of the load.

Decides what stands for Grafana's variables, and that an answer without a single number is none.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import httpx

from tests.dashboards import model
from tests.dashboards.check.load import Spans
from tests.dashboards.model import Target

STEP = 1.0  # seconds
RATE_INTERVAL = 8  # seconds; Grafana takes four times what lies between two scrapes, at least
ALL = ".*"


class Series(NamedTuple):
    """Labels, and what was measured when."""

    labels: dict[str, str]
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Store:
    """One of the two. `answers`: what it said to each expression."""

    name: str
    url: str
    http: httpx.Client
    spans: Spans
    answers: dict[str, list[Series]] = field(default_factory=dict)

    def panel(self, target: Target) -> list[Series]:
        """What a panel would draw."""
        expr = self.filled(target.expr)
        if target.target.get("instant"):
            return self.now(expr)
        return self.over_time(expr)

    def over_time(self, expr: str) -> list[Series]:
        """Over all of the load."""
        if expr not in self.answers:
            told = self._get("query_range", query=expr, start=self.spans.began, end=self.spans.ended, step=STEP)
            self.answers[expr] = [_series(each, each["values"]) for each in told["result"]]
        return [series for series in self.answers[expr] if series.points]

    def now(self, expr: str) -> list[Series]:
        """At the end of the load."""
        told = self._get("query", query=expr, time=self.spans.ended)
        return [s for s in (_series(each, [each["value"]]) for each in told["result"]) if s.points]

    def exemplars(self, target: Target) -> list[dict[str, Any]]:
        """Those of all series in the expression."""
        expr = self.filled(target.expr)
        told = self._get("query_exemplars", query=expr, start=self.spans.began, end=self.spans.ended)
        return [exemplar for series in told for exemplar in series["exemplars"]]

    def filled(self, expr: str) -> str:
        """With everything chosen that can be, over all of the load, as Grafana sends it."""
        return filled(expr, {"__range": f"{math.ceil(self.spans.ended - self.spans.began)}s"})

    def _get(self, path: str, **parameters: object) -> Any:
        asked = {name: str(value) for name, value in parameters.items()}
        answer = self.http.get(f"{self.url}/api/v1/{path}", params=asked)
        if answer.status_code != httpx.codes.OK:
            raise SystemExit(f"{self.name} refuses {parameters['query']}:\n{answer.text}")
        return answer.json()["data"]


def filled(query: str, more: Mapping[str, str]) -> str:
    """With everything chosen that can be."""
    values = {
        "__rate_interval": f"{RATE_INTERVAL}s",
        "price_per_hour": "1.00",
        **dict.fromkeys(("job", "instance", "cache_name", "key_group", "redis"), ALL),
        "min_wait": "100ms",
    }
    return model.filled(query, {**values, **more})


def _series(told: Mapping[str, Any], values: list[Any]) -> Series:
    numbers = [(float(at), float(value)) for at, value in values]
    return Series(told["metric"], [(at, value) for at, value in numbers if not math.isnan(value)])


def move(store: Store, match: str, *, until: float, by: float, job: str) -> None:
    """Tell VictoriaMetrics what it knows of the beginning of the load once more: `by` seconds earlier, of a `job`.

    What really happened an hour or a day ago cannot be had in two minutes.
    """
    asked = {"match[]": match, "start": str(store.spans.began), "end": str(until)}
    lines = store.http.get(f"{store.url}/api/v1/export", params=asked).text.splitlines()
    moved = []
    for line in lines:
        told = json.loads(line)
        told["metric"]["job"] = told["metric"]["service_name"] = job
        told["timestamps"] = [at - int(by * 1_000) for at in told["timestamps"]]
        moved.append(json.dumps(told))
    store.http.post(f"{store.url}/api/v1/import", content="\n".join(moved)).raise_for_status()
    store.http.get(f"{store.url}/internal/force_flush").raise_for_status()
