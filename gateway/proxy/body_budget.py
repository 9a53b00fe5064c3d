"""The budget of bytes that the bodies of all requests may hold in memory, shared between their callers.

Rules kept here:
- Every bound is checked before the work it bounds.
- The bound can change while bytes are counted against it; what is counted stays counted.
- When all bytes are held, the key or network that holds most gives up a body that is still coming in. A whole
  body is never given up: it may be with Core. For others some bytes are kept on top of the limit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from gateway.errors import GatewayError
from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Claimant, PairedShares


class BufferBudget:
    """The bytes that the bodies of all requests together may hold in memory at once."""

    def __init__(self, limit: int) -> None:
        self._shares = PairedShares(limit)
        self._of_parties: defaultdict[str, set[Hold]] = defaultdict(set)
        self._of_networks: defaultdict[str, set[Hold]] = defaultdict(set)

    @property
    def held(self) -> int:
        """The number of bytes that are held."""
        return self._shares.total

    def adopt(self, limit: int) -> None:
        """Hold up to `limit` bytes from now on; what is held already stays."""
        self._shares.limit = limit

    def hold(self, claimant: Claimant) -> Hold:
        """Return the hold of one request of `claimant`, which holds nothing yet."""
        return Hold(self, claimant)

    def take(self, hold: Hold, size: int, beyond: int = 0) -> None:
        """Count `size` bytes more, up to `beyond` bytes over the limit.

        Raises OverloadedError where they are not available.
        """
        while not self._shares.fits(size - beyond):
            yielding = self._yielding(hold, size)
            if yielding is not None:
                yielding.give_up()
            elif self._shares.fits_kept(hold, size):
                break
            else:
                raise OverloadedError
        self._shares.take(hold, size)

    def give(self, hold: Hold, size: int) -> None:
        """Count `size` bytes less."""
        self._shares.give(hold, size)

    def comes(self, hold: Hold, *, still: bool) -> None:
        """Take note that the body of a hold is still coming in and can be given up, or is not any more."""
        for holds, name in ((self._of_parties, hold.party), (self._of_networks, hold.network)):
            if still:
                holds[name].add(hold)
                continue
            holds[name].discard(hold)
            if not holds[name]:
                del holds[name]

    def _yielding(self, hold: Hold, size: int) -> Hold | None:
        """Return the largest body that is coming in of the party that has to yield; None if there is none."""
        network = self._shares.networks.yielding(hold.network, size)
        party = self._shares.parties.yielding(hold.party, size)
        # Its own network comes last: another key there may hold more than this one.
        own = None if party is None else hold.network
        for holds, name in (
            (self._of_networks, network),
            (self._of_parties, party),
            (self._of_networks, own),
        ):
            coming = () if name is None else holds.get(name, ())
            yielding = (one for one in coming if one.size and self._shares.yields(one, hold, size))
            largest = max(yielding, key=lambda one: one.size, default=None)
            if largest is not None:
                return largest
        return None


class Hold:
    """The bytes that one request holds of the budget. A `wire.request_body.BufferMeter`."""

    __slots__ = ("_break_off", "_budget", "_given_up", "network", "party", "size")

    def __init__(self, budget: BufferBudget, claimant: Claimant) -> None:
        self._budget = budget
        self._break_off: Callable[[], None] | None = None
        self._given_up = False
        self.party = claimant.party
        self.network = claimant.network
        self.size = 0

    def comes(self, break_off: Callable[[], None]) -> None:
        """Take note that the body is coming in; `break_off` refuses it if another party needs the bytes."""
        self._break_off = break_off
        self._budget.comes(self, still=True)

    def grow(self, size: int) -> None:
        """Hold `size` bytes more. Raises OverloadedError where they are not available."""
        if self._given_up:
            raise OverloadedError
        if size:
            self._take(size)
            self.size += size

    def settle(self, size: int, beyond: int = 0) -> None:
        """Hold exactly `size` bytes, of a body that is whole; it may have grown by its stamp.

        `beyond` bytes over the limit may be held, so that a body of just that size can be stamped. Raises as
        `grow`.
        """
        self._end_coming()
        if size > self.size:
            self._take(size - self.size, beyond)
            self.size = size
        elif size < self.size:
            self._budget.give(self, self.size - size)
            self.size = size

    def release(self) -> None:
        """Hold nothing any more."""
        self._end_coming()
        if self.size:
            self._budget.give(self, self.size)
            self.size = 0

    def give_up(self) -> None:
        """Refuse the body, whose bytes another party needs."""
        break_off = self._break_off
        self.release()
        self._given_up = True
        if break_off is not None:
            break_off()

    def _take(self, size: int, beyond: int = 0) -> None:
        try:
            self._budget.take(self, size, beyond)
        except GatewayError:
            # Released at once: others ask in the same turn, and would be refused for bytes that nobody uses.
            self.release()
            self._given_up = True
            raise

    def _end_coming(self) -> None:
        if self._break_off is not None:
            self._break_off = None
            self._budget.comes(self, still=False)
