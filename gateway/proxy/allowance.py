"""The allowance of one key at one replica: how many requests it may let through, and what it has to report.

Rules kept here:
- A request only takes a token that is here. The store is asked in the background (`leasing`).
- The tokens here are those of the last lease, a share of the others in the bucket, and the same share of
  those that flow into it meanwhile. The share is the part of the key's requests that came to this replica. So
  the replicas together spend what the limit allows, also while the store does not respond.
- Whatever is spent is reported, and taken out of the bucket, even if the level falls below 0. So an error of
  a share does not last: over a long time, the replicas let through what flowed into the bucket.
- While a key is idle, its replicas may each let through their share of a full bucket at once. What they spend
  so before they hear of each other is at most one burst more, and is missing afterwards.
- Times are monotonic seconds, and are passed in.
"""

from __future__ import annotations

from math import exp
from typing import Final

from gateway.keys.leases import NO_ESTIMATE, BucketMemory, Lease, LeaseBatch, LeaseRequest

TICK_SECONDS: Final = 0.05
"""The shortest time between two leases of a key."""
LAZY_SECONDS: Final = 1.0
"""The longest time until something that was spent is reported, and tokens that are not used are returned."""
_AHEAD_SECONDS: Final = 2 * TICK_SECONDS
"""A lease is for the requests of this time."""
_LEAST_CAPACITY_SECONDS: Final = 0.2
"""The bucket in the store holds at least what flows into it in this time: a smaller one would overflow
between two leases."""
_STALE_SECONDS: Final = 1.5
_REPORTED_PART: Final = 0.05
"""The part of the bucket that is reported at once when it was spent: until then the bucket seems fuller,
and what flows into a full bucket is lost."""
_FADE_SECONDS: Final = 2.0
"""The time over which the share of a replica is observed."""
_PRIOR: Final = 2.0
"""The requests for which an even share counts: of few requests, no share can be told."""
# Floats are rounded: the last token of a burst must not be lost by that.
_ENOUGH: Final = 1.0 - 1e-6


