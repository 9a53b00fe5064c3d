"""A key as Core's table has it, and what the store keeps of it.

Rules kept here:
- What a row does not say, the record does not guess: who made a key is `core`.
- Of a key that nobody has used here yet the digest is unknown: its record is pending.
- The row says what a key is today. That it ends earlier, by a rotation, only the record knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from gateway.gocompat.times import Instant
from gateway.keys.record import PENDING, KeyRecord
from gateway.policy.principals import ApiKey

BY_CORE: Final = "core"
"""Who made or revoked a key, where it was not done through the gateway."""
GONE: Final = "its row is gone from Core's table"
UNKNOWN_TIME: Final = ""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class CoreRow:
    """A key as Core's table has it; times in Unix seconds, `hashed` the key's bcrypt hash.

    `revoked_at` may be None of a revoked key, and `last_used_at` is 0 of one that never was used.
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
        """Whom a request with this key comes from."""
        return ApiKey(self.id, self.owner, self.scopes, self.expires_at, self.revoked)


class KnownRows(Protocol):
    """Where Core's rows are read; failures are DatabaseUnavailableError."""

    async def by_ids(self, key_ids: Sequence[str]) -> Mapping[str, CoreRow]:
        """The rows of these key ids, by id."""


async def row_of(rows: KnownRows, key_id: str) -> CoreRow | None:
    """Core's row of a key; None if there is none. Raises what `rows` does."""
    return (await rows.by_ids([key_id])).get(key_id)


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
    """What the store keeps of a key of which only its row is known; revoked, by now, if the row is."""
    record = replace(record_of(row, PENDING + row.id), prefix=row.prefix).used(row.last_used_at)
    return revoked_as(record, row, now)


def with_row(record: KeyRecord, row: CoreRow) -> KeyRecord:
    """The record with what its row says of it today, but for a revocation."""
    ends_at = min(rotated_away(record), row.expires_at)
    return replace(record, name=row.name, owner=row.owner, scopes=row.scopes, expires_at=as_written(ends_at))


def today(record: KeyRecord | None, row: CoreRow | None, now: Instant) -> KeyRecord | None:
    """What is so of a key now, by its record and its row; None where there is neither.

    A key whose row is gone nobody accepts any longer: it is revoked, nobody knows when.
    """
    if row is None:
        return None if record is None else record.revoke(UNKNOWN_TIME, BY_CORE, GONE)
    if record is None:
        return pending_record(row, now)
    return revoked_as(with_row(record, row).used(row.last_used_at), row, now)


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


def revoked_as(record: KeyRecord, row: CoreRow, now: Instant) -> KeyRecord:
    """The record, revoked by Core if its row is: when the row says, or else now."""
    if not row.revoked:
        return record
    return record.revoke(str(now) if row.revoked_at is None else as_written(row.revoked_at), BY_CORE)
