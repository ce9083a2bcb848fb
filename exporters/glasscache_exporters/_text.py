"""Families as text, in the two formats that Prometheus reads, and which of them a client gets.

Decides how a line is written (OpenMetrics 1.0, Prometheus 0.0.4) and what an Accept header asks for. Pure: must never
decide what is shown. Exemplars and units exist in OpenMetrics only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from glasscache_exporters._families import exemplar_labels

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from glasscache_exporters._families import Family, Labels, Sample

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PLAIN = "text/plain; version=0.0.4; charset=utf-8"

_LABEL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})
_PLAIN_HELP = str.maketrans({"\\": r"\\", "\n": r"\n"})


def openmetrics(families: Iterable[Family]) -> str:
    """The page in OpenMetrics 1.0, with exemplars."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# TYPE {family.name} {family.kind}\n")
        if family.unit:
            lines.append(f"# UNIT {family.name} {family.unit}\n")
        if family.help:
            lines.append(f"# HELP {family.name} {family.help.translate(_LABEL)}\n")
        lines.extend(f"{line}{_exemplar(sample)}\n" for line, sample in _lines(family))
    lines.append("# EOF\n")
    return "".join(lines)


def plain(families: Iterable[Family]) -> str:
    """The page in Prometheus' own text format 0.0.4."""
    lines: list[str] = []
    for family in families:
        # There, a counter's name ends in _total, and what OpenMetrics calls info is a gauge.
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.kind, "")
        if family.help:
            lines.append(f"# HELP {name} {family.help.translate(_PLAIN_HELP)}\n")
        lines.append(f"# TYPE {name} {'gauge' if family.kind == 'info' else family.kind}\n")
        lines.extend(f"{line}\n" for line, _ in _lines(family))
    return "".join(lines)


def _lines(family: Family) -> Iterator[tuple[str, Sample]]:
    labels, pairs = None, ""
    for sample in family.samples:
        if sample.labels is not labels:  # a histogram's are the same for all its buckets
            labels, pairs = sample.labels, _pairs(sample.labels)
        every = f'{pairs}{"," if pairs else ""}le="{sample.le}"' if sample.le else pairs
        braces = f"{{{every}}}" if every else ""
        yield f"{family.name}{sample.suffix}{braces} {_number(sample.value)}", sample


def _exemplar(sample: Sample) -> str:
    exemplar = sample.exemplar
    if exemplar is None:
        return ""
    labels = _pairs(exemplar_labels(exemplar))
    return f" # {{{labels}}} {_number(exemplar.value)} {exemplar.time_unix_nano / 1e9:.3f}"


def _pairs(labels: Labels) -> str:
    return ",".join([f'{name}="{value.translate(_LABEL)}"' for name, value in labels])


def _number(value: float) -> str:
    if isinstance(value, int):
        return str(int(value))
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


# --- what a client asks for ---------------------------------------------------------------------------------


def wants_openmetrics(accept: str) -> bool:
    """Whether the client prefers OpenMetrics 1.0 to plain text; a client that says nothing gets plain text."""
    best = {"openmetrics": 0.0, "plain": 0.0}
    for kind, parameters in _parsed(accept):
        if kind == "application/openmetrics-text" and parameters.get("version", "1.0.0") == "1.0.0":
            best["openmetrics"] = max(best["openmetrics"], _quality(parameters))
        elif kind == "text/plain" and parameters.get("version", "0.0.4") == "0.0.4":
            best["plain"] = max(best["plain"], _quality(parameters))
    return 0.0 < best["openmetrics"] >= best["plain"]


def wants_gzip(accept_encoding: str) -> bool:
    """Whether the client says that it takes gzip."""
    return any(kind == "gzip" and _quality(parameters) > 0 for kind, parameters in _parsed(accept_encoding))


def _parsed(header: str) -> Iterator[tuple[str, dict[str, str]]]:
    for entry in header.lower().split(","):
        kind, *parameters = entry.split(";")
        pairs = (parameter.partition("=") for parameter in parameters)
        yield kind.strip(), {name.strip(): value.strip().strip('"') for name, _, value in pairs}


def _quality(parameters: dict[str, str]) -> float:
    try:
        return float(parameters.get("q", "1"))
    except ValueError:
        return 0.0
