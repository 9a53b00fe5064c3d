from __future__ import annotations

from gateway.durations import Durations


def test_durations_fall_into_cumulative_buckets_bounds_included() -> None:
    counted = Durations((0.1, 1.0))
    for seconds in (0.0, 0.1, 0.5, 1.5):
        counted.add(seconds)
    assert (counted.cumulative, counted.total) == ([("0.1", 2), ("1.0", 3), ("+Inf", 4)], 2.1)


def test_a_negative_duration_counts_as_none() -> None:
    """Two clocks that disagree add nothing to the sum, which must not fall."""
    counted = Durations((0.1,))
    counted.add(-5.0)
    assert (counted.cumulative, counted.total) == ([("0.1", 1), ("+Inf", 1)], 0.0)
