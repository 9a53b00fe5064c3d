"""Rates of requests as settings."""

from __future__ import annotations

import pytest

from gateway.config.rates import rate
from gateway.config.values import BadValueError, Raw
from gateway.policy.terms import Rate


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (0, None),
        ("0", None),
        (200, Rate(200)),
        ("200", Rate(200)),
        ("100/s", Rate(100)),
        ("600/m", Rate(600, 60)),
        ("10000/h", Rate(10_000, 3600)),
    ],
)
def test_is_read_with_its_unit_or_as_a_number_in_a_second(raw: Raw, expected: Rate | None) -> None:
    """A rate has a unit of time, or is a plain number for a second; 0 is no limit."""
    assert rate(raw) == expected


@pytest.mark.parametrize(
    "raw", ["", "x", "100/d", "/s", "0/s", "-1", -1, 1.5, True, "1000001/s", 1_000_001, ("1/s",)]
)
def test_anything_else_is_refused_and_not_repeated(raw: Raw) -> None:
    """The error says what to write."""
    with pytest.raises(BadValueError, match=r"as 100/s.*at most 1000000") as refused:
        rate(raw)
    assert not isinstance(raw, str) or not raw or f"'{raw}'" not in str(refused.value)
