"""Key records for tests."""

from __future__ import annotations

from dataclasses import replace

from gateway.gocompat.times import Instant, read_instant
from gateway.keys.minting import digest
from gateway.keys.record import KeyRecord, Revocation

KEY_ID = "api_key_00000000-0000-4000-8000-00000000000"


def instant(text: str) -> Instant:
    """Return the instant that a text in RFC 3339 names."""
    return read_instant(text)


def revocation(when: str, by: str, reason: str = "") -> Revocation:
    """Return a revocation at a time given in RFC 3339."""
    return Revocation(instant(when), by, reason)


def revoker(record: KeyRecord) -> str | None:
    """Return who revoked a key, or None if it is not revoked."""
    return None if record.revocation is None else record.revocation.by


RECORD = KeyRecord(
    id=f"{KEY_ID}1",
    digest=digest("first"),
    name="n",
    owner="acme",
    scopes=("ledgers:read",),
    expires_at=instant("2999-01-02T03:04:05Z"),
    created_at=instant("2026-01-01T00:00:00Z"),
    created_by="master",
)
OTHER = replace(RECORD, id=f"{KEY_ID}2", digest=digest("second"), created_at=instant("2026-01-02T00:00:00Z"))
GLOBEX = replace(RECORD, id=f"{KEY_ID}3", digest=digest("third"), owner="globex")
PENDING = replace(
    RECORD,
    id=f"{KEY_ID}4",
    digest=f"pending:{KEY_ID}4",
    owner="initech",
    created_by="core",
    prefix="AAAAAAAAAAAAAAAA",
    # The hash of 43 times "A" and "=", at bcrypt's lowest cost.
    bcrypt="$2b$04$NFUb7Qr2wyVEZlbwPNGkaOO5SX08QFOnobkpWzWfO0qAd9FcdJlQi",
)
