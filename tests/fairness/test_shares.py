"""Shares of a bounded resource: how much each party holds, and which party has to yield."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.fairness.shares import Caller, IndexedShares, PairedShares, Shares, network_of


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
def test_an_eighth_more_is_for_a_key_that_holds_less_than_an_equal_part(
    held: dict[str, int], amount: int, fits: bool
) -> None:
    """Of 16 units and 2 more, the share of each key is at least one unit, however many keys there are."""
    made = PairedShares(16)
    for key, units in held.items():
        made.take(Caller(key, "here"), units)
    assert made.fits_kept(Caller("b", "here"), amount) == fits


def test_a_sixteenth_more_is_for_a_network_that_holds_less_than_an_equal_part() -> None:
    """Eighteen keys of one network, which hold one unit each, leave one to another network."""
    made = PairedShares(16)
    for number in range(18):
        made.take(Caller(f"key {number}", "here"))
    assert [made.fits_kept(Caller("one more", network)) for network in ("here", "there")] == [False, True]
    made.take(Caller("one more", "there"))
    assert not made.fits_kept(Caller("another", "elsewhere"))


@pytest.mark.parametrize("kind", [Shares, IndexedShares])
@given(steps=st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5), st.booleans())))
def test_whatever_is_taken_and_given_the_largest_is_found(
    kind: type[Shares], steps: list[tuple[str, int, bool]]
) -> None:
    held = {"a": 0, "b": 0, "c": 0}
    made = kind(0)
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


def paired(limit: int = 10, **held: int) -> PairedShares:
    """Return the shares of the key named by the first letter, in the network named by the second."""
    made = PairedShares(limit)
    for names, amount in held.items():
        made.take(Caller(names[0], names[1]), amount)
    return made


@pytest.mark.parametrize(
    ("held", "holder", "claimant", "yields"),
    [
        pytest.param({"ax": 3, "bx": 1}, "ax", "bx", True, id="more of a network's own"),
        pytest.param({"ax": 2, "bx": 1}, "ax", "bx", False, id="one more, which would change hands for ever"),
        pytest.param({"ax": 3}, "ax", "ax", False, id="itself"),
        pytest.param({"ax": 1, "bx": 1, "cx": 1}, "ax", "dy", True, id="many keys of one network"),
        pytest.param({"ax": 1, "bx": 1, "cy": 2}, "cy", "dx", False, id="a newcomer of such a network"),
        pytest.param({"ax": 1, "ay": 1, "az": 1}, "ax", "bw", True, id="one key from many networks"),
        pytest.param({"ax": 1, "bw": 1}, "bw", "ay", False, id="a newcomer from one more of them"),
    ],
)
def test_who_has_much_by_key_or_by_network_yields_to_who_has_little_by_both(
    held: dict[str, int], holder: str, claimant: str, yields: bool
) -> None:
    shares = paired(**held)
    assert shares.yields(Caller(holder[0], holder[1]), Caller(claimant[0], claimant[1])) is yields
    assert shares.may_yield(Caller(claimant[0], claimant[1])) or not yields


PAIRS = st.tuples(st.sampled_from("abc"), st.sampled_from("xyz")).map(lambda pair: Caller(*pair))


@given(st.dictionaries(PAIRS, st.integers(1, 9)), PAIRS, PAIRS, st.integers(1, 4))
def test_whoever_yields_can_be_found(
    held: dict[Caller, int], holder: Caller, claimant: Caller, amount: int
) -> None:
    """`may_yield` finds each party that has to yield, and none takes back at once what it has yielded."""
    shares = PairedShares(0)
    for caller, most in held.items():
        shares.take(caller, most)
    if not shares.yields(holder, claimant, amount):
        return
    assert shares.may_yield(claimant, amount)
    if held.get(holder, 0) >= amount:
        shares.give(holder, amount)
        shares.take(claimant, amount)
        assert not shares.yields(claimant, holder, amount)
