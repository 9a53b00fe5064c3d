"""The places that requests have at Core: bounded in total, shared between parties, waited for in turn.

Rules kept here:
- A place that comes free goes to the waiting party that holds the fewest, and of those to the one whose turn
  was longest ago. So a lone party may hold all, and gets no more than its share while another waits.
- A party is a key, and it is a client's network: who holds much by either waits for who holds little by both.
- What Core works on is never broken off for another, so some places more are kept for parties that hold less
  than their share: however long the requests of one take, another's are served.
- Bodies that stream hold half of the places at most while they come: they go at their client's pace, not at
  Core's. Of these, too, some more are kept for parties that hold less than their share.
- A full queue turns away the newest request of the party that has most of them waiting.
- Whoever waits is turned away after a time, and at once where its client has left or ended its side: nothing
  was sent, so the refusal is true.
- Who holds how many is counted only while places are scarce, or for streams, which are few: any other request
  that finds a place free does not pay for it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from gateway.errors import Code, GatewayError
from gateway.shares import Shares, kept
from gateway.wire.flow import Client, ClientGoneError

PRESS_SECONDS: Final = 0.25
"""How often whoever waits asks again for a place that is held at a client's pace."""


class Holder(Protocol):
    """A request that holds a place, or waits for one; equal to itself alone."""

    @property
    def party(self) -> str:
        """Who calls."""

    @property
    def network(self) -> str:
        """Where the request came from."""

    @property
    def client(self) -> Client | None:
        """Who waits for the response, and may leave."""


class _Line(NamedTuple):
    """Whose turn it is at one time: requests alike wait behind each other."""

    party: str
    network: str
    streams: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    holder: Holder
    line: _Line
    number: int
    granted: asyncio.Future[None]

    @property
    def was_granted(self) -> bool:
        """Whether it has its place, neither refused nor given up."""
        granted = self.granted
        return granted.done() and not granted.cancelled() and granted.exception() is None

    def fail(self, problem: Exception) -> None:
        if not self.granted.done():
            self.granted.set_exception(problem)


class _Count:
    """How many of the `places`, and of those that are kept, each party and each network hold."""

    def __init__(self, holders: Iterable[Holder], places: int) -> None:
        self.parties = Shares(places)
        self.networks = Shares(places + kept(places))
        for holder in holders:
            self.take(holder)

    def take(self, holder: Holder) -> None:
        self.parties.take(holder.party)
        self.networks.take(holder.network)

    def give(self, holder: Holder) -> None:
        self.parties.give(holder.party)
        self.networks.give(holder.network)


