"""Who holds how much of a bounded resource, and who has to yield."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.shares import Shares, network_of


def shares(limit: int = 10, **held: int) -> Shares:
    made = Shares(limit)
    for party, amount in held.items():
        made.take(party, amount)
    return made


def test_a_lone_party_may_hold_everything() -> None:
    full = shares(10, a=10)
    assert (full.fits(1), full.yielding("a"), full.held("a"), full.total) == (False, None, 10, 10)


def test_the_party_that_holds_most_yields() -> None:
    assert shares(10, a=6, b=3, c=1).yielding("c") == "a"


def test_nobody_yields_to_a_party_that_would_hold_as_much() -> None:
    full = shares(10, a=5, b=4, c=1)
    assert (full.yielding("b"), full.yielding("c", 4), full.yielding("c", 3)) == (None, None, "a")


def test_what_is_given_back_is_free() -> None:
    given_back = shares(10, a=6, b=4)
    given_back.give("a", 6)
    assert (given_back.total, given_back.fits(6), given_back.yielding("c")) == (4, True, "b")


@pytest.mark.parametrize(
    ("held", "amount", "fits"),
    [
        ({"a": 16}, 2, True),
        ({"a": 16}, 3, False),
        ({"a": 15, "c": 2}, 1, True),
        ({"a": 15, "b": 2}, 1, True),
        ({"a": 9, "b": 8}, 1, False),
        ({"a": 8, "b": 8, "c": 1}, 1, False),
        ({"a": 12, "b": 4, "c": 1}, 1, True),
        (dict.fromkeys("acdefghijklmnopqr", 1), 1, True),
    ],
)
def test_an_eighth_more_is_for_whoever_holds_less_than_an_equal_part(
    held: dict[str, int], amount: int, fits: bool
) -> None:
    """Of 16 units and 2 more; one unit is everybody's share, however many parties there are."""
    assert shares(16, **held).fits_kept("b", amount) == fits


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.booleans())))
def test_whatever_is_taken_and_given_the_largest_is_found(steps: list[tuple[str, int, bool]]) -> None:
    held = {"a": 0, "b": 0, "c": 0}
    made = Shares(0)
    for party, amount, takes in steps:
        if takes:
            made.take(party, amount)
            held[party] += amount
        elif held[party] >= amount:
            made.give(party, amount)
            held[party] -= amount
        largest = made.yielding("newcomer")
        most = max(held.values())
        assert (largest is None) == (most <= 1)
        assert largest is None or held[largest] == most
    assert made.total == sum(held.values())


@pytest.mark.parametrize(
    ("address", "party"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("", ""),
        ("nonsense", "nonsense"),
    ],
)
def test_a_client_is_an_ipv4_address_or_a_64_of_ipv6(address: str, party: str) -> None:
    assert network_of(address) == party
