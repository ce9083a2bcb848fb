"""What the terminal shows: counts, latencies side by side, the burst, and the service's own statistics.

Decides the words and the layout (80 columns do). Must never compute a figure that was not measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from traffic.client import OUTCOMES, Outcome, Reply

MEANING: Mapping[Outcome, tuple[str, str]] = {
    "hit": ("green", "fresh, from the cache"),
    "stale": ("yellow", "old, refreshed behind"),
    "collapsed": ("cyan", "waited for another's load"),
    "miss": ("magenta", "loaded by this request"),
    "bypass": ("blue", "credentials, unknown field"),
    "error": ("red", "the load failed"),
    "uncached": ("white", "no cache in front"),
}


def bar(console: Console) -> Progress:
    """A progress bar that fits 80 columns; without a terminal only its end is printed."""
    return Progress(
        TextColumn("{task.description:<38}"),
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def percentile(seconds: Sequence[float], share: float) -> float:
    """The smallest measured value that `share` of all values do not exceed."""
    ranked = sorted(seconds)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def milliseconds(seconds: float) -> str:
    """For people: one decimal where it matters."""
    value = seconds * 1000
    return f"{value:,.{0 if value >= 100 else 1 if value >= 1 else 3}f} ms"


def outcomes(replies: Sequence[Reply]) -> Table:
    """How many requests had which outcome by their Cache-Status, and how long they took as visitors saw it."""
    table = Table(box=None, padding=(0, 1))
    table.add_column("Cache-Status")
    table.add_column("what it means")
    for name in ("requests", "share", "p50", "p99"):
        table.add_column(name, justify="right")
    for outcome in OUTCOMES:
        times = [reply.total for reply in replies if reply.outcome == outcome]
        if times:
            colour, meaning = MEANING[outcome]
            counted = (f"{len(times)}", f"{len(times) / len(replies):.1%}")
            p50, p99 = (milliseconds(percentile(times, share)) for share in (0.5, 0.99))
            table.add_row(f"[{colour}]{outcome}[/]", meaning, *counted, p50, p99)
    return table


def side_by_side(replies: Sequence[Reply]) -> str | None:
    """A hit and a miss in one line; None where one of them did not happen."""
    hits = [reply.total for reply in replies if reply.outcome == "hit"]
    misses = [reply.total for reply in replies if reply.outcome == "miss"]
    if not hits or not misses:
        return None
    hit, miss = percentile(hits, 0.5), percentile(misses, 0.5)
    factor = f"[bold]{miss / hit:,.0f} times[/] faster"
    return f"A hit took {milliseconds(hit)}, a miss {milliseconds(miss)} (p50): {factor}."


def statistics(stats: Mapping[str, Any]) -> Table:
    """What `GET /metrics/cache` answers: the same story, counted by glasscache itself."""
    table = Table(title="GET /metrics/cache", title_justify="left", box=None, show_header=False, padding=(0, 1))
    for _ in range(2):
        table.add_column()
        table.add_column(justify="right")
    cells = [
        ("hit rate", f"{stats['hit_rate']:.1%}"),
        ("time saved", f"{stats['saved_seconds']:,.1f} s"),
        ("hits", f"{stats['total_hits']:,}"),
        ("misses", f"{stats['total_misses']:,}"),
        ("hit, inside", _inside(stats["avg_hit_time_ms"])),
        ("miss, inside", _inside(stats["avg_miss_time_ms"])),
        ("entries kept", f"{stats['cache_size']:,}"),
        ("memory", f"{stats['memory_bytes'] / 1024:,.0f} KiB"),
        ("bypassed", _by(stats["bypass"])),
        ("removed", _by(stats["evictions"])),
    ]
    if stats["tiers"]:
        shared = ", ".join(f"{tier}: {state}" for tier, state in stats["tiers"].items())
        cells += [("shared tier", shared), ("leases held", f"{stats['leases']:,}")]
    for (left, left_value), (right, right_value) in zip(cells[::2], cells[1::2], strict=True):
        table.add_row(left, left_value, right, right_value)
    return table


def _inside(value: float | None) -> str:
    return "none timed" if value is None else milliseconds(value / 1000)


def _by(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
