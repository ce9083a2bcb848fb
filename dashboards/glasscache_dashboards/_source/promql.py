"""PromQL over the contract of names: how a metric is called in Prometheus, and the few shapes of query that we use.

Decides which series a panel or an alert looks at (`Lens`). Must never spell the name of a metric or a label: those of
glasscache come from its contract, and a rename there is a rename here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias, get_args

from glasscache import _events as words
from glasscache.otel import Metric, names

Where: TypeAlias = Mapping[str, str | tuple[str, ...]]
"""Attribute -> the value, or the values, that it has."""

_UNITS = {"s": "seconds", "By": "bytes"}
JOB: Final = "job"
INSTANCE: Final = "instance"

RESULTS: Final[tuple[str, ...]] = get_args(words.Result)
ASKED: Final = tuple(result for result in RESULTS if result != "bypass")
"""Results of requests for which the cache was asked."""
SOME: Final = (".+",)
"""Any value, but not none."""
HITS: Final = ("hit", "stale")
"""Results that were answered from a store, as the stats page counts hits."""
WITHOUT_LOAD: Final = ("hit", "stale", "collapsed")
"""Results that cost their request no load of its own."""


def prometheus_name(metric: Metric) -> str:
    """As OpenTelemetry's rules for Prometheus make it: dots to underscores, then the unit, then `_total`."""
    parts = [metric.name.replace(".", "_")]
    if metric.unit in _UNITS:
        parts.append(_UNITS[metric.unit])
    if metric.kind in ("counter", "observable_counter"):
        parts.append("total")
    return "_".join(parts)


def label(attribute: str) -> str:
    """The label of an attribute."""
    return attribute.replace(".", "_")


def legend(attribute: str) -> str:
    """What stands for the attribute's value in the name of a series."""
    return f"{{{{{label(attribute)}}}}}"


def matcher(attribute: str, value: str | tuple[str, ...]) -> str:
    """One condition of a selector."""
    if isinstance(value, str):
        return f'{label(attribute)}="{value}"'
    return f'{label(attribute)}=~"{"|".join(value)}"'


def ratio(part: str, whole: str) -> str:
    """One over the other: of levels, which are always there."""
    return f"{part}\n/\n{whole}"


def share(part: str, whole: str) -> str:
    """The same of counters: 0 as long as nothing has counted the part, whose series is not there before."""
    return ratio(f"(\n{part}\nor\n0 * {whole}\n)", whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lens:
    """Which series are looked at, and over which time.

    `fixed`: conditions on every series; `grouped`: conditions on series that have a key group; `window`: of rates;
    `offset`: how long ago.
    """

    fixed: tuple[str, ...] = ()
    grouped: tuple[str, ...] = ()
    window: str
    offset: str = ""

    def series(self, metric: Metric, where: Where | None = None, *, part: str = "") -> str:
        """The selector; `part` of a histogram is bucket, sum or count."""
        conditions = [*self.fixed]
        if names.GROUP in metric.attributes:
            conditions += self.grouped
        for attribute, value in (where or {}).items():
            assert attribute in metric.attributes, f"{metric.name} has no {attribute}"
            conditions.append(matcher(attribute, value))
        name = prometheus_name(metric) + (f"_{part}" if part else "")
        return f"{name}{{{', '.join(conditions)}}}" if conditions else name

    def total(self, metric: Metric, *by: str, where: Where | None = None) -> str:
        """A level, added up over processes."""
        return self._sum(by, self.series(metric, where) + self._ago)

    def most(self, metric: Metric, *by: str, where: Where | None = None) -> str:
        """A level, where it is highest."""
        return self._sum(by, self.series(metric, where) + self._ago, "max")

    def rate(self, metric: Metric, *by: str, where: Where | None = None, part: str = "") -> str:
        """What a counter, or the sum or count of a histogram, gains in a second."""
        return self._sum(by, f"rate({self.series(metric, where, part=part)}[{self.window}]{self._ago})")

    def increase(self, metric: Metric, *by: str) -> str:
        """What a counter gains in the window."""
        return self._sum(by, f"increase({self.series(metric)}[{self.window}]{self._ago})")

    def gained(self, metric: Metric, *by: str, where: Where | None = None) -> str:
        """What a counter gained in the window, its first value included: it is not there before its first event."""
        series = self.series(metric, where)
        return self._sum(
            by, f"increase({series}[{self.window}]) > 0 or ({series} unless {series} offset {self.window})"
        )

    def quantile(self, rank: float, metric: Metric, *by: str, where: Where | None = None) -> str:
        """Of a histogram with buckets or, where a View makes it one, of a native histogram."""
        classic = self.rate(metric, "le", *by, where=where, part="bucket")
        native = self.rate(metric, *by, where=where)
        return f"histogram_quantile({rank:g}, {classic})\nor\nhistogram_quantile({rank:g}, {native})"

    def buckets(self, metric: Metric, where: Where | None = None) -> str:
        """For a heatmap: the buckets, or the native histogram."""
        return f"{self.rate(metric, 'le', where=where, part='bucket')}\nor\n{self.rate(metric, where=where)}"

    @property
    def _ago(self) -> str:
        return f" offset {self.offset}" if self.offset else ""

    def _sum(self, by: tuple[str, ...], inner: str, function: str = "sum") -> str:
        labels = ", ".join(map(label, by))
        return f"{function} by ({labels}) ({inner})" if by else f"{function}({inner})"


DASHBOARD: Final = Lens(
    fixed=(
        f'{JOB}=~"${JOB}"',
        f'{INSTANCE}=~"${INSTANCE}"',
        f'{label(names.NAME)}=~"${label(names.NAME)}"',
    ),
    grouped=(f'{label(names.GROUP)}=~"$key_group"',),
    window="$__rate_interval",
)
"""What a dashboard's variables choose."""

OVER_RANGE: Final = Lens(fixed=DASHBOARD.fixed, grouped=DASHBOARD.grouped, window="$__range")
"""The same, over all the time that the dashboard shows."""
