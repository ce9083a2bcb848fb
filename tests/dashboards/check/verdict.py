"""The table of the check: one line for each expression, and what was found for it.

Decides what counts as shown, and the exit code.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.dashboards.check.ask import Series


class Cell(NamedTuple):
    """What one source had: how many series (or rows), how many numbers."""

    series: int
    points: int

    def __str__(self) -> str:
        return f"{self.series:>4} series {self.points:>5} points" if self.series else "NOTHING".rjust(24)


class Line(NamedTuple):
    """One expression. `cells`: by source; None: not asked there, with the reason in the heading."""

    where: str
    what: str
    cells: tuple[Cell | None, ...]

    @property
    def is_good(self) -> bool:
        """Every source that was asked had something."""
        asked = [cell for cell in self.cells if cell is not None]
        return bool(asked) and all(cell.series for cell in asked)


def cell(found: list[Series]) -> Cell:
    """Of what a store of metrics said."""
    return Cell(len(found), sum(len(series.points) for series in found))


def table(title: str, sources: tuple[str, ...], lines: list[Line]) -> str:
    """The lines under a title, and how many are good."""
    width = max(len(line.what) for line in lines)
    head = "  ".join(source.rjust(24) for source in sources)
    shown = [f"\n{title}", f"  {'':<{width}}  {head}"]
    last = ""
    for line in lines:
        if line.where != last:
            shown.append(line.where)
            last = line.where
        cells = "  ".join("-".rjust(24) if each is None else str(each) for each in line.cells)
        shown.append(f"  {line.what:<{width}}  {cells}{'' if line.is_good else '  <--'}")
    good = sum(line.is_good for line in lines)
    shown.append(f"  {good} of {len(lines)} return data ({good / len(lines):.0%})")
    return "\n".join(shown)
