"""The number of keys that end soon, counted in the background.

Rules kept here:
- The store is read in small steps with a pause after each, so a count costs little at any moment and takes
  longer with more keys. It begins at most once a minute.
- A count that fails is begun anew; until then the last one is shown.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.errors import GatewayError
from gateway.keys.store import KeyEnds

SOON_SECONDS: Final = 7 * 86400.0
"""A key ends soon if it ends within this time."""
_EVERY_SECONDS: Final = 60.0
_STEP_SECONDS: Final = 0.25


class ExpiringKeys:
    """Counts the keys of one store; `now` gives Unix seconds.

    Attributes:
        count: how many keys ended within `SOON_SECONDS` at the last count; None before the first one.
    """

    def __init__(self, store: KeyEnds, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now
        self.count: int | None = None

    async def run(self, every: float = _EVERY_SECONDS, step: float = _STEP_SECONDS) -> None:
        """Count for ever: begin every `every` seconds, and pause for `step` seconds after each step."""
        while True:
            await self._count(step)
            await asyncio.sleep(every)

    async def _count(self, step: float) -> None:
        now, found = self._now(), 0
        try:
            async for number in self._store.count_ends(now, now + SOON_SECONDS):
                found += number
                await asyncio.sleep(step)
        except GatewayError:
            # Others report that the store fails.
            return
        self.count = found
