"""Fair shares of one bounded resource: who holds how much of it, and who has to yield.

Rules kept here:
- Who is counted twice, as a key and as a client's network, has as much as the greater of both: many keys of
  one network have no more of a claim than one, and neither has one key from many networks.
- A lone party may hold everything. Where the resource is full, the party that holds most yields to one that
  holds less.
- What cannot be taken back from a holder would leave nothing for the others. So an eighth more than the limit
  is kept for keys that hold no more than their share, and a sixteenth for those whose network does so, too.
- A party is a key id, or the network of a client's address: one IPv4 address, or one /64 of IPv6, which is
  what a single client gets (RFC 6177).
- Nothing here waits or acts: callers ask, and do what follows.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import NamedTuple, Protocol

_NETWORKS = 4096


class Shares:
    """What each party holds of a resource of which there are `limit` units."""

    __slots__ = ("_held", "_largest", "limit", "total")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._held: dict[str, int] = {}
        # The party that holds most; None once that party has given back, until somebody asks.
        self._largest: str | None = ""

    def held(self, party: str) -> int:
        """How much a party holds."""
        return self._held.get(party, 0)

    def fits(self, amount: int) -> bool:
        """Whether `amount` more is within the limit."""
        return self.total + amount <= self.limit

    def is_small(self, party: str, amount: int = 1) -> bool:
        """Whether `party` holds no more than its share, an equal part of the limit, with `amount` more."""
        parties = len(self._held) + (party not in self._held)
        return self.held(party) + amount <= max(1, self.limit // parties)

    def take(self, party: str, amount: int = 1) -> None:
        """Count `amount` as held by `party`, beyond the limit too: callers ask what fits first."""
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

    def yielding(self, party: str, amount: int = 1) -> str | None:
        """The party that has to yield so that `party` can take `amount`; None if nobody holds more.

        A party that would hold as much as the largest does has no claim on it.
        """
        if self._largest is None:
            # Found only where the resource is full: each change of it would cost a pass over all parties.
            self._largest = max(self._held, key=self._held.__getitem__, default="")
        if self._largest == party or self.held(self._largest) <= self.held(party) + amount:
            return None
        return self._largest


class Claimant(Protocol):
    """Who holds something, or wants to: a caller, by key, and the network that it calls from."""

    @property
    def party(self) -> str:
        """The caller."""

    @property
    def network(self) -> str:
        """Where it calls from."""


class Caller(NamedTuple):
    """A `Claimant` by these names."""

    party: str
    network: str


class PairedShares:
    """What claimants hold, by party and by network, of a resource of `limit` units and those `kept`."""

    __slots__ = ("networks", "parties")

    def __init__(self, limit: int) -> None:
        self.parties = Shares(limit)
        self.networks = Shares(limit)

    @property
    def limit(self) -> int:
        """How many units there are."""
        return self.parties.limit

    @limit.setter
    def limit(self, limit: int) -> None:
        self.parties.limit = self.networks.limit = limit

    @property
    def total(self) -> int:
        """How much is held."""
        return self.parties.total

    @property
    def most(self) -> int:
        """How many units there are with those that are kept."""
        return self.limit + kept(self.limit)

    def fits(self, amount: int) -> bool:
        """Whether `amount` more is within the limit."""
        return self.parties.fits(amount)

    def fits_kept(self, claimant: Claimant, amount: int = 1) -> bool:
        """Whether `claimant` may take `amount` more of what is kept beyond the limit."""
        if not self.parties.is_small(claimant.party, amount):
            return False
        small = self.networks.is_small(claimant.network, amount)
        return self.total + amount <= (self.most if small else self.limit + _kept_for_parties(self.limit))

    def take(self, claimant: Claimant, amount: int = 1) -> None:
        """Count `amount` as held by `claimant`, beyond the limit too."""
        self.parties.take(claimant.party, amount)
        self.networks.take(claimant.network, amount)

    def give(self, claimant: Claimant, amount: int = 1) -> None:
        """Count `amount` as given back by `claimant`."""
        self.parties.give(claimant.party, amount)
        self.networks.give(claimant.network, amount)

    def weight(self, claimant: Claimant) -> tuple[int, int]:
        """What counts of a claimant's holdings: the greater of both, and for a tie the party's."""
        held = self.parties.held(claimant.party)
        return max(held, self.networks.held(claimant.network)), held

    def may_yield(self, claimant: Claimant, amount: int = 1) -> bool:
        """Whether anybody can be found who `yields`; seldom costs more than two look-ups."""
        return (
            self.networks.yielding(claimant.network, amount) is not None
            or self.parties.yielding(claimant.party, amount) is not None
        )

    def yields(self, holder: Claimant, claimant: Claimant, amount: int = 1) -> bool:
        """Whether `holder` has to yield `amount` to `claimant`, who would still have less than it has now."""
        party = self.parties.held(claimant.party) + amount * (claimant.party != holder.party)
        network = self.networks.held(claimant.network) + amount * (claimant.network != holder.network)
        return self.weight(holder) > (max(party, network), party)


def kept(limit: int) -> int:
    """How many units more than `limit` there are for those who hold less than their shares."""
    return _kept_for_parties(limit) + max(1, limit // 16)


def _kept_for_parties(limit: int) -> int:
    return max(1, limit // 8)


@lru_cache(_NETWORKS)
def network_of(address: str) -> str:
    """The party that a client's address belongs to: itself, or its /64 where it is IPv6."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))
