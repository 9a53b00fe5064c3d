"""Verdicts on the bounds: ratios within one round, kept, missed and not measured."""

from __future__ import annotations

from tests.bench.bounds import Bound, Verdict, judged, lines
from tests.bench.samples import Sample, Samples

BOUND = Bound("GET", "gateway", "nginx", 2.0)


def samples(**cpu: tuple[float, ...]) -> Samples:
    """Return samples of GETs with these CPU times."""
    return {
        (server, "GET"): [Sample(value, 1000.0, 1.0, 2.0) for value in rounds]
        for server, rounds in cpu.items()
    }


def test_the_ratio_is_the_median_of_the_rounds() -> None:
    """A round in which everything is slow counts as any other: the ratio within it is the same."""
    found = samples(gateway=(30.0, 150.0, 32.0), nginx=(10.0, 50.0, 20.0))
    assert list(judged(found, [BOUND])) == [Verdict("GET: gateway / nginx", 3.0, 2.0, "rounds 1.60-3.00")]


def test_a_server_that_was_not_measured_misses_nothing() -> None:
    """The verdict says why there is no figure."""
    (verdict,) = judged(samples(gateway=(30.0,)), [BOUND])
    assert verdict == Verdict("GET: gateway / nginx", None, 2.0, "nginx: not installed or not chosen")
    assert not verdict.missed


def test_only_more_than_the_bound_is_missed() -> None:
    """The bound itself is kept."""
    assert [Verdict("", found, 2.0).missed for found in (1.99, 2.0, 2.01)] == [False, False, True]


def test_the_table_says_which_bounds_are_missed() -> None:
    """Each verdict is a row; without verdicts there is no table."""
    verdicts = [Verdict("a", 1.0, 2.0), Verdict("b", 3.0, 2.0, "why"), Verdict("c", None, 2.0, "absent")]
    assert list(lines(verdicts)) == [
        "| bound | found | at most | verdict      | note   |",
        "|-------|------:|--------:|--------------|--------|",
        "| a     |  1.00 |    2.00 | ok           |        |",
        "| b     |  3.00 |    2.00 | **MISSED**   | why    |",
        "| c     |     - |    2.00 | not measured | absent |",
    ]
    assert list(lines([])) == []
