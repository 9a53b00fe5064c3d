"""Limits how much expensive work is done at once: in total, and for each party.

Rules kept here:
- Each party has a bounded number of pieces in the common queue, which is served in order. So the parties are
  served in turn.
- The number of pieces that a party may have waiting on top of that is bounded; more are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from gateway.fairness.errors import OverloadedError

_UNBOUNDED: Final = 1 << 30


class _Party:
    """The work of one party; `pieces` counts what is done and what waits."""

    def __init__(self, each: int) -> None:
        self.free = asyncio.Semaphore(each)
        self.pieces = 0


class ConcurrencyLimit:
    """Turns for work.

    Args:
        each: how many pieces of one party are done at once.
        total: how many pieces of all parties are done at once.
        waiting: how many more pieces one party may have waiting.
    """

    def __init__(self, each: int, *, total: int = _UNBOUNDED, waiting: int = _UNBOUNDED) -> None:
        self._each = each
        self._most_pieces = each + waiting
        self._free = asyncio.Semaphore(total)
        self._parties: dict[str, _Party] = {}

    def __len__(self) -> int:
        """Return how many parties have work."""
        return len(self._parties)

    @contextlib.asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait until the party `name` may work, and work inside. Raises OverloadedError."""
        party = self._parties.setdefault(name, _Party(self._each))
        if party.pieces >= self._most_pieces:
            raise OverloadedError
        party.pieces += 1
        try:
            async with party.free, self._free:
                yield
        finally:
            party.pieces -= 1
            if not party.pieces:
                del self._parties[name]
