"""Brings to the store what rows of Core's table say: revocations, and for the audit stream other changes."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.gocompat.times import Instant
from gateway.keys.core.revocation_sync import RevocationSync
from gateway.keys.core.row_changes import RowChanges


@dataclass(frozen=True, slots=True)
class RowSync:
    """The takers of rows that were read."""

    revocations: RevocationSync
    changes: RowChanges

    async def write(self, now: Instant) -> None:
        """Write what was noted; what the store refuses is written the next time."""
        await self.revocations.write(now)
        await self.changes.write()
