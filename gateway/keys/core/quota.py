"""Count an owner's keys before Core creates another, with Core as the authority.

Rules kept here:
- Live keys are counted in Core's table, which also has those that were created at Core itself. Records are
  counted in the store, which creating and revoking in a loop would fill.
- Core creates the key between the count and the end of a turn. An owner has at most TURNS turns at a time
  on each gateway, so creations at the same time exceed the quota by fewer than that on each.
- The successor in a rotation takes no turn: a rotation must succeed at the quota, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final, Protocol

from gateway.fairness.concurrency import ConcurrencyLimit
from gateway.keys.quota import Quota
from gateway.keys.store import KeysOfOwner

TURNS: Final = 4
"""The most keys of one owner that one gateway asks Core for at a time."""


class LiveRows(Protocol):
    """Counts the live keys in Core's table."""

    async def live(self, owner: str) -> int:
        """Return how many keys of an owner are neither revoked nor expired. Raises GatewayError."""


class CoreQuota:
    """Counts keys before Core is asked for another.

    Args:
        rows: Core's table.
        store: where records are.
        quota: returns how many keys an owner may have now.
    """

    def __init__(self, rows: LiveRows, store: KeysOfOwner, quota: Callable[[], Quota]) -> None:
        self._rows = rows
        self._store = store
        self._quota = quota
        self._turns = ConcurrencyLimit(TURNS)

    @contextlib.asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Let the caller ask Core for a key of this owner inside, and store it.

        Raises:
            QuotaError: the owner has as many as it may have.
            GatewayError: Core's database or the store failed.
        """
        quota = self._quota()
        if not quota.live:
            yield
            return
        async with self._turns.turn(owner):
            quota.check_records(await self._store.count_owned(owner))
            quota.check_live(await self._rows.live(owner))
            yield
