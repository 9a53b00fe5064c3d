"""The number of requests that may wait for a slot: fewer while more come than Core can take.

Rules kept here:
- A burst may fill the whole queue. Once requests have waited for half a second without a pause, a long
  queue only makes every response late. Then as many may wait as get a slot within `upstream.queue_wait`, by
  the rate at which slots came free lately.
- The whole queue may be filled again once nobody had to be turned away for half a second. That the short
  queue was empty for a moment says nothing: it would be filled at once, and emptied by refusals later.
- While no slot comes free at all, Core stands still, and nobody can tell how many would be served in time. So
  nothing changes then: a stall of a second costs no request that can wait for it.
- Times are monotonic seconds, and are passed in.
"""

from __future__ import annotations

from typing import Final

STANDING_SECONDS: Final = 0.5
"""The time over which slots are counted, and after which a queue that was never empty is too long."""
LEAST: Final = 2
"""The requests that may always wait, so that a slot that comes free is used at once."""


class QueueLimit:
    """Bounds the queue for slots."""

    __slots__ = ("_allowed", "_counted_from", "_granted", "_most", "_short", "_turned_away", "_wait")

    def __init__(self) -> None:
        self._most = 0
        self._wait = 0.0
        self._allowed = 0
        self._granted = 0
        self._short = False
        self._turned_away = False
        # When counting began; below 0 for not at all.
        self._counted_from = -1.0

    def adopt(self, most: int, wait: float) -> None:
        """Let at most `most` wait, and for `wait` seconds while more come than Core can take (0: any)."""
        self._most = most
        self._wait = wait
        self._lengthen()

    def note_empty(self) -> None:
        """Take note that no request waits."""
        if not self._short:
            self._counted_from = -1.0

    def note_grant(self) -> None:
        """Take note that a waiting request got a slot."""
        self._granted += 1

    def allowed(self, now: float, waiting: int) -> int:
        """Return how many requests may wait; called with each one that has to, beside `waiting` others."""
        elapsed = now - self._counted_from
        if self._counted_from < 0:
            self._count_from(now)
        elif self._wait and elapsed >= STANDING_SECONDS:
            if self._short and (not self._turned_away or elapsed >= 2 * STANDING_SECONDS):
                self._lengthen()
            elif self._granted:
                self._short = True
                in_time = round(self._granted / elapsed * self._wait)
                self._allowed = min(self._most, max(LEAST, in_time))
            self._count_from(now)
        self._turned_away |= waiting >= self._allowed
        return self._allowed

    def _lengthen(self) -> None:
        self._short = False
        self._allowed = self._most
        self._counted_from = -1.0

    def _count_from(self, now: float) -> None:
        self._counted_from = now
        self._granted = 0
        self._turned_away = False
