"""Audit changes of keys that somebody made in Core's table: another name, owner, end or other scopes.

Rules kept here:
- They are seen in the rows of keys in use, which are read again every second. The store keeps none of it, for
  the row says what a key is.
- One replica writes the entry, all of them see the change. The store takes the name of the change in the step
  that writes its entry, so that neither a crash nor a lost response loses it.
- Many changes are written in batches, and nothing waits for that: the reading of rows goes on.
- A revocation is written with the record of the key, and not here.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from itertools import islice
from typing import Final

from gateway.audit.author import CORE
from gateway.audit.entry import AuditEntry
from gateway.errors import GatewayError
from gateway.keys.audit import entry_of
from gateway.keys.core.records import CoreRow, record_of
from gateway.keys.store import SharedAuditStream

MARKED_SECONDS: Final = 10.0
"""For longer than any replica needs to see the same change."""
_AT_ONCE: Final = 500


class RowChanges:
    """The changes that were seen, until the audit stream has them."""

    def __init__(self, store: SharedAuditStream) -> None:
        self._store = store
        self._seen: dict[str, AuditEntry] = {}

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
            while batch := dict(islice(self._seen.items(), _AT_ONCE)):
                await self._store.append_once(batch, MARKED_SECONDS)
                for name in batch:
                    del self._seen[name]
        except GatewayError:
            # The rest is still there.
            return


def _described(row: CoreRow) -> tuple[object, ...]:
    return row.name, row.owner, row.scopes, row.expires_at


def _fingerprint(row: CoreRow) -> str:
    """Return what is the same in all replicas that see this change, and in no other one."""
    return hashlib.sha256(repr(_described(row)).encode("utf-8", "backslashreplace")).hexdigest()[:16]
