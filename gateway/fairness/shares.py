"""Fair shares of one bounded resource: who holds how much of it, and who has to yield.

Rules kept here:
- A claimant is counted twice, as a key and as a client's network, and holds the greater of both. So many keys
  of one network have no more claim than one key, and one key in many networks no more than in one network.
- A lone party may hold everything. When the resource is full, the party that holds most yields to one that
  holds less.
- A resource that cannot be taken back from its holders would leave nothing for others. So an eighth on top of
  the limit is kept for keys that hold no more than their share, and a sixteenth on top of that for keys whose
  network holds no more than its share either.
- A party is a key id, or the network of a client's address: one IPv4 address, or one /64 of IPv6, which is
  what a single client gets (RFC 6177).
- Nothing here waits or acts: callers ask, and act on the result.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, NamedTuple, Protocol

_NETWORKS: Final = 4096


class Shares:
    """Counts what each party holds of a resource of `limit` units."""

    __slots__ = ("_held", "_largest", "limit", "total")

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.total = 0
        self._held: dict[str, int] = {}
        # The party that holds most; None after that party has given back, until the next `largest`.
        self._largest: str | None = ""

    def held(self, party: str) -> int:
        """Return how many units a party holds."""
        return self._held.get(party, 0)

    def fits(self, amount: int) -> bool:
        """Return whether `amount` more units are within the limit."""
        return self.total + amount <= self.limit

    def is_small(self, party: str, amount: int = 1) -> bool:
        """Return whether `party` would hold no more than an equal part of the limit with `amount` more."""
        parties = len(self._held) + (party not in self._held)
        return self.held(party) + amount <= max(1, self.limit // parties)

    def take(self, party: str, amount: int = 1) -> None:
        """Count `amount` as held by `party`, also beyond the limit: callers ask `fits` first."""
        held = self._held.get(party, 0) + amount
        self._held[party] = held
        self.total += amount
        if self._largest is not None and held > self._held.get(self._largest, 0):
            self._largest = party

    def give(self, party: str, amount: int = 1) -> None:
        """Count `amount` as given back by `party`."""
        left = self._held[party] - amount
        self.total -= amount
        if left:
            self._held[party] = left
        else:
            del self._held[party]
        if party == self._largest:
            self._largest = None

    def largest(self) -> str:
        """Return the party that holds most; empty if nobody holds anything."""
        if self._largest is None:
            # Found only where the resource is full: each change of it would cost a pass over all parties.
            self._largest = max(self._held, key=self._held.__getitem__, default="")
        return self._largest

    def yielding(self, party: str, amount: int = 1) -> str | None:
        """Return the party that has to yield so that `party` can take `amount`; None if nobody holds more.

        A party that would then hold as much as the largest one has no claim on it.
        """
        largest = self.largest()
        if largest == party or self.held(largest) <= self.held(party) + amount:
            return None
        return largest


class IndexedShares(Shares):
    """Shares that know the largest party without a search, at the price of a slower `take` and `give`.

    Of several parties that hold as much, the largest is the one that came to that amount last.
    """

    __slots__ = ("_by_amount", "_most")

    def __init__(self, limit: int = 0) -> None:
        super().__init__(limit)
        self._most = 0
        # The parties by what they hold; a dictionary of parties, because it keeps their order.
        self._by_amount: dict[int, dict[str, None]] = {}

    def take(self, party: str, amount: int = 1) -> None:
        """Count `amount` as held by `party`, also beyond the limit."""
        held = self._change(party, amount)
        self._most = max(self._most, held)

    def give(self, party: str, amount: int = 1) -> None:
        """Count `amount` as given back by `party`."""
        left = self._change(party, -amount)
        if self._most not in self._by_amount:
            # A step of one unit leaves this party with the next lower amount, so nobody holds more.
            self._most = left if amount == 1 else max(self._by_amount, default=0)

    def largest(self) -> str:
        """Return the party that holds most; empty if nobody holds anything."""
        return next(reversed(self._by_amount[self._most])) if self._most else ""

    def _change(self, party: str, amount: int) -> int:
        before = self._held.pop(party, 0)
        if before:
            parties = self._by_amount[before]
            del parties[party]
            if not parties:
                del self._by_amount[before]
        after = before + amount
        if after:
            self._held[party] = after
            self._by_amount.setdefault(after, {})[party] = None
        self.total += amount
        return after


class Claimant(Protocol):
    """A caller that holds something or wants to: its key, and the network that it calls from."""

    @property
    def party(self) -> str:
        """The key id, or the network of a caller without a key."""

    @property
    def network(self) -> str:
        """The network of the client's address (`network_of`)."""


