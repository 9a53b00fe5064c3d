"""Slots for requests at Core: bounded in total, shared between callers, waited for in turn.

Rules kept here:
- A slot that comes free goes to the waiting request whose key and whose network hold the fewest
  (`PairedShares.weight`), and of those to the one whose turn was longest ago. So a lone key may hold all, and
  gets no more than its share while another waits.
- A request is turned away if it has waited too long, and at once if its client has left or ended its side:
  nothing was sent, so the refusal is true.
- While requests wait all the time, fewer of them may wait (`queue_limit`): those that are served keep their
  latency, and the others are turned away at once.
- A request that waits makes a request of another party give way if that one only waits for its client.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable, Iterator
from typing import Final

from gateway.fairness.errors import OverloadedError
from gateway.fairness.shares import Claimant
from gateway.wire.client_presence import ClientPresence
from gateway.wire.errors import ClientGoneError
from gateway.wire.queue_limit import QueueLimit
from gateway.wire.slot_queue import SlotQueue, WaitingRequest
from gateway.wire.slot_shares import SlotHolder, SlotShares

_HEAVIEST: Final = (1 << 62, 0)
ASK_AGAIN_SECONDS: Final = 0.25
"""Seconds after which waiting requests ask again for slots that are held at a client's pace."""
_ASKING: Final = 8
"""Number of requests that ask, of each kind: those with the best claims."""


class Slots:
    """Slots, and the queue for them.

    Args:
        loop: the event loop.
        make_way: called with a waiting request, to end another one that only waits for its client; with True,
            one whose body streams. Returns False if there is none.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, make_way: Callable[[Claimant, bool], bool]) -> None:
        self._loop = loop
        self._make_way = make_way
        self._shares = SlotShares()
        self._queue = SlotQueue()
        self._limit = QueueLimit()
        self._numbers = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._patience = 0.0

    def adopt(self, slots: int, queue: int, patience: float, queue_wait: float = 0.0) -> None:
        """Bound what is held and what waits from now on.

        A request waits for at most `patience` seconds, and while requests wait all the time for about
        `queue_wait` (0: no less).
        """
        self._shares.adopt(slots)
        self._limit.adopt(queue, queue_wait)
        self._queue.adopt(queue)
        self._patience = patience
        self._grant()

    @property
    def held(self) -> int:
        """Number of slots that are held."""
        return self._shares.held

    @property
    def waiting(self) -> int:
        """Number of requests that wait for a slot."""
        return len(self._queue)

    def weight(self, holder: Claimant) -> tuple[int, int]:
        """Return how many slots its party and its network hold (`PairedShares.weight`)."""
        return self._shares.counted().weight(holder)

    def yields(self, holder: Claimant, waiting: Claimant) -> bool:
        """Return True if the holder of a slot has so many that one of them is for the waiting request."""
        return self._shares.counted().yields(holder, waiting)

    def claim(self, holder: SlotHolder) -> bool:
        """Take a slot; return False if none is free."""
        return self._shares.claim(holder)

    def claim_for_stream(self, holder: SlotHolder) -> bool:
        """Take a slot for a request whose body streams; return False if none is free."""
        return self._shares.claim_for_stream(holder)

    async def wait(self, holder: SlotHolder, *, streams: bool) -> None:
        """Take a slot, once it is this request's turn.

        Raises:
            OverloadedError: the queue is full, the turn did not come in time, or the client ended its side.
            ClientGoneError: the client has left.
        """
        self._queue.adopt(self._limit.allowed(self._loop.time(), len(self._queue)))
        self._queue.make_room(holder)
        waiting = WaitingRequest(holder, streams, next(self._numbers), self._loop.create_future())
        self._queue.enter(waiting)
        timer = self._loop.call_later(self._patience, waiting.fail, OverloadedError())
        client = holder.client
        if client is not None:
            client.when_leaving(lambda: waiting.fail(_left(client)))
        self._ask_for_slot(waiting)
        if self._timer is None:
            self._timer = self._loop.call_later(ASK_AGAIN_SECONDS, self._ask_again)
        try:
            await waiting.granted
        except asyncio.CancelledError:
            if waiting.was_granted:
                self.release(holder)
            raise
        finally:
            timer.cancel()
            if client is not None:
                client.when_leaving(None)
            if not waiting.was_granted:
                self._queue.leave(waiting)
            if not self._queue.lines:
                self._limit.note_empty()

    def release(self, holder: SlotHolder) -> None:
        """Give a slot back; the next request in turn gets it."""
        if self._shares.release(holder) or self._queue.lines:
            self._grant()

    def end_stream(self, holder: SlotHolder) -> None:
        """Take note that a body has come: its request goes at Core's pace from now on."""
        self._shares.end_stream(holder)
        if self._queue.lines:
            self._grant()

    def _grant(self) -> None:
        """Hand free slots over, each to the next request in turn."""
        while self._queue.lines and (waiting := self._next()) is not None:
            self._queue.leave(waiting)
            if not waiting.granted.done():
                self._queue.end_turn(waiting)
                self._limit.note_grant()
                self._shares.take(waiting.holder, streams=waiting.streams)
                waiting.granted.set_result(None)
        if not self._queue.lines:
            self._shares.stop_counting()

    def _next(self) -> WaitingRequest | None:
        """Return the request whose turn it is, None if no slot is free for any."""
        if self._shares.all_taken:
            return None
        first, least = None, _HEAVIEST
        for waiting in self._candidates():
            weight = self.weight(waiting.holder)
            if weight < least and self._shares.is_free(waiting.holder, streams=waiting.streams):
                first, least = waiting, weight
                if not least[0]:
                    break
        return first

    def _candidates(self) -> Iterator[WaitingRequest]:
        held = self._shares.counted().parties.held
        return self._queue.candidates(held, all_streams=self._shares.streams_full)

    def _ask_for_slot(self, waiting: WaitingRequest) -> bool:
        """Make another request give way; return False if none does."""
        # If there are too many streams, and only then, it has to be a stream.
        return self._make_way(waiting.holder, waiting.streams and self._shares.streams_full)

    def _ask_again(self) -> None:
        self._timer = None
        if not self._queue.lines:
            return
        # Only those with the best claims: each request that asks costs a pass over all connections.
        for streams in (False, True):
            waiting = (one for one in self._candidates() if one.streams is streams)
            for one in heapq.nsmallest(_ASKING, waiting, key=lambda one: self.weight(one.holder)):
                if not self._ask_for_slot(one):
                    break
        self._timer = self._loop.call_later(ASK_AGAIN_SECONDS, self._ask_again)


def _left(client: ClientPresence) -> Exception:
    return ClientGoneError() if client.gone else OverloadedError()
