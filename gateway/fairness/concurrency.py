"""Dear work, of which only so much is done at once: in all, and for each party.

Rules kept here:
- A party has only so much in the queue for all, which goes by order: so the parties are served in turn.
- What a party may have waiting beyond that is bounded, and more is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Final

from gateway.fairness.errors import OverloadedError

_UNBOUNDED: Final = 1 << 30


class _Party:
    """What one party wants: `wanted` counts what is done, and what waits."""

    def __init__(self, each: int) -> None:
        self.free = asyncio.Semaphore(each)
        self.wanted = 0


class ConcurrencyLimit:
    """Turns for work.

    Args:
        each: how many pieces of one party are done at once.
        total: how many of all.
        waiting: how many more one party may want meanwhile.
    """

    def __init__(self, each: int, *, total: int = _UNBOUNDED, waiting: int = _UNBOUNDED) -> None:
        self._each = each
        self._most_wanted = each + waiting
        self._free = asyncio.Semaphore(total)
        self._parties: dict[str, _Party] = {}

    def __len__(self) -> int:
        """How many parties want anything."""
        return len(self._parties)

    @contextlib.asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[None]:
        """Wait for a turn of the party `name`, and work inside. Raises OverloadedError."""
        party = self._parties.setdefault(name, _Party(self._each))
        if party.wanted >= self._most_wanted:
            raise OverloadedError
        party.wanted += 1
        try:
            async with party.free, self._free:
                yield
        finally:
            party.wanted -= 1
            if not party.wanted:
                del self._parties[name]
