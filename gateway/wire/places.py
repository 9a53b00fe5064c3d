"""The places that requests have at Core: bounded in total, shared between callers, waited for in turn.

Rules kept here:
- A place that comes free goes to the waiting request whose key and whose network hold the fewest
  (`PairedShares.weight`), and of those to the one whose turn was longest ago. So a lone key may hold all, and
  gets no more than its share while another waits.
- What Core works on is never broken off for another, so some places more are kept for keys that hold less
  than their share, and more where their network does, too: however long the requests of one take, another's
  are served.
- Bodies that stream hold half of the places at most while they come: they go at their client's pace, not at
  Core's. Of these, too, some more are kept.
- A full queue turns away the newest request of whoever has most of them waiting, by key or by network.
- Whoever waits is turned away after a time, and at once where its client has left or ended its side: nothing
  was sent, so the refusal is true.
- Who holds how many is counted only while places are scarce, or for streams, which are few: any other request
  that finds a place free does not pay for it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Claimant, PairedShares
from gateway.wire.errors import ClientGoneError
from gateway.wire.flow import Client

_HEAVIEST: Final = (1 << 62, 0)
PRESS_SECONDS: Final = 0.25
"""How often those who wait with the best claims ask again for places that are held at a client's pace."""
_PRESSING: Final = 8
"""How many of them, of each kind."""


class Holder(Claimant, Protocol):
    """A request that holds a place, or waits for one; equal to itself alone."""

    @property
    def client(self) -> Client | None:
        """Who waits for the response, and may leave."""


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    holder: Holder
    streams: bool
    number: int
    granted: asyncio.Future[None]

    @property
    def line(self) -> tuple[str, bool]:
        """Where it waits: with those of its network whose bodies stream as its own does, or does not."""
        return self.holder.network, self.streams

    @property
    def was_granted(self) -> bool:
        """Whether it has its place, neither refused nor given up."""
        granted = self.granted
        return granted.done() and not granted.cancelled() and granted.exception() is None

    def fail(self, problem: Exception) -> None:
        if not self.granted.done():
            self.granted.set_exception(problem)


