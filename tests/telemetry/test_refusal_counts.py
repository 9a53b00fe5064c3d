"""The refusals of each key, bounded."""

from __future__ import annotations

from gateway.telemetry import AccessEntry
from gateway.telemetry.refusal_counts import RefusalCounts


def refused(key_id: str, code: str = "RATE_LIMITED") -> AccessEntry:
    return AccessEntry(time=0.0, key_id=key_id, code=code)


def test_refusals_are_counted_by_key_and_code_the_most_frequent_first() -> None:
    counts = RefusalCounts()
    for entry in (refused("a"), refused("b"), refused("b"), refused("b", "OTHER"), refused("")):
        counts.count(entry)
    assert counts.most_frequent(2) == [("b", "RATE_LIMITED", 2), ("a", "RATE_LIMITED", 1)]


def test_new_pairs_beyond_the_bound_are_counted_together() -> None:
    counts = RefusalCounts(most=2)
    for key_id in ("a", "b", "c", "d", "a"):
        counts.count(refused(key_id))
    assert (counts.most_frequent(9), counts.others, counts.besides(1)) == (
        [("a", "RATE_LIMITED", 2), ("b", "RATE_LIMITED", 1)],
        2,
        3,
    )
