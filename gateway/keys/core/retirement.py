"""What has ended here revoked in Core too, with Core as the authority.

Rules kept here:
- Rotated keys whose overlap has ended, and revocations that were cut short between the store and Core.
- What is to be done is read from the store, so it survives restarts, and any replica can do it.
- One replica does it at a time, by a lease of 3 s that comes free by itself. Where Core takes longer a
  second one may try too: Core revokes a revoked key without a word.
- It is tried again until Core's row is revoked or gone, and the store says so too. The gateways refuse the
  key from its end here on, whatever becomes of this.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Final

from gateway.errors import GatewayError
from gateway.keys.core.writer import CoreKeyWrites
from gateway.keys.record import KeyRecord
from gateway.keys.store import KeyStore

LOOK_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 3.0
LEASE: Final = "retirements"


class Retirements:
    """Ends in Core what has ended here.

    Args:
        store: where the records are.
        writes: asks Core, and then the store.
        now: the time, aware and in UTC.
        left: told of each key that could not be ended, by its id, and why; once for each reason.
    """

    def __init__(
        self,
        store: KeyStore,
        writes: CoreKeyWrites,
        now: Callable[[], datetime],
        left: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._writes = writes
        self._now = now
        self._left = left
        self._told: dict[str, str] = {}

    async def run(self, every: float = LOOK_SECONDS) -> None:
        """Look every so many seconds, for ever; returns only by cancellation."""
        while True:
            with contextlib.suppress(GatewayError):
                await self.revoke_ended()
            await asyncio.sleep(every)

    async def revoke_ended(self) -> None:
        """Revoke in Core every key that is due there, if no other replica is at it.

        Raises:
            GatewayError: the store failed.
        """
        ended = await self._store.retiring(self._now().timestamp())
        if not ended or not await self._store.lease(LEASE, LEASE_SECONDS):
            return
        why = {record.id: await self._retire(record) for record in ended}
        before = self._told
        self._told = {key_id: reason for key_id, reason in why.items() if reason}
        for key_id, reason in self._told.items():
            if before.get(key_id) != reason:
                self._left(key_id, reason)

    async def _retire(self, record: KeyRecord) -> str:
        """Why the key is still to be revoked in Core; empty if it is not."""
        try:
            refused = await self._writes.retire([record])
        except GatewayError as failure:
            return failure.reason
        return "" if refused is None else f"Core answered {refused.status}"
