"""When each key was last used: noted in process, written to the store in batches.

Rules kept here:
- A request costs one dictionary write, whatever the store does; the store is written every few seconds,
  once for all keys used since.
- What could not be written is kept and written with the next batch, up to a bound; keys noted beyond it
  while the store is down lose their note, never a request.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

from gateway.errors import GatewayError

WRITE_SECONDS: Final = 5.0
MAX_NOTED: Final = 50_000


class UsageStore(Protocol):
    """Where last uses are kept; a failure is a GatewayError."""

    async def used(self, times: Mapping[str, float]) -> None:
        """Note when keys, by id, were last used (Unix seconds); an earlier time than is known is ignored."""


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
        """A request with this key was let through at `now` (Unix seconds)."""
        if len(self._noted) < self._max_noted or key_id in self._noted:
            self._noted[key_id] = now

    async def run(self, every: float = WRITE_SECONDS) -> None:
        """Write what was noted, every so many seconds, for ever; returns only by cancellation."""
        while True:
            await asyncio.sleep(every)
            await self.write()

    async def write(self) -> None:
        """Write what was noted since the last time; what the store refuses is kept for the next."""
        noted, self._noted = self._noted, {}
        if not noted:
            return
        try:
            await self._store.used(noted)
        except asyncio.CancelledError:
            self._keep(noted)
            raise
        except GatewayError:
            self._keep(noted)

    def _keep(self, noted: dict[str, float]) -> None:
        self._noted = dict(list((noted | self._noted).items())[-self._max_noted :])
