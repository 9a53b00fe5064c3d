"""The growth of memory in a soak: after the warm-up, for each minute."""

from __future__ import annotations

from tests.bench.sections.soak import Reading, growth
from tests.bench.slopes import Fit


def test_what_grows_in_the_warm_up_does_not_count() -> None:
    """A gateway fills its caches first: in the first fifth of the time."""
    readings = [Reading(10.0 * n, 1_000 * n if n < 12 else 12_000, 0) for n in range(1, 61)]
    warm, slope = growth(readings)
    assert (warm, slope) == (Reading(120.0, 12_000, 0), Fit(0.0, 0.0))


def test_growth_after_the_warm_up_is_in_kb_for_each_minute() -> None:
    """10 KB in 10 s are 60 KB in a minute."""
    readings = [Reading(10.0 * n, 50_000 + 10 * n, 0) for n in range(1, 61)]
    _, slope = growth(readings)
    assert (round(slope.slope, 6), round(slope.error, 6)) == (60.0, 0.0)
