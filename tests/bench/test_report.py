"""Tables of measurements: medians, spans, ratios to the base in the same round."""

from __future__ import annotations

from tests.bench.report import About, compared, disturbance
from tests.bench.samples import Sample, Samples

SAMPLES: Samples = {
    ("direct", "GET"): [Sample(1.0, 90_000.0, 0.1, 0.2)],
    ("nginx", "GET"): [Sample(10.0, 70_000.0, 0.2, 0.3, 0.02)],
    ("gateway", "GET"): [Sample(25.0, 30_000.0, 0.5, 1.0, 0.4)],
}
ABOUT = {
    "direct": About("no proxy", keeps_numbers=True),
    "nginx": About("forwards", keeps_numbers=True),
    "gateway": About("all", keeps_numbers=False),
}


def test_the_comparison_has_a_row_for_each_server_and_request() -> None:
    """The upstream has no CPU time to compare."""
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in compared(SAMPLES, ABOUT, "nginx")]
    assert cells[2:] == [
        ["GET", "direct", "-", "-", "-", "90,000", "0.10", "0.20", "no proxy"],
        ["GET", "nginx", "10.0", "10.0-10.0", "1.00", "70,000", "0.20", "0.30", "forwards"],
        [
            "GET",
            "gateway",
            "25.0",
            "25.0-25.0",
            "2.50",
            "30,000",
            "0.50",
            "1.00",
            "all; changes large numbers",
        ],
    ]


def test_a_server_that_changes_numbers_is_named_for_it() -> None:
    """It does less than the others."""
    shown = [About("all", keeps_numbers=kept).shown for kept in (True, False)]
    assert shown == ["all", "all; changes large numbers"]


def test_the_other_processes_are_told() -> None:
    """A reader sees how much else the machine did."""
    assert disturbance(SAMPLES) == (
        "Other processes used 2% of the proxies' core (median of the loads; at most 40%)."
    )
