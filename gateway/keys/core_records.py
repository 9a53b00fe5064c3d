"""What the store keeps of a key whose row is in Core's table.

Rules kept here:
- What a row does not say, the record does not guess: who made a key is `core`.
- Of a key that nobody has used here yet the digest is unknown: its record is pending.
- The row says what a key is today. That it ends earlier, by a rotation, only the record knows.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from gateway.keys.instants import Instant
from gateway.keys.record import PENDING, KeyRecord

if TYPE_CHECKING:
    from gateway.keys.core_rows import CoreRow

BY_CORE: Final = "core"
"""Who made or revoked a key, where it was not done through the gateway."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime(1, 1, 2, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 30, tzinfo=UTC)


def record_of(row: CoreRow, digest: str) -> KeyRecord:
    """What the store keeps of a key that was found in Core's table."""
    return KeyRecord(
        id=row.id,
        digest=digest,
        name=row.name,
        owner=row.owner,
        scopes=row.scopes,
        expires_at=as_written(row.expires_at),
        created_at=as_written(row.created_at),
        created_by=BY_CORE,
        bcrypt=row.hashed,
    )


def pending_record(row: CoreRow, now: Instant) -> KeyRecord:
    """What the store keeps of a key of which only its row is known; revoked now if the row is."""
    record = replace(record_of(row, PENDING + row.id), prefix=row.prefix)
    return record.revoke(str(now), BY_CORE) if row.revoked else record


def with_row(record: KeyRecord, row: CoreRow) -> KeyRecord:
    """The record with what its row says of it today, but for a revocation."""
    ends_at = min(rotated_away(record), row.expires_at)
    return replace(record, name=row.name, owner=row.owner, scopes=row.scopes, expires_at=as_written(ends_at))


def rotated_away(record: KeyRecord | None) -> float:
    """When a key that was rotated ends (Unix seconds), which Core's row does not know; else infinity."""
    return float("inf") if record is None or not record.rotated else record.expires.unix


def as_written(unix: float) -> str:
    """RFC 3339 of Unix seconds, within the years that it can say."""
    try:
        moment = _EPOCH + timedelta(seconds=unix)
    except (OverflowError, ValueError):
        moment = _LAST if unix > 0 else _FIRST
    return str(Instant.of(min(max(moment, _FIRST), _LAST)))
