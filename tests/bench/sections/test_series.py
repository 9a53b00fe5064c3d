"""Costs by a growing number: the slope for each tenfold or each unit, and the table."""

from __future__ import annotations

from tests.bench.sections.series import Point, Series, measured, table
from tests.bench.slopes import Fit

FLAT = Series(
    "GET by routes", "routes", "us/request", (10, 100, 1_000), ((50.0, 52.0), (51.0, 53.0), (52.0, 54.0))
)
RISING = Series("bulk", "items", "us/request", (1, 11), ((100.0,), (300.0,)), per="item")


def test_the_points_take_turns() -> None:
    """Other load on the machine affects all of them alike."""
    order: list[str] = []

    def point(name: str) -> Point:
        def once() -> float:
            order.append(name)
            return float(len(order))

        return once

    assert measured([point("a"), point("b")], 2, order.append) == ((2.0, 5.0), (3.0, 6.0))
    assert order == ["round 1 of 2", "a", "b", "round 2 of 2", "a", "b"]


def test_a_cost_that_should_not_grow_has_a_slope_for_each_tenfold() -> None:
    """Ten times the routes cost 1 us more."""
    slope = FLAT.slope()
    assert (round(slope.slope, 9), round(slope.error, 9)) == (1.0, 0.612372436)


def test_growth_is_that_of_the_last_point_within_a_round() -> None:
    """A slow round counts as any other."""
    assert Series("", "", "", (1, 10, 100), ((50.0, 500.0), (1.0, 1.0), (60.0, 550.0))).growth() == 1.15


def test_a_cost_in_proportion_has_a_slope_for_each_unit() -> None:
    """Ten more items cost 200 us more."""
    assert RISING.slope() == Fit(20.0, 0.0)


def test_the_table_has_a_row_for_each_point_and_the_slope() -> None:
    """Only a cost in proportion is also shown for each unit."""
    assert list(table(FLAT)) == [
        "| routes | us/request | least-most | x first |",
        "|-------:|-----------:|-----------:|--------:|",
        "|     10 |       51.0 |  50.0-52.0 |    1.00 |",
        "|    100 |       52.0 |  51.0-53.0 |    1.02 |",
        "|  1,000 |       53.0 |  52.0-54.0 |    1.04 |",
        "",
        "Slope: +1.000 (error 0.612) us/request for each tenfold.",
    ]
    assert list(table(RISING)) == [
        "| items | us/request |  least-most | x first | us/item |",
        "|------:|-----------:|------------:|--------:|--------:|",
        "|     1 |      100.0 | 100.0-100.0 |    1.00 |  100.00 |",
        "|    11 |      300.0 | 300.0-300.0 |    3.00 |   27.27 |",
        "",
        "Slope: +20.000 (error 0.000) us/request for each item.",
    ]
