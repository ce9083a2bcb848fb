"""What a metric, a unit and an attribute of OpenTelemetry are called in Prometheus.

Decides names only (OpenTelemetry's "Prometheus and OpenMetrics compatibility": underscores, unit and `_total` as
suffixes). Pure: must never look at a value. Whatever comes in, what goes out is a name that every parser takes.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.util.types import Attributes

_UNITS = {
    "d": "days", "h": "hours", "min": "minutes", "s": "seconds", "ms": "milliseconds", "us": "microseconds",
    "ns": "nanoseconds", "By": "bytes", "KiBy": "kibibytes", "MiBy": "mebibytes", "GiBy": "gibibytes",
    "TiBy": "tebibytes", "KBy": "kilobytes", "MBy": "megabytes", "GBy": "gigabytes", "TBy": "terabytes",
    "m": "meters", "V": "volts", "A": "amperes", "J": "joules", "W": "watts", "g": "grams", "Cel": "celsius",
    "Hz": "hertz", "%": "percent",
}  # fmt: skip
_PER = {"s": "second", "min": "minute", "h": "hour", "d": "day", "w": "week", "mo": "month", "y": "year"}
_ANNOTATION = re.compile(r"\{[^}]*\}")
_NOT_IN_A_NAME = re.compile(r"[^a-zA-Z0-9:]+")
_NOT_IN_A_LABEL = re.compile(r"[^a-zA-Z0-9]+")


def unit_of(unit: str) -> str:
    """The unit as part of a name: `s` is seconds, `By/s` bytes_per_second; "" for `{request}` and `1`."""
    plain, _, per = _ANNOTATION.sub("", unit).strip().partition("/")
    name = "" if plain == "1" else _UNITS.get(plain, plain)
    if per:
        name = f"{name}_per_{_PER.get(per, per)}"
    return _NOT_IN_A_LABEL.sub("_", name).strip("_")


def family_name(name: str, unit: str, *, is_counter: bool, is_ratio: bool) -> str:
    """The name of the family: without `_total`, with its unit (as `unit_of` gives it) at its end.

    `is_ratio`: a gauge of unit `1`.
    """
    family = _NOT_IN_A_NAME.sub("_", name).strip("_") or "_"
    if family[0].isdigit():
        family = f"_{family}"
    if is_counter:
        family = family.removesuffix("_total") or "_"
    suffix = "ratio" if is_ratio else unit
    if suffix and not family.endswith(f"_{suffix}"):
        family = f"{family}_{suffix}"
    return family


def label_name(key: str) -> str:
    """The attribute's key as a label; never one that Prometheus keeps for itself (`__name__`)."""
    label = _NOT_IN_A_LABEL.sub("_", key)
    return f"key_{label}" if label in ("", "_") or label[0].isdigit() else label


def labels_of(attributes: Attributes | Mapping[str, object]) -> dict[str, str]:
    """The attributes as labels, in the order of their keys; where two keys become one, both values stay."""
    labels: dict[str, str] = {}
    for key, value in sorted((attributes or {}).items()):
        label, text = label_name(key), _text(value)
        labels[label] = f"{labels[label]};{text}" if label in labels else text
    return labels


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, default=str, ensure_ascii=False)  # true, 7, ["a"]
