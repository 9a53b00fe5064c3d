"""A row of Core's table, and the record that the store keeps of its key.

Rules kept here:
- The record guesses nothing that the row does not say: the creator of a key is `core`.
- The digest of a key that nobody has used here yet is unknown: its record is pending.
- The row says what a key is now. Only the record knows that a rotation ends it earlier.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from gateway.gocompat.times import Instant
from gateway.keys.record import PENDING, KeyRecord, Revocation
from gateway.policy.principals import ApiKey

BY_CORE: Final = "core"
"""Named as who created or revoked a key, where that was not done through the gateway."""
GONE: Final = "its row is gone from Core's table"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CoreRow:
    """A key as Core's table has it; times in Unix seconds, `hashed` the key's bcrypt hash.

    `revoked_at` may be None for a revoked key, and `last_used_at` is 0 for one that never was used.
    """

    id: str
    hashed: str = field(repr=False)
    name: str
    owner: str
    scopes: tuple[str, ...]
    expires_at: float
    created_at: float
    revoked: bool
    prefix: str = field(default="", repr=False)
    revoked_at: float | None = None
    last_used_at: float = 0.0

    def principal(self) -> ApiKey:
        """Return the principal of a request with this key."""
        return ApiKey(self.id, self.owner, self.scopes, self.expires_at, self.revoked)


class RowsById(Protocol):
    """Reads Core's rows by key id; failures are DatabaseUnavailableError."""

    async def by_ids(self, key_ids: Sequence[str]) -> Mapping[str, CoreRow]:
        """Return the rows of these key ids, by id."""


async def row_of(rows: RowsById, key_id: str) -> CoreRow | None:
    """Return Core's row of a key; None if there is none. Raises what `rows` does."""
    return (await rows.by_ids([key_id])).get(key_id)


def record_of(row: CoreRow, digest: str) -> KeyRecord:
    """Return the record that the store keeps of a key that was found in Core's table."""
    return KeyRecord(
        id=row.id,
        digest=digest,
        name=row.name,
        owner=row.owner,
        scopes=row.scopes,
        expires_at=instant_of(row.expires_at),
        created_at=instant_of(row.created_at),
        created_by=BY_CORE,
        bcrypt=row.hashed,
    )


def pending_record(row: CoreRow, now: Instant) -> KeyRecord:
    """Return the record of a key of which only its row is known; revoked, if the row is."""
    record = replace(record_of(row, PENDING + row.id), prefix=row.prefix).with_last_use(row.last_used_at)
    return revoked_as(record, row, now)


def with_row(record: KeyRecord, row: CoreRow) -> KeyRecord:
    """Return the record with what its row says now, except for a revocation."""
    ends_at = instant_of(min(rotation_end(record), row.expires_at))
    return replace(record, name=row.name, owner=row.owner, scopes=row.scopes, expires_at=ends_at)


def current_record(record: KeyRecord | None, row: CoreRow | None, now: Instant) -> KeyRecord | None:
    """Return the key as it is now by its record and its row; None where there is neither.

    A key whose row is gone is accepted nowhere: it is revoked, and nobody knows when.
    """
    if row is None:
        return None if record is None else record.as_revoked(Revocation(None, BY_CORE, GONE))
    if record is None:
        return pending_record(row, now)
    return revoked_as(with_row(record, row).with_last_use(row.last_used_at), row, now)


def rotation_end(record: KeyRecord | None) -> float:
    """Return when a rotated key ends (Unix seconds), which Core's row does not say; else infinity."""
    return float("inf") if record is None or not record.rotated else record.expires_at.unix


def instant_of(unix: float) -> Instant:
    """Return the instant of Unix seconds, or the first or last one that RFC 3339 can write."""
    try:
        moment = _EPOCH + timedelta(seconds=unix)
    except (OverflowError, ValueError):
        moment = _LAST if unix > 0 else _FIRST
    return Instant.of(min(max(moment, _FIRST), _LAST))


def revoked_as(record: KeyRecord, row: CoreRow, now: Instant) -> KeyRecord:
    """Return the record, revoked by Core if its row is: when the row says, or else now."""
    if not row.revoked:
        return record
    return record.as_revoked(
        Revocation(now if row.revoked_at is None else instant_of(row.revoked_at), BY_CORE)
    )
