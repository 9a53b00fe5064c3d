"""Turns of the event loop that connections wait for.

Rules kept here:
- The parties take turns, and so do the connections of one party, in the order in which they came.
- However often a turn is asked for, it comes once.
"""

from __future__ import annotations

import asyncio
from typing import Generic

from gateway.fairness.party_queue import Item, PartyQueue


class PartyTurns(Generic[Item]):
    """What waits for its turn; a subclass says what one turn does."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._scheduled = False
        self._waiting: PartyQueue[Item] = PartyQueue()

    def wait(self, connection: Item) -> None:
        """Let a connection wait for its turn, unless it does."""
        self._waiting.add(connection)
        self._schedule()

    def forget(self, connection: Item) -> None:
        """Drop a connection that has ended."""
        self._waiting.forget(connection)

    def _schedule(self) -> None:
        """Begin a turn soon."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        self._scheduled = False
        self._begin()

    def _begin(self) -> None:
        """Begin a turn: what waits comes first."""
        raise NotImplementedError
