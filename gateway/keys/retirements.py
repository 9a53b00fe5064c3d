"""Rotated keys revoked through Core once their overlap has ended, with Core as the authority.

Rules kept here:
- What is to be done is read from the store, so it survives restarts, and any replica can do it.
- One replica does it at a time, by a lease of 3 s that comes free by itself. Where Core takes longer a
  second one may try too: Core revokes a revoked key without a word.
- It is tried again until Core's row is revoked or gone, and the store says so too. The gateways refuse the
  key from the end of its overlap on, whatever becomes of this.
- Core is asked with the owner in its row: it may be another than the store remembers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Final, Protocol

from gateway.errors import GatewayError
from gateway.keys.core_rows import CoreRow
from gateway.keys.core_writes import CoreWrites, Revocation
from gateway.keys.instants import Instant
from gateway.keys.record import ROTATED, KeyRecord
from gateway.keys.store import KeyStore

LOOK_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 3.0
LEASE: Final = "retirements"
WHY: Final = "rotated"


class KnownRows(Protocol):
    """Where Core's rows are read; failures are GatewayError(KEY_STORE_UNAVAILABLE)."""

    async def by_ids(self, key_ids: Sequence[str]) -> Mapping[str, CoreRow]:
        """The rows of these key ids, by id."""


class Retirements:
    """Ends what was rotated.

    Args:
        store: where the records are.
        rows: Core's table.
        writes: asks Core, and then the store.
        now: the time, aware and in UTC.
    """

    def __init__(
        self, store: KeyStore, rows: KnownRows, writes: CoreWrites, now: Callable[[], datetime]
    ) -> None:
        self._store = store
        self._rows = rows
        self._writes = writes
        self._now = now

    async def run(self, every: float = LOOK_SECONDS) -> None:
        """Look every so many seconds, for ever; returns only by cancellation."""
        while True:
            with contextlib.suppress(GatewayError):
                await self.revoke_ended()
            await asyncio.sleep(every)

    async def revoke_ended(self) -> None:
        """Revoke every key whose overlap has ended, if no other replica is at it.

        Raises:
            GatewayError: Core, its database or the store failed; the rest is left for the next time.
        """
        now = self._now()
        ended = [record for record in await self._store.retiring() if record.expires.unix <= now.timestamp()]
        if not ended or not await self._store.lease(LEASE, LEASE_SECONDS):
            return
        rows = await self._rows.by_ids([record.id for record in ended])
        for record in ended:
            await self._revoke(record, rows.get(record.id), str(Instant.of(now)))

    async def _revoke(self, record: KeyRecord, row: CoreRow | None, at: str) -> None:
        rotation = next(event for event in record.history if event.what == ROTATED)
        revocation: Revocation = (at, rotation.by, WHY)
        if row is None or row.revoked:
            await self._writes.revoke_here(record.id, revocation)
        else:
            # What Core refuses is asked again the next time.
            await self._writes.revoke(record.id, row.owner, revocation)