class Places:
    """Places and the queue for them.

    Args:
        loop: the event loop.
        press: asked to free a place for a party that waits, of those whose bodies stream if so; it may find
            none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, press: Callable[[str, bool], None]) -> None:
        self._loop = loop
        self._press = press
        self._places = 0
        self._all = 0
        self._holders: set[Holder] = set()
        self._streams: set[Holder] = set()
        self._streaming = Shares(0)
        self._count: _Count | None = None
        self._queued = Shares(0)
        self._queues: dict[_Line, deque[_Waiting]] = {}
        self._numbers = itertools.count(1)
        # When each party had its last turn, by number; kept only while somebody waits.
        self._turns: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._patience = 0.0

    def adopt(self, places: int, queue: int, patience: float) -> None:
        """Bound what is held and what waits from now on; `patience` is in seconds."""
        self._places = places
        self._all = places + kept(places)
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

    def held_by(self, party: str) -> int:
        """How many places a party holds."""
        return self._counted().parties.held(party)

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
        self._admit(holder.party)
        line = _Line(holder.party, holder.network, streams)
        waiting = _Waiting(holder, line, next(self._numbers), self._loop.create_future())
        self._queues.setdefault(line, deque()).append(waiting)
        self._queued.take(line.party)
        timer = self._loop.call_later(self._patience, waiting.fail, GatewayError(Code.UNAVAILABLE))
        client = holder.client
        if client is not None:
            client.when_leaving(lambda: waiting.fail(_left(client)))
        self._press_now(line)
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
            self._leave_queue(waiting)

    def give(self, holder: Holder) -> None:
        """Give a place back; whoever's turn it is gets it."""
        self._holders.discard(holder)
        if self._streams:
            self._end_stream(holder)
        if self._count is not None:
            self._count.give(holder)
        if self._queues or self._count is not None:
            self._grant()

    def settle(self, holder: Holder) -> None:
        """Take note that a body has come: its request goes at Core's pace from now on."""
        self._end_stream(holder)
        if self._queues:
            self._grant()

    def _claim(self, holder: Holder, *, streams: bool) -> bool:
        if not self._is_free(_Line(holder.party, holder.network, streams)):
            return False
        self._take(holder, streams=streams)
        return True

    def _take(self, holder: Holder, *, streams: bool) -> None:
        self._holders.add(holder)
        if self._count is not None:
            self._count.take(holder)
        if streams:
            self._streams.add(holder)
            self._streaming.take(holder.party)

    def _end_stream(self, holder: Holder) -> None:
        if holder in self._streams:
            self._streams.remove(holder)
            self._streaming.give(holder.party)

    def _counted(self) -> _Count:
        if self._count is None:
            self._count = _Count(self._holders, self._places)
        return self._count

    def _is_free(self, line: _Line) -> bool:
        if line.streams and not (self._streaming.fits(1) or self._streaming.fits_kept(line.party)):
            return False
        held = len(self._holders)
        return held < self._places or (held < self._all and self._is_below_share(line))

    def _is_below_share(self, line: _Line) -> bool:
        """Whether the party and, of several networks, its network hold less than their shares."""
        count = self._counted()
        return count.parties.is_small(line.party) and count.networks.is_small(line.network)

    def _admit(self, party: str) -> None:
        """Make room in the queue for one more of `party`, or raise GatewayError(UNAVAILABLE)."""
        if self._queued.fits(1):
            return
        yielding = self._queued.yielding(party)
        newest = max(self._of(yielding), key=lambda waiting: waiting.number, default=None)
        if newest is None:
            raise GatewayError(Code.UNAVAILABLE)
        self._leave_queue(newest)
        newest.fail(GatewayError(Code.UNAVAILABLE))

    def _of(self, party: str | None) -> Iterator[_Waiting]:
        for line, queue in self._queues.items():
            if line.party == party:
                yield from queue

    def _leave_queue(self, waiting: _Waiting) -> None:
        queue = self._queues.get(waiting.line)
        if queue is None or waiting not in queue:
            return
        queue.remove(waiting)
        self._queued.give(waiting.line.party)
        if not queue:
            del self._queues[waiting.line]

    def _grant(self) -> None:
        """Hand free places over, each to the next in turn."""
        while self._queues and (waiting := self._next()) is not None:
            self._leave_queue(waiting)
            if not waiting.granted.done():
                self._turns[waiting.line.party] = next(self._numbers)
                self._take(waiting.holder, streams=waiting.line.streams)
                waiting.granted.set_result(None)
        if not self._queues:
            self._turns.clear()
            # Not as soon as nobody waits: at the bound that changes with every request.
            if len(self._holders) < self._places // 2:
                self._count = None

    def _next(self) -> _Waiting | None:
        first = (queue[0] for line, queue in self._queues.items() if self._is_free(line))
        return min(first, key=self._turn, default=None)

    def _turn(self, waiting: _Waiting) -> tuple[int, int, int, int]:
        count, line = self._counted(), waiting.line
        held = count.parties.held(line.party)
        return (
            max(held, count.networks.held(line.network)),
            held,
            self._turns.get(line.party, 0),
            waiting.number,
        )

    def _press_now(self, line: _Line) -> None:
        self._press(line.party, line.streams)
        if self._timer is None:
            self._timer = self._loop.call_later(PRESS_SECONDS, self._press_again)

    def _press_again(self) -> None:
        self._timer = None
        for line in list(self._queues):
            self._press_now(line)


def _left(client: Client) -> Exception:
    return ClientGoneError() if client.gone else GatewayError(Code.UNAVAILABLE)
