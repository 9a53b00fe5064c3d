"""The requests that one turn of the event loop begins behind others of their connections (pipelining).

Rules kept here:
- One turn begins PER_TURN of them, which takes some 3 ms. If each of thousands of connections had one handled
  in each turn, everybody would wait for all of them.
"""

from __future__ import annotations

from typing import Final, Protocol

from gateway.wire.party_turns import PartyTurns
from gateway.wire.request_queue import RequestQueue

PER_TURN: Final = 32
"""The requests behind others that one turn begins."""


class Pipelining(Protocol):
    """A connection that has a further request."""

    @property
    def party(self) -> str:
        """The party that the connection is counted for."""

    @property
    def requests(self) -> RequestQueue:
        """Its requests; `notify` begins the next one."""


class RequestTurns(PartyTurns[Pipelining]):
    """The connections that have a further request, and wait for their turn."""

    def _begin(self) -> None:
        """Begin a turn: the parties come one after the other."""
        for _ in range(PER_TURN):
            if not self._waiting:
                return
            self._waiting.take().requests.notify()
        if self._waiting:
            self._schedule()
