"""Lines through measurements: the slope of exact points, and the error of scattered ones."""

from __future__ import annotations

import pytest

from tests.bench.slopes import Fit, fit


@pytest.mark.parametrize(
    ("xs", "ys", "expected"),
    [
        ((0, 1, 2), (5, 8, 11), Fit(3.0, 0.0)),
        ((1, 2, 3, 4), (7, 7, 7, 7), Fit(0.0, 0.0)),
        ((0, 10), (1, 0), Fit(-0.1, 0.0)),
        ((0, 0, 1, 1), (0, 2, 1, 3), Fit(1.0, 2**0.5)),
    ],
    ids=["rising", "flat", "two points", "scattered"],
)
def test_the_slope_and_its_error(xs: tuple[float, ...], ys: tuple[float, ...], expected: Fit) -> None:
    """Exact points have no error; scattered ones have the standard error of least squares."""
    assert fit(xs, ys) == expected


@pytest.mark.parametrize("xs", [(), (1,), (2, 2, 2)], ids=["none", "one", "all at one place"])
def test_too_few_points_make_no_line(xs: tuple[float, ...]) -> None:
    """A slope needs two different places."""
    with pytest.raises(ValueError, match="two different values"):
        fit(xs, [1.0] * len(xs))
