"""The places that requests have at Core: bounded in total, shared between parties, waited for in turn.

Rules kept here:
- A place that comes free goes to the waiting party that holds the fewest, and of those to the one whose turn
  was longest ago. So no party holds more than its share while another waits, and a lone party may hold all.
- A party is a key, and it is a client's network: who holds much by either waits for who holds little by both.
- What Core works on is never broken off for another, so some places more are kept for parties that hold less
  than their share: however long the requests of one take, another's are served.
- Bodies that stream hold a bounded part of the places while they come: they go at their client's pace, not at
  Core's.
- A full queue turns away the newest request of the party that has most of them waiting.
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
from gateway.shares import Shares
from gateway.wire.flow import Client, ClientGoneError

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
        self._held = Shares(0)
        self._networks = Shares(0)
        self._streams = Shares(0)
        self._queued = Shares(0)
        self._queues: dict[Place, deque[_Waiting]] = {}
        self._numbers = itertools.count(1)
        # When each party had its last turn, by number; kept only while somebody waits.
        self._turns: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._patience = 0.0

    def adopt(self, places: int, queue: int, patience: float) -> None:
        """Bound what is held and what waits from now on; `patience` is in seconds."""
        self._places = places
        self._held.limit = places + kept(places)
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

    def held_by(self, party: str) -> int:
        """How many places a party holds."""
        return self._held.held(party)

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
        self._admit(place.party)
        waiting = _Waiting(place, next(self._numbers), self._loop.create_future())
        self._queues.setdefault(place, deque()).append(waiting)
        self._queued.take(place.party)
        timer = self._loop.call_later(self._patience, waiting.fail, GatewayError(Code.UNAVAILABLE))
        if client is not None:
            client.when_leaving(lambda: waiting.fail(_left(client)))
        self._press_now(place)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.granted.done() and not waiting.granted.cancelled():
                self.give(place)
            raise
        finally:
            timer.cancel()
            if client is not None:
                client.when_leaving(None)
            self._leave_queue(waiting)

    def give(self, place: Place) -> None:
        """Give a place back; whoever's turn it is gets it."""
        self._held.give(place.party)
        self._networks.give(place.network)
        if place.streams:
            self._streams.give(place.party)
        if self._queues:
            self._grant()

    def settle(self, place: Place) -> Place:
        """The same place, of a body that has come: it goes at Core's pace from now on."""
        if not place.streams:
            return place
        self._streams.give(place.party)
        if self._queues:
            self._grant()
        return place._replace(streams=False)

    def _take(self, place: Place) -> None:
        self._held.take(place.party)
        self._networks.take(place.network)
        if place.streams:
            self._streams.take(place.party)

    def _is_free(self, place: Place) -> bool:
        if place.streams and not self._streams.fits(1):
            return False
        if self._held.total < self._places:
            return True
        return self._held.fits(1) and self._is_below_share(place)

    def _is_below_share(self, place: Place) -> bool:
        """Whether the party and, of several networks, its network hold less than their shares."""
        by_party, by_network = self._held.held(place.party), self._networks.held(place.network)
        parties = self._held.parties + (not by_party)
        networks = self._networks.parties + (not by_network)
        return by_party < max(1, self._places // parties) and by_network < self._held.limit // networks

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
        if party is not None:
            for place, queue in self._queues.items():
                if place.party == party:
                    yield from queue

    def _leave_queue(self, waiting: _Waiting) -> None:
        queue = self._queues.get(waiting.place)
        if queue is None or waiting not in queue:
            return
        queue.remove(waiting)
        self._queued.give(waiting.place.party)
        if not queue:
            del self._queues[waiting.place]

    def _grant(self) -> None:
        """Hand free places over, each to the next in turn."""
        while (waiting := self._next()) is not None:
            self._leave_queue(waiting)
            if not waiting.granted.done():
                self._turns[waiting.place.party] = next(self._numbers)
                self._take(waiting.place)
                waiting.granted.set_result(None)
        if not self._queues:
            self._turns.clear()

    def _next(self) -> _Waiting | None:
        first = (queue[0] for place, queue in self._queues.items() if self._is_free(place))
        return min(first, key=self._turn, default=None)

    def _turn(self, waiting: _Waiting) -> tuple[int, int, int, int]:
        party, network, _ = waiting.place
        held = self._held.held(party)
        return max(held, self._networks.held(network)), held, self._turns.get(party, 0), waiting.number

    def _press_now(self, place: Place) -> None:
        self._press(place)
        if self._timer is None:
            self._timer = self._loop.call_later(PRESS_SECONDS, self._press_again)

    def _press_again(self) -> None:
        self._timer = None
        for place in list(self._queues):
            self._press_now(place)


def kept(places: int) -> int:
    """How many places more there are for parties that hold less than their share."""
    return max(1, places // 8)


def _left(client: Client) -> Exception:
    return ClientGoneError() if client.gone else GatewayError(Code.UNAVAILABLE)
