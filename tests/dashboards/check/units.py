"""Numbers as Grafana shows them, in the units that our panels use."""

from __future__ import annotations

_TIMES = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "min"), (1.0, "s"), (1e-3, "ms"), (1e-6, "µs"))
_SUFFIXES = {"reqps": " req/s", "ops": " ops/s", "cps": "/s"}


def shown(value: float, unit: str) -> str:
    """With its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        return _time(value)
    if unit in ("bytes", "Bps"):
        return _scaled(value, 1024.0, ("B", "KiB", "MiB", "GiB")) + ("/s" if unit == "Bps" else "")
    if unit == "currencyUSD":
        return f"${value:.2f}"
    return _scaled(value, 1000.0, ("", "K", "M", "G")) + _SUFFIXES.get(unit, "")


def _time(value: float) -> str:
    for size, name in _TIMES:
        if abs(value) >= size:
            return f"{value / size:.3g} {name}"
    return "0 s"


def _scaled(value: float, base: float, names: tuple[str, ...]) -> str:
    for name in names[:-1]:
        if abs(value) < base:
            return f"{value:.3g} {name}".rstrip()
        value /= base
    return f"{value:.3g} {names[-1]}"
