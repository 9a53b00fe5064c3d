"""The rate limit: requests per second and key.

Rules kept here:
- The clock's reading is passed in.
- The limit can change while requests are counted against it.
- Refused requests count as well, or floods of 403 and 404 would be free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from gateway.config import Config
from gateway.proxy.context import RequestContext
from gateway.proxy.errors import RateLimitedError

_LEAST_PRUNED: Final = 1024


class RateLimit:
    """At most `rate` requests per second and key (0: no limit), with bursts of one second's worth.

    This is the generic cell rate algorithm: one number per key, the time at which it is even again.
    """

    def __init__(self, rate: int) -> None:
        self._even_at: dict[str, float] = {}
        self._prune_at = _LEAST_PRUNED
        self.adopt(rate)

    def __len__(self) -> int:
        """Return the number of keys that are remembered."""
        return len(self._even_at)

    def adopt(self, rate: int) -> None:
        """Allow `rate` requests per second and key from now on."""
        self._interval = 1 / rate if rate else 0.0

    def take(self, key_id: str, now: float) -> bool:
        """Count a request of `key_id` at `now` (monotonic seconds); return False if it is one too many."""
        if not self._interval:
            return True
        even_at = max(self._even_at.get(key_id, now), now)
        # The tolerance keeps float rounding from turning the last request of a burst away.
        if even_at - now > 1 - self._interval / 2:
            return False
        self._even_at[key_id] = even_at + self._interval
        if len(self._even_at) > self._prune_at:
            self._prune(now)
        return True

    def _prune(self, now: float) -> None:
        """Forget the keys that are even, and do so again at twice the number that is left."""
        self._even_at = {key_id: even_at for key_id, even_at in self._even_at.items() if even_at > now}
        self._prune_at = max(_LEAST_PRUNED, 2 * len(self._even_at))


class RateLimiter:
    """The stage that limits the requests of each key. `monotonic` gives seconds."""

    def __init__(self, config: Config, monotonic: Callable[[], float]) -> None:
        self._rate = RateLimit(config.limits.rate)
        self._monotonic = monotonic

    def adopt(self, config: Config) -> None:
        """Limit by another configuration from now on."""
        self._rate.adopt(config.limits.rate)

    def limit(self, context: RequestContext) -> None:
        """Count an authenticated request. Raises RateLimitedError for one too many."""
        if not self._rate.take(context.entry.key_id, self._monotonic()):
            context.entry.decision = "rate_limited"
            raise RateLimitedError