class Allowance:
    """The tokens of one key at this replica.

    Args:
        rate: the tokens of all replicas in a second.
        burst: the most tokens at once.
        even: an even share, 1 for the only replica.
        now: the time.

    Attributes:
        noted: True if the store is to be asked; set by the caller, and reset by a lease.
        burst: the most tokens at once.
        rate: the tokens of all replicas in a second.
    """

    __slots__ = (
        "_all",
        "_at",
        "_began",
        "_even",
        "_granted",
        "_level_again",
        "_most",
        "_noted_at",
        "_own",
        "_pace",
        "_refused",
        "_scale",
        "_seen",
        "_settled_at",
        "_share",
        "_spent",
        "_tokens",
        "_total",
        "burst",
        "noted",
        "rate",
    )

    def __init__(self, rate: float, burst: float, even: float, now: float) -> None:
        self.rate = rate
        self.burst = burst
        self.noted = False
        self._even = even
        self._at = now
        self._noted_at = now
        self._settled_at = -1.0
        self._level_again = now
        self._spent = 0
        self._refused = 0
        self._granted = 0.0
        self._began = 0.0
        self._seen = 0.0
        self._total = 0
        self._own = 0.0
        self._all = 0.0
        self._use_share(even)
        self._tokens = self._most
        self._scale = 1.0 / even

    def change(self, rate: float, burst: float, now: float) -> None:
        """Let another limit count from now on.

        The tokens that are here, and what is to be reported, stay: a change of the limit is no new burst.
        """
        self._refill(now)
        self.rate = rate
        self.burst = burst
        self._use_share(self._share)
        self._tokens = min(self._tokens, self._most)

    @property
    def capacity(self) -> float:
        """The most tokens in the bucket of the store."""
        return max(self.burst, self.rate * _LEAST_CAPACITY_SECONDS)

    @property
    def remaining(self) -> int:
        """The requests that all replicas together may still let through, as far as is known here."""
        return int(max(0.0, min(self.burst, self._tokens * self._scale + 1e-6)))

    @property
    def share(self) -> float:
        """The part of the key's requests that came to this replica."""
        return self._share

    @property
    def settled(self) -> bool:
        """True if nothing is to be reported, and no lease is to be returned."""
        return not self._spent and not self._granted

    def take(self, now: float) -> bool:
        """Take a token; return False if there is none."""
        self._refill(now)
        if self._tokens < _ENOUGH:
            self._refused += 1
            return False
        self._tokens -= 1.0
        self._spent += 1
        return True

    def is_full(self, now: float) -> bool:
        """Return True if a new allowance would have no more tokens."""
        self._refill(now)
        return self._tokens >= self._most - 1e-6

    def wait(self) -> float:
        """Return the seconds until the next request can pass, if no other one takes its token."""
        return max(0.0, 1.0 - self._tokens * (self._scale if self._tokens < 0 else 1.0)) / self.rate

    def _refill(self, now: float) -> None:
        if self._tokens < self._most:
            self._tokens = min(self._most, self._tokens + (now - self._at) * self._pace)
        self._at = now

    # Leases.

    def note(self, now: float) -> None:
        """Take note that the store is to be asked; whoever asks it calls `is_due`."""
        self.noted = True
        self._noted_at = now

    def is_due(self, now: float) -> bool:
        """Return True if the store is to be asked at once: tokens are short, or something waits for long."""
        if self._settled_at < 0 or now >= self._noted_at + LAZY_SECONDS:
            return True
        if self._spent > self.capacity * _REPORTED_PART:
            return True
        short = self._refused > 0 or self._tokens < self._expected(now)
        return short and now >= self._level_again

    def request(self, key_id: str, now: float) -> LeaseRequest:
        """Return the report and the wish for the store."""
        self._refill(now)
        expected = self._expected(now)
        short = self._refused > 0 or self._tokens < expected
        return LeaseRequest(
            key_id=key_id,
            rate=self.rate,
            capacity=self.capacity,
            spent=self._spent,
            granted=self._granted,
            wanted=max(1.0, min(expected, self.rate * _AHEAD_SECONDS)) if short else 0.0,
            memory=self._memory(now),
        )

    def _expected(self, now: float) -> float:
        """Return how many requests are to be expected until a lease comes after the next."""
        since = max(TICK_SECONDS, now - max(self._settled_at, self._noted_at))
        return (self._spent + self._refused) / since * _AHEAD_SECONDS

    def _memory(self, now: float) -> BucketMemory:
        # The store forgets what flowed into a full bucket, so what was spent over a longer time is no debt.
        stale = now - self._noted_at > max(_STALE_SECONDS, self.capacity / self.rate)
        if self._settled_at < 0 and not stale:
            return BucketMemory(NO_ESTIMATE, 0.0, 0.0)
        # What is left of the lease is not in the bucket.
        of_bucket = self._tokens - max(0.0, self._granted - self._spent)
        estimate = min(self.capacity, max(0.0, of_bucket) / self._share)
        return BucketMemory(estimate, 0.0 if stale else self._began, self._seen)

    def settle(self, sent: LeaseRequest, lease: Lease, batch: LeaseBatch, now: float) -> None:
        """Adopt the lease that came for a request that was sent."""
        self._observe(sent, lease, batch, now)
        self._spent -= sent.spent
        self._refused = 0
        self._granted = lease.granted
        self._began, self._seen, self._total = lease.began, batch.now, lease.total
        part = max(self._share, self._even)
        if lease.level < 0:
            self._tokens = lease.granted + lease.level * self._share
        else:
            self._tokens = lease.granted + lease.level * part
            if lease.level >= 1.0:
                # Of a small bucket, no share is a whole token.
                self._tokens = max(self._tokens, 1.0)
        self._tokens -= self._spent
        self._scale = 1.0 / part
        self._at = self._settled_at = now
        self._level_again = now + max(0.0, 1.0 - lease.level) / self.rate
        self.noted = False

    def _observe(self, sent: LeaseRequest, lease: Lease, batch: LeaseBatch, now: float) -> None:
        """Observe which part of the key's requests comes here."""
        if lease.began == self._began:
            fade = exp((self._settled_at - now) / _FADE_SECONDS)
            self._own = self._own * fade + sent.spent
            self._all = self._all * fade + max(sent.spent, lease.total - self._total)
        self._even = 1.0 / batch.replicas
        self._use_share((self._own + _PRIOR * self._even) / (self._all + _PRIOR))

    def _use_share(self, share: float) -> None:
        self._share = share
        self._pace = share * self.rate
        self._most = max(1.0, share * self.burst)
