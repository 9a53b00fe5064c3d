"""A bounded queue that serves networks in turn, and of each network its keys in turn.

Rules kept here:
- Each network gets one turn, then the next network; within a network each key gets one turn. Items of one key
  of one network are served in the order in which they came. So nobody waits for all that another queued.
- A lone claimant gets every turn and may fill the whole queue.
- When the queue is full, the newest item of the claimant that holds most, by key or by network, is refused
  for the item of a claimant that would still hold less (`PairedShares.yields`). Otherwise the new item is
  refused.
- No step takes longer when more items are queued.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator
from typing import Generic, Protocol, TypeVar

from gateway.fairness.shares import Claimant, IndexedShares, PairedShares


class Queued(Protocol):
    """An item of a queue: it knows its claimant, never changes it, and equals only itself."""

    @property
    def claimant(self) -> Claimant:
        """The key and the network that the item counts for."""


Item = TypeVar("Item", bound=Queued)


class _Network(Generic[Item]):
    """The items of one network by key, the key whose turn is next first; `held` counts them by key."""

    __slots__ = ("held", "keys")

    def __init__(self) -> None:
        self.keys: OrderedDict[str, OrderedDict[Item, None]] = OrderedDict()
        self.held = IndexedShares()


class FairQueue(Generic[Item]):
    """Items of many claimants, at most `limit` of them."""

    def __init__(self, limit: int) -> None:
        self._shares = PairedShares(limit, IndexedShares)
        # The network whose turn is next comes first.
        self._networks: OrderedDict[str, _Network[Item]] = OrderedDict()
        self._by_key: dict[str, OrderedDict[Item, None]] = {}

    def __len__(self) -> int:
        """Return how many items are queued."""
        return self._shares.total

    def add(self, item: Item) -> Item | None:
        """Queue `item`; return the item that is refused for it: None, an older item, or `item` itself."""
        refused = None
        if not self._shares.fits(1):
            refused = self._yielding(item.claimant)
            if refused is None:
                return item
            self.remove(refused)
        claimant = item.claimant
        network = self._networks.get(claimant.network)
        if network is None:
            network = self._networks[claimant.network] = _Network()
        network.keys.setdefault(claimant.party, OrderedDict())[item] = None
        network.held.take(claimant.party)
        self._by_key.setdefault(claimant.party, OrderedDict())[item] = None
        self._shares.take(claimant)
        return refused

    def remove(self, item: Item) -> None:
        """Take `item` out, wherever it is. Raises KeyError if it is not queued."""
        key, name = item.claimant.party, item.claimant.network
        network = self._networks[name]
        del network.keys[key][item]
        del self._by_key[key][item]
        if not network.keys[key]:
            del network.keys[key]
        if not network.keys:
            del self._networks[name]
        if not self._by_key[key]:
            del self._by_key[key]
        network.held.give(key)
        self._shares.give(item.claimant)

    def next(self) -> Item:
        """Return the item whose turn it is. Raises LookupError if the queue is empty."""
        for item in self._in_turn():
            return item
        raise LookupError("the queue is empty")

    def first_of(self, claimant: Claimant) -> Item | None:
        """Return the oldest item of this key of this network."""
        return next(iter(self._items_of(claimant)), None)

    def count_of(self, claimant: Claimant) -> int:
        """Return how many items of this key of this network are queued."""
        return len(self._items_of(claimant))

    def end_turn(self, claimant: Claimant) -> None:
        """Serve all other networks, and all other keys of this network, before this claimant again."""
        network = self._networks[claimant.network]
        network.keys.move_to_end(claimant.party)
        self._networks.move_to_end(claimant.network)

    def take(self) -> Item:
        """Take out the item whose turn it is, and end the turn. Raises LookupError if the queue is empty."""
        item = self.next()
        self.end_turn(item.claimant)
        self.remove(item)
        return item

    def take_first(self, wanted: Callable[[Item], bool]) -> Item | None:
        """Take out the first item, in the order of turns, that is `wanted`, and end its turn.

        Only the oldest item of each key of each network is asked about.
        """
        item = next(filter(wanted, self._in_turn()), None)
        if item is not None:
            self.end_turn(item.claimant)
            self.remove(item)
        return item

    def _items_of(self, claimant: Claimant) -> Collection[Item]:
        network = self._networks.get(claimant.network)
        return () if network is None else network.keys.get(claimant.party, ())

    def _in_turn(self) -> Iterator[Item]:
        for network in self._networks.values():
            for items in network.keys.values():
                yield next(iter(items))

    def _yielding(self, claimant: Claimant) -> Item | None:
        """Return the newest item of the claimant that holds most and has to yield."""
        yielding = (item for item in self._newest_of_largest(claimant) if self._yields(item, claimant))
        return max(yielding, key=lambda item: self._shares.weight(item.claimant), default=None)

    def _newest_of_largest(self, claimant: Claimant) -> Iterator[Item]:
        """Yield the newest items of the largest key, the largest network and the claimant's network."""
        largest_key = self._shares.parties.largest()
        if largest_key:
            yield next(reversed(self._by_key[largest_key]))
        for name in dict.fromkeys((self._shares.networks.largest(), claimant.network)):
            network = self._networks.get(name)
            if network is not None:
                yield next(reversed(network.keys[network.held.largest()]))

    def _yields(self, item: Item, claimant: Claimant) -> bool:
        return self._shares.yields(item.claimant, claimant)
