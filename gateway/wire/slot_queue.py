"""The requests that wait for a slot at Core, in turn.

Rules kept here:
- A full queue turns away the newest request of the key or network that has most of them waiting.
- Requests wait in lines: each network has one for those whose bodies stream, and one for the others. The
  parties of a line take turns, and so do the lines.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.fairness.errors import OverloadedError
from gateway.fairness.futures import fail
from gateway.fairness.shares import PairedShares
from gateway.wire.slot_shares import SlotHolder


@dataclass(frozen=True, slots=True, eq=False)
class WaitingRequest:
    """A request in the queue; `number` grows with each, and `granted` is done once it has its slot."""

    holder: SlotHolder
    streams: bool
    number: int
    granted: asyncio.Future[None]

    @property
    def line(self) -> tuple[str, bool]:
        """The line in which it waits."""
        return self.holder.network, self.streams

    @property
    def was_granted(self) -> bool:
        """True if it has its slot, and was neither refused nor cancelled."""
        granted = self.granted
        return granted.done() and not granted.cancelled() and granted.exception() is None

    def fail(self, problem: Exception) -> None:
        """Refuse it, unless it has its slot or was refused before."""
        fail(self.granted, problem)


class SlotQueue:
    """The waiting requests; `lines` is empty if there are none."""

    def __init__(self) -> None:
        self._shares = PairedShares(0)
        # By line: the parties, in the order of their turns.
        self.lines: dict[tuple[str, bool], dict[str, deque[WaitingRequest]]] = {}

    def __len__(self) -> int:
        return self._shares.total

    def adopt(self, limit: int) -> None:
        """Bound the queue from now on; the newest beyond are refused, but not the first of a party."""
        if limit == self._shares.limit:
            return
        self._shares.limit = limit
        excess = len(self) - limit
        if excess <= 0:
            return
        later = [one for line in self.lines.values() for queue in line.values() for one in list(queue)[1:]]
        for one in sorted(later, key=_number, reverse=True)[:excess]:
            self.leave(one)
            one.fail(OverloadedError())

    def make_room(self, holder: SlotHolder) -> None:
        """Make room for one more request. Raises OverloadedError if nobody has more waiting."""
        if self._shares.fits(1):
            return
        if not self._shares.may_yield(holder):
            raise OverloadedError
        newest = (queue[-1] for line in self.lines.values() for queue in line.values())
        yielding = (one for one in newest if self._shares.yields(one.holder, holder))
        weight = self._shares.weight
        heaviest = max(yielding, key=lambda one: (weight(one.holder), one.number), default=None)
        if heaviest is None:
            raise OverloadedError
        self.leave(heaviest)
        heaviest.fail(OverloadedError())

    def enter(self, waiting: WaitingRequest) -> None:
        """Queue a request."""
        line = self.lines.setdefault(waiting.line, {})
        line.setdefault(waiting.holder.party, deque()).append(waiting)
        self._shares.take(waiting.holder)

    def leave(self, waiting: WaitingRequest) -> None:
        """Take a request out of the queue, if it is still in it."""
        line = self.lines.get(waiting.line, {})
        party = waiting.holder.party
        if waiting not in line.get(party, ()):
            return
        line[party].remove(waiting)
        self._shares.give(waiting.holder)
        if not line[party]:
            del line[party]
        if not line:
            del self.lines[waiting.line]

    def end_turn(self, waiting: WaitingRequest) -> None:
        """Put the request's line behind all others, and its party behind all others of that line."""
        line = self.lines.pop(waiting.line, None)
        if line is None:
            return
        self.lines[waiting.line] = line
        queue = line.pop(waiting.holder.party, None)
        if queue is not None:
            line[waiting.holder.party] = queue

    def candidates(self, held: Callable[[str], int], *, all_streams: bool) -> Iterator[WaitingRequest]:
        """Yield of each line the request whose party holds fewest slots: no other of it has a better claim.

        Args:
            held: returns how many slots a party holds.
            all_streams: in lines of streams, yield the first request of every party instead. This is needed
                if only the kept slots for streams are left: those are for parties with few streams.
        """
        for (_, streams), line in self.lines.items():
            if streams and all_streams:
                yield from (queue[0] for queue in line.values())
            else:
                yield line[min(line, key=held)][0]


def _number(waiting: WaitingRequest) -> int:
    return waiting.number
