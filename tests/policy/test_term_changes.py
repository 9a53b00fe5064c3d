"""Changes of terms: what is named changes, everything else stays."""

from __future__ import annotations

import pytest

from gateway.policy.term_changes import NO_CHANGES, TermChanges
from gateway.policy.terms import NO_TERMS, KeyTerms, Rate

BOUND = KeyTerms(rate=Rate(100), burst=20, concurrency=5, certificate="ab" * 32)


def changes(*names: str, values: KeyTerms = NO_TERMS) -> TermChanges:
    return TermChanges(values, frozenset(names))


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (NO_CHANGES, BOUND),
        (
            changes("concurrency", values=KeyTerms(concurrency=9)),
            KeyTerms(rate=Rate(100), burst=20, concurrency=9, certificate="ab" * 32),
        ),
        (changes("rate"), KeyTerms(concurrency=5, certificate="ab" * 32)),
        (
            changes("rate", values=KeyTerms(rate=Rate(1, 60))),
            KeyTerms(rate=Rate(1, 60), burst=20, concurrency=5, certificate="ab" * 32),
        ),
    ],
)
def test_only_what_is_named_changes_and_a_burst_goes_with_its_rate(
    change: TermChanges, after: KeyTerms
) -> None:
    assert change.applied_to(BOUND) == after


def test_a_key_that_gets_a_rate_of_its_own_shares_none_any_more() -> None:
    child = BOUND.of_child("api_key_1")
    assert child.shared_with == child.of_child("api_key_2").shared_with == "api_key_1"
    assert changes("rate", values=KeyTerms(rate=Rate(5))).applied_to(child).shared_with == ""
    assert changes("certificate").applied_to(child).shared_with == "api_key_1"


def test_a_key_whose_last_term_is_removed_has_no_terms() -> None:
    assert changes("rate", "burst", "concurrency", "certificate").applied_to(BOUND) is NO_TERMS


def test_a_burst_without_a_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="a burst needs a rate"):
        changes("burst", values=KeyTerms(burst=5)).applied_to(NO_TERMS)
