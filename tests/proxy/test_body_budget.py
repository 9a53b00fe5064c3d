"""The budget of buffered bodies together."""

from __future__ import annotations

import pytest

from gateway.errors import Code, GatewayError
from gateway.fairness.shares import Caller
from gateway.proxy.body_budget import BufferBudget
from gateway.proxy.errors import code_of


class TestBufferBudget:
    def test_it_holds_up_to_its_limit(self) -> None:
        """The last byte is given; one more is 503, and a refused body holds nothing."""
        budget = BufferBudget(10)
        hold = budget.hold(Caller("a", "here"))
        hold.grow(4)
        hold.grow(6)
        assert budget.held == 10
        with pytest.raises(GatewayError) as refused:
            hold.grow(1)
        assert (code_of(refused.value), budget.held) == (Code.UNAVAILABLE, 0)

    def test_what_is_given_back_can_be_had_again(self) -> None:
        """Bytes that are released are free for the next body."""
        budget = BufferBudget(10)
        first = budget.hold(Caller("a", "here"))
        first.grow(10)
        first.release()
        first.release()
        budget.hold(Caller("b", "here")).grow(10)
        assert budget.held == 10

    def test_the_party_that_holds_most_gives_up_its_largest_body_that_still_comes(self) -> None:
        """A party may hold every byte, and loses its largest unfinished body once another needs some."""
        budget, refused = BufferBudget(10), list[str]()
        small, large, other = (
            budget.hold(Caller("a", "here")),
            budget.hold(Caller("a", "here")),
            budget.hold(Caller("b", "here")),
        )
        small.comes(lambda: refused.append("small"))
        large.comes(lambda: refused.append("large"))
        small.grow(4)
        large.grow(6)
        other.grow(3)
        assert (refused, budget.held, large.size, other.size) == (["large"], 7, 0, 3)
        with pytest.raises(GatewayError):
            large.grow(1)

    def test_one_refusal_is_enough_for_all_that_ask_in_the_same_turn(self) -> None:
        """A refused body gives its bytes back at once, so that the next one in the same turn gets them."""
        budget = BufferBudget(10)
        first, second = budget.hold(Caller("a", "here")), budget.hold(Caller("a", "here"))
        first.grow(5)
        second.grow(5)
        with pytest.raises(GatewayError):
            first.grow(1)
        second.grow(1)
        assert (first.size, second.size, budget.held) == (0, 6, 6)

    def test_a_whole_body_is_never_given_up(self) -> None:
        """A whole body is on its way to Core and not given up; other keys get an eighth beyond the limit."""
        budget, refused = BufferBudget(16), list[str]()
        whole, same, other = (budget.hold(Caller(party, "here")) for party in ("a", "a", "b"))
        whole.comes(lambda: refused.append("whole"))
        whole.grow(8)
        whole.settle(16)
        other.grow(2)
        with pytest.raises(GatewayError):
            same.grow(1)
        assert (refused, budget.held) == ([], 18)
        with pytest.raises(GatewayError):
            other.grow(1)
        assert (refused, budget.held) == ([], 16)

    def test_nobody_yields_to_a_party_that_would_hold_as_much(self) -> None:
        """No body is given up for a party that would then hold as much, or two would take turns for ever."""
        budget, refused = BufferBudget(10), list[str]()
        first, second = budget.hold(Caller("a", "here")), budget.hold(Caller("b", "here"))
        for hold in (first, second):
            hold.comes(lambda: refused.append("one"))
            hold.grow(5)
        with pytest.raises(GatewayError):
            second.grow(1)
        assert (refused, budget.held) == ([], 5)

    def test_a_network_gives_up_a_body_however_many_keys_hold_its_bytes(self) -> None:
        """A network gives up a body, even if each of its keys holds less than the key that needs some."""
        budget, refused = BufferBudget(10), list[str]()
        for key in "abcde":
            hold = budget.hold(Caller(key, "many"))
            hold.comes(lambda key=key: refused.append(key))  # type: ignore[misc]
            hold.grow(2)
        other = budget.hold(Caller("f", "one"))
        other.grow(4)
        assert (len(refused), budget.held, other.size) == (2, 10, 4)

    def test_a_network_takes_nothing_from_a_smaller_one(self) -> None:
        """A network takes nothing from a smaller one by another key that holds nothing yet."""
        budget, refused = BufferBudget(10), list[str]()
        one = budget.hold(Caller("f", "one"))
        one.comes(lambda: refused.append("one"))
        one.grow(4)
        for key in "abc":
            budget.hold(Caller(key, "many")).grow(2)
        with pytest.raises(GatewayError):
            budget.hold(Caller("d", "many")).grow(2)
        assert (refused, budget.held) == ([], 10)
