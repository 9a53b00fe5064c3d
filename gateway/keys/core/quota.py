"""How many keys an owner may have, with Core as the authority.

Rules kept here:
- Live keys are counted in Core's table, which knows also those that were made at Core itself. Records are
  counted in the store, which is what creating and revoking in a loop would fill.
- Core is asked for a new key between the count and the end of a turn. An owner has TURNS at a time on each
  gateway, so creations at the same time exceed the quota by fewer than that on each.
- A key that takes another's place in a rotation takes no turn: it must succeed at the quota, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from gateway.fairness.concurrency import ConcurrencyLimit
from gateway.keys.quota import Quota
from gateway.keys.store import KeyStore

TURNS: Final = 4
"""How many keys of one owner one gateway asks Core for at a time."""


class LiveRows(Protocol):
    """Where the live keys of Core's table are counted."""

    async def live(self, owner: str) -> int:
        """How many keys of an owner are neither revoked nor expired; raises GatewayError."""


class CoreQuota:
    """Counts before Core is asked for a key.

    Args:
        rows: Core's table.
        store: where records are.
        quota: how many keys an owner may have now.
    """

    def __init__(self, rows: LiveRows, store: KeyStore, quota: Callable[[], Quota]) -> None:
        self._rows = rows
        self._store = store
        self._quota = quota
        self._turns = ConcurrencyLimit(TURNS)

    @contextlib.asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Ask Core for a key of this owner inside, and store it.

        Raises:
            QuotaError: the owner has as many as it may have.
            GatewayError: Core's database or the store failed.
        """
        quota = self._quota()
        if not quota.live:
            yield
            return
        async with self._turns.turn(owner):
            quota.check_records(await self._store.kept(owner))
            quota.check_live(await self._rows.live(owner))
            yield
