"""The tokens of one key at one replica: alone, and with leases."""

from __future__ import annotations

import pytest

from gateway.keys.leases import NO_ESTIMATE, BucketMemory, Lease, LeaseBatch, LeaseRequest
from gateway.proxy.allowance import LAZY_SECONDS, TICK_SECONDS, Allowance

NOW = 1000.25
AT_REDIS = 5_000_000.0


def alone(rate: float, burst: float = 0, now: float = NOW) -> Allowance:
    return Allowance(rate, burst or rate, 1.0, now)


def take(allowance: Allowance, count: int, now: float = NOW) -> int:
    """Return how many of so many requests pass."""
    return sum(allowance.take(now) for _ in range(count))


def settle(allowance: Allowance, lease: Lease, now: float = NOW, replicas: int = 3) -> LeaseRequest:
    """Let a lease come at once; return the request for it."""
    request = allowance.request("key", now)
    allowance.settle(request, lease, LeaseBatch(AT_REDIS, replicas, (lease,)), now)
    return request


def lease(granted: float = 0.0, level: float = 0.0, total: int = 0) -> Lease:
    return Lease(granted, level, AT_REDIS, total)


class TestChange:
    def test_keeps_what_is_left_and_what_is_to_be_reported(self) -> None:
        """Another limit gives no new burst, and what was spent under the old one is still reported."""
        allowance = alone(4)
        assert take(allowance, 3) == 3
        allowance.change(100.0, 100.0, NOW)
        assert take(allowance, 3) == 1
        assert allowance.request("key", NOW).spent == 4

    def test_leaves_no_more_than_the_new_burst(self) -> None:
        """Of a smaller burst no more tokens are there than it has, and they flow in at the new rate."""
        allowance = alone(10)
        allowance.change(2.0, 2.0, NOW)
        assert take(allowance, 5) == 2
        assert take(allowance, 5, NOW + 0.5) == 1


class TestAlone:
    @pytest.mark.parametrize("rate", [1, 2, 3, 7, 10, 99, 1000])
    @pytest.mark.parametrize("now", [0.0, NOW, 1e9 + 0.1])
    def test_a_burst_is_passed_at_once(self, rate: int, now: float) -> None:
        """At one instant exactly the burst passes, whatever the rounding of floats."""
        assert take(alone(rate, now=now), rate + 5, now) == rate

    def test_it_refills_evenly(self) -> None:
        """After a burst of 4, one more passes with each quarter of a second."""
        allowance = alone(4)
        assert take(allowance, 5) == 4
        assert take(allowance, 2, NOW + 0.25) == 1
        assert take(allowance, 3, NOW + 0.75) == 2

    def test_refusals_cost_nothing(self) -> None:
        """A client that keeps sending is let in again as soon as one that waits."""
        allowance = alone(1)
        assert allowance.take(NOW)
        assert not any(allowance.take(NOW + part / 100) for part in range(40))
        assert allowance.take(NOW + 1)

    def test_a_pause_allows_one_burst(self) -> None:
        """An hour without requests allows one burst, not an hour's worth."""
        allowance = alone(2)
        assert allowance.take(NOW)
        assert take(allowance, 10, NOW + 3600) == 2

    def test_it_says_what_remains_and_when_to_come_back(self) -> None:
        """It says how many requests remain, and in how many seconds the next one passes."""
        allowance = alone(0.1, 3)
        seen = []
        for _ in range(4):
            allowance.take(NOW)
            seen.append((allowance.remaining, round(allowance.wait(), 3)))
        assert seen == [(2, 0.0), (1, 0.0), (0, 10.0), (0, 10.0)]
        assert allowance.take(NOW + allowance.wait())


