"""Lines through measurements, by least squares, with the error of their slope."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True, slots=True)
class Fit:
    """The slope of a line and its standard error, both in units of y for one unit of x."""

    slope: float
    error: float


def fit(xs: Sequence[float], ys: Sequence[float]) -> Fit:
    """Return the line of least squares; with two points its error is 0. Raises ValueError for fewer."""
    count = len(xs)
    if count < 2 or len(set(xs)) < 2:
        raise ValueError("a line needs two different values of x")
    mean_x, mean_y = sum(xs) / count, sum(ys) / count
    spread = sum((x - mean_x) ** 2 for x in xs)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / spread
    left = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in zip(xs, ys, strict=True))
    error = sqrt(left / (count - 2) / spread) if count > 2 else 0.0
    return Fit(slope, error)