class Caller(NamedTuple):
    """A `Claimant` with these names."""

    party: str
    network: str


class PairedShares:
    """Counts what claimants hold, by key and by network, of a resource of `limit` units and those `kept`.

    `kind` counts what is held: `IndexedShares` where the largest holder is asked for often.
    """

    __slots__ = ("networks", "parties")

    def __init__(self, limit: int, kind: type[Shares] = Shares) -> None:
        self.parties = kind(limit)
        self.networks = kind(limit)

    @property
    def limit(self) -> int:
        """Return how many units there are, without those that are kept."""
        return self.parties.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self.parties.limit = self.networks.limit = limit

    @property
    def total(self) -> int:
        """Return how many units are held."""
        return self.parties.total

    @property
    def most(self) -> int:
        """Return how many units there are, with those that are kept."""
        return self.limit + kept(self.limit)

    def fits(self, amount: int) -> bool:
        """Return whether `amount` more units are within the limit."""
        return self.parties.fits(amount)

    def fits_kept(self, claimant: Claimant, amount: int = 1) -> bool:
        """Return whether `claimant` may take `amount` of the units that are kept beyond the limit."""
        if not self.parties.is_small(claimant.party, amount):
            return False
        small = self.networks.is_small(claimant.network, amount)
        return self.total + amount <= (self.most if small else self.limit + _kept_for_parties(self.limit))

    def take(self, claimant: Claimant, amount: int = 1) -> None:
        """Count `amount` as held by `claimant`, also beyond the limit."""
        self.parties.take(claimant.party, amount)
        self.networks.take(claimant.network, amount)

    def give(self, claimant: Claimant, amount: int = 1) -> None:
        """Count `amount` as given back by `claimant`."""
        self.parties.give(claimant.party, amount)
        self.networks.give(claimant.network, amount)

    def weight(self, claimant: Claimant) -> tuple[int, int]:
        """Return what a claimant holds, the greater of its key and its network; then what its key holds."""
        held = self.parties.held(claimant.party)
        return max(held, self.networks.held(claimant.network)), held

    def may_yield(self, claimant: Claimant, amount: int = 1) -> bool:
        """Return whether anybody may have to yield (`yields`); seldom costs more than two look-ups."""
        return (
            self.networks.yielding(claimant.network, amount) is not None
            or self.parties.yielding(claimant.party, amount) is not None
        )

    def yields(self, holder: Claimant, claimant: Claimant, amount: int = 1) -> bool:
        """Return whether `holder` yields: `claimant` with `amount` more holds less than `holder` does now."""
        party = self.parties.held(claimant.party) + amount * (claimant.party != holder.party)
        network = self.networks.held(claimant.network) + amount * (claimant.network != holder.network)
        return self.weight(holder) > (max(party, network), party)


def kept(limit: int) -> int:
    """Return how many units are kept on top of `limit` for claimants that hold less than their shares."""
    return _kept_for_parties(limit) + max(1, limit // 16)


def _kept_for_parties(limit: int) -> int:
    return max(1, limit // 8)


@lru_cache(_NETWORKS)
def network_of(address: str) -> str:
    """Return the network of a client's address: the address itself, or its /64 if it is IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
