"""Counts of refused requests, by the id of their key and the code of the refusal, for the console.

Rules kept here:
- Only ids of keys that are known are counted; a client that makes one up has none.
- The memory is bounded. When the bound is reached, new pairs of key and code are counted together.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from gateway.telemetry.access_log import AccessEntry

MOST_PAIRS: Final = 1_000


class RefusalCounts:
    """Counts refusals since the start; `others` are those of pairs beyond the bound."""

    def __init__(self, most: int = MOST_PAIRS) -> None:
        self._most = most
        self._counts: Counter[tuple[str, str]] = Counter()
        self.others = 0

    def count(self, entry: AccessEntry) -> None:
        """Count one refused request, if its key is known."""
        if not entry.key_id:
            return
        pair = entry.key_id, entry.code
        if pair in self._counts or len(self._counts) < self._most:
            self._counts[pair] += 1
        else:
            self.others += 1

    def most_frequent(self, number: int) -> list[tuple[str, str, int]]:
        """Return the pairs with the most refusals: key id, code, count."""
        return [(key_id, code, count) for (key_id, code), count in self._counts.most_common(number)]

    def besides(self, number: int) -> int:
        """Return how many refusals of known keys `most_frequent` leaves out."""
        return self._counts.total() + self.others - sum(count for *_, count in self.most_frequent(number))
