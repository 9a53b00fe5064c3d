"""The statistic of the quick guard."""

from __future__ import annotations

import pytest

from tests.bench.sections.quick import trimmed_mean


@pytest.mark.parametrize(
    ("values", "mean"),
    [((0.5, 9.0, 0.4, 0.1), 0.45), ((1.0, 2.0, 6.0), 2.0), ((1.0, 2.0), 1.5), ((3.0,), 3.0)],
    ids=["two odd rounds", "three rounds", "two rounds", "one round"],
)
def test_one_odd_round_of_each_kind_does_not_count(values: tuple[float, ...], mean: float) -> None:
    """With fewer than three rounds, all count."""
    assert trimmed_mean(values) == mean
