"""The places that requests have at Core: bounded in total, shared between callers, waited for in turn.

Rules kept here:
- A place that comes free goes to the waiting request whose key and whose network hold the fewest
  (`PairedShares.weight`), and of those to the one whose turn was longest ago. So nobody holds more than its
  share while another waits, and a lone key may hold all.
- What Core works on is never broken off for another, so some places more are kept for keys that hold less
  than their share, and some for networks: however long the requests of one take, another's are served.
- Bodies that stream hold a bounded part of the places while they come: they go at their client's pace, not at
  Core's.
- A full queue turns away the newest request of whoever has most of them waiting, by key or by network.
- Whoever waits is turned away after a time, and at once where its client has left or ended its side: nothing
  was sent, so the refusal is true.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from gateway.errors import Code, GatewayError
from gateway.shares import PairedShares, Shares
from gateway.wire.flow import Client, ClientGoneError

_MOST: Final = (1 << 62, 0)
PRESS_SECONDS: Final = 0.25
"""How often whoever waits asks again for a place that is held at a client's pace."""


class Place(NamedTuple):
    """The right of one request to use a connection to Core.

    `party` is the caller, `network` where the request came from; `streams` says that its body still comes.
    """

    party: str
    network: str
    streams: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    place: Place
    number: int
    granted: asyncio.Future[None]

    def fail(self, problem: Exception) -> None:
        if not self.granted.done():
            self.granted.set_exception(problem)


