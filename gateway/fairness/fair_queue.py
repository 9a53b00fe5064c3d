"""A queue that serves parties by turns, so that none of them waits for all that another has queued.

Rules kept here:
- The parties are served in turn, one item each; the items of one party in the order they came.
- A party alone gets every turn, and may have the whole queue.
- `shed` drops the newest item of the party that has the most: a party with less is not touched.
- No step takes longer the more there is in the queue.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class FairQueue(Generic[Item]):
    """Items by party."""

    def __init__(self) -> None:
        # In the order of their turns.
        self._queues: dict[str, deque[Item]] = {}
        # The parties by how many items they have; a dictionary for its order.
        self._by_size: defaultdict[int, dict[str, None]] = defaultdict(dict)
        self._largest = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, party: str, item: Item) -> None:
        """Put an item at the end of its party's."""
        queue = self._queues.setdefault(party, deque())
        queue.append(item)
        self._resize(party, len(queue) - 1, len(queue))

    def take(self) -> Item:
        """The oldest item of the party whose turn it is. Raises LookupError where there is none."""
        party, queue = next(iter(self._queues.items()), ("", None))
        if queue is None:
            raise LookupError("nothing is in the queue")
        item = queue.popleft()
        del self._queues[party]
        if queue:
            self._queues[party] = queue
        self._resize(party, len(queue) + 1, len(queue))
        return item

    def shed(self) -> Item:
        """Drop the newest item of the party that has the most. Raises LookupError where there is none."""
        # Of several that have as many the one that came last.
        party = next(reversed(self._by_size[self._largest]), None)
        if party is None:
            raise LookupError("nothing is in the queue")
        queue = self._queues[party]
        item = queue.pop()
        if not queue:
            del self._queues[party]
        self._resize(party, len(queue) + 1, len(queue))
        return item

    def _resize(self, party: str, before: int, after: int) -> None:
        self._count += after - before
        self._by_size[before].pop(party, None)
        if after:
            self._by_size[after][party] = None
        if not self._by_size[before]:
            del self._by_size[before]
            # Sizes change by one, so the largest does too.
            self._largest = after if before == self._largest else self._largest
        self._largest = max(self._largest, after)
