"""What one client may take from the others: requests per second and key, buffered bytes in all.

Rules kept here:
- Every bound is checked before the work it bounds.
- The clock's reading is passed in.
- A bound can change while requests are counted against it; what is counted stays counted.
"""

from __future__ import annotations

from gateway.errors import Code, GatewayError


class RateLimit:
    """At most `rate` requests per second and key (0: no limit), with bursts of one second's worth.

    The generic cell rate algorithm: one number per key, the time at which it is even again.
    """

    def __init__(self, rate: int) -> None:
        self._even_at: dict[str, float] = {}
        self.follow(rate)

    def follow(self, rate: int) -> None:
        """Allow `rate` requests per second and key from now on."""
        self._interval = 1 / rate if rate else 0.0

    def allows(self, key_id: str, now: float) -> bool:
        """Count a request of `key_id` at `now` (monotonic seconds); False if it is one too many."""
        if not self._interval:
            return True
        even_at = max(self._even_at.get(key_id, now), now)
        # The tolerance keeps float rounding from turning the last request of a burst away.
        if even_at - now > 1 - self._interval / 2:
            return False
        self._even_at[key_id] = even_at + self._interval
        return True


class BufferBudget:
    """The bytes that all stamped bodies together may hold in memory at once."""

    def __init__(self, limit: int) -> None:
        self.held = 0
        self.follow(limit)

    def follow(self, limit: int) -> None:
        """Hold up to `limit` bytes from now on; what is held already stays."""
        self._limit = limit

    def reserve(self, size: int) -> None:
        """Set `size` bytes aside. Raises GatewayError(UNAVAILABLE) where they are not to be had."""
        if self.held + size > self._limit:
            raise GatewayError(Code.UNAVAILABLE)
        self.held += size

    def release(self, size: int) -> None:
        """Give `size` bytes back."""
        self.held -= size