class Places:
    """Places and the queue for them.

    Args:
        loop: the event loop.
        press: asked to free a place for a party that waits; it may find none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, press: Callable[[Place], None]) -> None:
        self._loop = loop
        self._press = press
        self._places = 0
        self._held = PairedShares(0)
        self._streams = Shares(0)
        self._queued = PairedShares(0)
        # By network, and whether the bodies stream: the parties, in the order of their turns.
        self._lines: dict[tuple[str, bool], dict[str, deque[_Waiting]]] = {}
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._patience = 0.0

    def adopt(self, places: int, queue: int, patience: float) -> None:
        """Bound what is held and what waits from now on; `patience` is in seconds."""
        self._places = places
        self._streams.limit = max(1, places // 2)
        self._queued.limit = queue
        self._patience = patience
        self._grant()

    @property
    def held(self) -> int:
        """How many places are held."""
        return self._held.total

    @property
    def waiting(self) -> int:
        """How many requests wait for one."""
        return self._queued.total

    def weight(self, place: Place) -> tuple[int, int]:
        """How many places its party and its network hold (`PairedShares.weight`)."""
        return self._held.weight(place)

    def yields(self, holder: Place, waiting: Place) -> bool:
        """Whether the holder of a place has so many that one of them is for whoever waits."""
        return self._held.yields(holder, waiting)

    def claim(self, place: Place) -> bool:
        """Take a place if one is free at once."""
        if not self._is_free(place):
            return False
        self._take(place)
        return True

    async def wait(self, place: Place, client: Client | None) -> None:
        """Take a place, once it is this request's turn.

        Raises:
            GatewayError: UNAVAILABLE, where the queue is full or the turn did not come in time.
            ClientGoneError: the client has left.
        """
        self._admit(place)
        waiting = _Waiting(place, next(self._numbers), self._loop.create_future())
        self._enter_queue(waiting)
        timer = self._loop.call_later(self._patience, waiting.fail, GatewayError(Code.UNAVAILABLE))
        if client is not None:
            client.when_leaving(lambda: waiting.fail(_left(client)))
        self._press_now(place)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled() and not waiting.granted.exception():
                self.give(place)
            raise
        finally:
            timer.cancel()
            if client is not None:
                client.when_leaving(None)
            self._leave_queue(waiting)

    def give(self, place: Place) -> None:
        """Give a place back; whoever's turn it is gets it."""
        self._held.give(place)
        if place.streams:
            self._streams.give(place.party)
        if self._lines:
            self._grant()

    def settle(self, place: Place) -> Place:
        """The same place, of a body that has come: it goes at Core's pace from now on."""
        if not place.streams:
            return place
        self._streams.give(place.party)
        if self._lines:
            self._grant()
        return place._replace(streams=False)

    def _take(self, place: Place) -> None:
        self._held.take(place)
        if place.streams:
            self._streams.take(place.party)

    def _is_free(self, place: Place) -> bool:
        if place.streams and not self._streams.fits(1):
            return False
        if self._held.total < self._places:
            return True
        parties, networks = self._held.parties, self._held.networks
        if not self._is_below_share(parties, place.party):
            return False
        room = self._places + _kept_for_parties(self._places)
        if self._is_below_share(networks, place.network):
            room = self._places + kept(self._places)
        return self._held.total < room

    def _is_below_share(self, shares: Shares, name: str) -> bool:
        held = shares.held(name)
        return held < max(1, self._places // (shares.parties + (not held)))

    # The queue.

    def _admit(self, place: Place) -> None:
        """Make room in the queue for one more, or raise GatewayError(UNAVAILABLE)."""
        if self._queued.fits(1):
            return
        if not self._queued.may_yield(place):
            raise GatewayError(Code.UNAVAILABLE)
        newest = (queue[-1] for line in self._lines.values() for queue in line.values())
        heaviest = max(newest, key=lambda one: (self._queued.weight(one.place), one.number))
        if not self._queued.yields(heaviest.place, place):
            raise GatewayError(Code.UNAVAILABLE)
        self._leave_queue(heaviest)
        heaviest.fail(GatewayError(Code.UNAVAILABLE))

    def _enter_queue(self, waiting: _Waiting) -> None:
        party, network, streams = waiting.place
        line = self._lines.setdefault((network, streams), {})
        line.setdefault(party, deque()).append(waiting)
        self._queued.take(waiting.place)

    def _leave_queue(self, waiting: _Waiting) -> None:
        party, network, streams = waiting.place
        line = self._lines.get((network, streams), {})
        queue = line.get(party, ())
        if waiting not in queue:
            return
        line[party].remove(waiting)
        self._queued.give(waiting.place)
        if not queue:
            del line[party]
        if not line:
            del self._lines[network, streams]

    def _end_turn(self, place: Place) -> None:
        """Put a party and its network behind all others."""
        party, network, streams = place
        line = self._lines.pop((network, streams), None)
        if line is None:
            return
        self._lines[network, streams] = line
        if party in line:
            line[party] = line.pop(party)

    def _grant(self) -> None:
        """Hand free places over, each to the next in turn."""
        while self._lines and (waiting := self._next()) is not None:
            self._leave_queue(waiting)
            if not waiting.granted.done():
                self._end_turn(waiting.place)
                self._take(waiting.place)
                waiting.granted.set_result(None)

    def _next(self) -> _Waiting | None:
        if self._held.total >= self._places + kept(self._places):
            return None
        first, least = None, _MOST
        for waiting in self._first_of_lines():
            weight = self._held.weight(waiting.place)
            if weight < least and self._is_free(waiting.place):
                first, least = waiting, weight
                if not least[0]:
                    break
        return first

    def _first_of_lines(self) -> Iterator[_Waiting]:
        """Of each line who has the fewest places there: the others of it have no better a claim."""
        held = self._held.parties.held
        return (line[min(line, key=held)][0] for line in self._lines.values())

    def _press_now(self, place: Place) -> None:
        self._press(place)
        if self._timer is None:
            self._timer = self._loop.call_later(PRESS_SECONDS, self._press_again)

    def _press_again(self) -> None:
        self._timer = None
        # For those with the best claim alone: each of many that wait would cost a pass over all connections.
        for streams in (False, True):
            waiting = (one for one in self._first_of_lines() if one.place.streams is streams)
            first = min(waiting, key=lambda one: self._held.weight(one.place), default=None)
            if first is not None:
                self._press_now(first.place)


def kept(places: int) -> int:
    """How many places more there are for parties, and for networks, that hold less than their share."""
    return _kept_for_parties(places) + max(1, places // 16)


def _kept_for_parties(places: int) -> int:
    return max(1, places // 8)


def _left(client: Client) -> Exception:
    return ClientGoneError() if client.gone else GatewayError(Code.UNAVAILABLE)
