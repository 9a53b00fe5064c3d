"""The slots that requests hold at Core, counted by party and by network.

Rules kept here:
- What Core works on is never broken off for another request. So some more slots are kept for keys that hold
  less than their share, and more still if their network does, too. However long the requests of one key
  take, another's are served.
- Bodies that stream hold at most half of the slots while they come: they come at their client's pace, not at
  Core's. Some more of these are kept, too.
- Slots are counted by holder only while they are scarce, and for streams, which are few: no other request
  pays for the count.
"""

from __future__ import annotations

from typing import Protocol

from gateway.fairness.shares import Claimant, PairedShares
from gateway.wire.client_presence import ClientPresence


class SlotHolder(Claimant, Protocol):
    """A request that holds a slot, or waits for one; equal to itself alone."""

    @property
    def client(self) -> ClientPresence | None:
        """The client that waits for the response, and may leave; None if there is none."""


class SlotShares:
    """The holders of slots."""

    def __init__(self) -> None:
        self._limit = 0
        self._holders: set[SlotHolder] = set()
        self._streams: set[SlotHolder] = set()
        self._streaming = PairedShares(0)
        self._count: PairedShares | None = None

    def adopt(self, limit: int) -> None:
        """Bound the slots from now on."""
        self._limit = limit
        self._count = None
        self._streaming.limit = max(1, limit // 2)

    @property
    def held(self) -> int:
        """Number of slots that are held."""
        return len(self._holders)

    @property
    def all_taken(self) -> bool:
        """True if no slot is left, nor one that is kept."""
        count = self.counted()
        return count.total >= count.most

    @property
    def streams_full(self) -> bool:
        """True if no slot is left for a stream but those that are kept."""
        return not self._streaming.fits(1)

    def counted(self) -> PairedShares:
        """Return what each party and network holds, counted from now on."""
        if self._count is None:
            self._count = PairedShares(self._limit)
            for holder in self._holders:
                self._count.take(holder)
        return self._count

    def stop_counting(self) -> None:
        """Count no longer by holder if half of the slots are free; at the limit counting would flap."""
        if len(self._holders) < self._limit // 2:
            self._count = None

    def claim(self, holder: SlotHolder) -> bool:
        """Take a slot; return False if none is free."""
        if len(self._holders) >= self._limit and not self.counted().fits_kept(holder):
            return False
        self._holders.add(holder)
        if self._count is not None:
            self._count.take(holder)
        return True

    def claim_for_stream(self, holder: SlotHolder) -> bool:
        """Take a slot for a request whose body streams; return False if none is free."""
        free = self.is_free(holder, streams=True)
        if free:
            self.take(holder, streams=True)
        return free

    def is_free(self, holder: SlotHolder, *, streams: bool) -> bool:
        """Return True if there is a slot that `holder` may take."""
        if streams and not self._streaming.fits(1) and not self._streaming.fits_kept(holder):
            return False
        return len(self._holders) < self._limit or self.counted().fits_kept(holder)

    def take(self, holder: SlotHolder, *, streams: bool) -> None:
        """Count a slot as held."""
        self._holders.add(holder)
        if self._count is not None:
            self._count.take(holder)
        if streams:
            self._streams.add(holder)
            self._streaming.take(holder)

    def release(self, holder: SlotHolder) -> bool:
        """Give a slot back, if `holder` has one; return True while slots are counted by holder."""
        if holder not in self._holders:
            return False
        self._holders.remove(holder)
        if self._streams:
            self.end_stream(holder)
        if self._count is not None:
            self._count.give(holder)
        return self._count is not None

    def end_stream(self, holder: SlotHolder) -> None:
        """Take note that the body of a request has come, if it streamed."""
        if holder in self._streams:
            self._streams.remove(holder)
            self._streaming.give(holder)