class TestLeases:
    def test_a_new_key_has_an_even_share_of_the_burst(self) -> None:
        """Before the first lease, one of four replicas lets through a fourth of the burst, at least 1."""
        assert take(Allowance(100, 100, 0.25, NOW), 100) == 25
        assert take(Allowance(1, 1, 0.25, NOW), 100) == 1

    def test_a_lease_gives_its_tokens_and_a_share_of_the_rest(self) -> None:
        """After a lease of 5, and 30 left for three replicas, 15 requests pass."""
        allowance = alone(100)
        settle(allowance, lease(granted=5, level=30))
        assert take(allowance, 100) == 15

    def test_a_debt_is_paid_before_anything_passes(self) -> None:
        """A bucket at -10 lets nothing through until its share has flowed in."""
        allowance = Allowance(100, 100, 1 / 3, NOW)
        settle(allowance, lease(level=-10))
        assert [take(allowance, 1, NOW + 0.05), take(allowance, 1, NOW + 0.2)] == [0, 1]

    def test_what_passes_during_a_call_is_reported_by_the_next(self) -> None:
        """Requests that pass while a call is under way are taken from its lease, and reported later."""
        allowance = alone(100)
        take(allowance, 3)
        sent = allowance.request("key", NOW)
        take(allowance, 2)
        allowance.settle(sent, lease(granted=4), LeaseBatch(AT_REDIS, 1, ()), NOW)
        assert take(allowance, 10) == 2
        later = allowance.request("key", NOW)
        assert (sent.spent, later.spent, later.granted) == (3, 4, 4)

    def test_tokens_that_are_not_used_are_returned(self) -> None:
        """A lease that was not used is due for its return after a second, and then nothing more is asked."""
        allowance = alone(100)
        settle(allowance, lease(granted=10, level=50))
        allowance.note(NOW)
        assert not allowance.settled
        dues = [allowance.is_due(NOW + part * LAZY_SECONDS) for part in (0.9, 1.0)]
        returned = settle(allowance, lease(level=60), NOW + LAZY_SECONDS)
        assert (dues, returned.spent, returned.granted, returned.wanted) == ([False, True], 0, 10, 0)
        assert allowance.settled

    def test_it_asks_at_once_only_when_tokens_are_short(self) -> None:
        """An allowance with many tokens waits with its report; one that refuses asks for more."""
        allowance = alone(100)
        settle(allowance, lease(level=99), replicas=1)
        allowance.note(NOW)
        take(allowance, 1)
        many = allowance.is_due(NOW + TICK_SECONDS)
        take(allowance, 200)
        assert (many, allowance.is_due(NOW + TICK_SECONDS)) == (False, True)
        assert allowance.request("key", NOW + TICK_SECONDS).wanted == 10

    def test_a_slow_limit_asks_for_nothing_before_a_token_can_be_there(self) -> None:
        """With one request a minute, a refused client causes a call a second, not one in each tick."""
        allowance = alone(1 / 60, 1)
        take(allowance, 1)
        settle(allowance, lease(level=0), replicas=1)
        allowance.take(NOW)
        allowance.note(NOW)
        dues = [allowance.is_due(NOW + part / 10) for part in range(11)]
        assert dues == [False] * 10 + [True]


class TestOutages:
    def drained(self) -> Allowance:
        """Return an allowance of one of three replicas, with a third of the requests and no token."""
        allowance = Allowance(90, 90, 1 / 3, NOW)
        for number in range(50):
            now = NOW + number * 0.1
            take(allowance, 100, now)
            settle(allowance, lease(total=90 + 9 * number), now)
        return allowance

    def test_it_goes_on_with_its_share(self) -> None:
        """Without leases, a replica with a third of the requests lets through a third of the rate."""
        allowance = self.drained()
        assert allowance.share == pytest.approx(1 / 3, abs=0.02)
        began = NOW + 5
        take(allowance, 100, began)
        passed = sum(take(allowance, 9, began + number * 0.05) for number in range(1, 201))
        assert passed == pytest.approx(300, rel=0.05)

    def test_after_a_long_one_the_bucket_gets_no_second_burst(self) -> None:
        """After 10 s without the store, the replica says that the bucket is empty, instead of its report."""
        allowance = self.drained()
        began = NOW + 4.9
        allowance.note(began)
        for number in range(200):
            take(allowance, 9, began + number * 0.05)
        memory = allowance.request("key", began + 10).memory
        assert (memory.began, memory.seen) == (0.0, AT_REDIS)
        assert memory.estimate < 10

    def test_after_a_short_one_it_reports_what_it_spent(self) -> None:
        """After half a second it reports its requests for the bucket that it knows."""
        allowance = self.drained()
        began = NOW + 4.9
        allowance.note(began)
        take(allowance, 100, began + 0.5)
        request = allowance.request("key", began + 0.5)
        assert (request.spent, request.memory.began) == (15, AT_REDIS)

    def test_a_new_key_knows_no_bucket(self) -> None:
        """A key that was never leased has no memory of a bucket."""
        assert alone(10).request("key", NOW).memory == BucketMemory(NO_ESTIMATE, 0.0, 0.0)
