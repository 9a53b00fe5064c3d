"""Deadlines of many connections, checked by one timer.

Rules kept here:
- To set a deadline is one attribute write, so that every phase of every request can have one.
- A deadline is kept to within two `TICK`s: `now` is read by the timer, not for every deadline.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

TICK: Final = 0.1
NEVER: Final = float("inf")


class Expiring(Protocol):
    """A connection with a deadline in seconds of the loop's clock, `NEVER` once it has passed."""

    deadline: float

    def expire(self) -> None:
        """End the phase whose deadline has passed."""


class Deadlines:
    """Connections whose deadlines are watched; `now` is the loop's clock at the last tick, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Expiring] = set()
        self._timer: asyncio.TimerHandle | None = None
        self.now = loop.time()

    def __len__(self) -> int:
        return len(self._watched)

    def watch(self, connection: Expiring) -> None:
        """Watch a connection from now on."""
        self._watched.add(connection)
        if self._timer is None:
            self.now = self._loop.time()
            self._timer = self._loop.call_later(TICK, self._tick)

    def forget(self, connection: Expiring) -> None:
        """Stop watching a connection."""
        self._watched.discard(connection)

    def _tick(self) -> None:
        now = self.now = self._loop.time()
        for connection in [watched for watched in self._watched if watched.deadline <= now]:
            connection.deadline = NEVER
            connection.expire()
        self._timer = self._loop.call_later(TICK, self._tick) if self._watched else None
