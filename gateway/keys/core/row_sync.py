"""Brings to the store what rows of Core's table say: revocations, and for the audit stream other changes."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.keys.core.revocation_sync import RevocationSync
from gateway.keys.core.row_changes import RowChanges


@dataclass(frozen=True, slots=True)
class RowSync:
    """The takers of rows that were read."""

    revocations: RevocationSync
    changes: RowChanges
