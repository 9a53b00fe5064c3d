"""Durations, counted in buckets as a histogram of Prometheus has them. Pure."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate


class Durations:
    """The number of durations in each bucket, and their sum.

    Args:
        bounds: the upper bounds of the buckets, in seconds, in ascending order. One more bucket counts what
            is above all of them.
    """

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration; a negative one, as of two clocks that disagree, counts as 0."""
        seconds = max(0.0, seconds)
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self.total += seconds

    @property
    def cumulative(self) -> list[tuple[str, float]]:
        """The bound of each bucket as Prometheus writes it, and how many durations are not above it."""
        bounds = (*map(str, self._bounds), "+Inf")
        return list(zip(bounds, accumulate(self._counts), strict=True))
