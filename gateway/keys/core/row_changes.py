"""Audit changes of keys that somebody made in Core's table: another name, owner, end or other scopes.

Rules kept here:
- They are seen in the rows of keys in use, which are read again every second. The store keeps none of it, for
  the row says what a key is.
- One replica writes the entry, by a lease; all of them see the change.
- A revocation is written with the record of the key, and not here.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final, Protocol

from gateway.audit.author import CORE
from gateway.audit.entry import AuditEntry
from gateway.errors import GatewayError
from gateway.keys.audit import entry_of
from gateway.keys.core.records import CoreRow, record_of
from gateway.keys.store import AuditStream, CoreRevocationQueue

LEASE_SECONDS: Final = 10.0
"""For longer than any replica needs to see the same change."""


class RowChangeStore(AuditStream, CoreRevocationQueue, Protocol):
    """The store with the audit stream and the leases."""


class RowChanges:
    """The changes that were seen, until the audit stream has them."""

    def __init__(self, store: RowChangeStore) -> None:
        self._store = store
        self._seen: dict[str, AuditEntry] = {}
        self._ours: list[AuditEntry] = []

    def note(self, before: CoreRow, row: CoreRow) -> None:
        """Note a row that was read again; it counts if it says something else than before."""
        if _described(before) == _described(row):
            return
        # Neither the last use nor a revocation is a change that is told here.
        entry = entry_of(record_of(before, ""), record_of(replace(row, hashed=before.hashed), ""), CORE)
        if entry is not None:
            self._seen[f"audit:{row.id}:{_fingerprint(row)}"] = entry

    async def write(self) -> None:
        """Write the changes that were noted; what the store refuses is written the next time."""
        try:
            for lease, entry in list(self._seen.items()):
                if await self._store.take_lease(lease, LEASE_SECONDS):
                    self._ours.append(entry)
                self._seen.pop(lease, None)
            if self._ours:
                await self._store.append_entries(self._ours)
                self._ours.clear()
        except GatewayError:
            # Both lists are still there.
            return


def _described(row: CoreRow) -> tuple[object, ...]:
    return row.name, row.owner, row.scopes, row.expires_at


def _fingerprint(row: CoreRow) -> str:
    """Return what is the same in all replicas that see this change, and in no other one."""
    return hashlib.sha256(repr(_described(row)).encode("utf-8", "backslashreplace")).hexdigest()[:16]
