"""Entries that wait to be written, in the order in which they happened.

Rules kept here:
- So many wait at most. Later ones are lost, and counted; once there is room, an entry says how many.
- An entry leaves the queue only once it was written, so a failure loses none and changes no order.
"""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import Final

from gateway.audit.entry import AuditEntry, Kind

MOST_WAITING: Final = 1000


class AuditQueue:
    """The entries of one process; `replica` names it in the entry about those that were lost."""

    def __init__(self, replica: str, most: int = MOST_WAITING) -> None:
        self._replica = replica
        self._most = most
        self._waiting: deque[AuditEntry] = deque()
        self._lost_now: list[AuditEntry] = []
        self._lost_now_count = 0
        self.lost = 0
        """How many entries were lost."""

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, entry: AuditEntry) -> None:
        """Add an entry, or lose it."""
        if len(self._waiting) < self._most:
            self._waiting.append(entry)
            return
        self.lost += 1
        self._lost_now_count += 1
        self._lost_now[1:] = [entry]

    @property
    def kinds(self) -> Counter[str]:
        """The number of entries that wait, by kind; `entries_lost` has those that no entry tells of yet."""
        kinds = Counter(entry.kind.value for entry in self._waiting)
        return kinds + Counter({Kind.ENTRIES_LOST.value: self._lost_now_count})

    def first(self, most: int) -> list[AuditEntry]:
        """Return the oldest entries."""
        return list(islice(self._waiting, most))

    def written(self, count: int) -> None:
        """Remove the oldest entries, which were written."""
        for _ in range(count):
            self._waiting.popleft()
        if self._lost_now and len(self._waiting) < self._most:
            first, last = self._lost_now[0], self._lost_now[-1]
            self._waiting.append(
                AuditEntry(
                    kind=Kind.ENTRIES_LOST,
                    at=first.at,
                    until=last.at,
                    replica=self._replica,
                    count=self._lost_now_count,
                )
            )
            self._lost_now, self._lost_now_count = [], 0