class Places:
    """Places and the queue for them.

    Args:
        loop: the event loop.
        press: asked to free a place for one that waits, of those whose bodies stream if so; returns whether
            there was one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, press: Callable[[Claimant, bool], bool]) -> None:
        self._loop = loop
        self._press = press
        self._places = 0
        self._holders: set[Holder] = set()
        self._streams: set[Holder] = set()
        self._streaming = PairedShares(0)
        self._count: PairedShares | None = None
        self._queued = PairedShares(0)
        # By line: the parties, in the order of their turns.
        self._lines: dict[tuple[str, bool], dict[str, deque[_Waiting]]] = {}
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._patience = 0.0

    def adopt(self, places: int, queue: int, patience: float) -> None:
        """Bound what is held and what waits from now on; `patience` is in seconds."""
        self._places = places
        self._count = None
        self._streaming.limit = max(1, places // 2)
        self._queued.limit = queue
        self._patience = patience
        self._grant()

    @property
    def held(self) -> int:
        """How many places are held."""
        return len(self._holders)

    @property
    def waiting(self) -> int:
        """How many requests wait for one."""
        return self._queued.total

    def weight(self, holder: Claimant) -> tuple[int, int]:
        """How many places its party and its network hold (`PairedShares.weight`)."""
        return self._counted().weight(holder)

    def yields(self, holder: Claimant, waiting: Claimant) -> bool:
        """Whether the holder of a place has so many that one of them is for whoever waits."""
        return self._counted().yields(holder, waiting)

    def claim(self, holder: Holder) -> bool:
        """Take a place if one is free at once."""
        if len(self._holders) >= self._places:
            return self._claim(holder, streams=False)
        self._holders.add(holder)
        if self._count is not None:
            self._count.take(holder)
        return True

    def claim_for_stream(self, holder: Holder) -> bool:
        """Take a place for a request whose body streams, if one is free at once."""
        return self._claim(holder, streams=True)

    async def wait(self, holder: Holder, *, streams: bool) -> None:
        """Take a place, once it is this request's turn.

        Raises:
            GatewayError: UNAVAILABLE, where the queue is full or the turn did not come in time.
            ClientGoneError: the client has left.
        """
        self._admit(holder)
        waiting = _Waiting(holder, streams, next(self._numbers), self._loop.create_future())
        self._enter_queue(waiting)
        timer = self._loop.call_later(self._patience, waiting.fail, OverloadedError())
        client = holder.client
        if client is not None:
            client.when_leaving(lambda: waiting.fail(_left(client)))
        self._press_now(waiting)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.was_granted:
                self.give(holder)
            raise
        finally:
            timer.cancel()
            if client is not None:
                client.when_leaving(None)
            if not waiting.was_granted:
                self._leave_queue(waiting)

    def give(self, holder: Holder) -> None:
        """Give a place back; whoever's turn it is gets it."""
        if holder not in self._holders:
            return
        self._holders.remove(holder)
        if self._streams:
            self._end_stream(holder)
        if self._count is not None:
            self._count.give(holder)
        if self._lines or self._count is not None:
            self._grant()

    def settle(self, holder: Holder) -> None:
        """Take note that a body has come: its request goes at Core's pace from now on."""
        self._end_stream(holder)
        if self._lines:
            self._grant()

    def _claim(self, holder: Holder, *, streams: bool) -> bool:
        if not self._is_free(holder, streams=streams):
            return False
        self._take(holder, streams=streams)
        return True

    def _take(self, holder: Holder, *, streams: bool) -> None:
        self._holders.add(holder)
        if self._count is not None:
            self._count.take(holder)
        if streams:
            self._streams.add(holder)
            self._streaming.take(holder)

    def _end_stream(self, holder: Holder) -> None:
        if holder in self._streams:
            self._streams.remove(holder)
            self._streaming.give(holder)

    def _counted(self) -> PairedShares:
        if self._count is None:
            self._count = PairedShares(self._places)
            for holder in self._holders:
                self._count.take(holder)
        return self._count

    def _is_free(self, holder: Holder, *, streams: bool) -> bool:
        if streams and not self._streaming.fits(1) and not self._streaming.fits_kept(holder):
            return False
        return len(self._holders) < self._places or self._counted().fits_kept(holder)

    # The queue.

    def _admit(self, holder: Holder) -> None:
        """Make room in the queue for one more, or raise OverloadedError."""
        if self._queued.fits(1):
            return
        if not self._queued.may_yield(holder):
            raise OverloadedError
        newest = (queue[-1] for line in self._lines.values() for queue in line.values())
        yielding = (one for one in newest if self._queued.yields(one.holder, holder))
        weight = self._queued.weight
        heaviest = max(yielding, key=lambda one: (weight(one.holder), one.number), default=None)
        if heaviest is None:
            raise OverloadedError
        self._leave_queue(heaviest)
        heaviest.fail(OverloadedError())

    def _enter_queue(self, waiting: _Waiting) -> None:
        line = self._lines.setdefault(waiting.line, {})
        line.setdefault(waiting.holder.party, deque()).append(waiting)
        self._queued.take(waiting.holder)

    def _leave_queue(self, waiting: _Waiting) -> None:
        line = self._lines.get(waiting.line, {})
        party = waiting.holder.party
        if waiting not in line.get(party, ()):
            return
        line[party].remove(waiting)
        self._queued.give(waiting.holder)
        if not line[party]:
            del line[party]
        if not line:
            del self._lines[waiting.line]

    def _end_turn(self, waiting: _Waiting) -> None:
        """Put its party and its network behind all others whose bodies stream, or do not, as its own."""
        line = self._lines.pop(waiting.line, None)
        if line is None:
            return
        self._lines[waiting.line] = line
        queue = line.pop(waiting.holder.party, None)
        if queue is not None:
            line[waiting.holder.party] = queue

    def _grant(self) -> None:
        """Hand free places over, each to the next in turn."""
        while self._lines and (waiting := self._next()) is not None:
            self._leave_queue(waiting)
            if not waiting.granted.done():
                self._end_turn(waiting)
                self._take(waiting.holder, streams=waiting.streams)
                waiting.granted.set_result(None)
        # Not as soon as nobody waits: at the bound that changes with every request.
        if not self._lines and len(self._holders) < self._places // 2:
            self._count = None

    def _next(self) -> _Waiting | None:
        count = self._counted()
        if count.total >= count.most:
            return None
        first, least = None, _HEAVIEST
        for waiting in self._first_of_lines():
            weight = count.weight(waiting.holder)
            if weight < least and self._is_free(waiting.holder, streams=waiting.streams):
                first, least = waiting, weight
                if not least[0]:
                    break
        return first

    def _first_of_lines(self) -> Iterator[_Waiting]:
        """Of each line who has the fewest places: the others of it have no better a claim.

        Where streams may have kept places alone, those are for parties with few streams: they all come.
        """
        held = self._counted().parties.held
        for (_, streams), line in self._lines.items():
            if streams and not self._streaming.fits(1):
                yield from (queue[0] for queue in line.values())
            else:
                yield line[min(line, key=held)][0]

    def _press_now(self, waiting: _Waiting) -> None:
        self._ask_for_place(waiting)
        if self._timer is None:
            self._timer = self._loop.call_later(PRESS_SECONDS, self._press_again)

    def _ask_for_place(self, waiting: _Waiting) -> bool:
        # Only where streams are what there are too many of, it has to be one of them.
        return self._press(waiting.holder, waiting.streams and not self._streaming.fits(1))

    def _press_again(self) -> None:
        self._timer = None
        if not self._lines:
            return
        # For a few with the best claim: each of many that wait would cost a pass over all connections.
        for streams in (False, True):
            waiting = (one for one in self._first_of_lines() if one.streams is streams)
            for one in heapq.nsmallest(_PRESSING, waiting, key=lambda one: self.weight(one.holder)):
                if not self._ask_for_place(one):
                    break
        self._timer = self._loop.call_later(PRESS_SECONDS, self._press_again)


def _left(client: Client) -> Exception:
    return ClientGoneError() if client.gone else OverloadedError()
