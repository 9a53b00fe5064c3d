"""The bytes that clients' connections hold: bounded in total, counted by party.

Rules kept here:
- What connections hold of unfinished requests and unread responses is bounded in total. Where it is too much,
  the party that holds most lets go of its largest piece.
"""

from __future__ import annotations

from typing import Final, Protocol

from gateway.fairness.shares import Shares

HELD_BYTES: Final = 64 * 1024**2
"""The bytes that all connections together hold of unfinished heads, of bodies that nobody has asked for yet,
and of responses that their clients are slow to take."""


class BytesHolder(Protocol):
    """A connection that holds bytes."""

    party: str

    def let_go(self) -> None:
        """Give up what is held: it is needed for another party."""


class HeldBytes:
    """The bytes that connections hold together, up to `limit`."""

    def __init__(self, limit: int) -> None:
        self._shares = Shares(limit)
        # By party: what each of its connections holds, if anything.
        self._pieces: dict[str, dict[BytesHolder, int]] = {}

    def count(self, holder: BytesHolder, size: int) -> int:
        """Count `size` bytes as what a connection holds now, or make it let go; return what is counted."""
        more = size - self._pieces.get(holder.party, {}).get(holder, 0)
        if more > 0:
            if not self._make_room(holder.party, more):
                self._take_from(holder)
                return 0
            self._shares.take(holder.party, more)
            self._pieces.setdefault(holder.party, {})[holder] = size
        elif more < 0 and size == 0:
            self.forget(holder)
        elif more < 0:
            self._shares.give(holder.party, -more)
            self._pieces[holder.party][holder] = size
        return size

    def forget(self, holder: BytesHolder) -> None:
        """Count nothing for a connection any more."""
        pieces = self._pieces.get(holder.party, {})
        size = pieces.pop(holder, 0)
        if size:
            self._shares.give(holder.party, size)
            if not pieces:
                del self._pieces[holder.party]

    def _make_room(self, party: str, size: int) -> bool:
        """Let the party that holds most give up its largest pieces; return False if `party` holds as much."""
        while not self._shares.fits(size):
            greediest = self._shares.yielding(party, size)
            if greediest is None:
                return False
            pieces = self._pieces[greediest]
            self._take_from(max(pieces, key=pieces.__getitem__))
        return True

    def _take_from(self, holder: BytesHolder) -> None:
        holder.let_go()
        self.forget(holder)
