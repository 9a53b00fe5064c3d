"""The number of requests that may wait for a slot: fewer while requests wait all the time.

Rules kept here:
- A burst may fill the whole queue. Once requests have waited for half a second without a pause, more
  come than Core can take, and a long queue only makes every response late. Then as many may wait as get a
  slot within `upstream.queue_wait`, by the rate at which slots came free lately.
- The whole queue may be filled again as soon as no request waits.
- Times are monotonic seconds, and are passed in.
"""

from __future__ import annotations

from typing import Final

STANDING_SECONDS: Final = 0.5
"""The time over which slots are counted, and after which a queue that was never empty is too long."""
LEAST: Final = 2
"""The requests that may always wait: of very few, no rate can be told."""


class QueueLimit:
    """Bounds the queue for slots."""

    __slots__ = ("_allowed", "_counted_from", "_granted", "_most", "_wait")

    def __init__(self) -> None:
        self._most = 0
        self._wait = 0.0
        self._allowed = 0
        self._granted = 0
        # When counting began; below 0 while no request waits.
        self._counted_from = -1.0

    def adopt(self, most: int, wait: float) -> None:
        """Let at most `most` wait, and for `wait` seconds while requests wait all the time (0: any)."""
        self._most = most
        self._wait = wait
        self.note_empty()

    def note_empty(self) -> None:
        """Take note that no request waits."""
        self._allowed = self._most
        self._counted_from = -1.0

    def note_grant(self) -> None:
        """Take note that a waiting request got a slot."""
        self._granted += 1

    def allowed(self, now: float) -> int:
        """Return how many requests may wait; called with each one that has to."""
        if self._counted_from < 0:
            self._count_from(now)
        elif self._wait and now - self._counted_from >= STANDING_SECONDS:
            in_time = round(self._granted / (now - self._counted_from) * self._wait)
            self._allowed = min(self._most, max(LEAST, in_time))
            self._count_from(now)
        return self._allowed

    def _count_from(self, now: float) -> None:
        self._counted_from = now
        self._granted = 0
