"""Revoke in Core the keys that have ended in the gateway, with Core as the authority.

Rules kept here:
- These are rotated keys whose overlap has ended, and revocations that were cut short between the store and
  Core.
- The list of these keys is in the store, so it survives restarts, and any replica can work on it.
- One replica works on it at a time, by a lease of 3 s that expires by itself. Where Core takes longer, a
  second one may try too: Core accepts the revocation of a revoked key.
- A key is tried again until its row in Core is revoked or gone, and the store says so too. The gateways
  refuse the key from its end here on, whatever the result is.
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
from gateway.keys.store import CoreRevocationQueue

POLL_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 3.0
# Replicas of every version take the same one.
LEASE: Final = "retirements"


class CoreRevocations:
    """Revokes in Core every key that awaits it.

    Args:
        store: where the records are.
        writes: asks Core, and then the store.
        now: the time, aware and in UTC.
        on_failure: gets the id of each key that could not be revoked, and why; once for each reason.
    """

    def __init__(
        self,
        store: CoreRevocationQueue,
        writes: CoreKeyWrites,
        now: Callable[[], datetime],
        on_failure: Callable[[str, str], None] = lambda *_: None,
    ) -> None:
        self._store = store
        self._writes = writes
        self._now = now
        self._on_failure = on_failure
        self._reported: dict[str, str] = {}

    async def run(self, every: float = POLL_SECONDS) -> None:
        """Revoke every so many seconds, for ever; returns only by cancellation."""
        while True:
            with contextlib.suppress(GatewayError):
                await self.revoke_ended()
            await asyncio.sleep(every)

    async def revoke_ended(self) -> None:
        """Revoke in Core every key that is due, if no other replica does so now.

        Raises:
            GatewayError: the store failed.
        """
        ended = await self._store.awaiting_core_revocation(self._now().timestamp())
        if not ended or not await self._store.take_lease(LEASE, LEASE_SECONDS):
            return
        why = {record.id: await self._revoke(record) for record in ended}
        before = self._reported
        self._reported = {key_id: reason for key_id, reason in why.items() if reason}
        for key_id, reason in self._reported.items():
            if before.get(key_id) != reason:
                self._on_failure(key_id, reason)

    async def _revoke(self, record: KeyRecord) -> str:
        """Return why the key is still to be revoked in Core; empty if it is not."""
        try:
            refused = await self._writes.revoke_in_core([record])
        except GatewayError as failure:
            return failure.reason
        return "" if refused is None else f"Core responded with {refused.status}"
