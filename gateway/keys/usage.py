"""Note in process when each key was last used, and write it to the store in batches.

Rules kept here:
- A request costs one dictionary write, whatever the store does. The store is written every few seconds,
  once for all keys used since.
- A batch that could not be written is written with the next one, up to a bound. While the store is down,
  uses of further keys are not noted; their requests are served all the same.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gateway.errors import GatewayError
from gateway.keys.store import UsageStore

WRITE_SECONDS: Final = 5.0
MAX_NOTED: Final = 50_000


class LastUsed:
    """The last use of each key since the last write.

    Args:
        store: where they are written.
        max_noted: the most keys noted between two writes.
    """

    def __init__(self, store: UsageStore, *, max_noted: int = MAX_NOTED) -> None:
        self._store = store
        self._max_noted = max_noted
        self._noted: dict[str, float] = {}

    def note(self, key_id: str, now: float) -> None:
        """Note that a request with this key was accepted at `now` (Unix seconds)."""
        if len(self._noted) < self._max_noted or key_id in self._noted:
            self._noted[key_id] = now

    async def run(self, every: float = WRITE_SECONDS) -> None:
        """Write the noted uses every so many seconds, for ever; returns only by cancellation."""
        while True:
            await asyncio.sleep(every)
            await self.write()

    async def write(self) -> None:
        """Write the uses noted since the last time; what the store refuses is kept for the next."""
        noted, self._noted = self._noted, {}
        if not noted:
            return
        try:
            await self._store.record_uses(noted)
        except asyncio.CancelledError:
            self._keep(noted)
            raise
        except GatewayError:
            self._keep(noted)

    def _keep(self, noted: dict[str, float]) -> None:
        self._noted = dict(list((noted | self._noted).items())[-self._max_noted :])
