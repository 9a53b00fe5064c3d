"""What one key or all bodies together may take."""

from __future__ import annotations

import pytest

from gateway.errors import Code, GatewayError
from gateway.limits import BufferBudget, RateLimit

NOW = 1000.25


class TestRateLimit:
    def test_zero_is_no_limit(self) -> None:
        """Without a rate every request passes."""
        limit = RateLimit(0)
        assert all(limit.allows("a", NOW) for _ in range(1000))

    @pytest.mark.parametrize("rate", [1, 2, 3, 7, 10, 99, 1000])
    @pytest.mark.parametrize("now", [0.0, NOW, 1e9 + 0.1])
    def test_a_burst_is_one_seconds_worth(self, rate: int, now: float) -> None:
        """At one instant exactly `rate` requests pass, rounding of floats or not."""
        limit = RateLimit(rate)
        assert sum(limit.allows("a", now) for _ in range(rate + 5)) == rate

    def test_each_key_has_its_own(self) -> None:
        """One key's burst costs another nothing."""
        limit = RateLimit(1)
        assert [limit.allows(key, NOW) for key in "abab"] == [True, True, False, False]

    def test_it_refills_evenly(self) -> None:
        """After a burst of 4, one more passes with each quarter of a second."""
        limit = RateLimit(4)
        assert [limit.allows("a", NOW) for _ in range(5)] == [True] * 4 + [False]
        assert [limit.allows("a", NOW + 0.25) for _ in range(2)] == [True, False]
        assert [limit.allows("a", NOW + 0.75) for _ in range(3)] == [True, True, False]

    def test_refusals_cost_nothing(self) -> None:
        """A client that hammers is let in again as soon as one that waits."""
        limit = RateLimit(1)
        assert limit.allows("a", NOW)
        assert not any(limit.allows("a", NOW + part / 100) for part in range(40))
        assert limit.allows("a", NOW + 1)

    def test_rest_saves_nothing_up(self) -> None:
        """An hour without requests allows one burst, not an hour's worth."""
        limit = RateLimit(2)
        assert limit.allows("a", NOW)
        assert sum(limit.allows("a", NOW + 3600) for _ in range(10)) == 2


class TestBufferBudget:
    def test_it_holds_up_to_its_limit(self) -> None:
        """The last byte can be had; one more is 503, and takes nothing."""
        budget = BufferBudget(10)
        budget.reserve(4)
        budget.reserve(6)
        with pytest.raises(GatewayError) as refused:
            budget.reserve(1)
        assert (refused.value.code, budget.held) == (Code.UNAVAILABLE, 10)

    def test_what_is_given_back_can_be_had_again(self) -> None:
        """Released bytes are free for the next body."""
        budget = BufferBudget(10)
        budget.reserve(10)
        budget.release(10)
        budget.reserve(10)
        assert budget.held == 10
