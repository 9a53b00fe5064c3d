"""Costs by a number that grows, with their slope.

Rules kept here:
- The points are measured in turn, round by round, so that other load affects all of them alike.
- Where a cost should not grow, its slope is the growth for each tenfold of the number; where it should grow
  in proportion, it is the growth for each unit. The error is the standard error of the line's slope.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from math import log10
from statistics import median
from typing import Any

from tests.bench.slopes import Fit, fit
from tests.bench.tables import Column, markdown

Point = Callable[[], float]
"""Measures one point once, and returns its figure."""


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of each point in each round.

    `unit` is that of the figures. `per` names one unit of `xs` where the cost is in proportion to it, such as
    an item; empty where it should not grow.
    """

    title: str
    x_name: str
    unit: str
    xs: tuple[float, ...]
    rounds: tuple[tuple[float, ...], ...]
    per: str = ""

    def medians(self) -> list[float]:
        """Return the median of each point."""
        return [median(found) for found in self.rounds]

    def slope(self) -> Fit:
        """Return the slope for each tenfold, or for each unit."""
        xs = [x if self.per else log10(x) for x in self.xs for _ in self.rounds[0]]
        return fit(xs, [value for found in self.rounds for value in found])

    def growth(self) -> float:
        """Return the last figure divided by the first: the median of the rounds."""
        pairs = zip(self.rounds[-1], self.rounds[0], strict=True)
        return median(last / first for last, first in pairs)

    def as_json(self) -> dict[str, Any]:
        """Return the series as JSON holds it."""
        return asdict(self)


def measured(
    points: Sequence[Point], rounds: int, say: Callable[[str], None]
) -> tuple[tuple[float, ...], ...]:
    """Return the figures of each point, which are measured in turn."""
    found: list[list[float]] = [[] for _ in points]
    for number in range(1, rounds + 1):
        say(f"round {number} of {rounds}")
        for point, figures in zip(points, found, strict=True):
            figures.append(point())
    return tuple(map(tuple, found))


def table(series: Series) -> Iterator[str]:
    """Yield a table of the points, and a line with the slope."""
    columns = [Column(series.x_name), Column(series.unit), Column("least-most"), Column("x first")]
    if series.per:
        columns.append(Column(f"us/{series.per}"))
    first, medians = series.medians()[0], series.medians()

    def row(x: float, figures: Sequence[float], middle: float) -> list[str]:
        shown = [
            f"{x:,.0f}",
            f"{middle:,.1f}",
            f"{min(figures):,.1f}-{max(figures):,.1f}",
            f"{middle / first:.2f}",
        ]
        return [*shown, f"{middle / x:.2f}"] if series.per else shown

    yield from markdown(columns, map(row, series.xs, series.rounds, medians))
    slope = series.slope()
    what = f"for each {series.per}" if series.per else "for each tenfold"
    yield ""
    yield f"Slope: {slope.slope:+.3f} (error {slope.error:.3f}) {series.unit} {what}."
