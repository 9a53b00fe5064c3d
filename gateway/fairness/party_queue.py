"""A queue without a bound whose parties take turns.

Rules kept here:
- Each party gets one turn, then the next party. Items of one party are taken in the order in which they were
  added.
- Adding, forgetting and taking take no longer when more items are queued.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class OfParty(Protocol):
    """An item of a queue: its party never changes, and it equals only itself."""

    @property
    def party(self) -> str:
        """The party that the item is counted for."""


Item = TypeVar("Item", bound=OfParty)


class PartyQueue(Generic[Item]):
    """Items of many parties, each item at most once; a queue is true while it has one."""

    def __init__(self) -> None:
        # The party whose turn is next comes first. A plain dict would look for its first item longer and
        # longer, past all that were taken out.
        self._parties: OrderedDict[str, OrderedDict[Item, None]] = OrderedDict()

    def __bool__(self) -> bool:
        """Return True if anything is queued."""
        return bool(self._parties)

    def count(self) -> int:
        """Return how many items are queued."""
        return sum(map(len, self._parties.values()))

    def add(self, item: Item) -> None:
        """Queue `item`, unless it is queued."""
        self._parties.setdefault(item.party, OrderedDict())[item] = None

    def forget(self, item: Item) -> None:
        """Take `item` out, if it is queued."""
        items = self._parties.get(item.party)
        if items is not None and item in items:
            del items[item]
            if not items:
                del self._parties[item.party]

    def take(self) -> Item:
        """Take out the item whose turn it is. The queue must have one."""
        party, items = next(iter(self._parties.items()))
        item, _ = items.popitem(last=False)
        if items:
            self._parties.move_to_end(party)
        else:
            del self._parties[party]
        return item
