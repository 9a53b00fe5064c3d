"""Fair shares of one bounded resource: who holds how much of it, and who has to yield.

Rules kept here:
- A lone party may hold everything. Where the resource is full, the party that holds most yields to one that
  holds less.
- What cannot be taken back from a party would leave nothing for the others. So an eighth more than the limit
  is kept for parties that hold less than their share.
- A party is a key id, or the network of a client's address: one IPv4 address, or one /64 of IPv6, which is
  what a single client gets (RFC 6177).
- Nothing here waits or acts: callers ask, and do what follows.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

_NETWORKS = 4096


class Shares:
    """What each party holds of a resource of which there are `limit` units, and `kept` more."""

    __slots__ = ("_held", "_largest", "limit", "total")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self._held: dict[str, int] = {}
        # The party that holds most; None once that party has given back, until somebody asks.
        self._largest: str | None = ""

    @property
    def kept(self) -> int:
        """How many units more than the limit are kept for parties that hold less than their share."""
        return kept(self.limit)

    def held(self, party: str) -> int:
        """How much a party holds."""
        return self._held.get(party, 0)

    def fits(self, amount: int) -> bool:
        """Whether `amount` more is within the limit."""
        return self.total + amount <= self.limit

    def fits_kept(self, party: str, amount: int = 1) -> bool:
        """Whether `party` may take `amount` more of what is kept beyond the limit."""
        return self.total + amount <= self.limit + self.kept and self.is_small(party, amount)

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


def kept(limit: int) -> int:
    """How many units more than `limit` there are for parties that hold less than their share."""
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
