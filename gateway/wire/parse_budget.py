"""The bytes that one turn of the event loop may parse, shared between connections.

Rules kept here:
- One turn parses a bounded number of bytes, of all connections together: parsing 256 KiB of small requests
  takes 20 ms, and thousands of connections may send as much at once.
- Bytes beyond that wait for their turn, and their connections are not read meanwhile.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from gateway.wire.party_turns import PartyTurns

PIECE: Final = 8 * 1024
"""The bytes of one connection that are parsed in one turn."""
PER_TURN: Final = 64 * 1024
"""The bytes of all connections that are parsed in one turn."""


class ParsingInput(Protocol):
    """The input of a connection that has bytes to parse."""

    @property
    def party(self) -> str:
        """The party that the connection is counted for."""

    def parse_next(self) -> int:
        """Parse a piece; return how many bytes it was."""


class ParseBudget(PartyTurns[ParsingInput]):
    """The bytes that this turn may still parse, and the inputs that wait for another turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop, per_turn: int = PER_TURN) -> None:
        super().__init__(loop)
        self._per_turn = per_turn
        self._parsed = 0

    def take(self, size: int) -> bool:
        """Count `size` bytes as parsed in this turn; return False if they have to wait for another."""
        if self._waiting or self._parsed + size > self._per_turn:
            return False
        self._parsed += size
        self._schedule()
        return True

    def _begin(self) -> None:
        """Begin a turn: the inputs that wait come first, each at most once."""
        self._parsed = 0
        if not self._waiting:
            return
        for _ in range(self._waiting.count()):
            if self._parsed >= self._per_turn or not self._waiting:
                break
            self._parsed += self._waiting.take().parse_next()
        if self._parsed or self._waiting:
            self._schedule()
