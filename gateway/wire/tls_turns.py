"""The time that one turn of the event loop may spend on TLS, shared between connections.

Rules kept here:
- A step of a handshake takes 0.2 ms with an ECDSA key and 0.5 ms with an RSA key; to open 16 KiB of records
  takes 10 us, or 2 ms if they carry little but KeyUpdates. Thousands of connections may ask for a step at
  once. One turn begins no further step after `TURN_SECONDS`, and a step that opens records ends then
  (`is_over`). What the connection above does with the bytes counts, too.
- Steps beyond that wait for their turn.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

from gateway.wire.party_turns import PartyTurns

TURN_SECONDS: Final = 0.002
"""The time after which one turn of the event loop begins no further step."""


class Stepping(Protocol):
    """A connection whose handshake can go on, or that has records to open."""

    @property
    def party(self) -> str:
        """The party that the connection is counted for."""

    def step(self) -> None:
        """Go on."""


class TlsTurns(PartyTurns[Stepping]):
    """The connections that wait for their turn; `clock` gives seconds."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        super().__init__(loop)
        self._clock = clock
        self._spent = 0.0
        self._began = 0.0

    def ask(self, connection: Stepping) -> bool:
        """Call `step` of a connection now and return True, or return False and call it in its turn."""
        if self._waiting or self._spent >= TURN_SECONDS:
            self.wait(connection)
            return False
        self._schedule()
        self._take_step(connection)
        return True

    def is_over(self) -> bool:
        """Return True if the step that runs has to end: the time of this turn is over."""
        return self._spent + self._clock() - self._began >= TURN_SECONDS

    def _take_step(self, connection: Stepping) -> None:
        self._began = self._clock()
        connection.step()
        self._spent += self._clock() - self._began

    def _begin(self) -> None:
        """Begin a turn: the connections that wait come first."""
        self._spent = 0.0
        while self._waiting and self._spent < TURN_SECONDS:
            self._take_step(self._waiting.take())
        if self._waiting or self._spent:
            self._schedule()
